//! The request to an introspection endpoint (RFC 7662 §2.1), and how we authenticate there.

use std::fmt;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderValue, Method, Request, Uri, header};
use zeroize::Zeroizing;

use crate::{authenticate::PresentedToken, secret::Secret};

/// The credentials of the broker at an introspection endpoint, which must require some (RFC 7662
/// §2.1).
pub struct IntrospectionClient(Kind);

enum Kind {
    Basic(Box<str>, Secret),
    Post(Box<str>, Secret),
    Bearer(Secret),
}

impl IntrospectionClient {
    /// Authenticates by `client_secret_basic` (RFC 6749 §2.3.1).
    pub fn basic(id: &str, secret: Secret) -> Self {
        Self(Kind::Basic(id.into(), secret))
    }

    /// Authenticates by `client_secret_post` (RFC 6749 §2.3.1).
    pub fn post(id: &str, secret: Secret) -> Self {
        Self(Kind::Post(id.into(), secret))
    }

    /// Authenticates by an access token of our own (RFC 6750 §2.1).
    pub fn bearer(token: Secret) -> Self {
        Self(Kind::Bearer(token))
    }

    /// Creates the request about a token; `None` if the secret cannot be sent in a header.
    #[expect(clippy::disallowed_methods, reason = "sent to the issuer of the token; then wiped")]
    pub(super) fn request(&self, endpoint: &Uri, token: &PresentedToken) -> Option<Request<Bytes>> {
        let mut form = Form::default();
        form.push(b"token=", token.secret().expose());
        form.literal(b"&token_type_hint=access_token");
        let authorization = match &self.0 {
            Kind::Basic(id, secret) => {
                let mut pair = Form::default();
                pair.push(b"", id.as_bytes());
                pair.push(b":", secret.expose());
                Some(Secret::from_text(STANDARD.encode(&*pair.0)).to_wiped_bytes("Basic "))
            }
            Kind::Post(id, secret) => {
                form.push(b"&client_id=", id.as_bytes());
                form.push(b"&client_secret=", secret.expose());
                None
            }
            Kind::Bearer(token) => Some(token.to_wiped_bytes("Bearer ")),
        };
        let mut request = Request::new(Bytes::from_owner(Wiped(form.0)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.clone();
        let headers = request.headers_mut();
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        headers.insert(header::CONTENT_TYPE, form);
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(authorization) = authorization {
            let mut value = HeaderValue::from_maybe_shared(authorization).ok()?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        Some(request)
    }
}

impl fmt::Debug for IntrospectionClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntrospectionClient")
    }
}

/// Text of type `application/x-www-form-urlencoded`, zeroized on drop.
#[derive(Default)]
struct Form(Zeroizing<Vec<u8>>);

impl Form {
    fn push(&mut self, before: &[u8], value: &[u8]) {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        self.literal(before);
        self.reserve(value.len().saturating_mul(3));
        for &byte in value {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'*' => {
                    self.0.push(byte);
                }
                b' ' => self.0.push(b'+'),
                _ => {
                    let digit = |half: u8| HEX.get(usize::from(half)).copied().unwrap_or(b'0');
                    self.0.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 0xf)]);
                }
            }
        }
    }

    fn literal(&mut self, text: &[u8]) {
        self.reserve(text.len());
        self.0.extend_from_slice(text);
    }

    /// Reserves space. A vector that grows by itself leaves copies in freed memory; here the old
    /// one is zeroized.
    fn reserve(&mut self, more: usize) {
        let mut wider = Zeroizing::new(Vec::with_capacity(self.0.len().saturating_add(more)));
        wider.extend_from_slice(&self.0);
        self.0 = wider;
    }
}

struct Wiped(Zeroizing<Vec<u8>>);

impl AsRef<[u8]> for Wiped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}
