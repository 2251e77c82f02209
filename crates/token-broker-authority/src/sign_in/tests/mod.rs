//! The pages as a whole, over stores in memory.

mod accounts;
mod sessions;
mod signing_in;
