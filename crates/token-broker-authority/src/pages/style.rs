//! The style sheet, under a name that changes with its content.

use std::{fmt::Write as _, sync::LazyLock};

use aws_lc_rs::digest;
use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

const STYLE: &str = include_str!("style.css");

/// The path of the style sheet. It contains a digest, so a browser may keep the content for ever.
pub(crate) fn style_path() -> &'static str {
    &PATH
}

static PATH: LazyLock<String> = LazyLock::new(|| {
    let mut path = String::from("/assets/pages-");
    for byte in digest::digest(&digest::SHA256, STYLE.as_bytes()).as_ref().iter().take(8) {
        let _infallible = write!(path, "{byte:02x}");
    }
    path + ".css"
});

/// Returns the style sheet, if this is its path. Another version's path is not found, so that a
/// browser never keeps the wrong content.
pub(crate) fn style_sheet(path: &str) -> Option<Response<Bytes>> {
    if path != style_path() {
        return None;
    }
    let mut response = Response::new(Bytes::from_static(STYLE.as_bytes()));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/css; charset=utf-8"));
    let kept = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, kept);
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    Some(response)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_style_sheet_is_small_and_has_one_name() {
        assert!(STYLE.len() <= 8 * 1024, "{} bytes", STYLE.len());
        let response = style_sheet(style_path()).unwrap();
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/css; charset=utf-8");
        assert!(style_sheet("/assets/pages-0000000000000000.css").is_none());
        // Nothing is loaded from elsewhere.
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }
}
