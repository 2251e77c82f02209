//! Checks the claims of a token.

use std::{borrow::Cow, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::profile::{Form, TokenProfile, audiences};
use crate::{
    authenticate::{VerifyError, VerifyRequest},
    bad_value::BadValue,
    clock::{LEEWAY, Timestamp},
    json::{Kind, Value},
    principal::{Actor, Confirmation, Resource, Scopes, TokenTimes, User, Verified},
    refusal::Reason,
    revocation::Revocations,
};

/// Longest JSON text of a claim that is kept, in bytes.
const LONGEST_KEPT: usize = 4096;
/// Largest number of groups.
const MAX_GROUPS: usize = 1000;
/// The largest integer on which all JSON readers agree (RFC 8259 §6).
const MAX_TIME: u64 = 1 << 53;

/// The facts that a token must prove.
pub(in crate::authenticate) struct Expected<'a> {
    pub(in crate::authenticate) issuer: &'a str,
    pub(in crate::authenticate) profile: &'a TokenProfile,
    pub(in crate::authenticate) request: &'a VerifyRequest<'a>,
}

/// Checks the claims of a token that was verified by its signature or its issuer.
pub(in crate::authenticate) fn judge(
    claims: Value<'_>,
    expected: &Expected<'_>,
) -> Result<Verified, VerifyError> {
    let Expected { issuer, profile, request } = *expected;
    let (resource, clock) = (request.resource, request.clock);
    let read = || -> Result<_, Reason> {
        // B049: octet by octet. An introspection endpoint may leave it out.
        let is_from = profile.form == Form::Introspected && optional(claims, "iss").is_none();
        if !is_from {
            let seen = text(claims, "iss", 2048)?;
            if seen != issuer {
                not_expected("iss", &[issuer], &[&seen]);
                return Err(Reason::JwtIssuer);
            }
        }
        profile.check_kind(claims)?;
        let client = text_of(profile.client_value(claims), 2048)?;
        check_audience(claims, profile, &client, resource)?;
        let (expires, issued) = (time(claims, "exp")?, time(claims, "iat")?);
        // RFC 9068 §2.2 requires all except this one.
        let not_before =
            if optional(claims, "nbf").is_some() { time(claims, "nbf")? } else { issued };
        let id = token_id(claims, profile, request)?;
        let user = User::new(issuer, text_of(subject(claims, profile), 1024)?);
        let times = TokenTimes {
            id: &id,
            issued_at: Timestamp::from_unix_seconds(issued),
            expires_at: Timestamp::from_unix_seconds(expires),
        };
        let mut verified = Verified::vouch(user, &client, resource.clone(), times);
        if let Some(scope) = optional(claims, profile.scope_claim()) {
            verified = verified.with_scopes(scopes(scope, profile)?);
        }
        if optional(claims, "token_family").is_some() {
            verified = verified.with_family(&text(claims, "token_family", 256)?);
        }
        if let Some(actor) = actors(claims, issuer)? {
            verified = verified.with_actor(actor);
        }
        let life = expires.checked_sub(issued).ok_or(Reason::JwtLifetime)?;
        if Duration::from_secs(life) > Revocations::RETENTION {
            return Err(Reason::JwtLifetime);
        }
        Ok((verified, times.issued_at, Timestamp::from_unix_seconds(not_before)))
    };
    let (verified, issued, not_before) = read().map_err(VerifyError::because)?;
    let now = clock.now();
    // B044: the same instant as for verdicts and open streams.
    if now >= verified.expires_at().plus(LEEWAY) {
        return Err(VerifyError::because(Reason::JwtExpired));
    }
    // B042, X23: the issuer's clock was ahead of ours.
    if issued > now.plus(LEEWAY) {
        clock.compare(issued, issuer);
    }
    if not_before.max(issued) > now.plus(LEEWAY) {
        return Err(VerifyError::for_now(Reason::JwtNotYetValid));
    }
    Ok(verified)
}

