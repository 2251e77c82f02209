//! Vectors of others, over the public surface of the layers.

#![cfg(test)]

mod json_vectors;
mod vectors;
