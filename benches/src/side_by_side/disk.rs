//! Time of one fdatasync of the disk with the audit file.

use std::{fs::File, io::Write as _, path::Path, time::Duration};

use super::{Outcome, load::now};

/// Approximate length of a record.
const RECORD: usize = 600;
const TIMES: usize = 40;

/// Appends and syncs a record several times, and returns the median time.
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
