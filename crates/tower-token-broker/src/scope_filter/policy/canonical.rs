//! Checks that a path or URI is written in its canonical text, and has only one interpretation.

use std::{collections::HashSet, sync::LazyLock};

use unicode_normalization::UnicodeNormalization as _;

use super::readings::of_method;
use crate::{
    mcp::method::McpMethod,
    percent::{Decoded, decode_text, escapes, is_unreserved},
};

/// Whether the HTTP path is canonical, and no other reader resolves it to a different one.
// L241, J424: a path with a second interpretation is refused.
pub(in crate::scope_filter) fn is_canonical_path(path: &str) -> bool {
    // A trailing slash belongs to the path. An empty segment in the middle is refused.
    let segments = path.strip_prefix('/').unwrap_or(path);
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let has_segments =
        matches!(path, "/") || segments.split('/').all(|segment| !segment.is_empty());
    // An escape must not hide a delimiter.
    let hides_delimiter =
        |escape: Option<u8>| escape.is_none_or(|octet| matches!(octet, b'/' | b'\\' | b'%' | b';'));
    path.starts_with('/')
        && has_segments
        && has_canonical_escapes(path)
        && !escapes(path).any(hides_delimiter)
        && !path.contains(['\\', ';'])
        && decoded(path).is_some_and(|path| !has_second_form(&path, &['/']))
}

/// Whether the URI is its canonical text (RFC 3986 §6.2.2), and has no dot segment or backslash in
/// any form that a reader may decode. Of a template, scheme and host are checked as far as they are
/// before the first variable.
// J217: the server may parse the URI in its own way, so the query is checked like the path. Escaped
// slashes are allowed, because a name may contain one.
pub(super) fn is_canonical_uri(uri: &str) -> bool {
    has_canonical_escapes(uri)
        && !escapes(uri).any(|escape| escape.is_none_or(|octet| octet == b'%'))
        && has_canonical_scheme_and_host(uri)
        && decoded(uri)
            .is_some_and(|uri| !uri.contains('\\') && !has_second_form(&uri, &['/', '?', '#', ';']))
}

/// Whether the method is none of MCP, and some server may read it as one.
// J423: it would be judged by its own name, and not by the tool, prompt or resource.
pub(super) fn is_method_respelled(method: &str) -> bool {
    static FORMS: LazyLock<HashSet<String>> = LazyLock::new(|| {
        McpMethod::KNOWN.iter().flat_map(|it| of_method(it.as_str()).unwrap_or_default()).collect()
    });
    matches!(McpMethod::parse(method), McpMethod::Other(_))
        && of_method(method).map_or(true, |forms| forms.iter().any(|form| FORMS.contains(form)))
}

/// Whether escapes have upper-case digits (RFC 3986 §6.2.2.1), and are only where they are needed
/// (§6.2.2.2).
fn has_canonical_escapes(text: &str) -> bool {
    let digits = text.split('%').skip(1).filter_map(|behind| behind.get(..2));
    escapes(text).all(|escape| escape.is_some_and(|octet| !is_unreserved(octet)))
        && !digits.into_iter().any(|digits| digits.bytes().any(|byte| byte.is_ascii_lowercase()))
}

fn decoded(text: &str) -> Option<String> {
    match decode_text(text) {
        Decoded::Unchanged => Some(text.to_owned()),
        Decoded::Text(text) => Some(text),
        Decoded::NoText => None,
    }
}

/// Whether the text has a control character or a dot segment, or gains a delimiter or a dot segment
/// when a server converts compatibility forms: `／` is `/`, and `．．` is `..`.
fn has_second_form(text: &str, delimiters: &[char]) -> bool {
    let has_dots = |text: &str| text.split(delimiters).any(is_dots);
    if text.is_ascii() {
        return has_dots(text) || text.bytes().any(|byte| byte.is_ascii_control());
    }
    let hides_delimiter = |char: &char| {
        !char.is_ascii() && char.nfkc().any(|form| matches!(form, '/' | '\\' | '%' | ';'))
    };
    has_dots(text)
        || has_dots(&text.nfkc().collect::<String>())
        || text.chars().any(|char| char.is_control() || hides_delimiter(&char))
}

/// Whether the segment is `.` or `..`, also with blanks, or any other number of dots and blanks
/// that a server may take for one of them.
fn is_dots(segment: &str) -> bool {
    !segment.is_empty() && segment.bytes().all(|byte| matches!(byte, b'.' | b' '))
}

