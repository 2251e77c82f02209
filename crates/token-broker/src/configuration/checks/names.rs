//! The names of servers.

use std::collections::HashSet;

use super::{super::key::Located, Checks};

/// Names that no server may have, because the gateway serves, or will serve, other things under
/// `{public_url}/NAME`.
pub const RESERVED_NAMES: &[&str] = &[
    ".well-known",
    "account",
    "accounts",
    "admin",
    "api",
    "assets",
    "authorize",
    "callback",
    "connect",
    "connections",
    "consent",
    "device",
    "favicon.ico",
    "first-account",
    "health",
    "healthz",
    "introspect",
    "jwks",
    "livez",
    "login",
    "logout",
    "metrics",
    "oauth",
    "password",
    "readyz",
    "register",
    "revoke",
    "robots.txt",
    "sessions",
    "sign-in",
    "sign-out",
    "static",
    "token",
    "userinfo",
    "users",
];

/// The names that servers have, or had.
#[derive(Default)]
pub(super) struct Names(HashSet<String>);

impl Checks<'_> {
    /// Returns the name if it is one, and no other server has or had it.
    // T324: two servers of one name would be one resource.
    pub(super) fn name(&mut self, name: &Located<String>, names: &mut Names) -> Option<String> {
        let text = name.value.as_str();
        let is_name = matches!(text.len(), 1..=64)
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if RESERVED_NAMES.contains(&text) {
            let problem = format!("`{text}` is reserved: the gateway serves something else there");
            self.fail(name.at, problem, "use another name");
        } else if !is_name {
            let remedy = "use 1 to 64 lower-case letters, digits and `-`; `title` may have others";
            self.fail(name.at, "this cannot be the name of a server", remedy);
        } else if !names.0.insert(text.to_owned()) {
            let problem = format!("the name `{text}` occurs twice");
            let remedy = "give each server its own name, also among `previous_names`: it is the \
                          first part of the path";
            self.fail(name.at, problem, remedy);
        } else {
            return Some(text.to_owned());
        }
        None
    }
}
