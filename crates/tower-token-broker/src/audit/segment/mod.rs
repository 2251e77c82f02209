//! The segments of an audit folder: how their files are named, and which ones are there.

mod listing;
mod name;

pub(super) use listing::Listing;
pub(super) use name::SegmentName;
pub use name::{WriterName, WriterNameError};
