//! Marks: notes outside of the store of how far it has come, by which an older copy is recognized.
//!
//! A witness changes a random text in its row with each note. An older copy of the store has an
//! older text, whatever was written to it since: numbers would be equal again after a while.

use std::{fmt, str::FromStr};

use aws_lc_rs::rand;

use crate::{
    database::{Failure, Row, Value},
    error::SqlError,
    store::SqlStore,
};

const READ: &str = "SELECT recoveries.count, revocation_sequence.last, witnesses.stamp \
    FROM recoveries, revocation_sequence LEFT JOIN witnesses ON witnesses.witness = $1";
const ADD: &str = "INSERT INTO witnesses (witness, stamp) VALUES ($1, $2)";
const CHANGE: &str = "UPDATE witnesses SET stamp = $2 WHERE witness = $1 AND stamp = $3 \
    RETURNING witness";
const RECOVER: &str = "UPDATE recoveries SET count = 1 + \
    CASE WHEN count < $1 THEN $1 ELSE count END RETURNING count";

/// A note of one witness of how far a store has come. It is kept outside of the store, as one line
/// of text, and shows later whether the store is an older copy of itself, or another store.
///
/// A note is made in three steps: [`StoreMark::begin`], and the result is kept;
/// [`SqlStore::witness`]; and the result is kept. After a crash in between, either text counts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a mark has an effect when it is kept outside of the store"]
pub struct StoreMark {
    witness: Box<str>,
    stamp: Option<Box<str>>,
    /// The next stamp, if a note was begun.
    next: Option<Box<str>>,
    recoveries: u64,
    /// The last revocation.
    revocations: u64,
}

/// The state of a store, compared with a mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MarkState {
    /// The store has all that it had when the mark was made. `is_latest`: and no revocation since.
    Whole {
        /// Whether there was no revocation since.
        is_latest: bool,
    },
    /// The store is an older copy, or another store.
    Older,
    /// The store was an older copy, and was accepted since
    /// ([`SqlStore::accept_older`]): all tokens of that time are revoked.
    Accepted,
}

impl StoreMark {
    /// Creates the mark of a new witness.
    ///
    /// # Panics
    /// The system provides no random numbers.
    pub fn new() -> Self {
        Self { witness: random(), stamp: None, next: None, recoveries: 0, revocations: 0 }
    }

    /// Begins a note. Keep the result, and give it to [`SqlStore::witness`].
    pub fn begin(mut self) -> Self {
        // After a crash, the store has one of the two already.
        if self.next.is_none() {
            self.next = Some(random());
        }
        self
    }
}

impl Default for StoreMark {
    fn default() -> Self {
        Self::new()
    }
}

fn random() -> Box<str> {
    let mut bytes = [0; 16];
    rand::fill(&mut bytes).expect("the system's randomness does not fail once it is seeded");
    format!("{:032x}", u128::from_be_bytes(bytes)).into()
}

impl fmt::Display for StoreMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { witness, stamp, next, recoveries, revocations } = self;
        let [stamp, next] = [stamp, next].map(|text| text.as_deref().unwrap_or("-"));
        write!(f, "{witness} {stamp} {next} {recoveries} {revocations}")
    }
}

impl FromStr for StoreMark {
    type Err = ParseMarkError;

    fn from_str(text: &str) -> Result<Self, ParseMarkError> {
        let parts: Vec<_> = text.trim_end_matches('\n').split(' ').collect();
        let [witness, stamp, next, recoveries, revocations] = parts[..] else {
            return Err(ParseMarkError);
        };
        let optional = |text: &str| match text {
            "-" => Ok(None),
            _ => random_text(text).map(Some),
        };
        let number = |text: &str| text.parse().map_err(|_| ParseMarkError);
        Ok(Self {
            witness: random_text(witness)?,
            stamp: optional(stamp)?,
            next: optional(next)?,
            recoveries: number(recoveries)?,
            revocations: number(revocations)?,
        })
    }
}

