//! Revocations and blocks: an in-memory store of their sequence.

mod memory;

pub use memory::MemoryRevocations;
