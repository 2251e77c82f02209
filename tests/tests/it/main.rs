//! End to end: real bytes through a mounted stack.

#![cfg(test)]

mod answer_hygiene;
mod cancellation;
mod mounts;
mod request_hygiene;
