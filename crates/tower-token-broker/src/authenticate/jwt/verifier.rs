//! Verification of one token, step by step.

use std::{fmt, sync::Arc};

use super::{
    claims::{self, Expected},
    profile::TokenProfile,
    remote_keys::KeySource,
    signed::Jws,
};
use crate::{
    authenticate::{VerifyError, VerifyRequest, VerifyToken},
    principal::Verified,
};

/// Verifies broker tokens that are JWTs of one issuer. See the [module](super).
#[derive(Clone)]
#[must_use = "does nothing unless it is used"]
pub struct JwtVerifier {
    /// One issuer, as a slice for the metadata.
    issuer: Arc<[Box<str>; 1]>,
    keys: KeySource,
    kept_claims: Arc<[Box<str>]>,
    profile: Arc<TokenProfile>,
}

impl JwtVerifier {
    /// Creates a verifier for tokens with exactly this `iss` that are signed with one of these
    /// keys: [`Keys`](super::Keys) of the process, or [`RemoteKeys`](super::RemoteKeys).
    pub fn new(issuer: &str, keys: impl Into<KeySource>) -> Self {
        let kept_claims = Arc::from(Vec::new());
        Self {
            issuer: Arc::new([issuer.into()]),
            keys: keys.into(),
            kept_claims,
            profile: Arc::default(),
        }
    }

    /// Accepts tokens of this profile; [`TokenProfile::rfc9068`] by default. The algorithms are
    /// those of the keys.
    pub fn profile(mut self, profile: TokenProfile) -> Self {
        self.profile = Arc::new(profile);
        self
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
        self.profile.check_header(jws.header()).map_err(VerifyError::because)?;
        let signed = self.keys.verify_jws(jws, request.clock).await?;
        let (claims, profile) = (signed.claims(), &*self.profile);
        let verified =
            claims::judge(claims, &Expected { issuer: self.issuer(), profile, request })?;
        claims::keep(verified, claims, &self.kept_claims, profile)
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
