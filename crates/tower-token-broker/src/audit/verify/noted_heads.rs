//! Noted heads whose records were removed, as a chain of the folder records.

use super::folder_report::{ChainReport, FolderReport, RemovedHead, RemovedSegments};
use crate::audit::record::Head;

/// The relation of a noted head to the recorded removals.
#[derive(Clone, Copy)]
enum Relation<'r> {
    /// A removal covers no record with this number, or names another one with it.
    None,
    /// One of the removed records may be it: their hashes are not known.
    Perhaps(&'r RemovedSegments),
    /// It is one of the removed records.
    Removed(&'r RemovedSegments),
}

impl FolderReport {
    /// Sorts a noted head that no chain contains. All chains were judged before.
    // P519.
    pub(super) fn sort_missing(&mut self, head: Head) {
        let mut found = Relation::None;
        for removal in &self.removed {
            match (self.relation(removal, head), found) {
                (removed @ Relation::Removed(_), _) => {
                    found = removed;
                    break;
                }
                (perhaps @ Relation::Perhaps(_), Relation::None) => found = perhaps,
                _ => {}
            }
        }
        let (removal, is_compared) = match found {
            Relation::None => {
                self.missing_heads.push(head);
                return;
            }
            Relation::Perhaps(removal) => (removal, false),
            Relation::Removed(removal) => (removal, true),
        };
        let removal = removal.clone();
        self.removed_heads.push(RemovedHead { head, removal, is_compared });
    }

    fn relation<'r>(&self, removal: &'r RemovedSegments, head: Head) -> Relation<'r> {
        let chain = self.chains.iter().find(|chain| is_of(chain, removal));
        // What is left of the chain contains the record, or would if it were as it was written.
        let first_left = chain
            .map(|chain| chain.removed_until.map_or(0, |head| head.sequence.saturating_add(1)));
        let is_gone = first_left.is_none_or(|first| head.sequence < first);
        if !is_gone || head.sequence < removal.from || head.sequence > removal.until.sequence {
            return Relation::None;
        }
        // The hashes that are known of the removed records: their last one by each removal, and the
        // one that the rest of the chain continues.
        let of_chain = self
            .removed
            .iter()
            .filter(|other| other.writer == removal.writer && other.chain == removal.chain);
        let mut known =
            of_chain.map(|other| other.until).chain(chain.and_then(|chain| chain.removed_until));
        match known.find(|known| known.sequence == head.sequence) {
            Some(known) if known == head => Relation::Removed(removal),
            Some(_) => Relation::None,
            None => Relation::Perhaps(removal),
        }
    }
}

fn is_of(chain: &ChainReport, removal: &RemovedSegments) -> bool {
    *removal.writer == *chain.writer.as_str() && Some(&removal.chain) == chain.report.chain.as_ref()
}
