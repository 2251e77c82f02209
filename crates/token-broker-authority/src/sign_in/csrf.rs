//! Forged forms: whether a form was sent from our own page, in the same browser.
//!
//! Three checks, all of which must pass:
//! 1. `Sec-Fetch-Site`, if the browser sends it, is `same-origin`.
//! 2. `Origin`, if the browser sends it, is our own; `null` only with `Sec-Fetch-Site:
//!    same-origin`. A form without both is refused: all browsers send one of them.
//! 3. The token in the form is the one of the cookie ([`BrowserSecret::form_token`]).
//!
//! [`BrowserSecret::form_token`]: super::BrowserSecret::form_token

use aws_lc_rs::constant_time;
use http::{HeaderMap, HeaderName, header};

use crate::pages::Site;

/// Returns whether a form was sent from our own page, by the headers and the token.
// D098: another site can send a form with the user's cookies, but neither these headers nor the
// token.
pub(crate) fn is_own_form(
    site: &Site,
    headers: &HeaderMap,
    expected: &str,
    presented: Option<&str>,
) -> bool {
    let presented = presented.unwrap_or_default().as_bytes();
    is_from_own_page(site, headers)
        && constant_time::verify_slices_are_equal(expected.as_bytes(), presented).is_ok()
}

fn is_from_own_page(site: &Site, headers: &HeaderMap) -> bool {
    let (Ok(fetch_site), Ok(origin)) =
        (only(headers, &SEC_FETCH_SITE), only(headers, &header::ORIGIN))
    else {
        return false;
    };
    let is_same_origin = fetch_site == Some("same-origin");
    match (fetch_site, origin) {
        (None, None) => false,
        (Some(_), _) if !is_same_origin => false,
        (_, None) => true,
        (_, Some("null")) => is_same_origin,
        (_, Some(origin)) => origin == site.origin(),
    }
}

/// Returns the value of a header that occurs at most once.
fn only<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Repeated> {
    let mut fields = headers.get_all(name).iter();
    match (fields.next(), fields.next()) {
        (None, _) => Ok(None),
        (Some(field), None) => field.to_str().map(Some).map_err(|_| Repeated),
        (Some(_), Some(_)) => Err(Repeated),
    }
}

/// A header that occurs several times, or is not text.
struct Repeated;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn allows(fields: &[(&'static str, &'static str)], token: Option<&str>) -> bool {
        let site = Site::new("https://broker.example.com").unwrap();
        let field = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        let mut headers = HeaderMap::new();
        for (name, value) in fields.iter().map(field) {
            headers.append(name, value);
        }
        is_own_form(&site, &headers, "token", token)
    }

    const OWN: (&str, &str) = ("origin", "https://broker.example.com");
    const SAME: (&str, &str) = ("sec-fetch-site", "same-origin");

    #[test]
    fn our_own_page_may_send_a_form() {
        for fields in [&[OWN, SAME][..], &[OWN], &[SAME], &[("origin", "null"), SAME]] {
            assert!(allows(fields, Some("token")), "{fields:?}");
        }
    }

    #[test]
    fn d098_forms_of_other_pages_are_refused() {
        for fields in [
            &[][..],
            &[OWN, ("sec-fetch-site", "cross-site")],
            &[OWN, ("sec-fetch-site", "same-site")],
            &[OWN, ("sec-fetch-site", "none")],
            &[OWN, ("sec-fetch-site", "Same-Origin")],
            &[OWN, ("sec-fetch-site", "")],
            &[SAME, ("origin", "https://evil.example")],
            &[("origin", "null")],
            &[("origin", "null"), ("sec-fetch-site", "cross-site")],
            &[("origin", "http://broker.example.com")],
            &[("origin", "https://broker.example.com:444")],
            &[("origin", "https://broker.example.com.evil.example")],
            &[("origin", "https://broker.example.com/")],
            &[OWN, ("origin", "https://evil.example")],
            &[SAME, SAME],
        ] {
            assert!(!allows(fields, Some("token")), "D098 {fields:?}");
        }
    }

    #[test]
    fn d098_another_token_is_refused() {
        for token in [None, Some(""), Some("Token"), Some("token "), Some("tokentoken")] {
            assert!(!allows(&[OWN, SAME], token), "D098 {token:?}");
        }
    }
}
