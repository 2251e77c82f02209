//! Profiles of access tokens: RFC 9068, and those of identity providers that deviate from it.

use std::sync::Arc;

use crate::{
    json::{Kind, Value},
    refusal::Reason,
};

/// The form of an issuer's access tokens, and what distinguishes them from its ID tokens.
///
/// Each profile was taken from the provider's documentation. The default is
/// [`rfc9068`](Self::rfc9068). Where `typ` does not name an access token (`JWT`, or none), the
/// profile requires other proof, and every profile refuses a token with a claim that only ID tokens
/// have (OpenID Connect Core §2 and 3.1.3.6).
///
/// ```
/// # use tower_token_broker::authenticate::jwt::*;
/// # fn verifier(jwks: &[u8]) -> Result<JwtVerifier, KeysError> {
/// let keys = Keys::parse_for(jwks, Algorithm::Rs256)?;
/// let issuer = "https://login.microsoftonline.com/8eaef023-2b34-4da1-9baa-8bc8c9d6a490/v2.0";
/// let profile = TokenProfile::entra("6e74172b-be56-4843-9ff4-e66a39bb12e3");
/// Ok(JwtVerifier::new(issuer, keys).profile(profile))
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "does nothing unless a verifier uses it"]
pub struct TokenProfile {
    pub(in crate::authenticate) form: Form,
    /// Accepted in place of the resource's URI.
    pub(in crate::authenticate) audience: Option<Box<str>>,
    pub(in crate::authenticate) allows_other_audiences: bool,
    /// The only clients whose tokens are accepted.
    pub(in crate::authenticate) clients: Option<Arc<[Box<str>]>>,
    pub(in crate::authenticate) subject: Box<str>,
    /// `sub` is the subject of a token without the other claim.
    pub(in crate::authenticate) subject_may_be_sub: bool,
    /// Claims that are kept: name, and path to the value.
    pub(in crate::authenticate) kept: Vec<(&'static str, Vec<Box<str>>)>,
}

/// A provider's form of access token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::authenticate) enum Form {
    Rfc9068,
    Entra,
    Okta,
    Auth0,
    Keycloak,
    Cognito,
    /// The response of an introspection endpoint (RFC 7662 §2.2).
    Introspected,
}

impl TokenProfile {
    /// RFC 9068: `typ` is `at+jwt`, and `client_id` and `jti` are present.
    pub fn rfc9068() -> Self {
        Self::of(Form::Rfc9068)
    }

    /// Microsoft Entra ID, v1.0 and v2.0 tokens of one tenant. `audience` is the API's application
    /// (client) ID. The `aud` of v1.0 tokens is that or any application ID URI of the API, with or
    /// without a trailing slash, unless the API sets the optional claim `aud` with `use_guid`.
    ///
    /// `typ` is `JWT` in all of its tokens. An access token has `azp` (v2.0) or `appid` (v1.0), and
    /// `scp` or `roles`; no ID token has the first two. `scp` becomes the scopes. `groups` are the
    /// groups; a token that only points to them (more than 200) is refused. `roles`, `wids`, `tid`,
    /// `oid` and `idtyp` are kept as claims. `sub` differs from application to application;
    /// [`subject_from("oid")`](Self::subject_from) is the same in all of a tenant.
    pub fn entra(audience: &str) -> Self {
        Self::of(Form::Entra).audience(audience).keeping(&["roles", "wids", "tid", "oid", "idtyp"])
    }

    /// Okta, tokens of a custom authorization server. `audience` is the one that is set there.
    ///
    /// They have no `typ`. An access token has `cid`; no ID token has. `scp` becomes the scopes.
    /// The subject is `uid`, which is never reassigned, where there is one, and `sub` otherwise:
    /// the login name of a user, or the ID of a client without a user.
    pub fn okta(audience: &str) -> Self {
        let mut profile = Self::of(Form::Okta).audience(audience).subject_from("uid");
        profile.subject_may_be_sub = true;
        profile
    }

    /// Auth0, both token profiles. `audience` is the identifier of the API.
    ///
    /// `typ` is `JWT` or `at+jwt`. An access token has `azp` or `client_id`, and its audience is
    /// never the client, as that of an ID token is. Other audiences, such as `/userinfo`, are
    /// accepted in addition to this one. `permissions` and `org_id` are kept as claims. A token
    /// without `jti` is named by its digest.
    pub fn auth0(audience: &str) -> Self {
        Self::of(Form::Auth0)
            .audience(audience)
            .with_other_audiences()
            .keeping(&["permissions", "org_id"])
    }

