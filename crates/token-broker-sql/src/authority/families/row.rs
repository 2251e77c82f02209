//! The columns of a token family.

use token_broker_store::{
    StoreError,
    authority::{ClientId, Family, FamilyEnd, FamilyEndReason, FamilyId, Superseded},
    sealing::SealingContext,
};
use tower_token_broker::{clock::Timestamp, principal::User};

use super::{KIND, Sealed, of_row};
use crate::{
    authority::{resource, scopes},
    database::{Failure, Row},
};

/// A row; its key is sealed.
pub(super) struct FamilyRow {
    pub(super) family: Family,
    /// `None` after the end.
    pub(super) key: Option<Sealed>,
}

impl FamilyRow {
    /// Reads a row of `LOAD` and `LIST`.
    pub(super) fn read(row: &Row) -> Result<Self, StoreError> {
        let id = row.text(0)?;
        // Another row is not affected.
        Self::columns(row, FamilyId::new(&id)).map_err(of_row(KIND, &id))
    }

    fn columns(row: &Row, id: FamilyId) -> Result<Self, Failure> {
        let user = User::new(row.text(1)?, row.text(2)?);
        let times = (row.time(9)?, row.time(12)?);
        let (client, resource) = (ClientId::new(&row.text(3)?), resource(row, 4)?);
        let mut family = Family::new(id, user, client, resource, times);
        family.scopes = scopes(row, 5)?;
        family.generation = row.number(6)?;
        family.issued_at = row.time(7)?;
        family.superseded = decode(&row.bytes(8)?).ok_or(Failure::Unreadable)?;
        family.last_used_at = row.time(10)?;
        family.idle_until = row.time(11)?;
        family.end = match (row.optional_text(13)?, row.optional_time(14)?) {
            (Some(reason), Some(at)) => {
                let reason = FamilyEndReason::from_name(&reason).ok_or(Failure::Unreadable)?;
                Some(FamilyEnd::new(reason, at))
            }
            (None, None) => None,
            _ => return Err(Failure::Unreadable),
        };
        let key = Sealed::read(row, 15)?;
        // A family without a key has ended, and one that has ended has none.
        if key.is_some() == family.end.is_some() {
            return Err(Failure::Unreadable);
        }
        Ok(Self { family, key })
    }
}

/// The context of a row whose data key is wrapped again.
pub(super) fn old_context(row: &Row) -> Result<SealingContext, Failure> {
    let user = User::new(row.text(3)?, row.text(4)?);
    let times = (row.time(8)?, row.time(9)?);
    let (client, resource) = (ClientId::new(&row.text(5)?), resource(row, 6)?);
    let mut family = Family::new(FamilyId::new(&row.text(0)?), user, client, resource, times);
    family.scopes = scopes(row, 7)?;
    Ok(super::context(&family))
}

/// Encodes the instants: for each, the generation and milliseconds, big-endian.
pub(super) fn encode(superseded: &Superseded) -> Vec<u8> {
    let mut encoded = Vec::with_capacity(superseded.entries().len() * ENTRY);
    for (generation, at) in superseded.entries() {
        encoded.extend(generation.to_be_bytes());
        encoded.extend(at.unix_millis().to_be_bytes());
    }
    encoded
}

/// Decodes what [`encode`] returned; `None` for all other input.
fn decode(encoded: &[u8]) -> Option<Superseded> {
    let (numbers, []) = encoded.as_chunks() else { return None };
    let (entries, []) = numbers.as_chunks() else { return None };
    let number = |octets: &[u8; 8]| u64::from_be_bytes(*octets);
    let entry = |[generation, at]: &[[u8; 8]; 2]| {
        (number(generation), Timestamp::from_unix_millis(number(at)))
    };
    Superseded::from_entries(entries.iter().map(entry))
}

/// Number of octets of an entry.
const ENTRY: usize = 16;
