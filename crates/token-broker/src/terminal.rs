//! Output of the commands: results on stdout, the rest on stderr.

use std::{
    fmt,
    io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdout},
    process::ExitCode,
};

pub(crate) fn failed(error: &dyn fmt::Display) -> ExitCode {
    complain(&error.to_string());
    ExitCode::FAILURE
}

/// Progress in percent, on stderr.
pub(crate) struct Percents {
    shown: bool,
    /// On a terminal, each line overwrites the last, and none is left.
    over: bool,
}

impl Percents {
    /// Shows progress on a terminal, or if it is requested.
    pub(crate) fn new(is_requested: bool) -> Self {
        let over = stderr().is_terminal();
        Self { shown: is_requested || over, over }
    }

    pub(crate) fn say(&self, percent: u64) {
        match (self.shown, self.over) {
            (false, _) => {}
            (true, true) => to_stderr(format_args!("\r{percent} %")),
            (true, false) => to_stderr(format_args!("{percent} %\n")),
        }
    }

    pub(crate) fn end(&self) {
        if self.shown && self.over {
            to_stderr(format_args!("\r\x1b[K"));
        }
    }
}

/// Prints the result, and returns the exit code. A reader that has read enough, as `head` does, is
/// no failure: the code is that of the result. If the output cannot be written otherwise, it is 1.
pub(crate) fn finish(text: &str, code: u8) -> ExitCode {
    let mut output = stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("the result cannot be written: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}

/// Prints one line. It may contain the name of a file.
pub(crate) fn complain(text: &str) {
    let line: String = text.chars().map(visible).collect();
    to_stderr(format_args!("token-broker: {line}\n"));
}

/// Escapes a character that a terminal acts on or does not show.
fn visible(character: char) -> String {
    match character {
        '"' | '\'' | '\\' => character.to_string(),
        _ => character.escape_debug().to_string(),
    }
}

/// Writes to stderr. If that is not possible, there is no one to report it to.
pub(crate) fn to_stderr(text: fmt::Arguments<'_>) {
    stderr().lock().write_fmt(text).unwrap_or_default();
}
