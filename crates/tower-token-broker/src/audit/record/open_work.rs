//! Work that an earlier process left without a result.

/// A request or a background job without a result, by its ID in the records.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum OpenWork {
    /// A request.
    Request(Box<str>),
    /// A background job.
    Job(Box<str>),
}
