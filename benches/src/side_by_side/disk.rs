//! What one fdatasync of the disk under the audit file takes.

use std::{fs::File, io::Write as _, path::Path, time::Duration};

use super::{Outcome, load::now};

/// About as long as a record.
const RECORD: usize = 600;
const TIMES: usize = 40;

/// Appends a record and syncs it, again and again: the median.
pub(crate) fn fdatasync(dir: &Path) -> Outcome<Duration> {
    let path = dir.join("fdatasync");
    let mut file = File::create(&path)?;
    let mut took = Vec::new();
    for _ in 0..TIMES {
        let started = now();
        file.write_all(&[b'x'; RECORD])?;
        file.sync_data()?;
        took.push(started.elapsed());
    }
    std::fs::remove_file(path)?;
    took.sort_unstable();
    Ok(took.get(TIMES / 2).copied().unwrap_or_default())
}
