//! Filters lists in responses, whichever response contains them.

use std::{pin::Pin, sync::Arc};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body::Body;

use super::{
    body::FilterBody,
    judged::{Judged, Listening},
    layer::Shared,
    policy::{Arguments, Call, Policy, Verdict},
    service::Filtered,
};
use crate::{
    audit::Trail,
    body::{NotCollected, ResponseBody, collect},
    header_rules,
    json::JsonError,
    mcp::{
        Listed,
        method::McpMethod,
        response::{self, Entry, Found},
    },
    media_type::{self, MediaType},
    principal::Principal,
    refusal::Reason,
    sealing::RequestStates,
};

/// The shape of a response body.
enum Shape {
    Json,
    Events,
    Nothing,
    Unknown,
}

/// A response that passes at once, or one that must be read first. Reading is boxed, because most
/// responses are not read.
#[expect(
    clippy::large_enum_variant,
    reason = "it is matched where it is returned, and never stored"
)]
pub(super) enum Judging<'a, R, P> {
    Passes(Filtered<R, P>),
    Reads(Reading<'a, R, P>),
}

type Reading<'a, R, P> = Pin<Box<dyn Future<Output = Result<Filtered<R, P>, Reason>> + Send + 'a>>;

pub(super) fn filter<'a, R: Body<Data = Bytes> + Send + 'a, P: Policy>(
    shared: &'a Arc<Shared<P>>,
    principal: &'a Principal,
    trail: &Trail,
    judged: &Judged,
    response: Response<R>,
) -> Result<Judging<'a, R, P>, Reason> {
    let (mut parts, body) = response.into_parts();
    // K225: a part of a list cannot be judged.
    if parts.status == StatusCode::PARTIAL_CONTENT
        || parts.headers.contains_key(header::CONTENT_RANGE)
    {
        return Err(Reason::ResponseUnreadable);
    }
    judged.kept().seal_session(&shared.keys, principal, &mut parts.headers)?;
    let states = judged.states().cloned();
    let holds_no_list = !McpMethod::parse(judged.operation().method()).may_return_list();
    let body = match shape(&parts.headers, &body) {
        Shape::Nothing => FilterBody::untouched(body),
        // K224, I191: a coded body cannot be judged.
        _ if media_type::is_coded(&parts.headers) => return Err(Reason::ResponseUnreadable),
        // A JSON body is one message, which the client reads as the response to this request. An
        // event stream may contain other messages.
        Shape::Json if holds_no_list && states.is_none() => {
            header_rules::set_in_response(&mut parts.headers);
            FilterBody::untouched(body)
        }
        Shape::Json => {
            let reading = message(shared, principal, states, holds_no_list, parts, body);
            return Ok(Judging::Reads(Box::pin(reading)));
        }
        Shape::Events => {
            header_rules::remove_validators(&mut parts.headers);
            parts.headers.remove(header::CONTENT_LENGTH);
            header_rules::set_in_response(&mut parts.headers);
            FilterBody::events(body, Arc::clone(shared), principal.clone(), judged, trail.clone())
        }
        // No client reads an error page as a list, and the leak guard has checked it.
        Shape::Unknown if parts.status.is_client_error() => FilterBody::untouched(body),
        // A success without content (202, 204) must have an empty body. If it is chunked, that is
        // known only at its end.
        Shape::Unknown if parts.status.is_success() => {
            return Ok(Judging::Reads(Box::pin(nothing(parts, body))));
        }
        Shape::Unknown => return Err(Reason::ResponseUnreadable),
    };
    Ok(Judging::Passes(Response::from_parts(parts, ResponseBody::inner(body))))
}

async fn message<R: Body<Data = Bytes>, P: Policy>(
    shared: &Shared<P>,
    principal: &Principal,
    states: Option<RequestStates>,
    holds_no_list: bool,
    mut parts: Parts,
    body: R,
) -> Result<Filtered<R, P>, Reason> {
    let text = read(body, shared.limits.max_response).await?;
    let is_passed = text.is_empty() || (holds_no_list && response::stays_as_it_is(&text));
    let filtered = if is_passed {
        Ok(Found::Nothing)
    } else {
        shared.filtered(principal, states.as_ref(), &text)
    };
    let bytes = match filtered.map_err(|_| Reason::ResponseUnreadable)? {
        Found::Nothing => text,
        Found::Changed(changed) => {
            header_rules::remove_validators(&mut parts.headers);
            changed.into()
        }
        Found::NotForThisCaller => return Err(Reason::ResponseUnreadable),
    };
    parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
    parts.headers.remove(header::TRANSFER_ENCODING);
    header_rules::set_in_response(&mut parts.headers);
    Ok(Response::from_parts(parts, ResponseBody::bytes(bytes)))
}

