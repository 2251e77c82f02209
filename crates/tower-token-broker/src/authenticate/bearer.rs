//! Removes the client's credentials from a request and reads the bearer token.

use http::{HeaderMap, HeaderName, HeaderValue, Request, header};

use super::{
    PresentedToken,
    host_and_origin::{TwoFields, at_most_one},
};
use crate::{header_rules, percent, refusal::Reason, secret::Secret};

/// Longest token, in bytes.
pub(super) const MAX_TOKEN: usize = 16 * 1024;
/// A shorter token may be part of a header by chance, and is not searched for.
const SHORTEST_COPY: usize = 16;

impl PresentedToken {
    /// Takes the token out of the only `Authorization` header. It also removes `Cookie`,
    /// `Proxy-Authorization` and any header that contains a copy of the token, so that no inner
    /// service can see or forward a credential of the client.
    pub(crate) fn take<B>(request: &mut Request<B>) -> Result<Self, Reason> {
        let taken = Self::read(request.headers());
        let copied = |token: &Self| {
            request.uri().query().is_some_and(|query| token.is_contained_in(query.as_bytes()))
        };
        let query_has_token =
            request.uri().query().is_some_and(has_access_token) || taken.as_ref().is_ok_and(copied);
        let headers = request.headers_mut();
        headers.remove(header::AUTHORIZATION);
        drop_credentials(headers, taken.as_ref().ok());
        // A011: by now the token is in logs and histories, so it is refused even if a valid header
        // is present. The request is not forwarded, nor is its URI.
        match taken {
            taken if !query_has_token => taken,
            // RFC 6750 §2: one method per request.
            Ok(_) | Err(Reason::Malformed | Reason::DuplicateHeader | Reason::TokenTooLarge) => {
                Err(Reason::QueryAndHeader)
            }
            Err(_) => Err(Reason::QueryToken),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "searched for in the rest of the request; nothing is kept"
    )]
    fn is_contained_in(&self, bytes: &[u8]) -> bool {
        // Most headers are shorter than any token.
        let token = self.secret().expose();
        (SHORTEST_COPY..=bytes.len()).contains(&token.len())
            && memchr::memmem::find(bytes, token).is_some()
    }

    fn read(headers: &HeaderMap) -> Result<Self, Reason> {
        let value = match at_most_one(headers, &header::AUTHORIZATION) {
            Ok(None) => return Err(Reason::Missing),
            Ok(Some(value)) => value,
            // A003: no choice between two headers is safe.
            Err(TwoFields) => return Err(Reason::DuplicateHeader),
        };
        let text = bearer_text(value)?;
        // A015: before any other work on it.
        if text.len() > MAX_TOKEN {
            return Err(Reason::TokenTooLarge);
        }
        Ok(Self::new(Secret::new(text.to_vec())))
    }
}

/// Removes the headers that are credentials by name, and those that contain a copy of the token.
// A014: otherwise a handler or an upstream could read a token that the client sent twice.
fn drop_credentials(headers: &mut HeaderMap, token: Option<&PresentedToken>) {
    let is_copy =
        |value: &HeaderValue| token.is_some_and(|token| token.is_contained_in(value.as_bytes()));
    let gone =
        headers.iter().filter(|(name, value)| header_rules::is_credential(name) || is_copy(value));
    let names: Vec<HeaderName> = gone.map(|(name, _)| name.clone()).collect();
    for name in names {
        headers.remove(name);
    }
}

