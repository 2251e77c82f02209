//! Verification of one token, step by step.

use std::{fmt, sync::Arc};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    claims,
    keys::{Algorithm, WantedKey, is_key_id},
    remote_keys::KeySource,
};
use crate::{
    authenticate::{VerifyError, VerifyRequest, VerifyToken, bearer::MAX_TOKEN},
    json::{JsonError, Kind, Limits, Value},
    principal::Verified,
    refusal::Reason,
};

/// Verifies broker tokens that are JWTs of one issuer. See the [module](super).
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct JwtVerifier {
    /// One issuer, as a slice for the metadata.
    issuer: Arc<[Box<str>; 1]>,
    keys: KeySource,
    kept_claims: Arc<[Box<str>]>,
}

impl JwtVerifier {
    /// Creates a verifier for tokens with exactly this `iss` that are signed with one of these
    /// keys: [`Keys`](super::Keys) of the process, or [`RemoteKeys`](super::RemoteKeys).
    pub fn new(issuer: &str, keys: impl Into<KeySource>) -> Self {
        let kept_claims = Arc::from(Vec::new());
        Self { issuer: Arc::new([issuer.into()]), keys: keys.into(), kept_claims }
    }

    /// Keeps these claims of a token for policies and credential sources
    /// ([`Principal::claim`](crate::principal::Principal::claim)), each up to 4 KiB of JSON.
    pub fn keep_claims<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        self.kept_claims = names.into_iter().map(Box::from).collect();
        self
    }

    fn issuer(&self) -> &str {
        let [issuer] = &*self.issuer;
        issuer
    }
}

impl VerifyToken for JwtVerifier {
    async fn verify(&self, request: &VerifyRequest<'_>) -> Result<Verified, VerifyError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "read for verification; only claims are kept"
        )]
        let jws = Jws::parse(request.token.secret().expose()).map_err(VerifyError::because)?;
        let key = self.keys.find(&jws.wanted, request.clock.read()).await?;
        if !key.verify(jws.signed, &jws.signature) {
            return Err(VerifyError::because(Reason::JwtSignature));
        }
        // No claim is examined before this.
        let claims = object(&jws.claims).map_err(VerifyError::because)?;
        let verified = claims::judge(claims, self.issuer(), request.resource, request.clock)?;
        claims::keep(verified, claims, &self.kept_claims)
    }

    fn authorization_servers(&self) -> &[Box<str>] {
        &*self.issuer
    }
}

impl fmt::Debug for JwtVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtVerifier").field("issuer", &self.issuer()).finish_non_exhaustive()
    }
}

/// A compact JWS whose header has our profile, not yet verified.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    signed: &'a [u8],
    claims: Vec<u8>,
    signature: Vec<u8>,
    wanted: WantedKey,
}

impl<'a> Jws<'a> {
    pub(super) fn parse(token: &'a [u8]) -> Result<Self, Reason> {
        if token.len() > MAX_TOKEN {
            return Err(Reason::TokenTooLarge);
        }
        // B035: three parts. Five would be a JWE, and a brace begins a JSON serialization. At most
        // four are searched for.
        let mut parts = token.split(|byte| *byte == b'.');
        let (header, claims, signature) =
            match (parts.next(), parts.next(), parts.next(), parts.next()) {
                (Some(header), Some(claims), Some(signature), None)
                    if !header.is_empty() && !header.starts_with(b"{") && !claims.is_empty() =>
                {
                    (header, claims, signature)
                }
                _ => return Err(Reason::JwtFormat),
            };
        let signed = token
            .get(..header.len().saturating_add(1).saturating_add(claims.len()))
            .ok_or(Reason::JwtFormat)?;
        // B036: no padding, no other alphabet, no leftover bits.
        let decode = |part: &[u8]| URL_SAFE_NO_PAD.decode(part).map_err(|_| Reason::JwtEncoding);
        let (header, claims, signature) = (decode(header)?, decode(claims)?, decode(signature)?);
        let wanted = wanted_key(object(&header)?)?;
        Ok(Self { signed, claims, signature, wanted })
    }
}

/// Checks the header, before any cryptography (RFC 8725 §3.1, 3.10).
fn wanted_key(header: Value<'_>) -> Result<WantedKey, Reason> {
    let has = |names: &[&str]| names.iter().any(|name| header.get(name).is_some());
    if has(&["enc"]) {
        return Err(Reason::JwtFormat);
    }
    // B031: a token must not bring the key that verifies it.
    if has(&["jwk", "jku", "x5c", "x5u"]) {
        return Err(Reason::JwtHeaderKey);
    }
    // B032: no extension is supported, so none may be critical; the others change the meaning of
    // the bytes.
    if has(&["crit", "b64", "zip"]) {
        return Err(Reason::JwtCritical);
    }
    // B026, B027
    let name = header.get("alg").and_then(Value::as_str).ok_or(Reason::JwtAlgorithm)?;
    let algorithm = Algorithm::parse(&name).ok_or(Reason::JwtAlgorithm)?;
    let media = header.get("typ").and_then(Value::as_str).ok_or(Reason::JwtType)?;
    if !["at+jwt", "application/at+jwt"].iter().any(|expected| media.eq_ignore_ascii_case(expected))
    {
        return Err(Reason::JwtType);
    }
    let id = match header.get("kid") {
        None => None,
        Some(id) => {
            let id = id.as_str().filter(|id| is_key_id(id)).ok_or(Reason::JwtKeyId)?;
            Some(id.as_ref().into())
        }
    };
    Ok(WantedKey { id, algorithm })
}

fn object(bytes: &[u8]) -> Result<Value<'_>, Reason> {
    // B037: duplicate members can be read in two ways.
    let value = Value::parse(bytes, &Limits::default()).map_err(|error| match error {
        JsonError::DuplicateMember => Reason::JwtDuplicateMember,
        JsonError::NotUtf8 | JsonError::Syntax | JsonError::TooDeep | JsonError::LoneSurrogate => {
            Reason::JwtJson
        }
    })?;
    if value.kind() == Kind::Object { Ok(value) } else { Err(Reason::JwtJson) }
}
