//! The cookies of the pages.
//!
//! Over https, the names begin with `__Host-` (RFC 6265bis §4.1.3.2): the cookie is sent to this
//! host only, over https only, and no other host can set it. Over http, which is for loopback only,
//! browsers do not accept such names. There the name contains the port, because cookies of all
//! ports of a host are one set; any program on the same host can receive them.

use http::{HeaderMap, HeaderValue, header};

use super::BrowserSecret;
use crate::pages::Site;

/// A cookie of the pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CookieKind {
    /// The session of a user.
    Session,
    /// A visit of someone who has not signed in. The token of the sign-in form is bound to it, so
    /// that another site cannot sign a browser in as someone else.
    Visit,
    /// A browser in which a user has signed in before.
    Device,
}

impl CookieKind {
    const fn name(self) -> &'static str {
        match self {
            Self::Session => "token-broker-session",
            Self::Visit => "token-broker-visit",
            Self::Device => "token-broker-device",
        }
    }
}

/// Returns the value of a cookie, if the browser sent exactly one that we can have set.
pub(crate) fn read(site: &Site, headers: &HeaderMap, kind: CookieKind) -> Option<BrowserSecret> {
    BrowserSecret::parse(read_text(site, headers, kind)?)
}

/// Returns the text of a cookie, if the browser sent exactly one of this name.
pub(crate) fn read_text<'h>(
    site: &Site,
    headers: &'h HeaderMap,
    kind: CookieKind,
) -> Option<&'h str> {
    let name = name_of(site, kind);
    let mut values = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|field| field.to_str().ok())
        .flat_map(|field| field.split(';'))
        .filter_map(|pair| pair.trim_matches([' ', '\t']).split_once('='))
        .filter_map(|(found, value)| (found == name).then_some(value));
    match (values.next(), values.next()) {
        (Some(value), None) => Some(value),
        // Which of the two?
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// Returns the header that sets a cookie, for this number of seconds.
pub(crate) fn set(
    site: &Site,
    kind: CookieKind,
    value: &BrowserSecret,
    seconds: u64,
) -> Option<HeaderValue> {
    header_of(site, kind, value.as_str(), seconds)
}

/// Returns the header that sets a cookie whose value is base64url.
pub(crate) fn set_text(
    site: &Site,
    kind: CookieKind,
    value: &str,
    seconds: u64,
) -> Option<HeaderValue> {
    header_of(site, kind, value, seconds)
}

/// Returns the header that removes a cookie.
pub(crate) fn remove(site: &Site, kind: CookieKind) -> Option<HeaderValue> {
    header_of(site, kind, "", 0)
}

// `None` does not occur: each part is visible ASCII.
fn header_of(site: &Site, kind: CookieKind, value: &str, seconds: u64) -> Option<HeaderValue> {
    let name = name_of(site, kind);
    let secure = if site.is_https() { "; Secure" } else { "" };
    // Lax, not Strict: a user comes from the application's link, and must be known there.
    let text = format!("{name}={value}; Path=/; Max-Age={seconds}{secure}; HttpOnly; SameSite=Lax");
    let mut header = HeaderValue::try_from(text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

fn name_of(site: &Site, kind: CookieKind) -> String {
    let name = kind.name();
    if site.is_https() {
        return format!("__Host-{name}");
    }
    let port = site.origin().rsplit_once(':').map(|(_, port)| port);
    let port = port.filter(|port| port.bytes().all(|digit| digit.is_ascii_digit()));
    format!("{name}-{}", port.unwrap_or("80"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn https() -> Site {
        Site::new("https://broker.example.com").unwrap()
    }

    fn headers(fields: &[&str]) -> HeaderMap {
        let field = |text: &&str| (header::COOKIE, HeaderValue::from_str(text).unwrap());
        fields.iter().map(field).collect()
    }

    #[test]
    fn attributes_keep_the_cookie_at_this_host() {
        let value = BrowserSecret::generate();
        let header = set(&https(), CookieKind::Session, &value, 43_200).unwrap();
        let expected = format!(
            "__Host-token-broker-session={}; Path=/; Max-Age=43200; Secure; HttpOnly; SameSite=Lax",
            value.as_str()
        );
        assert_eq!(header, *expected);
        assert!(header.is_sensitive());
        let removed = remove(&https(), CookieKind::Visit).unwrap();
        let expected =
            "__Host-token-broker-visit=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Lax";
        assert_eq!(removed, expected);
    }

    #[test]
    fn loopback_cookies_have_the_port_in_their_name() {
        for (url, name) in [
            ("http://127.0.0.1:8080", "token-broker-session-8080"),
            ("http://[::1]:8080", "token-broker-session-8080"),
            ("http://[::1]", "token-broker-session-80"),
            ("http://localhost", "token-broker-session-80"),
        ] {
            let site = Site::new(url).unwrap();
            let header = set(&site, CookieKind::Session, &BrowserSecret::generate(), 1).unwrap();
            let text = header.to_str().unwrap();
            assert!(text.starts_with(&format!("{name}=")) && !text.contains("Secure"), "{text}");
        }
    }

    #[test]
    fn d523_only_one_cookie_of_the_right_name_is_read() {
        let value = BrowserSecret::generate();
        let (good, other) = (value.as_str(), BrowserSecret::generate());
        let of = |fields: &[&str]| read(&https(), &headers(fields), CookieKind::Session);
        let found = |fields: &[&str]| of(fields).map(|found| found.as_str().to_owned());
        let cookie = format!("__Host-token-broker-session={good}");
        assert_eq!(found(&[&cookie]).as_deref(), Some(good));
        assert_eq!(found(&[&format!("a=b; {cookie};  c=d")]).as_deref(), Some(good));
        assert_eq!(found(&["a=b", &cookie]).as_deref(), Some(good));
        // D098: a name without the prefix can be set by another host of the domain.
        for refused in [
            format!("token-broker-session={good}"),
            format!("__host-token-broker-session={good}"),
            format!("__Host-token-broker-visit={good}"),
            format!("__Host-token-broker-session={good}x"),
            format!("__Host-token-broker-session=\"{good}\""),
            format!("{cookie}; __Host-token-broker-session={}", other.as_str()),
            "__Host-token-broker-session=".to_owned(),
            String::new(),
        ] {
            assert_eq!(found(&[&refused]), None, "D523, D098 {refused}");
        }
        assert_eq!(found(&[&cookie, &cookie]), None, "D523: twice, in two fields");
    }
}