fn random_text(text: &str) -> Result<Box<str>, ParseMarkError> {
    let is_random = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_random { Ok(text.into()) } else { Err(ParseMarkError) }
}

/// The text is no mark of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no mark of a store")]
#[non_exhaustive]
pub struct ParseMarkError;

pub(crate) async fn compare(store: &SqlStore, mark: &StoreMark) -> Result<MarkState, SqlError> {
    let now = read(store, mark).await?;
    let (known, stored) = ([&mark.stamp, &mark.next], now.stamp);
    // Of a new witness, the row may not be there yet.
    let is_whole = if stored.is_none() { mark.stamp.is_none() } else { known.contains(&&stored) };
    Ok(match is_whole {
        true => MarkState::Whole { is_latest: now.revocations == mark.revocations },
        false if now.recoveries > mark.recoveries => MarkState::Accepted,
        false => MarkState::Older,
    })
}

struct Now {
    recoveries: u64,
    revocations: u64,
    stamp: Option<Box<str>>,
}

async fn read(store: &SqlStore, mark: &StoreMark) -> Result<Now, SqlError> {
    store.is_in_place().await?;
    // By the connection of the revocations: no other load delays it.
    let values = [Value::Text(&mark.witness)];
    let rows = store.within(store.database.read_feed(READ, &values)).await?;
    let row: &Row = rows.first().ok_or(Failure::Unreadable)?;
    Ok(Now {
        recoveries: row.number(0)?,
        revocations: row.number(1)?,
        stamp: row.optional_text(2)?.map(Into::into),
    })
}

/// Changes the stamp of a mark that has begun a note. Returns none if the store is older.
pub(crate) async fn witness(
    store: &SqlStore,
    mark: &StoreMark,
) -> Result<Option<StoreMark>, SqlError> {
    let now = read(store, mark).await?;
    let Some(next) = &mark.next else { return Ok(None) };
    let done = StoreMark {
        witness: mark.witness.clone(),
        stamp: Some(next.clone()),
        next: None,
        recoveries: now.recoveries,
        revocations: now.revocations,
    };
    let was_changed = match (&now.stamp, &mark.stamp) {
        // By a step before a crash.
        (Some(stored), _) if stored == next => true,
        (Some(stored), Some(stamp)) if stored == stamp => {
            let values = [Value::Text(&mark.witness), Value::Text(next), Value::Text(stamp)];
            !store.within(store.database.write(CHANGE, &values)).await?.is_empty()
        }
        (None, None) => {
            let values = [Value::Text(&mark.witness), Value::Text(next)];
            store.within(store.database.write(ADD, &values)).await?;
            true
        }
        _ => false,
    };
    Ok(was_changed.then_some(done))
}

pub(crate) async fn accept(store: &SqlStore, noted: &[StoreMark]) -> Result<(), SqlError> {
    let most = noted.iter().map(|mark| mark.recoveries).max().unwrap_or(0);
    store.within(store.database.write(RECOVER, &[Value::from(most)])).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_read_as_they_are_written() {
        let new = StoreMark::new();
        let begun = new.clone().begin();
        let again = begun.clone().begin();
        assert_eq!(begun, again, "a note that was begun is continued");
        assert_ne!(StoreMark::new(), new);
        for mark in [new, begun] {
            assert_eq!(mark.to_string().parse(), Ok(mark.clone()));
            assert_eq!(format!("{mark}\n").parse(), Ok(mark));
        }
        let text = "0f".repeat(16);
        for wrong in [
            "".to_owned(),
            text.clone(),
            format!("{text} - - 0"),
            format!("{text} - - 0 0 0"),
            format!("{text} - - 0 -1"),
            format!("{text}  - - 0 0"),
            format!("{text} short - 0 0"),
            "short - - 0 0".to_owned(),
        ] {
            assert_eq!(wrong.parse::<StoreMark>(), Err(ParseMarkError), "{wrong}");
        }
    }
}