    /// Keycloak. `audience` is what an audience mapper of the client scope adds.
    ///
    /// `typ` is `JWT` or `at+jwt`, and the claim `typ` is `Bearer`; that of an ID token is `ID`.
    /// Other audiences, such as `account`, are accepted in addition to this one. The realm's roles
    /// are kept as the claim `realm_access.roles`, and those of the client that is named like the
    /// audience as `resource_access.roles`.
    pub fn keycloak(audience: &str) -> Self {
        Self::of(Form::Keycloak)
            .audience(audience)
            .with_other_audiences()
            .keeping_as("realm_access.roles", &["realm_access", "roles"])
            .keeping_as("resource_access.roles", &["resource_access", audience, "roles"])
    }

    /// Amazon Cognito user pools. Their access tokens have an audience only if the client requested
    /// one (`resource` at the authorization endpoint, RFC 8707), or if a trigger adds the app
    /// client's ID. Those of these app clients are accepted. A token with `aud` must name the
    /// resource, or [`audience`](Self::audience), or its own client.
    ///
    /// They have no `typ`; the claim `token_use` is `access`, that of an ID token is `id`.
    /// `cognito:groups` are the groups.
    pub fn cognito<'a>(clients: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of(Form::Cognito).only_clients(clients)
    }

    pub(in crate::authenticate) fn introspected() -> Self {
        Self::of(Form::Introspected)
    }

    /// Accepts this audience in place of the resource's URI. A token is then valid at every stack
    /// whose verifier names it.
    pub fn audience(mut self, audience: &str) -> Self {
        self.audience = Some(audience.into());
        self
    }

    /// Accepts tokens that name other audiences, too. The servers that these audiences belong to
    /// receive the same token, and can present it here.
    pub fn with_other_audiences(mut self) -> Self {
        self.allows_other_audiences = true;
        self
    }

    /// Accepts tokens of these clients only.
    pub fn only_clients<'a>(mut self, clients: impl IntoIterator<Item = &'a str>) -> Self {
        self.clients = Some(clients.into_iter().map(Box::from).collect());
        self
    }

    /// Takes the subject from this claim. A token without it is refused (`jwt.missing_claim`). It
    /// must be unique for the issuer and never reassigned: not an email address, not a login name.
    pub fn subject_from(mut self, claim: &str) -> Self {
        self.subject = claim.into();
        self.subject_may_be_sub = false;
        self
    }

    fn of(form: Form) -> Self {
        Self {
            form,
            audience: None,
            allows_other_audiences: false,
            clients: None,
            subject: "sub".into(),
            subject_may_be_sub: false,
            kept: Vec::new(),
        }
    }

    fn keeping(mut self, names: &[&'static str]) -> Self {
        for name in names {
            self = self.keeping_as(name, &[name]);
        }
        self
    }

    fn keeping_as(mut self, name: &'static str, path: &[&str]) -> Self {
        self.kept.push((name, path.iter().copied().map(Box::from).collect()));
        self
    }

    /// Checks `typ` of the header.
    pub(super) fn check_header(&self, header: Value<'_>) -> Result<(), Reason> {
        let media = match header.get("typ") {
            None if matches!(self.form, Form::Okta | Form::Cognito) => return Ok(()),
            None => return Err(Reason::JwtType),
            Some(media) => media.as_str().ok_or(Reason::JwtType)?,
        };
        let is = |expected: &str| media.eq_ignore_ascii_case(expected);
        let is_access_token = is("at+jwt") || is("application/at+jwt");
        let accepted = match self.form {
            Form::Rfc9068 => is_access_token,
            Form::Entra => is("JWT"),
            Form::Auth0 | Form::Keycloak => is_access_token || is("JWT"),
            // None of their own tokens has one.
            Form::Okta | Form::Cognito => is("JWT"),
            Form::Introspected => false,
        };
        if accepted { Ok(()) } else { Err(Reason::JwtType) }
    }

    /// Checks that these are the claims of an access token, and of no other token.
    pub(in crate::authenticate) fn check_kind(&self, claims: Value<'_>) -> Result<(), Reason> {
        let has = |name: &str| claims.get(name).is_some();
        let is = |name: &str, expected: &str| {
            claims.get(name).and_then(Value::as_str).is_some_and(|found| found == expected)
        };
        // B493: also in a token that has `typ` of an access token.
        if ["at_hash", "c_hash", "s_hash"].into_iter().any(has) {
            return Err(Reason::JwtType);
        }
        let is_access_token = match self.form {
            // `typ` of the header.
            Form::Rfc9068 => true,
            Form::Entra => {
                let client = (is("ver", "2.0") && has("azp")) || (is("ver", "1.0") && has("appid"));
                client && (has("scp") || has("roles")) && !has("nonce")
            }
            Form::Okta => {
                let id = claims.get("jti").and_then(Value::as_str);
                has("cid") && !has("nonce") && id.is_some_and(|id| !id.starts_with("ID."))
            }
            Form::Auth0 => {
                !has("nonce")
                    && self.client(claims).is_some_and(|client| {
                        audiences(claims)
                            .all(|audience| audience.as_str().as_deref() != Some(client.as_ref()))
                    })
            }
            // Before version 25, its access tokens had a `nonce`, too, as they have with the mapper
            // `Nonce backwards compatible`.
            Form::Keycloak => is("typ", "Bearer"),
            Form::Cognito => is("token_use", "access"),
            Form::Introspected => is_access_token_response(claims)?,
        };
        if is_access_token { Ok(()) } else { Err(Reason::JwtType) }
    }

    /// Returns the client that the token was issued to.
    pub(in crate::authenticate) fn client<'a>(
        &self,
        claims: Value<'a>,
    ) -> Option<std::borrow::Cow<'a, str>> {
        self.client_value(claims)?.as_str()
    }

    pub(in crate::authenticate) fn client_value<'a>(&self, claims: Value<'a>) -> Option<Value<'a>> {
        let names: &[&str] = match self.form {
            Form::Rfc9068 | Form::Cognito | Form::Introspected => &["client_id"],
            Form::Entra => &["azp", "appid"],
            Form::Okta => &["cid"],
            Form::Auth0 => &["azp", "client_id"],
            Form::Keycloak => &["azp"],
        };
        names.iter().find_map(|name| claims.get(name))
    }

    pub(in crate::authenticate) const fn scope_claim(&self) -> &'static str {
        match self.form {
            Form::Entra | Form::Okta => "scp",
            Form::Rfc9068 | Form::Auth0 | Form::Keycloak | Form::Cognito | Form::Introspected => {
                "scope"
            }
        }
    }

    pub(in crate::authenticate) const fn group_claim(&self) -> &'static str {
        match self.form {
            Form::Cognito => "cognito:groups",
            Form::Rfc9068
            | Form::Entra
            | Form::Okta
            | Form::Auth0
            | Form::Keycloak
            | Form::Introspected => "groups",
        }
    }

    /// Returns the claims that name the token, the first present one of which counts; without
    /// any, and where that is allowed, its digest does.
    pub(in crate::authenticate) const fn id_claims(&self) -> (&'static [&'static str], bool) {
        match self.form {
            Form::Rfc9068 | Form::Keycloak | Form::Cognito | Form::Okta => (&["jti"], false),
            Form::Entra => (&["uti"], true),
            Form::Auth0 | Form::Introspected => (&["jti"], true),
        }
    }
}

