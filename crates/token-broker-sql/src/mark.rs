//! How far a store has come, so that a restored backup is recognized.

use std::{fmt, str::FromStr};

use aws_lc_rs::rand;

use crate::{
    database::{Failure, Row, Value},
    error::SqlError,
    store::SqlStore,
};

const CREATE: &str = "INSERT INTO store_mark (one, store, recoveries, progress) \
    VALUES (1, $1, 0, 0) ON CONFLICT DO NOTHING";
const READ: &str = "SELECT store, recoveries, progress, last FROM store_mark, revocation_sequence";
const ADVANCE: &str = "UPDATE store_mark SET progress = progress + 1 RETURNING progress";
/// From the larger of two numbers of recoveries. A store that was recovered twice at the same time
/// has two recoveries.
const RECOVER: &str = "UPDATE store_mark SET progress = progress + 1, recoveries = 1 + \
    CASE WHEN recoveries < $1 THEN $1 ELSE recoveries END RETURNING progress";

/// How far a store has come. Noted outside of the store, it shows later whether the store is an
/// older copy of itself.
///
/// Its text has one line: the random name of the store, and three numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a mark changes nothing; note it outside of the store"]
pub struct StoreMark {
    store: Box<str>,
    recoveries: u64,
    progress: u64,
    revocations: u64,
}

impl StoreMark {
    /// Returns whether a store with this mark lacks something that was in the store when the other
    /// mark was noted. A store of another name does.
    pub fn is_older_than(&self, noted: &Self) -> bool {
        if self.store != noted.store {
            return true;
        }
        self.recoveries < noted.recoveries
            || (self.recoveries == noted.recoveries
                && (self.progress < noted.progress || self.revocations < noted.revocations))
    }

    /// Returns whether both are marks of the same store, or of copies of it.
    pub fn is_of_same_store(&self, other: &Self) -> bool {
        self.store == other.store
    }
}

impl fmt::Display for StoreMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, recoveries, progress, revocations } = self;
        write!(f, "{store} {recoveries} {progress} {revocations}")
    }
}

impl FromStr for StoreMark {
    type Err = ParseMarkError;

    fn from_str(text: &str) -> Result<Self, ParseMarkError> {
        let mut parts = text.trim_end_matches('\n').split(' ');
        let store = parts.next().filter(|store| is_name(store)).ok_or(ParseMarkError)?.into();
        let mut number = || parts.next().and_then(|part| part.parse().ok()).ok_or(ParseMarkError);
        let (recoveries, progress, revocations) = (number()?, number()?, number()?);
        match parts.next() {
            None => Ok(Self { store, recoveries, progress, revocations }),
            Some(_) => Err(ParseMarkError),
        }
    }
}

fn is_name(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The text is no mark of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no mark of a store")]
#[non_exhaustive]
pub struct ParseMarkError;

/// Names a new store. Of several processes, one does.
pub(crate) async fn prepare(store: &SqlStore) -> Result<(), Failure> {
    let mut name = [0; 16];
    rand::fill(&mut name).map_err(|_| Failure::Unreachable("no random numbers".into()))?;
    let name = format!("{:032x}", u128::from_be_bytes(name));
    store.within(store.database.write(CREATE, &[Value::Text(&name)])).await.map(drop)
}

pub(crate) async fn read(store: &SqlStore) -> Result<StoreMark, SqlError> {
    // By the connection of the revocations: no other load delays it.
    let rows = store.within(store.database.read_feed(READ, &[])).await?;
    Ok(mark(rows.first().ok_or(Failure::Unreadable)?)?)
}

fn mark(row: &Row) -> Result<StoreMark, Failure> {
    Ok(StoreMark {
        store: row.text(0)?.into(),
        recoveries: row.number(1)?,
        progress: row.number(2)?,
        revocations: row.number(3)?,
    })
}

pub(crate) async fn advance(store: &SqlStore) -> Result<(), SqlError> {
    store.within(store.database.write(ADVANCE, &[])).await?;
    Ok(())
}

pub(crate) async fn recover(store: &SqlStore, noted: &[StoreMark]) -> Result<(), SqlError> {
    let most = noted.iter().map(|mark| mark.recoveries).max().unwrap_or(0);
    store.within(store.database.write(RECOVER, &[Value::from(most)])).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(recoveries: u64, progress: u64, revocations: u64) -> StoreMark {
        StoreMark { store: "0f".repeat(16).into(), recoveries, progress, revocations }
    }

    #[test]
    fn a_store_is_older_than_a_mark_if_any_number_is() {
        let noted = mark(1, 10, 5);
        for (now, is_older) in [
            (mark(1, 10, 5), false),
            (mark(1, 11, 5), false),
            (mark(1, 10, 6), false),
            (mark(1, 9, 6), true),
            (mark(1, 11, 4), true),
            (mark(0, 99, 99), true),
            // A recovery begins a new count: other hosts have noted larger numbers.
            (mark(2, 0, 0), false),
        ] {
            assert_eq!(now.is_older_than(&noted), is_older, "{now}");
        }
        let another = StoreMark { store: "ab".repeat(16).into(), ..mark(9, 99, 99) };
        assert!(another.is_older_than(&noted));
        assert!(!another.is_of_same_store(&noted));
    }

    #[test]
    fn marks_are_read_as_they_are_written() {
        let noted = mark(1, 10, 5);
        assert_eq!(noted.to_string().parse(), Ok(noted.clone()));
        assert_eq!(format!("{noted}\n").parse(), Ok(noted));
        let name = "0f".repeat(16);
        for text in [
            "".to_owned(),
            name.clone(),
            format!("{name} 1 2"),
            format!("{name} 1 2 3 4"),
            format!("{name} 1 2 -3"),
            format!("{name}  1 2 3"),
            "short 1 2 3".to_owned(),
        ] {
            assert_eq!(text.parse::<StoreMark>(), Err(ParseMarkError), "{text}");
        }
    }
}
