//! Reads and verifies compact JWS, whatever their claims mean.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;

use super::{
    algorithm::Algorithm,
    key::{Key, is_key_id},
    keys::WantedKey,
    remote_keys::KeySource,
};
use crate::{
    authenticate::{PresentedToken, VerifyError, bearer::MAX_TOKEN},
    clock::Clock,
    json::{JsonError, Kind, Limits, Value},
    refusal::Reason,
};

impl KeySource {
    /// Verifies the signature of a token with these keys, for a verifier of your own.
    ///
    /// The header is checked as by [`JwtVerifier`](super::JwtVerifier), except for `typ`: an
    /// accepted algorithm, a key of the set, no key in the header, no `crit`. Neither `typ` nor a
    /// claim is checked: `iss`, `aud`, the times, and that it is an access token, are yours to
    /// check.
    ///
    /// # Errors
    /// The reason why the token is not accepted, or that there are no keys (503).
    ///
    /// # Cancellation
    /// May be dropped at any await; a fetch of keys continues.
    pub async fn verify(
        &self,
        token: &PresentedToken,
        clock: &Clock,
    ) -> Result<SignedJwt, VerifyError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "read for verification; only claims are kept"
        )]
        let jws = Jws::parse(token.secret().expose()).map_err(VerifyError::because)?;
        self.verify_jws(jws, clock).await
    }

    pub(super) async fn verify_jws(
        &self,
        jws: Jws<'_>,
        clock: &Clock,
    ) -> Result<SignedJwt, VerifyError> {
        // B026, B028: the keys decide which algorithms there are.
        if !self.algorithms().contains(jws.wanted.algorithm) {
            return Err(VerifyError::because(Reason::JwtAlgorithm));
        }
        let key = self.find(&jws.wanted, clock.read()).await?;
        let has_signed = |key: &Key| key.verify(jws.signed, &jws.signature);
        if !has_signed(&key) {
            let newer = self.find_newer(&jws.wanted, &key, clock.read()).await?;
            if !newer.is_some_and(|newer| has_signed(&newer)) {
                return Err(VerifyError::because(Reason::JwtSignature));
            }
        }
        // No claim is trusted before this.
        object(&jws.wanted.claims).map_err(VerifyError::because)?;
        Ok(SignedJwt { header: jws.header.into(), claims: jws.wanted.claims })
    }
}

/// A JWT whose signature was verified with a key of the set: header and claims, each an object of
/// strict JSON.
#[derive(Clone)]
pub struct SignedJwt {
    header: Bytes,
    claims: Bytes,
}

impl SignedJwt {
    /// Returns the header.
    pub fn header(&self) -> Value<'_> {
        parsed(&self.header)
    }

    /// Returns the claims.
    pub fn claims(&self) -> Value<'_> {
        parsed(&self.claims)
    }
}

fn parsed(object: &[u8]) -> Value<'_> {
    Value::known(std::str::from_utf8(object).unwrap_or("{}").trim_matches(BLANK))
}

/// The blanks of JSON (RFC 8259 §2).
const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];

impl fmt::Debug for SignedJwt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedJwt")
    }
}

/// A compact JWS whose header has our profile, except for `typ`; not yet verified.
#[derive(Debug)]
pub(super) struct Jws<'a> {
    signed: &'a [u8],
    header: Vec<u8>,
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
        let wanted = wanted_key(object(&header)?, claims.into())?;
        Ok(Self { signed, header, signature, wanted })
    }

    /// Returns the header.
    pub(super) fn header(&self) -> Value<'_> {
        parsed(&self.header)
    }
}

/// Checks the header, before any cryptography (RFC 8725 §3.1, 3.10).
fn wanted_key(header: Value<'_>, claims: Bytes) -> Result<WantedKey, Reason> {
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
    let id = match header.get("kid") {
        None => None,
        Some(id) => {
            let id = id.as_str().filter(|id| is_key_id(id)).ok_or(Reason::JwtKeyId)?;
            Some(id.as_ref().into())
        }
    };
    Ok(WantedKey { id, algorithm, claims })
}

pub(in crate::authenticate) fn object(bytes: &[u8]) -> Result<Value<'_>, Reason> {
    // B037: duplicate members can be read in two ways.
    let value = Value::parse(bytes, &Limits::default()).map_err(|error| match error {
        JsonError::DuplicateMember => Reason::JwtDuplicateMember,
        JsonError::NotUtf8 | JsonError::Syntax | JsonError::TooDeep | JsonError::LoneSurrogate => {
            Reason::JwtJson
        }
    })?;
    if value.kind() == Kind::Object { Ok(value) } else { Err(Reason::JwtJson) }
}