/// Returns the text after `Bearer` (RFC 6750 §2.1, RFC 9110 §11.4): exactly one space, then visible
/// ASCII to the end.
///
/// The `b64token` of RFC 6750 has a smaller alphabet. The verifier decides about the characters of
/// a token, so that its reason is recorded, not ours.
fn bearer_text(value: &HeaderValue) -> Result<&[u8], Reason> {
    // A009: optional whitespace after the value is not part of it (RFC 9110 §5.5).
    let value = value.as_bytes().trim_ascii_end();
    let scheme_ends =
        value.iter().position(|byte| matches!(byte, b' ' | b'\t')).unwrap_or(value.len());
    let (scheme, rest) = value.split_at(scheme_ends);
    // A010: a scheme is a token (RFC 9110 §5.6.2); what has another character is none.
    if scheme.is_empty() || !scheme.iter().copied().all(is_token_character) {
        return Err(Reason::Malformed);
    }
    // A008, A010: the scheme is compared without case.
    if !scheme.eq_ignore_ascii_case(b"bearer") {
        return Err(Reason::UnsupportedScheme);
    }
    match rest {
        // A002
        [] => Err(Reason::EmptyToken),
        [b' ', token @ ..] if is_visible_ascii(token) => Ok(token),
        // A009: a tab, two spaces, a space inside, a byte beyond ASCII.
        _ => Err(Reason::Malformed),
    }
}

/// `tchar` (RFC 9110 §5.6.2).
const fn is_token_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// Checks every byte without an early return, so that the loop is vectorized.
fn is_visible_ascii(text: &[u8]) -> bool {
    text.iter().fold(true, |all, byte| all & byte.is_ascii_graphic())
}

