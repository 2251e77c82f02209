//! The guides of the repository as doc tests: every Rust block of theirs is compiled.

#[doc = include_str!("../../README.md")]
mod readme {}

#[doc = include_str!("../../docs/audit.md")]
mod audit {}

#[doc = include_str!("../../docs/credentials.md")]
mod credentials {}

#[doc = include_str!("../../docs/embedding.md")]
mod embedding {}

#[doc = include_str!("../../docs/operating.md")]
mod operating {}

#[doc = include_str!("../../docs/store.md")]
mod store {}
