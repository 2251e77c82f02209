//! The known name that an unknown one resembles.

use crate::escaped::escaped;

/// Longest unknown name that an error shows: all known ones are shorter.
const LONGEST_SHOWN: usize = 40;

/// Returns the known name that was probably meant.
pub(super) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let plain = |name: &str| name.to_ascii_lowercase().replace(['-', '_', ' '], "");
    let written = plain(name);
    if name.len() > 2 * LONGEST_SHOWN {
        return None;
    }
    let distances =
        known.map(|known| (strsim::damerau_levenshtein(&written, &plain(known)), known));
    let (distance, known) = distances.min_by_key(|(distance, _)| *distance)?;
    // One error in three characters.
    (distance * 3 <= plain(known).chars().count().max(3)).then_some(known)
}

/// Returns a name from the file in grave accents. A long one is not shown, because it may be
/// something else, such as a secret.
pub(super) fn quoted(name: &str) -> String {
    match name.chars().count() {
        count if count > LONGEST_SHOWN => format!("of {count} characters"),
        _ => format!("`{}`", escaped(name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_found() {
        let known = ["upstream", "name", "client_id", "key_file"];
        for (name, nearest) in [
            ("upsteam", Some("upstream")),
            ("Upstream", Some("upstream")),
            ("client-id", Some("client_id")),
            ("clientId", Some("client_id")),
            ("keyfile", Some("key_file")),
            ("nmae", Some("name")),
            ("port", None),
            ("", None),
        ] {
            assert_eq!(super::nearest(name, known.into_iter()), nearest, "{name}");
        }
        assert_eq!(super::nearest(&"name".repeat(100_000), known.into_iter()), None);
    }

    #[test]
    fn a_long_name_is_not_shown() {
        assert_eq!(quoted("a\u{1b}b"), "`a\\u{1b}b`");
        assert_eq!(quoted(&"x".repeat(41)), "of 41 characters");
    }
}
