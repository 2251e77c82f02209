//! Vectors of others, over the public surface of the layers.

#![cfg(test)]

mod jose_vectors;
mod json_vectors;
mod presenting_the_token;
mod vectors;