fn has_canonical_scheme_and_host(uri: &str) -> bool {
    let fixed = uri.split('{').next().unwrap_or_default();
    let Some((scheme, rest)) = fixed.split_once(':') else { return true };
    let has_upper = |text: &str| text.bytes().any(|byte| byte.is_ascii_uppercase());
    if scheme.contains('/') {
        return true;
    }
    let Some(rest) = rest.strip_prefix("//") else { return !has_upper(scheme) };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    // RFC 3986 §6.2.3: an empty path is written as a slash.
    let is_complete = fixed.len() == uri.len();
    let is_path_empty = authority.len() == rest.len()
        || rest.get(authority.len()..).is_some_and(|rest| !rest.starts_with('/'));
    let needs_path = is_complete && matches!(scheme, "http" | "https" | "ws" | "wss" | "ftp");
    let is_lower = !has_upper(scheme) && !outside_escapes(host).any(has_upper);
    is_lower && (!needs_path || !is_path_empty)
}

/// Returns the parts of the text between its escapes, whose digits have upper case.
fn outside_escapes(text: &str) -> impl Iterator<Item = &str> {
    let mut parts = text.split('%');
    let first = parts.next();
    first.into_iter().chain(parts.filter_map(|behind| behind.get(2..)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ambiguous_path_is_not_canonical() {
        for path in [
            "/",
            "/v1/items/7",
            "/v1/items/",
            "/v1/a%20b",
            "/v1/%C3%A9",
            "/v1/é",
            "/a/%EF%BC%88",
            "/a/b...c",
        ] {
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
            // J424
            "/v1/%c3%a9",
            "/v1/%C0%AE",
            "/v1/%E0%80%AF",
            "/v1/%FF",
            "/v1/%ED%A0%80",
            "/v1/a%EF%BC%8Fb",
            "/v1/a／b",
            "/v1/a%EF%BC%BCb",
            "/v1/a%EF%BC%9Bb",
            "/v1/a%EF%BC%85b",
            "/v1/%EF%BC%8E%EF%BC%8E/b",
            "/v1/%E2%80%A5/b",
            "/v1/%u002e/b",
            "/v1/..%20/b",
            "/v1/.../b",
            "/v1/%20/b",
            "/v1/..;/b",
            "/v1/a%C2%85b",
        ] {
            assert!(!is_canonical_path(path), "L241, J424 {path}");
        }
    }

    #[test]
    fn a_canonical_uri_has_one_text() {
        for uri in [
            "file:///data/report.txt",
            "https://a.example/",
            "https://a.example/B?c=D",
            "https://a%C3%89.example/",
            "ui://widget",
            "repo://x/a%2Fb%3Fc",
            "urn:isbn:0451450523",
            "file:///{Name}",
            "https://{Host}/x",
            "{+uri}",
            "data",
            "a/B:c",
            "file:///d/報告（終稿）：一.pdf",
        ] {
            assert!(is_canonical_uri(uri), "{uri}");
        }
        for uri in [
            "FILE:///data",
            "File:/data",
            "https://A.example/",
            "https://a.example",
            "https://a.example?c",
            "https://u@A.example/",
            "https://a%C3%89A.example/",
            "file:///a%2fb",
            "file:///a%41b",
            "file:///a%ZZ",
            "file:///a%",
            "file:///%C0%AE",
            "file:///a\u{85}b",
            "file:///．．/b",
            "file:///a／b",
            "file:///.. /b",
        ] {
            assert!(!is_canonical_uri(uri), "{uri}");
        }
    }

    #[test]
    fn j423_a_respelled_method_is_found() {
        for method in McpMethod::KNOWN {
            assert!(!is_method_respelled(method.as_str()), "{method:?}");
            let upper = method.as_str().to_uppercase();
            assert!(is_method_respelled(&upper), "J423 {upper}");
        }
        for method in [
            "Tools/call",
            "tools//call",
            "tools/call/",
            "tools%2fcall",
            "tools/cal\u{200b}l",
            "a%ff",
        ] {
            assert!(is_method_respelled(method), "J423 {method}");
        }
        for method in ["x", "", "tools/calls", "acme/reindex", "tools"] {
            assert!(!is_method_respelled(method), "{method}");
        }
    }
}
