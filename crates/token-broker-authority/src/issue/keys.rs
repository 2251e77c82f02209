//! Signing keys: one active key, and others that are published.

use std::{fmt, time::Duration};

use aws_lc_rs::{
    digest,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{EncodingKey, crypto::aws_lc::DEFAULT_PROVIDER};
use serde_json::{Value, json};
use tower_token_broker::{
    Secret,
    authenticate::jwt::{Algorithm, Keys, KeysError},
    clock::{Clock, Reading},
};

/// Private key with its public half and its ID.
pub struct SigningKey {
    algorithm: Algorithm,
    private: Secret,
    public: Value,
    id: Box<str>,
}

impl SigningKey {
    /// Generates a key.
    ///
    /// # Errors
    /// The system provides no random numbers.
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        let random = SystemRandom::new();
        let document = match algorithm {
            Algorithm::Es256 => {
                EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random)
            }
            Algorithm::EdDsa => Ed25519KeyPair::generate_pkcs8(&random),
            Algorithm::Es384 | Algorithm::Rs256 | Algorithm::Ps256 | _ => {
                return Err(KeyError::UnsupportedAlgorithm);
            }
        };
        let document = document.map_err(|_| KeyError::Random)?;
        Self::from_pkcs8(algorithm, Secret::new(document.as_ref().to_vec()))
    }

    /// Parses an unencrypted PKCS #8 document (DER).
    ///
    /// # Errors
    /// The document is not a key for this algorithm.
    pub fn from_pkcs8(algorithm: Algorithm, document: Secret) -> Result<Self, KeyError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "parsed for its public half; the document remains a secret"
        )]
        let der = document.expose();
        let mut public = match algorithm {
            Algorithm::Es256 => {
                let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der);
                let pair = pair.map_err(|_| KeyError::NotAKey)?;
                let (x, y) = match pair.public_key().as_ref() {
                    [4, coordinates @ ..] if coordinates.len() == 64 => coordinates.split_at(32),
                    _ => return Err(KeyError::NotAKey),
                };
                // RFC 7638 §3.2: only the required members, in this order. No string needs an
                // escape.
                let (x, y) = (URL_SAFE_NO_PAD.encode(x), URL_SAFE_NO_PAD.encode(y));
                json!({"crv": "P-256", "kty": "EC", "x": x, "y": y})
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::NotAKey)?;
                let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
                json!({"crv": "Ed25519", "kty": "OKP", "x": x})
            }
            Algorithm::Es384 | Algorithm::Rs256 | Algorithm::Ps256 | _ => {
                return Err(KeyError::UnsupportedAlgorithm);
            }
        };
        let id =
            URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, public.to_string().as_bytes()));
        if let Some(members) = public.as_object_mut() {
            members.insert("kid".into(), id.as_str().into());
            members.insert("alg".into(), algorithm.as_str().into());
            members.insert("use".into(), "sig".into());
        }
        Ok(Self { algorithm, private: document, public, id: id.into() })
    }

    /// Returns the thumbprint (RFC 7638), which is the `kid`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns the algorithm.
    pub const fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Returns the public half, as a JWK.
    pub(crate) const fn public(&self) -> &Value {
        &self.public
    }

    /// Returns the private key as a PKCS #8 document, for a store of secrets.
    pub const fn pkcs8(&self) -> &Secret {
        &self.private
    }

    /// Signs a JWT of these claims (a JSON object) with `typ: JWT`, for other servers: client
    /// authentication of the broker, or an assertion about a user. Such a JWT is not accepted as a
    /// broker token, which has a `typ` of its own.
    ///
    /// # Errors
    /// The key cannot sign.
    pub fn sign_jwt(&self, claims: &str) -> Result<Secret, KeyError> {
        self.sign_typed("JWT", claims)
    }

    /// Returns a compact JWS (RFC 7515 §7.1).
    pub(super) fn sign_typed(&self, media_type: &str, claims: &str) -> Result<Secret, KeyError> {
        let header = json!({"alg": self.algorithm.as_str(), "typ": media_type, "kid": &*self.id});
        let mut token = URL_SAFE_NO_PAD.encode(header.to_string());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(Secret::from_text(token))
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, KeyError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "passed to the signer, which zeroizes its copy"
        )]
        let der = self.private.expose();
        let (algorithm, key) = match self.algorithm {
            Algorithm::Es256 => (jsonwebtoken::Algorithm::ES256, EncodingKey::from_ec_der(der)),
            Algorithm::EdDsa => (jsonwebtoken::Algorithm::EdDSA, EncodingKey::from_ed_der(der)),
            Algorithm::Es384 | Algorithm::Rs256 | Algorithm::Ps256 | _ => {
                return Err(KeyError::UnsupportedAlgorithm);
            }
        };
        let signer =
            (DEFAULT_PROVIDER.signer_factory)(&algorithm, &key).map_err(|_| KeyError::NotAKey)?;
        signer.try_sign(message).map_err(|_| KeyError::Random)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SigningKey").field("id", &self.id).finish_non_exhaustive()
    }
}

/// Keys of one issuer: one signs, and all valid ones are published.
#[derive(Debug)]
pub struct SigningKeys {
    active: SigningKey,
    /// Public halves of keys that will be active, or that were.
    others: Vec<Value>,
    published: Keys,
}

