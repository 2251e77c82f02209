//! The location of test vectors: next to the repository, or `TOKEN_BROKER_VECTORS`.

use std::{io::Write as _, path::PathBuf};

/// Returns the folder of this name; reports its absence, in a clone without vectors.
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
    // `eprintln!` would be captured by the test harness if the test passes.
    writeln!(
        std::io::stderr(),
        "NOT RUN: no vectors in {}; set TOKEN_BROKER_VECTORS",
        folder.display()
    )
    .unwrap();
    None
}
