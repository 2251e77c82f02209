//! Requests and jobs without a result. At its end, a shutdown writes the records of those that are
//! still open.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use crate::{refusal::Reason, request_id::RequestId};

const SHARDS: usize = 16;

/// A request or job that has no result yet.
pub(in crate::audit) trait OpenRequest: Send + Sync {
    /// Writes its record, as cut, unless it was written.
    fn cut_at_shutdown(&self, reason: Reason);
}

type WeakRequest = Weak<dyn OpenRequest>;

/// The open requests of one log. Entering and leaving take one lock of several.
#[derive(Default)]
pub(in crate::audit) struct OpenRequests {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Default)]
struct Shard {
    slots: Vec<Option<WeakRequest>>,
    free: Vec<usize>,
}

/// The slot of one request.
#[derive(Clone, Copy, Debug)]
pub(in crate::audit) struct Slot {
    shard: usize,
    slot: usize,
}

impl OpenRequests {
    pub(in crate::audit) fn enter(&self, id: RequestId, request: WeakRequest) -> Slot {
        // The ID is random.
        let [first, ..] = *id.as_bits();
        let shard = usize::from(first) % SHARDS;
        let Some(slots) = self.shards.get(shard) else { return Slot { shard, slot: 0 } };
        let mut slots = slots.lock();
        let slot = match slots.free.pop() {
            Some(slot) => slot,
            None => {
                slots.slots.push(None);
                slots.slots.len() - 1
            }
        };
        if let Some(place) = slots.slots.get_mut(slot) {
            *place = Some(request);
        }
        Slot { shard, slot }
    }

    pub(in crate::audit) fn leave(&self, Slot { shard, slot }: Slot) {
        let Some(slots) = self.shards.get(shard) else { return };
        let mut slots = slots.lock();
        let left = slots.slots.get_mut(slot).and_then(Option::take);
        if left.is_some() {
            slots.free.push(slot);
        }
        drop(slots);
    }

    pub(super) fn all(&self) -> Vec<Arc<dyn OpenRequest>> {
        let open = |shard: &Mutex<Shard>| -> Vec<Arc<dyn OpenRequest>> {
            shard.lock().slots.iter().flatten().filter_map(Weak::upgrade).collect()
        };
        self.shards.iter().flat_map(open).collect()
    }
}
