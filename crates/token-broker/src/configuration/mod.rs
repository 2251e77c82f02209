//! Reads the configuration of the gateway from a TOML file and environment variables.
//!
//! [`load`] returns either a checked [`Configuration`] or all errors of the file at once, each with
//! its line and what to do. Keys, defaults and variables are listed in `docs/configuration.md`.

mod checks;
mod document;
mod errors;
mod key;
mod keys;
mod model;
mod overrides;
mod read;
#[cfg(test)]
mod reference;
mod schema;
mod source;
mod suggestion;
#[cfg(test)]
mod tests;

pub use self::{
    checks::RESERVED_NAMES,
    errors::{ConfigurationError, ConfigurationErrors},
    model::{
        AuthorizationServer, Configuration, Credential, LogFormat, Login, Network, OAuth,
        OAuthClient, Profile, ResourceParameter, Rule, Server, Store, TlsFiles, Tokens,
    },
    read::load,
    schema::schema,
    source::Place,
};
pub(crate) use self::{
    checks::secret_of_file,
    key::{Key, Located},
    read::{Loaded, read},
};
/// The file as it is written.
pub(crate) mod written {
    pub(crate) use super::document::*;
}
