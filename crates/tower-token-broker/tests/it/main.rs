//! Test vectors of other projects, run through the public API of the layers.

#![cfg(test)]

mod jose_vectors;
mod json_vectors;
mod presenting_the_token;
mod vectors;
