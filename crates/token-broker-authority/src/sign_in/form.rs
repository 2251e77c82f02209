//! The fields of a form (`application/x-www-form-urlencoded`), read once and strictly.

use std::fmt;

use http::{HeaderMap, header};
use zeroize::Zeroizing;

/// Largest form, in bytes. A sealed authorization request has up to 16 KiB.
pub(crate) const MAX_FORM: usize = 32 * 1024;
/// Most fields of a form.
const MAX_FIELDS: usize = 16;

/// The fields of a form, each at most once. Values are zeroized on drop: one may be a password.
pub(crate) struct Form(Vec<(String, Zeroizing<String>)>);

/// The reasons why a form cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FormError {
    /// Another media type.
    MediaType,
    /// More than [`MAX_FORM`] bytes, or too many fields.
    TooLarge,
    /// Not UTF-8, an incomplete escape, a control character, or a field that occurs twice.
    Unreadable,
}

impl Form {
    /// Reads the body of a request.
    // D524: a repeated field could be read in two ways.
    pub(crate) fn read(headers: &HeaderMap, body: &[u8]) -> Result<Self, FormError> {
        let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|value| value.split(';').next()).unwrap_or_default();
        if !media_type.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            return Err(FormError::MediaType);
        }
        if body.len() > MAX_FORM {
            return Err(FormError::TooLarge);
        }
        let mut fields: Vec<(String, Zeroizing<String>)> = Vec::new();
        for pair in body.split(|byte| *byte == b'&').filter(|pair| !pair.is_empty()) {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            let name = decode(halves.next().unwrap_or_default())?;
            let value = decode(halves.next().unwrap_or_default())?;
            if fields.iter().any(|(other, _)| *other == *name) {
                return Err(FormError::Unreadable);
            }
            if fields.len() == MAX_FIELDS {
                return Err(FormError::TooLarge);
            }
            fields.push(((*name).clone(), value));
        }
        Ok(Self(fields))
    }

    /// Returns the value of a field, if the form has it.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }
}

/// Returns the value of a query parameter that occurs once.
pub(crate) fn query_parameter(query: Option<&str>, name: &str) -> Option<String> {
    let query = query.filter(|query| query.len() <= MAX_FORM)?;
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(found, _)| *found == name);
    match (values.next(), values.next()) {
        (Some((_, value)), None) => decode(value.as_bytes()).ok().map(|value| (*value).clone()),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// Decodes one name or value.
fn decode(text: &[u8]) -> Result<Zeroizing<String>, FormError> {
    let mut decoded = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter().copied();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'+' => b' ',
            b'%' => {
                let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
                let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
                    return Err(FormError::Unreadable);
                };
                u8::try_from(high * 16 + low).map_err(|_| FormError::Unreadable)?
            }
            other => other,
        });
    }
    let text = std::str::from_utf8(&decoded).map_err(|_| FormError::Unreadable)?;
    if text.chars().any(char::is_control) {
        return Err(FormError::Unreadable);
    }
    Ok(Zeroizing::new(text.to_owned()))
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Form").field("fields", &self.0.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(body: &str) -> Result<Form, FormError> {
        let media_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        Form::read(&[(header::CONTENT_TYPE, media_type)].into_iter().collect(), body.as_bytes())
    }

    #[test]
    fn fields_are_decoded() {
        let form = read("user=al%C3%ADce+b&password=%2B%26%3D&empty=").unwrap();
        assert_eq!(form.get("user"), Some("alíce b"));
        assert_eq!(form.get("password"), Some("+&="));
        assert_eq!(form.get("empty"), Some(""));
        assert_eq!(form.get("other"), None);
        assert!(!format!("{form:?}").contains("+&="));
    }

    #[test]
    fn d524_ambiguous_forms_are_refused() {
        let many = (0..17).map(|number| format!("f{number}=1&")).collect::<String>();
        let large = format!("a={}", "x".repeat(MAX_FORM));
        for (body, error) in [
            ("a=1&a=2", FormError::Unreadable),
            ("a=1&%61=2", FormError::Unreadable),
            ("a=%", FormError::Unreadable),
            ("a=%4", FormError::Unreadable),
            ("a=%zz", FormError::Unreadable),
            ("a=%ff", FormError::Unreadable),
            ("a=%00", FormError::Unreadable),
            ("a=%0d%0a", FormError::Unreadable),
            (&*many, FormError::TooLarge),
            (&*large, FormError::TooLarge),
        ] {
            assert_eq!(read(body).map(|_| ()), Err(error), "D524 {body:.20}");
        }
        let other = HeaderValue::from_static("text/plain");
        let headers = [(header::CONTENT_TYPE, other)].into_iter().collect();
        assert_eq!(Form::read(&headers, b"a=1").map(|_| ()), Err(FormError::MediaType), "D524");
        assert_eq!(Form::read(&HeaderMap::new(), b"a=1").map(|_| ()), Err(FormError::MediaType));
    }

    #[test]
    fn a_query_parameter_occurs_once() {
        assert_eq!(query_parameter(Some("a=1&b=%32"), "b").as_deref(), Some("2"));
        for query in [None, Some(""), Some("a=1&a=2"), Some("b=1"), Some("a=%"), Some("a")] {
            assert_eq!(query_parameter(query, "a"), None, "{query:?}");
        }
    }
}
