//! The way in: the one reading, the decision, and the very bytes that were judged.

use std::pin::pin;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method, Request, Uri, header};
use http_body::Body;

use super::{
    judged::{Judged, JudgedBody},
    layer::{Bounds, Recipe},
    policy::{Arguments, Call, Decision, Permit, Policy},
};
use crate::{
    audit::{Operation, Trail},
    body::RequestBody,
    dialect::{Dialect, Revision},
    mcp::{
        Listed, headers,
        message::{Message, Reference},
    },
    principal::Principal,
    refusal::{Reason, Refusal},
};

/// How the refusal is said, and what it is; boxed, for it is the way that few requests go.
pub(super) type Refused = Box<(Dialect, Refusal)>;

/// Judges a request; gives what was judged, and the request with those very bytes.
pub(super) async fn judge<P: Policy, B: Body<Data = Bytes>>(
    recipe: &Recipe<P>,
    principal: &Principal,
    trail: &Trail,
    dialect: Dialect,
    request: Request<B>,
) -> Result<(Judged, Request<RequestBody<B>>), Refused> {
    let (parts, stream) = request.into_parts();
    let asked = if recipe.bounds.plain_http {
        plain_http(recipe, principal, trail, dialect, &parts.method, &parts.uri)
    } else {
        let bytes = match read(&recipe.bounds, &parts.method, &parts.headers, stream).await {
            Ok(bytes) => bytes,
            Err(reason) => {
                let revision = headers::revision(&parts.headers).unwrap_or(Revision::V2025_11_25);
                return Err(Box::new((dialect.mcp(revision, None, false), reason.into())));
            }
        };
        let judged = match bytes {
            Some(bytes) => message(recipe, principal, trail, dialect, &parts.headers, bytes),
            None => without_message(recipe, principal, trail, dialect, &parts.method, &parts.headers),
        }?;
        let body = match judged.body() {
            JudgedBody::Bytes(bytes) => RequestBody::bytes(bytes.clone()),
            JudgedBody::Nothing | JudgedBody::Http(..) => RequestBody::bytes(Bytes::new()),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(_) => RequestBody::bytes(Bytes::new()),
        };
        let mut request = Request::from_parts(parts, body);
        request.extensions_mut().insert(judged.clone());
        return Ok((judged, request));
    };
    let judged = asked?;
    let mut request = Request::from_parts(parts, RequestBody::stream(stream));
    request.extensions_mut().insert(judged.clone());
    Ok((judged, request))
}

/// The body of a POST, whole and within its bounds; `None` for a GET or DELETE.
async fn read<B: Body<Data = Bytes>>(
    bounds: &Bounds,
    method: &Method,
    fields: &HeaderMap,
    body: B,
) -> Result<Option<Bytes>, Reason> {
    match *method {
        Method::POST => {}
        Method::GET | Method::DELETE => return Ok(None),
        // J216: nothing else has a meaning here, and no field changes the method.
        _ => return Err(Reason::HttpMethod),
    }
    media_type(fields)?;
    // J211
    if fields.get_all(header::CONTENT_ENCODING).iter().any(|coding| coding != "identity") {
        return Err(Reason::ContentEncoding);
    }
    if body.size_hint().lower() > bounds.body as u64 {
        return Err(Reason::BodyTooLarge);
    }
    tokio::time::timeout(bounds.body_deadline, collect(body, bounds.body))
        .await
        .map_err(|_elapsed| Reason::BodyIncomplete)?
        .map(Some)
}

/// J214, J215: all of it, or nothing is judged and nothing is sent.
async fn collect<B: Body<Data = Bytes>>(body: B, limit: usize) -> Result<Bytes, Reason> {
    let mut body = pin!(body);
    let mut first: Option<Bytes> = None;
    let mut rest = BytesMut::new();
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let Ok(data) = frame.map_err(|_| Reason::BodyIncomplete)?.into_data() else { continue };
        let so_far = if rest.is_empty() { first.as_ref().map_or(0, Bytes::len) } else { rest.len() };
        if so_far + data.len() > limit {
            return Err(Reason::BodyTooLarge);
        }
        match &first {
            None => first = Some(data),
            Some(one) => {
                if rest.is_empty() {
                    rest.extend_from_slice(one);
                }
                rest.extend_from_slice(&data);
            }
        }
    }
    Ok(if rest.is_empty() { first.unwrap_or_default() } else { rest.freeze() })
}

