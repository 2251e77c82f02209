//! Parameters of an endpoint, parsed once and strictly.

use http::{HeaderMap, header};

/// Parameters in `application/x-www-form-urlencoded`: a query, or a body.
///
/// A parameter without a value counts as absent (RFC 6749 §3.1). No parameter is kept twice; the
/// names of those that were are listed.
#[derive(Clone, Default)]
pub(crate) struct Params {
    values: Vec<(Box<str>, Box<str>)>,
    repeated: Vec<Box<str>>,
}

/// The text is not `application/x-www-form-urlencoded`, or too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ParamsError {
    /// More than [`Params::MAX_BYTES`], or more than [`Params::MAX_COUNT`] parameters.
    TooLarge,
    /// A broken escape, octets that are no UTF-8, or a character that must be escaped.
    Encoding,
}

impl Params {
    /// Longest text, in bytes.
    pub(crate) const MAX_BYTES: usize = 64 * 1024;
    /// Largest number of parameters.
    pub(crate) const MAX_COUNT: usize = 64;

    pub(crate) fn parse(text: &[u8]) -> Result<Self, ParamsError> {
        if text.len() > Self::MAX_BYTES {
            return Err(ParamsError::TooLarge);
        }
        let mut params = Self::default();
        let pairs = text.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty());
        for (count, pair) in pairs.enumerate() {
            if count >= Self::MAX_COUNT {
                return Err(ParamsError::TooLarge);
            }
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            params.push(name, value);
        }
        Ok(params)
    }

    // D089, F135: an endpoint refuses what another reader may read by its other value.
    fn push(&mut self, name: Box<str>, value: Box<str>) {
        let is_known = self.values.iter().any(|(known, _)| *known == name);
        if !is_known {
            self.values.push((name, value));
        } else if !self.repeated.contains(&name) {
            self.repeated.push(name);
        }
    }

    /// Returns a parameter; `None` if it is absent, empty or repeated.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        if self.is_repeated(name) {
            return None;
        }
        let (_, value) = self.values.iter().find(|(known, _)| **known == *name)?;
        Some(&**value).filter(|value| !value.is_empty())
    }

    /// Returns whether a parameter occurs twice.
    pub(crate) fn is_repeated(&self, name: &str) -> bool {
        self.repeated.iter().any(|repeated| **repeated == *name)
    }

    /// Returns whether any parameter occurs twice.
    pub(crate) fn has_repeated(&self) -> bool {
        !self.repeated.is_empty()
    }
}

/// Decodes a name or a value, and nothing that two readers could decode differently.
fn decode(text: &[u8]) -> Result<Box<str>, ParamsError> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        rest = behind;
        match first {
            b'+' => decoded.push(b' '),
            b'%' => {
                let (digits, behind) = rest.split_first_chunk().ok_or(ParamsError::Encoding)?;
                decoded.push(octet(*digits).ok_or(ParamsError::Encoding)?);
                rest = behind;
            }
            0x21..=0x7e => decoded.push(*first),
            // Blanks, control characters and octets beyond ASCII are escaped by every client.
            _ => return Err(ParamsError::Encoding),
        }
    }
    String::from_utf8(decoded).map(Into::into).map_err(|_| ParamsError::Encoding)
}

fn octet(digits: [u8; 2]) -> Option<u8> {
    let [high, low] = digits.map(|digit| char::from(digit).to_digit(16));
    u8::try_from(high?.checked_mul(16)?.checked_add(low?)?).ok()
}

/// Decodes one part of a text that is encoded like a value: the ID and the secret in
/// `Authorization: Basic` (RFC 6749 §2.3.1).
pub(crate) fn decode_value(text: &str) -> Option<Box<str>> {
    decode(text.as_bytes()).ok()
}

/// Appends a query parameter to a URI that is not encoded further.
pub(crate) fn push_param(uri: &mut String, name: &str, value: &str) {
    uri.push(if uri.contains('?') { '&' } else { '?' });
    uri.push_str(name);
    uri.push('=');
    for byte in value.bytes() {
        // RFC 3986 §2.3: unreserved characters.
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            for digit in [byte >> 4, byte & 0xf] {
                let digit = char::from_digit(digit.into(), 16).unwrap_or('0');
                uri.push(digit.to_ascii_uppercase());
            }
        }
    }
}

/// Writes parameters as they are parsed; repeated ones once.
#[cfg(feature = "fuzzing")]
pub(crate) fn encode(params: &Params) -> String {
    let mut text = String::from("?");
    for (name, value) in &params.values {
        let mut escaped = String::from("?");
        push_param(&mut escaped, "", name);
        let name = escaped.trim_start_matches(['?', '&', '=']).to_owned();
        push_param(&mut text, &name, value);
    }
    text.trim_start_matches(['?', '&']).to_owned()
}