impl Default for TokenProfile {
    fn default() -> Self {
        Self::rfc9068()
    }
}

/// Returns the values of `aud`.
pub(in crate::authenticate) fn audiences(claims: Value<'_>) -> impl Iterator<Item = Value<'_>> {
    let audience = claims.get("aud");
    let one = audience.filter(|audience| audience.kind() != Kind::Array);
    let several = audience.and_then(Value::elements).into_iter().flatten();
    one.into_iter().chain(several)
}

/// Returns whether a response is about an access token: a refresh token is active, too (RFC 7662
/// §2.1), and an ID token is at some servers. At least one of the members that distinguish them
/// must be present, and all that are must name an access token.
// B495.
fn is_access_token_response(response: Value<'_>) -> Result<bool, Reason> {
    let mut is_named = false;
    for (name, accepted) in [
        ("token_type", &["bearer", "access_token"][..]), // RFC 7662 §2.2; some name the kind
        ("token_use", &["access", "access_token"]),
        ("typ", &["bearer", "at+jwt", "application/at+jwt"]),
    ] {
        let Some(value) = response.get(name) else { continue };
        let text = value.as_str().ok_or(Reason::JwtClaimType)?;
        if !accepted.iter().any(|accepted| text.eq_ignore_ascii_case(accepted)) {
            return Ok(false);
        }
        is_named = true;
    }
    let has = |name: &str| response.get(name).is_some();
    let names_kind = has("token_use") || has("typ");
    Ok(is_named && (names_kind || !may_be_another_bearer(response)))
}

/// Returns whether a response whose only mark is `token_type: Bearer` may be about an ID token or a
/// refresh token: some servers, Okta among them, write that of every token. An ID token may have
/// the `nonce` of its sign-in, and at Okta has an ID that begins so; a refresh token has no
/// audience and no ID.
fn may_be_another_bearer(response: Value<'_>) -> bool {
    let has = |name: &str| response.get(name).is_some();
    let id = response.get("jti").and_then(Value::as_str);
    has("nonce")
        || id.is_some_and(|id| id.starts_with("ID."))
        || !["aud", "jti", "uid"].into_iter().any(has)
}
