//! One public key of a set, bound to one algorithm.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, EcdsaVerificationAlgorithm, ParsedPublicKey,
};
use base64::{
    Engine, alphabet,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, URL_SAFE_NO_PAD},
    },
};
use jsonwebtoken::{DecodingKey, crypto::aws_lc::DEFAULT_PROVIDER};

use super::{
    algorithm::{Algorithm, Algorithms},
    ed25519::is_weak_point,
    rsa,
};
use crate::json::{Kind, Value};

/// The reasons why a key of a set is skipped (`jwks.key_unusable`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It, or another entry with the same public key, has a private member, so every reader of the
    /// set can sign.
    #[error(
        "the key has a private member; revoke it, because anyone who read the set can sign with it"
    )]
    Private,
    /// A type, curve or algorithm that this set does not accept.
    #[error("its type is not accepted here; to accept RSA or P-384, name the algorithms")]
    UnsupportedType,
    /// `use`, `key_ops` or `alg` name another purpose.
    #[error("`use`, `key_ops` or `alg` do not allow verifying signatures of this type")]
    OtherPurpose,
    /// A member of the wrong type or form.
    #[error("a member is missing, or has the wrong type, length or encoding")]
    Malformed,
    /// Not a point of the curve, or one of small order.
    #[error("the key is not a valid point of its curve")]
    UnsoundPoint,
    /// RSA with less than 2048 or more than 8192 bits, an exponent other than 65537, or a modulus
    /// that is known to be weak.
    #[error(
        "the RSA key is too short or weak: 2048 to 8192 bits and the exponent 65537 are needed"
    )]
    WeakRsa,
    /// An RSA key without `alg`, where both RS256 and PS256 are accepted.
    #[error("the RSA key has no `alg`; accept only one of RS256 and PS256")]
    NoAlgorithm,
    /// Another usable key of the same algorithm has the same `kid`, so neither is used.
    #[error("two keys of one algorithm have the same `kid`")]
    DuplicateKeyId,
}

/// One usable key.
pub(super) struct Key {
    pub(super) id: Option<Box<str>>,
    pub(super) algorithm: Algorithm,
    pub(super) value: PublicValue,
    pub(super) number: PublicNumber,
    public: DecodingKey,
}

/// The public value, by which two entries of a set are the same key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct PublicValue(Box<[u8]>);

/// The number that identifies a public key in every form: the modulus of RSA, or `x` of a curve,
/// which a point shares only with its negative, for which the same private key signs. Without the
/// zeros at its beginning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicNumber(Box<[u8]>);

impl Key {
    /// Returns whether this key made the signature.
    pub(super) fn verify(&self, message: &[u8], signature: &Vec<u8>) -> bool {
        if self.algorithm == Algorithm::EdDsa {
            // B055: also of the commitment.
            let Some(commitment) = signature.first_chunk::<32>() else { return false };
            if is_weak_point(commitment) {
                return false;
            }
        }
        // The provider is named here. The process-wide one panics at its first use if another crate
        // enabled a second backend.
        (DEFAULT_PROVIDER.verifier_factory)(&self.algorithm.to_jsonwebtoken(), &self.public)
            .is_ok_and(|verifier| verifier.verify(message, signature).is_ok())
    }

    pub(super) fn parse(key: Value<'_>, accepted: Algorithms) -> Result<Self, KeyError> {
        if key.kind() != Kind::Object {
            return Err(KeyError::Malformed);
        }
        // B053: the members that RFC 7518 §6 and RFC 8037 §2 call private, and every symmetric key.
        if has_any(key, &PRIVATE) || key.get("k").is_some() {
            return Err(KeyError::Private);
        }
        let id = text(key, "kid")?;
        if id.as_ref().is_some_and(|id| !is_key_id(id)) {
            return Err(KeyError::Malformed);
        }
        let algorithm = algorithm_of(key, accepted)?;
        if !may_verify(key, algorithm)? {
            return Err(KeyError::OtherPurpose);
        }
        let (value, public) = public_key(key, algorithm)?;
        let number = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => bytes(key, "n"),
            Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => bytes(key, "x"),
        };
        let number = PublicNumber::of(&number?);
        Ok(Self { id: id.map(|id| id.as_ref().into()), algorithm, value, number, public })
    }

    /// Returns the numbers by which an entry with a private member names its public key.
    // B491: whatever its type, algorithm, purpose or ID is, its readers can sign with that key.
    pub(super) fn shown_private(key: Value<'_>) -> impl Iterator<Item = PublicNumber> {
        let is_private = has_any(key, &PRIVATE);
        let members = ["n", "x"].into_iter().filter(move |_| is_private);
        members
            .filter_map(move |name| key.get(name)?.as_str().and_then(|it| PublicNumber::read(&it)))
    }
}

impl PublicNumber {
    fn of(bytes: &[u8]) -> Self {
        let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
        Self(bytes.get(zeros..).unwrap_or_default().into())
    }

    /// Reads a number in any form of base64, because an entry that is not used may have any.
    fn read(text: &str) -> Option<Self> {
        let url_safe =
            text.bytes().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| match byte {
                b'+' => b'-',
                b'/' => b'_',
                other => other,
            });
        ANY_BASE64.decode(url_safe.collect::<Vec<u8>>()).ok().map(|bytes| Self::of(&bytes))
    }
}