async fn nothing<R: Body<Data = Bytes>, P>(
    mut parts: Parts,
    body: R,
) -> Result<Filtered<R, P>, Reason> {
    let nothing = read(body, 0).await?;
    parts.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, ResponseBody::bytes(nothing)))
}

impl<P: Policy> Shared<P> {
    /// Filters one message of the server for this caller.
    pub(super) fn filtered(
        &self,
        principal: &Principal,
        states: Option<&RequestStates>,
        text: &[u8],
    ) -> Result<Found, JsonError> {
        let is_visible = |entry: Entry<'_>| self.is_visible(principal, entry);
        match states {
            Some(states) => {
                response::filter(text, &self.json, Some(&|state| states.seal(state)), is_visible)
            }
            None => response::filter(text, &self.json, None, is_visible),
        }
    }

    /// Whether an entry is listed: decided like a call, without arguments.
    pub(super) fn is_visible(&self, principal: &Principal, Entry { of, name }: Entry<'_>) -> bool {
        let call = match of {
            Listed::Tools => Call::Tool { name, arguments: Arguments::unknown() },
            Listed::Prompts => Call::Prompt { name, arguments: Arguments::unknown() },
            Listed::Resources | Listed::ResourceTemplates => Call::Resource { uri: name },
        };
        !self.policy.decide(principal, &call).is_denied()
    }
}

/// The permission of a stream without a call, checked again when the policy changes.
#[derive(Debug)]
pub(super) struct OwnPermission {
    judged: Judged,
    /// The policy's change count when it last allowed the stream.
    allowed_at: Option<u64>,
}

impl OwnPermission {
    pub(super) fn of(judged: &Judged) -> Option<Self> {
        judged.listening()?;
        Some(Self { judged: judged.clone(), allowed_at: None })
    }

    /// Checks whether the policy still allows the stream. If not, the decision is recorded.
    pub(super) fn check<P: Policy>(
        &mut self,
        shared: &Shared<P>,
        principal: &Principal,
        trail: &Trail,
    ) -> Result<(), Reason> {
        // Read before the decision, so that a change in between is noticed next time.
        let count = shared.policy.change_count();
        if self.allowed_at == Some(count) {
            return Ok(());
        }
        let decide = |call: Call<'_>| shared.policy.decide_with_digest(principal, &call);
        let (mut decision, mut digest) = match self.judged.listening() {
            Some(Listening::Subscriptions(_)) => {
                decide(Call::Protocol { method: McpMethod::Listen.as_str() })
            }
            Some(Listening::Session) | None => decide(Call::Protocol { method: "GET" }),
        };
        if let Some(Listening::Subscriptions(resources)) = self.judged.listening() {
            for uri in resources {
                let (of_resource, newer) = decide(Call::Resource { uri });
                (decision, digest) = (decision.and(of_resource), newer);
            }
        }
        let reason = match &decision.verdict {
            Verdict::Allow(_) => {
                self.allowed_at = Some(count);
                return Ok(());
            }
            Verdict::Deny(reason) => *reason,
            Verdict::NeedsScope(_) => Reason::InsufficientScope,
        };
        // The record names the policy that ended the stream.
        trail.decided_by(decision.shared_rule(), digest);
        Err(reason)
    }
}

fn shape<R: Body>(fields: &HeaderMap, body: &R) -> Shape {
    if body.is_end_stream() || body.size_hint().exact() == Some(0) {
        return Shape::Nothing;
    }
    match MediaType::of(fields) {
        Some(media_type) if media_type.is(media_type::JSON) => Shape::Json,
        Some(media_type) if media_type.is(media_type::EVENT_STREAM) => Shape::Events,
        Some(_) | None => Shape::Unknown,
    }
}

async fn read<R: Body<Data = Bytes>>(body: R, limit: usize) -> Result<Bytes, Reason> {
    collect(body, limit).await.map_err(|why| match why {
        NotCollected::TooLarge => Reason::ResponseUnreadable,
        NotCollected::Broken => Reason::UpstreamFailed,
    })
}
