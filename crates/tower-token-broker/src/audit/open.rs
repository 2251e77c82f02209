//! The requests whose record is not written yet. A shutdown writes the records of those that are
//! still open at its end.

use std::sync::Arc;

use parking_lot::Mutex;

use super::trail::{Inner, Trail, WeakTrail};

const SHARDS: usize = 16;

/// The open requests of one log. Entering and leaving take one lock that few share.
#[derive(Default)]
pub(super) struct OpenRequests {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    slots: Vec<Option<WeakTrail>>,
    free: Vec<usize>,
}

/// The slot of one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    shard: usize,
    slot: usize,
}

impl OpenRequests {
    pub(super) fn enter(&self, request: &Arc<Inner>) -> Slot {
        let shard = usize::from(request.id_byte()) % SHARDS;
        let Some(slots) = self.shards.get(shard) else { return Slot { shard, slot: 0 } };
        let mut shard_of = slots.lock();
        let trail = Some(Arc::downgrade(request));
        let slot = match shard_of.free.pop() {
            Some(slot) => slot,
            None => {
                shard_of.slots.push(None);
                shard_of.slots.len() - 1
            }
        };
        if let Some(place) = shard_of.slots.get_mut(slot) {
            *place = trail;
        }
        Slot { shard, slot }
    }

    pub(super) fn leave(&self, Slot { shard, slot }: Slot) {
        let Some(slots) = self.shards.get(shard) else { return };
        let mut shard_of = slots.lock();
        let left = shard_of.slots.get_mut(slot).and_then(Option::take);
        if left.is_some() {
            shard_of.free.push(slot);
        }
        drop(shard_of);
    }

    pub(super) fn all(&self) -> Vec<Trail> {
        let upgraded = |shard: &Mutex<Shard>| -> Vec<Trail> {
            shard.lock().slots.iter().flatten().filter_map(Trail::upgrade).collect()
        };
        self.shards.iter().flat_map(upgraded).collect()
    }
}
