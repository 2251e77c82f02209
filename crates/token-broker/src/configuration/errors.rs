//! Errors of a configuration.

use std::{collections::HashSet, error::Error, fmt};

use super::source::{Place, Source};

/// All errors of a configuration, in the order of the file; the first 100 of them in detail.
///
/// `Display` prints two lines for each: where and what, and what to do. No value of the file is
/// printed, because it may be a secret that was written into the wrong line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigurationErrors {
    file: String,
    errors: Vec<ConfigurationError>,
    /// Number of further errors.
    more: usize,
}

/// Largest number of errors that are reported.
const MOST: usize = 100;

/// One error of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigurationError {
    /// The place.
    pub place: Place,
    /// The problem, in lower case and without a full stop.
    pub problem: String,
    /// How to resolve it.
    pub remedy: String,
}

/// Collects errors while a configuration is read.
#[derive(Debug, Default)]
pub(super) struct Problems {
    all: Vec<Problem>,
    /// Keys that were removed because of an error: they are not missing.
    broken: HashSet<String>,
}

#[derive(Debug)]
struct Problem {
    at: Option<usize>,
    problem: String,
    remedy: String,
}

impl Problems {
    pub(super) fn add(
        &mut self,
        at: impl Into<Option<usize>>,
        problem: impl Into<String>,
        remedy: impl Into<String>,
    ) {
        let (problem, remedy) = (problem.into(), remedy.into());
        self.all.push(Problem { at: at.into(), problem, remedy });
    }

    /// Notes that a key was removed because of an error.
    pub(super) fn set_broken(&mut self, key: &str) {
        self.broken.insert(key.to_owned());
    }

    /// Returns whether a key of this name was removed because of an error.
    pub(super) fn is_broken(&self, key: &str) -> bool {
        self.broken.contains(key)
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn into_errors(self, file: &str, source: &Source) -> ConfigurationErrors {
        let placed = |problem: Problem| ConfigurationError {
            place: problem.at.map_or(Place::File, |at| source.place(at)),
            problem: problem.problem,
            remedy: problem.remedy,
        };
        let mut all = self.all;
        all.sort_by_key(|problem| problem.at);
        let more = all.len().saturating_sub(MOST);
        let errors = all.into_iter().take(MOST).map(placed).collect();
        ConfigurationErrors { file: file.to_owned(), errors, more }
    }
}

impl ConfigurationErrors {
    /// The file could not be read.
    pub(super) fn of_file(file: &str, problem: String, remedy: &str) -> Self {
        let remedy = remedy.to_owned();
        let error = ConfigurationError { place: Place::File, problem, remedy };
        Self { file: file.to_owned(), errors: vec![error], more: 0 }
    }

    /// Returns the errors, at most 100.
    pub fn iter(&self) -> impl Iterator<Item = &ConfigurationError> {
        self.errors.iter()
    }
}

impl fmt::Display for ConfigurationErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            let place = error.place.shown(&self.file);
            write!(f, "{place}: {}\n  {}", error.problem, error.remedy)?;
        }
        match self.more {
            0 => Ok(()),
            more => write!(f, "\nand {more} more errors"),
        }
    }
}

impl Error for ConfigurationErrors {}
