//! Placeholder.
use std::path::Path;
/// Placeholder.
///
/// # Errors
/// Always.
pub fn run(_: &Path) -> Result<String, std::io::Error> {
    Err(std::io::Error::other("not yet"))
}
