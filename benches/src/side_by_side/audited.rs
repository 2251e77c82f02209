//! Number of requests in the audit file, which must be the number of requests sent.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
    path::Path,
};

use super::Outcome;

/// Returns the sum of `count` over all `result` records (docs/audit-schema.md).
pub(crate) fn requests(audit: &Path) -> Outcome<u64> {
    let mut sum = 0;
    for line in BufReader::new(File::open(audit)?).lines() {
        let line = line?;
        // The file is from this run, and its members have a fixed order.
        if line.contains(r#","kind":"result","#) {
            let count = line.split_once(r#","count":"#).and_then(|(_, rest)| rest.split_once(','));
            let (count, _) = count.ok_or("a result without a count")?;
            sum += count.parse::<u64>()?;
        }
    }
    Ok(sum)
}
