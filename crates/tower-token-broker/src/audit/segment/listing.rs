//! The files of an audit folder.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{SegmentName, WriterName};

/// The files of an audit folder: segments by their writer, and others.
#[derive(Debug, Default)]
pub(in crate::audit) struct Listing {
    /// The sequence numbers of the first records, in the order of the chain.
    pub(in crate::audit) segments: BTreeMap<WriterName, BTreeSet<u64>>,
    pub(in crate::audit) others: BTreeSet<PathBuf>,
}

impl Listing {
    pub(in crate::audit) fn read(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        for entry in fs::read_dir(folder)? {
            let name = entry?.file_name();
            match name.to_str().and_then(SegmentName::parse) {
                Some(SegmentName { writer, first }) => {
                    listing.segments.entry(writer).or_default().insert(first);
                }
                None => {
                    listing.others.insert(folder.join(name));
                }
            }
        }
        Ok(listing)
    }

    /// Returns the first sequence numbers of a writer's segments.
    pub(in crate::audit) fn of(folder: &Path, writer: &WriterName) -> io::Result<BTreeSet<u64>> {
        Ok(Self::read(folder)?.segments.remove(writer).unwrap_or_default())
    }
}

impl SegmentName {
    /// Returns the path of the segment in a folder.
    pub(in crate::audit) fn path(folder: &Path, writer: &WriterName, first: u64) -> PathBuf {
        folder.join(Self { writer: writer.clone(), first }.to_string())
    }
}
