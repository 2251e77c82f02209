//! Tests of the configuration as a whole.

mod accepted;
mod documents;
mod fixture;
mod hostile;
mod properties;
mod variables;
mod wrong_files;
