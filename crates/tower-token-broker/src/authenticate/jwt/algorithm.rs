//! Signature algorithms, and the set of them that a key set accepts.

/// A signature algorithm of access tokens (RFC 7518 §3.1, RFC 8037 §3.1).
///
/// There is no symmetric one, because a verifier of such tokens could also issue them:
///
/// ```compile_fail,E0599
/// # use tower_token_broker::authenticate::jwt::Algorithm;
/// let accepted = [Algorithm::Rs256, Algorithm::Hs256];
/// ```
///
/// The same without the mistake compiles:
///
/// ```
/// # use tower_token_broker::authenticate::jwt::Algorithm;
/// let accepted = [Algorithm::Rs256, Algorithm::Es256];
/// # drop(accepted);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Algorithm {
    /// ECDSA with P-256 and SHA-256.
    Es256,
    /// ECDSA with P-384 and SHA-384.
    Es384,
    /// Ed25519.
    EdDsa,
    /// RSASSA-PKCS1-v1_5 with SHA-256, and keys of 2048 to 8192 bits.
    Rs256,
    /// RSASSA-PSS with SHA-256, and keys of 2048 to 8192 bits.
    Ps256,
}

impl Algorithm {
    const ALL: [Self; 5] = [Self::Es256, Self::Es384, Self::EdDsa, Self::Rs256, Self::Ps256];

    /// Returns the name, as in `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
        }
    }

    /// Parses an `alg`: one of these names, in exact spelling.
    // B026, B027.
    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }

    pub(super) const fn to_jsonwebtoken(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
        }
    }
}

/// The algorithms that a key set accepts: ES256 and EdDSA by default.
///
/// They belong to the keys, not to the token: each key of the set is bound to one of them when the
/// set is read, and a token that names another one is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "does nothing unless it is used"]
pub struct Algorithms([bool; 5]);

impl Algorithms {
    /// Accepts exactly these algorithms.
    pub fn of(algorithms: impl IntoIterator<Item = Algorithm>) -> Self {
        let chosen: Vec<_> = algorithms.into_iter().collect();
        Self(Algorithm::ALL.map(|algorithm| chosen.contains(&algorithm)))
    }

    pub(super) fn contains(self, wanted: Algorithm) -> bool {
        Algorithm::ALL
            .into_iter()
            .zip(self.0)
            .any(|(algorithm, is_in)| is_in && algorithm == wanted)
    }
}

impl Default for Algorithms {
    fn default() -> Self {
        Self::of([Algorithm::Es256, Algorithm::EdDsa])
    }
}

impl From<Algorithm> for Algorithms {
    fn from(only: Algorithm) -> Self {
        Self::of([only])
    }
}

impl<const N: usize> From<[Algorithm; N]> for Algorithms {
    fn from(algorithms: [Algorithm; N]) -> Self {
        Self::of(algorithms)
    }
}
