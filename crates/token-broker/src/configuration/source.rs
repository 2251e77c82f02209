//! The text of a configuration file and the variables that override it.

use crate::escaped::escaped;

/// The sources of a configuration. A position is an offset in the file, or denotes a variable.
#[derive(Debug)]
pub(super) struct Source {
    text: String,
    variables: Vec<String>,
}

/// The place of an error.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "a configuration has no other sources")]
pub enum Place {
    /// The file as a whole.
    File,
    /// A character of the file.
    Character {
        /// The line, from 1.
        line: usize,
        /// The character of the line, from 1.
        column: usize,
    },
    /// An environment variable.
    Variable(String),
}

impl Source {
    pub(super) const fn new(text: String) -> Self {
        Self { text, variables: Vec::new() }
    }

    /// Returns a position for the variable of this name.
    pub(super) fn position_of(&mut self, variable: &str) -> usize {
        self.variables.push(variable.to_owned());
        // The position after the last octet is that of errors at the end of the file.
        self.text.len() + self.variables.len()
    }

    /// Returns whether a position is in the file.
    pub(super) const fn is_in_file(&self, position: usize) -> bool {
        position <= self.text.len()
    }

    pub(super) fn place(&self, position: usize) -> Place {
        if let Some(past_the_end) = position.checked_sub(self.text.len() + 1) {
            return match self.variables.get(past_the_end) {
                Some(name) => Place::Variable(name.clone()),
                None => Place::File,
            };
        }
        let before = self.text.get(..position).unwrap_or(&self.text);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
        Place::Character { line: before.matches('\n').count() + 1, column }
    }
}

impl Place {
    /// Returns the place with the name of the file.
    pub(super) fn shown(&self, file: &str) -> String {
        match self {
            Self::File => file.to_owned(),
            Self::Character { line, column } => format!("{file}:{line}:{column}"),
            Self::Variable(name) => escaped(name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_become_lines_columns_and_variables() {
        let mut source = Source::new("a = 1\nüb = 2\n".to_owned());
        let variable = source.position_of("TOKEN_BROKER__LISTEN");
        let at = |line, column| Place::Character { line, column };
        for (position, place) in [
            (0, at(1, 1)),
            (4, at(1, 5)),
            (6, at(2, 1)),
            // Columns are counted in characters.
            (8, at(2, 2)),
            (14, at(3, 1)),
            (variable, Place::Variable("TOKEN_BROKER__LISTEN".to_owned())),
            (variable + 1, Place::File),
        ] {
            assert_eq!(source.place(position), place, "{position}");
        }
        assert!(source.is_in_file(14) && !source.is_in_file(variable));
    }
}
