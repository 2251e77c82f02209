//! The metadata of a gRPC request: content type, coding, deadline, path.
//!
//! Source: gRPC over HTTP/2, "Requests".

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header};

pub(crate) use crate::media_type::is_grpc;
use crate::refusal::Reason;

pub(crate) const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");
pub(crate) const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
pub(crate) const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(crate) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(crate) const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
pub(crate) const MCP_ERROR_CODE: HeaderName = HeaderName::from_static("mcp-error-code");

/// The codings that are decoded.
pub(crate) const CODINGS: HeaderValue = HeaderValue::from_static("identity,gzip");

/// The maximum number of digits in a timeout.
const TIMEOUT_DIGITS: usize = 8;

/// Checks for exactly one content type, `application/grpc` or `application/grpc+proto`.
pub(crate) fn content_type(fields: &HeaderMap) -> Result<(), Reason> {
    let mut types = fields.get_all(header::CONTENT_TYPE).iter().map(HeaderValue::as_bytes);
    match (types.next(), types.next()) {
        (Some(b"application/grpc" | b"application/grpc+proto"), None) => Ok(()),
        (Some(web), _) if web.starts_with(b"application/grpc-web") => Err(Reason::GrpcWeb),
        _ => Err(Reason::MediaType),
    }
}

/// The coding of compressed messages in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Coding {
    Identity,
    Gzip,
}

impl Coding {
    pub(crate) fn of(fields: &HeaderMap) -> Result<Self, Reason> {
        let mut codings = fields.get_all(ENCODING).iter().map(HeaderValue::as_bytes);
        match (codings.next(), codings.next()) {
            (None | Some(b"identity"), None) => Ok(Self::Identity),
            (Some(b"gzip"), None) => Ok(Self::Gzip),
            _ => Err(Reason::ContentEncoding),
        }
    }
}

/// Returns the client's timeout, if it set one.
pub(crate) fn timeout(fields: &HeaderMap) -> Result<Option<Duration>, Reason> {
    let mut timeouts = fields.get_all(TIMEOUT).iter().map(HeaderValue::as_bytes);
    let (Some(value), None) = (timeouts.next(), timeouts.next()) else {
        return if fields.contains_key(TIMEOUT) { Err(Reason::HeaderMismatch) } else { Ok(None) };
    };
    let unreadable = Reason::HeaderMismatch;
    let Some((unit, digits)) = value.split_last() else { return Err(unreadable) };
    if digits.is_empty() || digits.len() > TIMEOUT_DIGITS || !digits.iter().all(u8::is_ascii_digit)
    {
        return Err(unreadable);
    }
    let number =
        std::str::from_utf8(digits).ok().and_then(|text| text.parse().ok()).ok_or(unreadable)?;
    let seconds = |each: u64| Duration::from_secs(each.saturating_mul(number));
    Ok(Some(match unit {
        b'H' => seconds(3600),
        b'M' => seconds(60),
        b'S' => seconds(1),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return Err(unreadable),
    }))
}

/// Renders the remaining time, in the finest unit in which it fits.
pub(crate) fn timeout_value(left: Duration) -> HeaderValue {
    let units = [
        (left.as_nanos(), 'n'),
        (left.as_micros(), 'u'),
        (left.as_millis(), 'm'),
        (u128::from(left.as_secs()), 'S'),
        (u128::from(left.as_secs() / 60), 'M'),
        (u128::from(left.as_secs() / 3600).min(99_999_999), 'H'),
    ];
    let fits = units.into_iter().find(|(number, _)| *number <= 99_999_999);
    fits.and_then(|(number, unit)| HeaderValue::from_str(&format!("{number}{unit}")).ok())
        .unwrap_or(HeaderValue::from_static("99999999H"))
}

/// Splits exactly `/package.Service/Method`, in the characters of protobuf names.
// L241: any other path would have a second interpretation.
pub(crate) fn service_and_method(uri: &Uri) -> Result<(&str, &str), Reason> {
    let is_word = |word: &str| {
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let path = uri.path();
    let (service, method) =
        path.strip_prefix('/').and_then(|rest| rest.split_once('/')).ok_or(Reason::RpcPath)?;
    if uri.query().is_some() || !service.split('.').all(is_word) || !is_word(method) {
        return Err(Reason::RpcPath);
    }
    Ok((service, method))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: &HeaderName, values: &[&str]) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(name.clone(), value.parse().unwrap());
        }
        fields
    }

    #[test]
    fn l241_a_path_is_only_service_and_method() {
        for (path, read) in [
            ("/pkg.Svc/Method", Some(("pkg.Svc", "Method"))),
            ("/Svc/Get_it2", Some(("Svc", "Get_it2"))),
            ("/pkg.Svc/Method/", None),
            ("//Method", None),
            ("/pkg.Svc//Method", None),
            ("//pkg.Svc/Method", None),
            ("/pkg.Svc%2FMethod", None),
            ("/pkg.Svc/M%65thod", None),
            ("/pkg.Svc/Method?x", None),
            ("/pkg.Svc/Method?", None),
            ("/pkg..Svc/Method", None),
            ("/.Svc/Method", None),
            ("/pkg.Svc/Method.", None),
            ("/pkg.Svc/", None),
            ("/pkg.Svc", None),
            ("/a/pkg.Svc/Method", None),
            ("/pkg.Svc/Method;a", None),
            ("/", None),
        ] {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(service_and_method(&uri).ok(), read, "{path}");
        }
    }

    #[test]
    fn only_grpc_over_protobuf_is_accepted() {
        for (types, said) in [
            (&["application/grpc"][..], Ok(())),
            (&["application/grpc+proto"], Ok(())),
            (&["application/grpc+json"], Err(Reason::MediaType)),
            (&["application/grpc; charset=utf-8"], Err(Reason::MediaType)),
            (&["application/grpc-web"], Err(Reason::GrpcWeb)),
            (&["application/grpc-web-text+proto"], Err(Reason::GrpcWeb)),
            (&["application/json"], Err(Reason::MediaType)),
            (&["application/grpc", "application/grpc"], Err(Reason::MediaType)),
            (&[], Err(Reason::MediaType)),
        ] {
            assert_eq!(content_type(&with(&header::CONTENT_TYPE, types)), said, "{types:?}");
        }
    }

    #[test]
    fn a_timeout_is_read_and_written() {
        for (text, read) in [
            ("1H", Duration::from_secs(3600)),
            ("2M", Duration::from_secs(120)),
            ("99999999S", Duration::from_secs(99_999_999)),
            ("250m", Duration::from_millis(250)),
            ("7u", Duration::from_micros(7)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(timeout(&with(&TIMEOUT, &[text])), Ok(Some(read)), "{text}");
        }
        assert_eq!(timeout(&HeaderMap::new()), Ok(None));
        for unreadable in [
            &[""][..],
            &["1"],
            &["S"],
            &["1s"],
            &["-1S"],
            &["100000000S"],
            &["1.5S"],
            &["1S", "1S"],
        ] {
            assert_eq!(
                timeout(&with(&TIMEOUT, unreadable)),
                Err(Reason::HeaderMismatch),
                "{unreadable:?}"
            );
        }
        for (left, text) in [
            (Duration::from_millis(90), "90000000n"),
            (Duration::from_secs(30), "30000000u"),
            (Duration::from_secs(86_400), "86400000m"),
            (Duration::from_secs(u64::MAX), "99999999H"),
        ] {
            assert_eq!(timeout_value(left), text);
        }
    }
}
