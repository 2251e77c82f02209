//! Checks that a path or URI has only one interpretation.

use crate::percent::{decode, escapes, is_unreserved};

/// Whether no other reader resolves the HTTP path to a different one.
// L241: a path with a second interpretation is refused.
pub(in crate::scope_filter) fn is_canonical_path(path: &str) -> bool {
    // A trailing slash belongs to the path. An empty segment in the middle is refused.
    let segments = path.strip_prefix('/').unwrap_or(path);
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let segments_are_plain = matches!(path, "/")
        || segments.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    // An escape must not hide a delimiter, nor a character that needs no escape (RFC 3986
    // §6.2.2.2).
    let escapes_are_plain = escapes(path).all(|escape| {
        escape.is_some_and(|octet| !matches!(octet, b'/' | b'\\' | b'%' | b';') && !hides(octet))
    });
    path.starts_with('/') && segments_are_plain && escapes_are_plain && !path.contains(['\\', ';'])
}

/// Whether the URI has no dot segment (`.` or `..`), in any spelling that a reader may decode.
// J217: the server may parse the URI in its own way, so the query is checked like the path. Escaped
// slashes are allowed, because a name may contain one.
pub(super) fn is_canonical_uri(uri: &str) -> bool {
    let escapes_are_plain =
        escapes(uri).all(|escape| escape.is_some_and(|octet| octet != b'%' && !hides(octet)));
    let decoded = decode(uri);
    let has_step = decoded
        .split(|octet| b"/\\?#;".contains(octet))
        .any(|segment| matches!(segment, b"." | b".."));
    escapes_are_plain
        && !has_step
        && !decoded.iter().any(|octet| *octet == b'\\' || octet.is_ascii_control())
}

/// Whether an escape of this octet has no legitimate use.
const fn hides(octet: u8) -> bool {
    is_unreserved(octet) || octet.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_path_is_not_canonical() {
        for path in ["/", "/v1/items/7", "/v1/items/", "/v1/a%20b", "/v1/%c3%a9"] {
            assert!(is_canonical_path(path), "{path}");
        }
        for path in [
            "",
            "*",
            "/v1/../admin",
            "/v1/./a",
            "//admin",
            "/v1//a",
            "/v1/%2e%2e/admin",
            "/v1/%2E/a",
            "/v1%2fadmin",
            "/a%5cb",
            "/a\\b",
            "/a;b=1/c",
            "/a%3bb",
            "/a%00",
            "/a%0d%0a",
            "/a%2",
            "/a%zz",
            "/a%252e",
            "/v1/%61dmin",
            "/v1/a%7e",
            "/v1/a%2Db",
            "//",
            "/a//",
            "/..",
            "/.",
        ] {
            assert!(!is_canonical_path(path), "{path}");
        }
    }
}