/// J212: `application/json`, in UTF-8, said once.
fn media_type(fields: &HeaderMap) -> Result<(), Reason> {
    let mut types = fields.get_all(header::CONTENT_TYPE).iter();
    let (Some(value), None) = (types.next(), types.next()) else { return Err(Reason::MediaType) };
    let text = value.to_str().map_err(|_| Reason::MediaType)?;
    let mut parts = text.split(';').map(str::trim);
    let essence = parts.next().unwrap_or_default();
    let is_json = essence.eq_ignore_ascii_case("application/json");
    let is_utf8 = parts.all(|parameter| {
        let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
        !name.trim().eq_ignore_ascii_case("charset") || value.trim().trim_matches('"').eq_ignore_ascii_case("utf-8")
    });
    if is_json && is_utf8 { Ok(()) } else { Err(Reason::MediaType) }
}

fn message<P: Policy>(
    recipe: &Recipe<P>,
    principal: &Principal,
    trail: &Trail,
    dialect: Dialect,
    fields: &HeaderMap,
    bytes: Bytes,
) -> Result<Judged, Refused> {
    let read = Message::read(&bytes, &recipe.bounds.json);
    let revision = headers::revision(fields);
    // From here on a refusal answers this very message, in the words of its revision.
    let (id, can_elicit) = read.as_ref().map_or((None, false), |message| {
        (message.id.map(|id| bytes.slice_ref(id.as_bytes())), message.params.url_elicitation)
    });
    let dialect = dialect.mcp(*revision.as_ref().unwrap_or(&Revision::V2026_07_28), id, can_elicit);
    let refuse = |refusal: Refusal| Box::new((dialect.clone(), refusal));
    let message = read.map_err(|reason| refuse(reason.into()))?;
    let revision = revision.map_err(|reason| refuse(reason.into()))?;
    headers::agree(fields, revision, &message).map_err(|reason| refuse(reason.into()))?;

    let (operation, permit) = ask(recipe, principal, trail, fields, revision, &message).map_err(refuse)?;
    drop(message);
    Ok(Judged::new(dialect, operation, permit.upstream_scopes().clone(), JudgedBody::Bytes(bytes)))
}

/// What a message asks for, and whether it may: the one judgement of a message, over HTTP and over gRPC.
pub(super) fn ask<P: Policy>(
    recipe: &Recipe<P>,
    principal: &Principal,
    trail: &Trail,
    fields: &HeaderMap,
    revision: Revision,
    message: &Message<'_>,
) -> Result<(Operation, Permit), Refusal> {
    let (call, name) = call(message, revision, fields)?;
    let operation = Operation::new(message.method.as_deref().unwrap_or("answer"), name);
    trail.judged(&operation);
    let permit = decide(recipe, principal, &call)?;
    Ok((operation, permit))
}

/// The GET stream and the DELETE of a session, which 2025-11-25 alone has.
fn without_message<P: Policy>(
    recipe: &Recipe<P>,
    principal: &Principal,
    trail: &Trail,
    dialect: Dialect,
    method: &Method,
    fields: &HeaderMap,
) -> Result<Judged, Refused> {
    let dialect = dialect.mcp(Revision::V2025_11_25, None, false);
    let refuse = |refusal: Refusal| Box::new((dialect.clone(), refusal));
    match headers::revision(fields).map_err(|reason| refuse(reason.into()))? {
        Revision::V2025_11_25 => {}
        Revision::V2026_07_28 => return Err(refuse(Reason::HttpMethod.into())),
    }
    let operation = Operation::new(method.as_str(), None);
    trail.judged(&operation);
    let permit = decide(recipe, principal, &Call::Protocol { method: method.as_str() }).map_err(refuse)?;
    Ok(Judged::new(dialect, operation, permit.upstream_scopes().clone(), JudgedBody::Nothing))
}

fn plain_http<P: Policy>(
    recipe: &Recipe<P>,
    principal: &Principal,
    trail: &Trail,
    dialect: Dialect,
    method: &Method,
    uri: &Uri,
) -> Result<Judged, Refused> {
    let dialect = dialect.plain_http();
    let operation = Operation::new(method.as_str(), Some(uri.path()));
    trail.judged(&operation);
    if !is_plain_path(uri.path()) {
        return Err(Box::new((dialect, Reason::RequestDenied.into())));
    }
    let call = Call::Http { method, path: uri.path() };
    match decide(recipe, principal, &call) {
        Ok(permit) => {
            let judged = JudgedBody::Http(method.clone(), uri.clone());
            Ok(Judged::new(dialect, operation, permit.upstream_scopes().clone(), judged))
        }
        Err(refusal) => Err(Box::new((dialect, refusal))),
    }
}

