//! Where the vectors of others lie: beside the repository, or where `TOKEN_BROKER_VECTORS` says.

use std::{io::Write as _, path::PathBuf};

/// The folder of this name; `None`, said aloud, in a clone without vectors.
#[expect(clippy::disallowed_methods, reason = "a test asks its environment where the vectors are")]
pub(crate) fn folder(name: &str) -> Option<PathBuf> {
    let root = std::env::var("TOKEN_BROKER_VECTORS").map_or_else(
        |_| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors"),
        PathBuf::from,
    );
    let folder = root.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    // Not by `eprintln!`, which the test harness keeps to itself where a test passes.
    writeln!(
        std::io::stderr(),
        "NOT RUN: no vectors in {}; set TOKEN_BROKER_VECTORS",
        folder.display()
    )
    .unwrap();
    None
}