/// Returns whether a parameter is named `access_token` (RFC 6750 §2.3), in any spelling.
fn has_access_token(query: &str) -> bool {
    query.split(['&', ';']).any(|pair| {
        let name = pair.split('=').next().unwrap_or_default();
        percent::decode(name).eq_ignore_ascii_case(b"access_token")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(authorization: &[u8]) -> Request<()> {
        let value = HeaderValue::from_bytes(authorization).unwrap();
        Request::post("/mcp").header(header::AUTHORIZATION, value).body(()).unwrap()
    }

    #[test]
    fn the_scheme_may_be_in_any_case() {
        for (case, value) in [
            ("A008", "Bearer tok"),
            ("A008", "bearer tok"),
            ("A008", "BEARER tok"),
            ("A008", "BeArEr tok"),
            ("A009", "Bearer tok "),
            ("A009", "Bearer tok \t "),
        ] {
            let mut request = with(value.as_bytes());
            request
                .headers_mut()
                .insert(header::COOKIE, HeaderValue::from_static("access_token=tok"));
            request
                .headers_mut()
                .insert(header::PROXY_AUTHORIZATION, HeaderValue::from_static("Bearer tok"));
            let token = PresentedToken::take(&mut request).expect(case);
            assert!(token.secret().matches(&Secret::from_text("tok".into())), "{case} {value}");
            assert!(request.headers().is_empty(), "{case} A014: nothing is left");
        }
    }

    #[test]
    fn unreadable_credentials_are_refused_with_their_reason() {
        for (case, value, reason) in [
            ("A002", &b"Bearer"[..], Reason::EmptyToken),
            ("A002", b"Bearer ", Reason::EmptyToken),
            ("A002", b"Bearer    ", Reason::EmptyToken),
            ("A009", b"Bearer  tok", Reason::Malformed),
            ("A009", b"Bearer\ttok", Reason::Malformed),
            ("A009", b"Bearer tok tok", Reason::Malformed),
            ("A009", b"Bearer a, Bearer b", Reason::Malformed),
            ("A009", b"Bearer \xe2\x82\xac", Reason::Malformed),
            ("A009", b"", Reason::Malformed),
            ("A010", b"Basic dTp2YWxpZHRva2Vu", Reason::UnsupportedScheme),
            ("A010", b"Digest username=\"u\"", Reason::UnsupportedScheme),
            ("A010", b"DPoP validtoken", Reason::UnsupportedScheme),
            ("A010", b"validtoken", Reason::UnsupportedScheme),
            ("A010", b"Bearers tok", Reason::UnsupportedScheme),
            ("A010", b"X-Api.Key~1 tok", Reason::UnsupportedScheme),
            ("A010", b"Bearer\xa0tok", Reason::Malformed),
            ("A010", b"B\xc3\xa9arer tok", Reason::Malformed),
            ("A010", b"\xff tok", Reason::Malformed),
            ("A010", b"Bearer, tok", Reason::Malformed),
            ("A010", b"Bearer:tok", Reason::Malformed),
            ("A010", b"\"Bearer\" tok", Reason::Malformed),
            ("A010", b"Bearer=tok", Reason::Malformed),
        ] {
            assert_eq!(
                PresentedToken::take(&mut with(value)).unwrap_err(),
                reason,
                "{case} {value:?}"
            );
        }
    }

    #[test]
    fn a014_copies_of_the_token_are_removed() {
        let token = "eyJhbGciOiJFUzI1NiJ9.e30.c2ln";
        let mut request = with(format!("Bearer {token}").as_bytes());
        for (name, value) in [
            ("x-api-key", token.to_owned()),
            ("mcp-param-key", format!("key={token};")),
            ("x-twice", "harmless".to_owned()),
            ("x-twice", format!("\u{e9}{token}")),
            ("accept", "application/json".to_owned()),
            ("x-other", "eyJhbGciOiJFUzI1NiJ9.e30".to_owned()),
        ] {
            let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
            request.headers_mut().append(HeaderName::from_static(name), value);
        }
        assert!(PresentedToken::take(&mut request).is_ok());
        let mut left: Vec<_> = request.headers().keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "x-other"]);
        // In the query, the token is refused under any name.
        let mut request = with(format!("Bearer {token}").as_bytes());
        *request.uri_mut() = format!("/mcp?key={token}").parse().unwrap();
        assert_eq!(PresentedToken::take(&mut request).unwrap_err(), Reason::QueryAndHeader, "A011");
        // A short token may be part of a header by chance.
        let mut request = with(b"Bearer mcp");
        request.headers_mut().insert(header::HOST, HeaderValue::from_static("mcp.example.com"));
        assert!(PresentedToken::take(&mut request).is_ok());
        assert_eq!(request.headers().len(), 1);
    }

    #[test]
    fn a003_a_second_authorization_field_is_refused() {
        let mut request = with(b"Bearer tok");
        request.headers_mut().append(header::AUTHORIZATION, HeaderValue::from_static("garbage"));
        assert_eq!(PresentedToken::take(&mut request).unwrap_err(), Reason::DuplicateHeader);
        assert!(request.headers().is_empty());
    }

    #[test]
    fn a011_a_token_in_the_query_is_refused() {
        for query in [
            "access_token=tok",
            "a=b&access_token=tok",
            "Access_Token=tok",
            "access%5ftoken=tok",
            "a;access_token",
            "%61ccess_token=t",
        ] {
            let mut alone = Request::post(format!("/mcp?{query}")).body(()).unwrap();
            assert_eq!(
                PresentedToken::take(&mut alone).unwrap_err(),
                Reason::QueryToken,
                "A011 {query}"
            );
            let mut beside = with(b"Bearer tok");
            *beside.uri_mut() = format!("/mcp?{query}").parse().unwrap();
            assert_eq!(
                PresentedToken::take(&mut beside).unwrap_err(),
                Reason::QueryAndHeader,
                "A011 {query}"
            );
        }
        for query in
            ["my_access_token=1", "a=access_token", "access_tokens=1", "access%5token=1", "%"]
        {
            let mut request = Request::post(format!("/mcp?{query}")).body(()).unwrap();
            assert_eq!(PresentedToken::take(&mut request).unwrap_err(), Reason::Missing, "{query}");
        }
    }

    #[test]
    fn a015_a_token_is_at_most_16_kib() {
        let longest = format!("Bearer {}", "a".repeat(MAX_TOKEN));
        assert!(PresentedToken::take(&mut with(longest.as_bytes())).is_ok());
        let longer = format!("Bearer {}", "a".repeat(MAX_TOKEN + 1));
        assert_eq!(
            PresentedToken::take(&mut with(longer.as_bytes())).unwrap_err(),
            Reason::TokenTooLarge
        );
    }
}