/// L241, for HTTP: a path that another reader would resolve to another one is judged by nobody.
fn is_plain_path(path: &str) -> bool {
    // One slash at the end is a path of its own; an empty segment in the middle is none.
    let segments = path.strip_prefix('/').unwrap_or(path);
    let segments = segments.strip_suffix('/').unwrap_or(segments);
    let segments_are_plain =
        matches!(path, "/") || segments.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    let escapes_are_plain = path.split('%').skip(1).all(|rest| {
        let code = rest.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok());
        // What an escape hides must not be what a path is made of.
        code.is_some_and(|byte| !matches!(byte, b'/' | b'\\' | b'.' | b'%' | b';' | 0..=0x1f | 0x7f))
    });
    path.starts_with('/') && segments_are_plain && escapes_are_plain && !path.contains(['\\', ';'])
}

/// Asks the policy.
pub(super) fn decide<P: Policy>(recipe: &Recipe<P>, principal: &Principal, call: &Call<'_>) -> Result<Permit, Refusal> {
    match recipe.policy.decide(principal, call) {
        Decision::Allow(permit) => Ok(permit),
        Decision::Deny(reason) => Err(reason.into()),
        Decision::NeedsScope(scopes) => {
            Err(Refusal::new(Reason::InsufficientScope).at(principal.resource()).needing(scopes))
        }
    }
}

/// What a message asks for, and the name that stands in its record.
fn call<'a>(
    message: &'a Message<'_>,
    revision: Revision,
    fields: &HeaderMap,
) -> Result<(Call<'a>, Option<&'a str>), Reason> {
    let Some(method) = message.method.as_deref() else {
        let in_session = revision == Revision::V2025_11_25 && fields.contains_key(headers::SESSION_ID);
        return if in_session { Ok((Call::Answer, None)) } else { Err(Reason::AnswerWithoutSession) };
    };
    let params = &message.params;
    Ok(match method {
        "tools/call" => {
            let name = params.name.required()?;
            (Call::Tool { name, arguments: Arguments::of_object(params.arguments()?) }, Some(name))
        }
        "prompts/get" => {
            let name = params.name.required()?;
            (Call::Prompt { name, arguments: Arguments::of_object(params.arguments()?) }, Some(name))
        }
        "resources/read" | "resources/subscribe" | "resources/unsubscribe" => {
            let uri = params.uri.required()?;
            (Call::Resource { uri }, Some(uri))
        }
        "completion/complete" => match &params.reference {
            Reference::Prompt(name) => (Call::Prompt { name, arguments: Arguments::unknown() }, Some(name)),
            Reference::Resource(uri) => (Call::Resource { uri }, Some(uri)),
            Reference::Absent | Reference::Unreadable => return Err(Reason::NotAMessage),
        },
        "tools/list" => (Call::List { of: Listed::Tools }, None),
        "resources/list" => (Call::List { of: Listed::Resources }, None),
        "resources/templates/list" => (Call::List { of: Listed::ResourceTemplates }, None),
        "prompts/list" => (Call::List { of: Listed::Prompts }, None),
        "initialize"
        | "ping"
        | "server/discover"
        | "subscriptions/listen"
        | "notifications/initialized"
        | "notifications/cancelled"
        | "notifications/progress"
        | "notifications/roots/list_changed" => (Call::Protocol { method }, None),
        other => (Call::Method { method: other }, None),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_another_reader_resolves_is_not_plain() {
        for path in ["/", "/v1/items/7", "/v1/items/", "/v1/a%20b", "/v1/%c3%a9"] {
            assert!(is_plain_path(path), "{path}");
        }
        for path in [
            "",
            "*",
            "/v1/../admin",
            "/v1/./a",
            "//admin",
            "/v1//a",
            "/v1/%2e%2e/admin",
            "/v1/%2E/a",
            "/v1%2fadmin",
            "/a%5cb",
            "/a\\b",
            "/a;b=1/c",
            "/a%3bb",
            "/a%00",
            "/a%0d%0a",
            "/a%2",
            "/a%zz",
            "/a%252e",
            "//",
            "/a//",
            "/..",
            "/.",
        ] {
            assert!(!is_plain_path(path), "{path}");
        }
    }
}
