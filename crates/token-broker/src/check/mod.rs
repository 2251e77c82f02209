//! The command `token-broker check`: reports the errors of a configuration, or every weakened
//! default.

mod posture;
#[cfg(test)]
mod tests;
mod wrapped;

use std::{ffi::OsString, fmt, path::Path};

use self::wrapped::wrapped;
use crate::{configuration, escaped::escaped};

/// Exit code for a wrong configuration (`EX_CONFIG` of sysexits.h).
const WRONG_CONFIGURATION: u8 = 78;

/// The result of a check, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    text: String,
    exit_code: u8,
}

/// Checks a configuration and the files that it names, with the variables of the process. Opens no
/// store and no connection, and writes nothing.
pub fn run(path: &Path) -> Checked {
    checked(path, std::env::vars_os())
}

fn checked(path: &Path, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Checked {
    match configuration::read(path, variables) {
        Err(errors) => {
            Checked { text: wrapped(&errors.to_string()), exit_code: WRONG_CONFIGURATION }
        }
        Ok(loaded) => {
            let text = wrapped(&posture::report(&escaped(path.display()), &loaded));
            Checked { text, exit_code: 0 }
        }
    }
}

impl Checked {
    /// Returns 0 if the configuration has no error, else 78.
    pub const fn exit_code(&self) -> u8 {
        self.exit_code
    }
}

impl fmt::Display for Checked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}
