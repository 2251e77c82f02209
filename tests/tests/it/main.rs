//! End to end: real bytes through a mounted stack.

#![cfg(test)]

mod answer_hygiene;
mod cancellation;
mod mounts;
mod no_blind_spots;
mod request_hygiene;
mod revocation_is_immediate;