/// Returns whether the body is `application/x-www-form-urlencoded`, by exactly one header.
pub(crate) fn is_form(headers: &HeaderMap) -> bool {
    is_media_type(headers, "application/x-www-form-urlencoded")
}

/// Returns whether the body has this media type, in UTF-8, by exactly one header.
pub(crate) fn is_media_type(headers: &HeaderMap, expected: &str) -> bool {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return false;
    }
    let mut fields = headers.get_all(header::CONTENT_TYPE).iter();
    let (Some(field), None) = (fields.next(), fields.next()) else { return false };
    let Ok(field) = field.to_str() else { return false };
    let (media_type, parameters) = field.split_once(';').unwrap_or((field, ""));
    let parameters = parameters.trim();
    let is_utf8 = parameters.is_empty()
        || matches!(
            parameters.to_ascii_lowercase().as_str(),
            "charset=utf-8" | "charset=\"utf-8\"" | "charset=utf8"
        );
    is_utf8 && media_type.trim().eq_ignore_ascii_case(expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_decoded_once() {
        let params = Params::parse(b"a=1+2%2B3&b=%C3%A9&c=&d&e=x=y&%66=%2541&&").unwrap();
        for (name, value) in [
            ("a", Some("1 2+3")),
            ("b", Some("\u{e9}")),
            ("c", None),
            ("d", None),
            ("e", Some("x=y")),
            ("f", Some("%41")),
            ("g", None),
        ] {
            assert_eq!(params.get(name), value, "{name}");
        }
        assert!(!params.has_repeated());
    }

    #[test]
    fn d089_a_repeated_parameter_has_no_value() {
        for text in ["a=1&a=2", "a=1&a=1", "a=&a=1", "a&%61=1", "a=1&b=2&a=3&a=4"] {
            let params = Params::parse(text.as_bytes()).unwrap();
            assert_eq!((params.get("a"), params.is_repeated("a")), (None, true), "{text}");
            assert!(params.has_repeated() && !params.is_repeated("b"), "{text}");
        }
    }

    #[test]
    fn unclear_encodings_are_refused() {
        for text in [
            &b"a=%"[..],
            b"a=%4",
            b"a=%zz",
            b"a=%+1",
            b"a=%C3",
            b"a=%C0%80",
            b"a=%ED%A0%80",
            b"a= b",
            b"a=\n",
            b"a=\xc3\xa9",
            b"a=\0",
        ] {
            assert_eq!(Params::parse(text).err(), Some(ParamsError::Encoding), "{text:?}");
        }
    }

    #[test]
    fn size_and_number_are_bounded() {
        let many = |count| vec!["a=1"; count].join("&");
        assert!(Params::parse(many(64).as_bytes()).is_ok());
        assert_eq!(Params::parse(many(65).as_bytes()).err(), Some(ParamsError::TooLarge));
        let long = format!("a={}", "x".repeat(Params::MAX_BYTES));
        assert_eq!(Params::parse(long.as_bytes()).err(), Some(ParamsError::TooLarge));
    }

    #[test]
    fn an_appended_value_cannot_add_another() {
        let mut uri = String::from("https://c.example/cb?x=1");
        push_param(&mut uri, "state", "a&code=b#c \r\n\u{e9}%");
        assert_eq!(uri, "https://c.example/cb?x=1&state=a%26code%3Db%23c%20%0D%0A%C3%A9%25");
        let mut uri = String::from("app://cb");
        push_param(&mut uri, "iss", "https://b.example");
        assert_eq!(uri, "app://cb?iss=https%3A%2F%2Fb.example");
    }

    #[test]
    fn f138_only_one_media_type_is_read() {
        let is = |fields: &[&str]| {
            let mut headers = HeaderMap::new();
            for field in fields {
                headers.append(header::CONTENT_TYPE, field.parse().unwrap());
            }
            is_form(&headers)
        };
        assert!(is(&["application/x-www-form-urlencoded"]));
        assert!(is(&["Application/X-WWW-Form-Urlencoded; charset=UTF-8"]));
        for fields in [
            &[][..],
            &["application/json"],
            &["multipart/form-data; boundary=x"],
            &["application/x-www-form-urlencoded; charset=utf-16"],
            &["application/x-www-form-urlencoded, application/json"],
            &["application/x-www-form-urlencoded", "application/x-www-form-urlencoded"],
        ] {
            assert!(!is(fields), "{fields:?}");
        }
    }
}