/// Adds the claims that are kept, groups, authentication context and key.
///
/// # Errors
/// There are too many, they are elsewhere, or they have another form: a policy that denies by a
/// claim or a group must see all of them.
pub(in crate::authenticate) fn keep(
    mut verified: Verified,
    claims: Value<'_>,
    kept: &[Box<str>],
    profile: &TokenProfile,
) -> Result<Verified, VerifyError> {
    let too_much = || VerifyError::because(Reason::JwtClaimType);
    let group_claim = profile.group_claim();
    // One pass over the claims; each lookup by name would be another.
    for (name, value) in claims.members().into_iter().flatten() {
        if kept.iter().any(|kept| **kept == *name) {
            if value.raw().len() > LONGEST_KEPT {
                return Err(too_much());
            }
            verified = verified.with_claim(&name, value);
        }
        verified = match &*name {
            name if name == group_claim => with_groups(verified, value).ok_or_else(too_much)?,
            "acr" => match value.as_str() {
                Some(acr) => verified.with_acr(&acr),
                None => verified,
            },
            "cnf" => verified.with_confirmation(confirmation(value).ok_or_else(too_much)?),
            // B494, OpenID Connect Core §5.6.2: the values of these claims are at another server.
            "_claim_names" => {
                let is_needed = |name: &str| {
                    name == group_claim
                        || kept.iter().any(|kept| **kept == *name)
                        || profile
                            .kept
                            .iter()
                            .any(|(_, path)| path.first().is_some_and(|first| **first == *name))
                };
                let names = value.members().ok_or_else(too_much)?;
                if names.into_iter().any(|(name, _)| is_needed(&name)) {
                    return Err(too_much());
                }
                verified
            }
            // Entra's short form of the same.
            "hasgroups" if profile.form == Form::Entra => return Err(too_much()),
            _ => verified,
        };
    }
    for (name, path) in &profile.kept {
        let Some(value) = at_path(claims, path).map_err(VerifyError::because)? else { continue };
        // B497: the roles and IDs of a profile are texts.
        texts(value).ok_or_else(too_much)?;
        verified = verified.with_claim(name, value);
    }
    Ok(verified)
}

/// Returns the claim at a path; `None` if it is absent.
fn at_path<'a>(claims: Value<'a>, path: &[Box<str>]) -> Result<Option<Value<'a>>, Reason> {
    let mut value = claims;
    for name in path {
        // B497: roles may be in what has another form.
        if value.kind() != Kind::Object {
            return Err(Reason::JwtClaimType);
        }
        let Some(next) = value.get(name) else { return Ok(None) };
        value = next;
    }
    Ok(Some(value))
}

/// Adds the groups; `None` if there are too many, or if they are no texts.
fn with_groups(verified: Verified, groups: Value<'_>) -> Option<Verified> {
    let groups = texts(groups).filter(|groups| groups.len() <= MAX_GROUPS)?;
    Some(verified.with_groups(groups.iter().map(AsRef::as_ref)))
}

/// Reads a text or an array of texts. In another form, a policy would not see them.
// B497.
fn texts(value: Value<'_>) -> Option<Vec<Cow<'_, str>>> {
    match value.elements() {
        Some(elements) => elements.map(Value::as_str).collect(),
        None => value.as_str().map(|only| vec![only]),
    }
}

/// Reads the key that a token is bound to. Without one that is known, the token is of no use to a
/// bearer (RFC 7800 §3.1).
// B498.
fn confirmation(cnf: Value<'_>) -> Option<Confirmation> {
    let thumbprint = |name: &str| match cnf.get(name) {
        Some(value) => {
            let text = value.as_str().filter(|text| !text.is_empty())?;
            Some(Some(Box::from(text.as_ref())))
        }
        None => Some(None),
    };
    let (key, certificate) = (thumbprint("jkt")?, thumbprint("x5t#S256")?);
    key.map(Confirmation::JwkThumbprint)
        .or_else(|| certificate.map(Confirmation::CertificateThumbprint))
}

/// Returns the claim that names the subject.
// B499: another claim may contain what a user chose.
fn subject<'a>(claims: Value<'a>, profile: &TokenProfile) -> Option<Value<'a>> {
    let named = optional(claims, &profile.subject);
    if profile.subject_may_be_sub { named.or_else(|| optional(claims, "sub")) } else { named }
}

/// Checks the audience: exactly this resource, unless the profile names another one, or more.
// B047.
fn check_audience(
    claims: Value<'_>,
    profile: &TokenProfile,
    client: &str,
    resource: &Resource,
) -> Result<(), Reason> {
    // A token of another client is one for another resource.
    let clients = profile.clients.as_deref().unwrap_or_default();
    if profile.clients.is_some() && !clients.iter().any(|one| **one == *client) {
        let expected: Vec<&str> = clients.iter().map(AsRef::as_ref).collect();
        not_expected("client_id", &expected, &[client]);
        return Err(Reason::WrongResource);
    }
    if optional(claims, "aud").is_none() {
        // Then the clients, which were compared, are what limits the token.
        let may_lack = matches!(profile.form, Form::Cognito | Form::Introspected);
        let is_limited = may_lack && profile.clients.is_some();
        return if is_limited { Ok(()) } else { Err(Reason::JwtMissingClaim) };
    }
    let mut named = Vec::new();
    for audience in audiences(claims) {
        let audience = audience.as_str().ok_or(Reason::JwtAudience)?;
        if audience.is_empty() || named.contains(&audience) {
            return Err(Reason::JwtAudience);
        }
        named.push(audience);
    }
    let is_ours = |text: &str| match &profile.audience {
        Some(audience) => **audience == *text,
        None => resource.is_named_by(text),
    };
    let is_another = || {
        let expected = profile.audience.as_deref().unwrap_or_else(|| resource.as_str());
        let seen: Vec<&str> = named.iter().map(AsRef::as_ref).collect();
        not_expected("aud", &[expected], &seen);
        Reason::WrongResource
    };
    match named.as_slice() {
        [] => Err(Reason::JwtAudience),
        [only] if is_ours(only) => Ok(()),
        // A trigger of a user pool can only set the client, which was compared.
        [only]
            if profile.form == Form::Cognito && profile.clients.is_some() && **only == *client =>
        {
            Ok(())
        }
        // A017
        [_] => Err(is_another()),
        _ if !profile.allows_other_audiences => Err(Reason::JwtAudience),
        several if several.iter().any(|one| is_ours(one)) => Ok(()),
        _ => Err(is_another()),
    }
}

