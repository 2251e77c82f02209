//! Checks the claims of a token.

use std::time::Duration;

use crate::{
    authenticate::VerifyError,
    clock::{Clock, LEEWAY, Timestamp},
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

/// Checks the claims of a token whose signature was verified.
pub(super) fn judge(
    claims: Value<'_>,
    issuer: &str,
    resource: &Resource,
    clock: &Clock,
) -> Result<Verified, VerifyError> {
    let read = || -> Result<_, Reason> {
        // B049: octet by octet.
        if text(claims, "iss", 2048)? != issuer {
            return Err(Reason::JwtIssuer);
        }
        check_audience(claims, resource)?;
        let (expires, issued) = (time(claims, "exp")?, time(claims, "iat")?);
        // RFC 9068 §2.2 requires all except this one.
        let not_before =
            if optional(claims, "nbf").is_some() { time(claims, "nbf")? } else { issued };
        let (id, client) = (text(claims, "jti", 256)?, text(claims, "client_id", 2048)?);
        let user = User::new(issuer, text(claims, "sub", 1024)?);
        let times = TokenTimes {
            id: &id,
            issued_at: Timestamp::from_unix_seconds(issued),
            expires_at: Timestamp::from_unix_seconds(expires),
        };
        let mut verified = Verified::vouch(user, &client, resource.clone(), times);
        if let Some(scope) = optional(claims, "scope") {
            let scopes = scope
                .as_str()
                .and_then(|scope| Scopes::parse(&scope).ok())
                .ok_or(Reason::JwtClaimType)?;
            verified = verified.with_scopes(scopes);
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
/// There are too many: a policy that denies by a claim or a group must see all of them.
pub(super) fn keep(
    mut verified: Verified,
    claims: Value<'_>,
    kept: &[Box<str>],
) -> Result<Verified, VerifyError> {
    let too_much = || VerifyError::because(Reason::JwtClaimType);
    // One pass over the claims; each lookup by name would be another.
    for (name, value) in claims.members().into_iter().flatten() {
        if kept.iter().any(|kept| **kept == *name) {
            if value.raw().len() > LONGEST_KEPT {
                return Err(too_much());
            }
            verified = verified.with_claim(&name, value);
        }
        verified = match &*name {
            "groups" => with_groups(verified, value).ok_or_else(too_much)?,
            "acr" => match value.as_str() {
                Some(acr) => verified.with_acr(&acr),
                None => verified,
            },
            "cnf" => match confirmation(value) {
                Some(confirmation) => verified.with_confirmation(confirmation),
                None => verified,
            },
            _ => verified,
        };
    }
    Ok(verified)
}

/// Adds the groups; `None` if there are too many.
fn with_groups(verified: Verified, groups: Value<'_>) -> Option<Verified> {
    if let Some(only) = groups.as_str() {
        return Some(verified.with_groups([&*only]));
    }
    let Some(groups) = groups.elements() else { return Some(verified) };
    let groups: Vec<_> = groups.filter_map(Value::as_str).take(MAX_GROUPS + 1).collect();
    (groups.len() <= MAX_GROUPS).then(|| verified.with_groups(groups.iter().map(AsRef::as_ref)))
}

fn confirmation(cnf: Value<'_>) -> Option<Confirmation> {
    let thumbprint = |name: &str| Some(cnf.get(name)?.as_str()?.into_owned().into());
    thumbprint("jkt")
        .map(Confirmation::JwkThumbprint)
        .or_else(|| thumbprint("x5t#S256").map(Confirmation::CertificateThumbprint))
}

/// Checks that the audience is exactly this resource.
// B047.
fn check_audience(claims: Value<'_>, resource: &Resource) -> Result<(), Reason> {
    let audience = required(claims, "aud")?;
    let only = match audience.elements() {
        None => audience,
        Some(mut elements) => match (elements.next(), elements.next()) {
            (Some(only), None) => only,
            _ => return Err(Reason::JwtAudience),
        },
    };
    match only.as_str() {
        None => Err(Reason::JwtAudience),
        Some(text) if text.is_empty() => Err(Reason::JwtAudience),
        Some(text) if resource.is_named_by(&text) => Ok(()),
        // A017
        Some(_) => Err(Reason::WrongResource),
    }
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
    let text = required(claims, name)?.as_str().ok_or(Reason::JwtClaimType)?;
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