impl SigningKeys {
    /// Generates one key.
    ///
    /// # Errors
    /// As [`SigningKey::generate`].
    pub fn generate(algorithm: Algorithm) -> Result<Self, KeyError> {
        Self::new(SigningKey::generate(algorithm)?)
    }

    /// Creates a set whose active key is this one.
    ///
    /// # Errors
    /// The public half cannot be published.
    pub fn new(active: SigningKey) -> Result<Self, KeyError> {
        let published = published(&active, &[])?;
        Ok(Self { active, others: Vec::new(), published })
    }

    /// Publishes another key: one that will be active later, or one that was. For the latter, set
    /// until when it is valid: [`Keys::retire`] on [`SigningKeys::keys`].
    ///
    /// # Errors
    /// The set has too many keys.
    pub fn publish(mut self, other: &SigningKey) -> Result<Self, KeyError> {
        self.others.push(other.public.clone());
        // No key is removed, so none is retired now. Retired keys remain retired.
        self.published.replace(&published(&self.active, &self.others)?, Clock::system().read());
        Ok(self)
    }

    /// Makes this key the active one. Tokens signed with the old one remain valid for `grace`: the
    /// longest lifetime of a token that it signed. After that the old key is not published, and
    /// never valid again.
    ///
    /// # Errors
    /// The set has too many keys, or the key was retired.
    pub fn rotate(
        &mut self,
        next: SigningKey,
        now: Reading,
        grace: Duration,
    ) -> Result<(), KeyError> {
        // B061: tokens that it signed before would be valid again.
        if self.published.retires_at(next.id()).is_some() {
            return Err(KeyError::Retired);
        }
        let mut others = self.still_good(now);
        others.retain(|other| key_id(other) != next.id());
        others.push(self.active.public.clone());
        let published = published(&next, &others)?;
        let old = std::mem::replace(&mut self.active, next);
        self.others = others;
        self.published.replace(&published, now);
        self.published.retire_after(old.id(), grace, now);
        Ok(())
    }

    /// Returns the active key.
    pub const fn active(&self) -> &SigningKey {
        &self.active
    }

    /// Returns the public keys for verifiers in this process. Clones follow each rotation.
    pub const fn keys(&self) -> &Keys {
        &self.published
    }

    /// Returns the public keys that are valid at this time as a JWK set (RFC 7517 §5), for
    /// verifiers in other processes.
    pub fn jwks(&self, now: Reading) -> String {
        jwk_set(&self.active, &self.still_good(now))
    }

    fn still_good(&self, now: Reading) -> Vec<Value> {
        let is_good = |key: &&Value| !self.published.is_retired(key_id(key), now);
        self.others.iter().filter(is_good).cloned().collect()
    }
}

fn key_id(public: &Value) -> &str {
    public.get("kid").and_then(Value::as_str).unwrap_or_default()
}

fn published(active: &SigningKey, others: &[Value]) -> Result<Keys, KeyError> {
    Ok(Keys::parse(jwk_set(active, others).as_bytes())?)
}

fn jwk_set(active: &SigningKey, others: &[Value]) -> String {
    let keys: Vec<&Value> = std::iter::once(&active.public).chain(others).collect();
    json!({ "keys": keys }).to_string()
}

/// The reasons why there is no signing key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The system provides no random numbers.
    #[error("the system provides no random numbers")]
    Random,
    /// The document is not PKCS #8, or its key is for another algorithm.
    #[error("not an unencrypted PKCS #8 document (DER) with a key for this algorithm")]
    NotAKey,
    /// The algorithm is not supported for signing.
    #[error("the algorithm is not supported for signing; use ES256 or EdDSA")]
    UnsupportedAlgorithm,
    /// The key was active before.
    #[error("the key was retired; sign with a new one")]
    Retired,
    /// The public halves cannot be published.
    #[error(transparent)]
    Unpublishable(#[from] KeysError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_thumbprint_of_rfc_7638() {
        // RFC 8037, appendices A.1 to A.3: key and thumbprint.
        let seed = URL_SAFE_NO_PAD.decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A").unwrap();
        let mut document =
            vec![0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
        document.extend(seed);
        let key = SigningKey::from_pkcs8(Algorithm::EdDsa, Secret::new(document)).unwrap();
        assert_eq!(key.public["x"], "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo");
        assert_eq!(key.id(), "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
    }

    #[test]
    fn the_published_set_has_no_private_member() {
        for algorithm in [Algorithm::Es256, Algorithm::EdDsa] {
            let keys = SigningKeys::generate(algorithm)
                .unwrap()
                .publish(&SigningKey::generate(algorithm).unwrap())
                .unwrap();
            assert_eq!((keys.keys().len(), keys.keys().problems()), (2, vec![]));
            assert!(!keys.jwks(Clock::system().read()).contains("\"d\""));
            assert_eq!(
                format!("{:?}", keys.active()),
                format!("SigningKey {{ id: {:?}, .. }}", keys.active().id())
            );
        }
    }

    #[test]
    fn a_document_for_another_algorithm_is_no_key() {
        let key = SigningKey::generate(Algorithm::Es256).unwrap();
        assert_eq!(
            SigningKey::from_pkcs8(Algorithm::EdDsa, key.pkcs8().clone()).err(),
            Some(KeyError::NotAKey)
        );
        let again = SigningKey::from_pkcs8(Algorithm::Es256, key.pkcs8().clone()).unwrap();
        assert_eq!(again.id(), key.id());
    }
}
