//! The names of the commands in the audit log.

/// The writer of the chain in which commands record what they do. While another command runs, the
/// next name is used: `commands-2`, and so on.
pub(crate) const COMMANDS: &str = "commands";
/// Most commands at a time.
const MOST: u32 = 32;

/// Returns whether a name is one of the commands.
pub(crate) fn is_of_commands(name: &str) -> bool {
    name.strip_prefix(COMMANDS).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

/// Returns the names that a command may have.
pub(crate) fn of_commands() -> impl Iterator<Item = String> {
    let others = (2..=MOST).map(|number| format!("{COMMANDS}-{number}"));
    std::iter::once(COMMANDS.to_owned()).chain(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_commands_are_reserved() {
        assert!(of_commands().all(|name| is_of_commands(&name)));
        for name in ["gateway", "command", "commandsx", "x-commands", ""] {
            assert!(!is_of_commands(name), "{name}");
        }
    }
}