const ANY_BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
const PRIVATE: [&str; 7] = ["d", "p", "q", "dp", "dq", "qi", "oth"];

fn has_any(key: Value<'_>, names: &[&str]) -> bool {
    names.iter().any(|name| key.get(name).is_some())
}

fn text<'a>(key: Value<'a>, name: &str) -> Result<Option<std::borrow::Cow<'a, str>>, KeyError> {
    match key.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(KeyError::Malformed),
    }
}

/// Binds a key to its one algorithm, by the members of the key and by what the set accepts.
// B028: never by a token.
fn algorithm_of(key: Value<'_>, accepted: Algorithms) -> Result<Algorithm, KeyError> {
    let key_type = text(key, "kty")?.ok_or(KeyError::Malformed)?;
    let curve = text(key, "crv")?;
    let algorithm = match (key_type.as_ref(), curve.as_deref()) {
        ("EC", Some("P-256")) => Algorithm::Es256,
        ("EC", Some("P-384")) => Algorithm::Es384,
        ("OKP", Some("Ed25519")) => Algorithm::EdDsa,
        ("RSA", None) => {
            let named = text(key, "alg")?;
            let mut fits = [Algorithm::Rs256, Algorithm::Ps256].into_iter().filter(|algorithm| {
                accepted.contains(*algorithm)
                    && named.as_deref().is_none_or(|named| named == algorithm.as_str())
            });
            match (fits.next(), fits.next()) {
                (Some(only), None) => only,
                (Some(_), Some(_)) => return Err(KeyError::NoAlgorithm),
                (None, _) => return Err(KeyError::UnsupportedType),
            }
        }
        _ => return Err(KeyError::UnsupportedType),
    };
    if accepted.contains(algorithm) { Ok(algorithm) } else { Err(KeyError::UnsupportedType) }
}

/// Reads the public value of a key, and checks that it is sound.
fn public_key(
    key: Value<'_>,
    algorithm: Algorithm,
) -> Result<(PublicValue, DecodingKey), KeyError> {
    match algorithm {
        Algorithm::Es256 => point(key, 32, &ECDSA_P256_SHA256_FIXED),
        Algorithm::Es384 => point(key, 48, &ECDSA_P384_SHA384_FIXED),
        Algorithm::EdDsa => {
            let x: [u8; 32] = bytes(key, "x")?.try_into().map_err(|_| KeyError::Malformed)?;
            if key.get("y").is_some() {
                return Err(KeyError::Malformed);
            }
            if is_weak_point(&x) {
                return Err(KeyError::UnsoundPoint);
            }
            Ok((PublicValue(x.into()), DecodingKey::from_ed_der(&x)))
        }
        Algorithm::Rs256 | Algorithm::Ps256 => {
            let (modulus, exponent) = (bytes(key, "n")?, bytes(key, "e")?);
            if !rsa::is_sound(&modulus, &exponent) {
                return Err(KeyError::WeakRsa);
            }
            let public = DecodingKey::from_rsa_raw_components(&modulus, &exponent);
            Ok((PublicValue(modulus.into()), public))
        }
    }
}

/// Reads the point of an EC key.
fn point(
    key: Value<'_>,
    length: usize,
    by: &'static EcdsaVerificationAlgorithm,
) -> Result<(PublicValue, DecodingKey), KeyError> {
    let (x, y) = (bytes(key, "x")?, bytes(key, "y")?);
    if x.len() != length || y.len() != length {
        return Err(KeyError::Malformed);
    }
    let point = [&[4][..], &x, &y].concat();
    ParsedPublicKey::new(by, &point).map_err(|_| KeyError::UnsoundPoint)?;
    let public = DecodingKey::from_ec_der(&point);
    Ok((PublicValue(point.into()), public))
}

fn bytes(key: Value<'_>, name: &str) -> Result<Vec<u8>, KeyError> {
    let text = key.get(name).and_then(Value::as_str).ok_or(KeyError::Malformed)?;
    URL_SAFE_NO_PAD.decode(text.as_bytes()).map_err(|_| KeyError::Malformed)
}

/// Checks `use`, `key_ops` and `alg`, if present (RFC 7517 §4.2 to 4.4).
fn may_verify(key: Value<'_>, algorithm: Algorithm) -> Result<bool, KeyError> {
    for (name, expected) in [("use", "sig"), ("alg", algorithm.as_str())] {
        if text(key, name)?.is_some_and(|value| value != expected) {
            return Ok(false);
        }
    }
    let Some(operations) = key.get("key_ops") else { return Ok(true) };
    let mut seen = Vec::new();
    for operation in operations.elements().ok_or(KeyError::Malformed)? {
        let operation = operation.as_str().ok_or(KeyError::Malformed)?.into_owned();
        if seen.contains(&operation) {
            return Err(KeyError::Malformed);
        }
        seen.push(operation);
    }
    Ok(seen.iter().any(|operation| operation == "verify"))
}

/// Returns whether a text may be a key ID: short, without control characters. It is only looked up
/// in memory.
// B029.
pub(super) fn is_key_id(text: &str) -> bool {
    (1..=256).contains(&text.len()) && !text.chars().any(char::is_control)
}