/// Logs, at DEBUG, a claim with another value than the expected one.
fn not_expected(claim: &str, expected: &[&str], seen: &[&str]) {
    // A522: the text of a token, escaped and truncated.
    const SHOWN: usize = 8;
    let shown = |values: &[&str]| -> Vec<BadValue> {
        values.iter().take(SHOWN).map(|value| BadValue::new(value)).collect()
    };
    tracing::debug!(
        claim,
        expected = ?shown(expected),
        seen = ?shown(seen),
        "a token was refused because of this claim"
    );
}

/// Reads the ID of the token; its digest, if it has none and the profile allows that.
fn token_id(
    claims: Value<'_>,
    profile: &TokenProfile,
    request: &VerifyRequest<'_>,
) -> Result<String, Reason> {
    let (names, or_digest) = profile.id_claims();
    match names.iter().find(|name| optional(claims, name).is_some()) {
        Some(name) => text(claims, name, 256),
        None if or_digest => {
            Ok(format!("sha256:{}", URL_SAFE_NO_PAD.encode(request.token.digest())))
        }
        None => Err(Reason::JwtMissingClaim),
    }
}

/// Reads scopes: a list with spaces, or an array where the provider writes one.
fn scopes(claim: Value<'_>, profile: &TokenProfile) -> Result<Scopes, Reason> {
    let text = match claim.elements() {
        Some(elements) if profile.form == Form::Okta => {
            let mut all = Vec::new();
            for element in elements {
                let scope = element.as_str().ok_or(Reason::JwtClaimType)?;
                if scope.is_empty() || scope.contains(' ') {
                    return Err(Reason::JwtClaimType);
                }
                all.push(scope);
            }
            all.join(" ")
        }
        _ => claim.as_str().ok_or(Reason::JwtClaimType)?.into_owned(),
    };
    Scopes::parse(&text).map_err(|_| Reason::JwtClaimType)
}

/// Reads the chain of RFC 8693 §4.1: the outermost actor acts now, those within acted before.
fn actors(claims: Value<'_>, issuer: &str) -> Result<Option<Actor>, Reason> {
    let mut chain = Vec::new();
    let mut next = optional(claims, "act");
    while let Some(actor) = next {
        if chain.len() >= Actor::MAX_CHAIN || actor.kind() != Kind::Object {
            return Err(Reason::JwtClaimType);
        }
        let subject = text(actor, "sub", 1024)?;
        let of_issuer = if optional(actor, "iss").is_some() {
            text(actor, "iss", 2048)?
        } else {
            issuer.into()
        };
        let client = match optional(actor, "client_id") {
            Some(_) => Some(text(actor, "client_id", 2048)?),
            None => None,
        };
        chain.push((User::new(of_issuer, subject), client));
        next = optional(actor, "act");
    }
    Ok(chain.into_iter().rev().fold(None, |before, (user, client)| {
        let actor = Actor::new(user, before);
        Some(match client {
            Some(client) => actor.with_client(&client),
            None => actor,
        })
    }))
}

/// Reads a time: an integer, written as one. A value of another type is an error, not an absent
/// time.
// B039, B041.
fn time(claims: Value<'_>, name: &str) -> Result<u64, Reason> {
    required(claims, name)?
        .as_u64()
        .filter(|seconds| *seconds <= MAX_TIME)
        .ok_or(Reason::JwtClaimType)
}

/// Reads a text that is not empty.
// B040.
fn text(claims: Value<'_>, name: &str, longest: usize) -> Result<String, Reason> {
    text_of(optional(claims, name), longest)
}

fn text_of(claim: Option<Value<'_>>, longest: usize) -> Result<String, Reason> {
    let text = claim.ok_or(Reason::JwtMissingClaim)?.as_str().ok_or(Reason::JwtClaimType)?;
    if text.is_empty() {
        return Err(Reason::JwtMissingClaim);
    }
    if text.len() > longest { Err(Reason::JwtClaimType) } else { Ok(text.into_owned()) }
}

fn required<'a>(claims: Value<'a>, name: &str) -> Result<Value<'a>, Reason> {
    claims.get(name).ok_or(Reason::JwtMissingClaim)
}

/// Returns an optional claim. `null` is a value of the wrong type, not an absent claim.
fn optional<'a>(claims: Value<'a>, name: &str) -> Option<Value<'a>> {
    claims.get(name)
}
