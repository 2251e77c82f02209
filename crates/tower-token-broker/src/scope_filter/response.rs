//! Filters lists in responses, whichever response contains them.

use std::{pin::Pin, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response::Parts};
use http_body::Body;
use tokio::time::timeout;

use super::{
    body::FilterBody,
    events::EventFilter,
    judged::{Awaits, Judged, JudgedBody, Listening},
    layer::Shared,
    policy::{Arguments, Call, Policy, Verdict},
    service::Filtered,
};
use crate::{
    audit::Trail,
    body::{NotCollected, ResponseBody, collect},
    header_rules,
    mcp::{
        Listed,
        method::McpMethod,
        response::{self, Entry, Found, Unjudgeable},
    },
    media_type::{self, MediaType},
    principal::Principal,
    refusal::{Reason, Refusal},
    sealing::{Kept, RequestStates},
};

/// Bytes of an error page that are searched for credentials before it is dropped.
const LONGEST_PAGE: usize = 64 * 1024;
/// Time for reading an error page, after which its status passes.
const PAGE_TIMEOUT: Duration = Duration::from_secs(1);
/// Time for reading the JSON text of an error.
const ERROR_TIMEOUT: Duration = Duration::from_secs(10);

/// The shape of a response body.
enum Shape {
    Json,
    Events,
    Nothing,
    Unknown,
}

/// A response that passes at once, or one that must be read first. Reading is boxed, because most
/// responses are not read.
pub(super) enum Judging<'a, R, P> {
    Passes(Filtered<R, P>),
    Reads(Reading<'a, R, P>),
}

type Reading<'a, R, P> = Pin<Box<dyn Future<Output = Result<Filtered<R, P>, Refusal>> + Send + 'a>>;

/// The filter of the response to one judged request.
pub(super) struct Filter<'a, P> {
    pub(super) shared: &'a Arc<Shared<P>>,
    pub(super) principal: &'a Principal,
    pub(super) trail: &'a Trail,
    pub(super) judged: &'a Judged,
}

impl<P> Clone for Filter<'_, P> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<P> Copy for Filter<'_, P> {}

impl<'a, P: Policy> Filter<'a, P> {
    pub(super) fn filter<R: Body<Data = Bytes> + Send + 'a>(
        self,
        response: Response<R>,
    ) -> Result<Judging<'a, R, P>, Refusal> {
        let (mut parts, body) = response.into_parts();
        let is_handshake = matches!(self.judged.kept(), Kept::Handshake(_));
        if self.judged.awaits() == Awaits::Status {
            return self.status_only(parts).map(Judging::Passes);
        }
        // K225: a part of a list cannot be judged.
        if parts.status == StatusCode::PARTIAL_CONTENT
            || parts.headers.contains_key(header::CONTENT_RANGE)
        {
            return Err(Reason::ResponseUnreadable.into());
        }
        let shape = shape(&parts.headers, &body);
        let is_read = matches!(shape, Shape::Json | Shape::Events) && parts.status.is_success();
        if !(is_handshake && is_read) {
            self.seal(self.judged.kept(), &mut parts)?;
        }
        let has_states = self.judged.states().is_some();
        let body = match shape {
            Shape::Nothing => FilterBody::untouched(body),
            // K500: an error page is for people, and may reveal internals of the upstream.
            Shape::Events if parts.status.is_client_error() => {
                return Ok(Judging::Passes(self.own_body(parts)));
            }
            Shape::Unknown if parts.status.is_client_error() => {
                return Ok(Judging::Reads(Box::pin(self.page(parts, body))));
            }
            Shape::Json if parts.status.is_client_error() => {
                return Ok(Judging::Reads(Box::pin(self.error(parts, body))));
            }
            // K224, I191: a coded body cannot be judged.
            _ if media_type::is_coded(&parts.headers) => {
                return Err(Reason::ResponseUnreadable.into());
            }
            // A JSON body is one message, which the client reads as the response to this request.
            // An event stream may contain other messages.
            Shape::Json if self.holds_no_list() && !has_states => {
                header_rules::set_in_response(&mut parts.headers);
                FilterBody::untouched(body)
            }
            Shape::Json => return Ok(Judging::Reads(Box::pin(self.message(parts, body)))),
            Shape::Events if is_handshake => {
                return Ok(Judging::Reads(Box::pin(self.handshake(parts, body))));
            }
            Shape::Events => {
                describe_events(&mut parts.headers);
                FilterBody::events(body, self.events())
            }
            // A success without content (202, 204) must have an empty body. If it is chunked, that
            // is known only at its end.
            Shape::Unknown if parts.status.is_success() => {
                return Ok(Judging::Reads(Box::pin(nothing(parts, body))));
            }
            Shape::Unknown => return Err(Reason::ResponseUnreadable.into()),
        };
        Ok(Judging::Passes(Response::from_parts(parts, ResponseBody::inner(body))))
    }

    fn seal(&self, kept: &Kept, parts: &mut Parts) -> Result<(), Reason> {
        kept.seal_session(&self.shared.keys, self.principal, &mut parts.headers)
    }

    fn holds_no_list(&self) -> bool {
        !McpMethod::parse(self.judged.operation().method()).may_return_list()
    }

    fn events(&self) -> EventFilter<P> {
        let (shared, principal) = (Arc::clone(self.shared), self.principal.clone());
        EventFilter::new(shared, principal, self.judged, self.trail.clone())
    }

    /// Returns the status of a response whose content is for no one. Any success is the one that
    /// MCP has for it ("Streamable HTTP", "Sending Messages to the Server").
    fn status_only<R>(self, mut parts: Parts) -> Result<Filtered<R, P>, Refusal> {
        self.seal(self.judged.kept(), &mut parts)?;
        if parts.status.is_client_error() {
            return Ok(self.own_body(parts));
        }
        if !parts.status.is_success() {
            return Err(Reason::ResponseUnreadable.into());
        }
        // The end of a session has no status of its own.
        let ends_session = matches!(self.judged.body(), JudgedBody::Nothing);
        if !ends_session || parts.status == StatusCode::PARTIAL_CONTENT {
            parts.status = StatusCode::ACCEPTED;
        }
        describe_body(&mut parts.headers, 0);
        parts.headers.remove(header::CONTENT_TYPE);
        Ok(Response::from_parts(parts, ResponseBody::bytes(Bytes::new())))
    }

    /// Returns the status of an error with a message of ours.
    fn own_body<R>(self, mut parts: Parts) -> Filtered<R, P> {
        let body = self.judged.dialect().upstream_status(parts.status);
        describe_body(&mut parts.headers, body.len());
        parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
        Response::from_parts(parts, ResponseBody::bytes(body))
    }

    /// Reads an error page and drops it. The leak guard counts the echoes in what is read.
    async fn page<R: Body<Data = Bytes>>(
        self,
        parts: Parts,
        body: R,
    ) -> Result<Filtered<R, P>, Refusal> {
        // K506: its end may never come.
        drop(timeout(PAGE_TIMEOUT, read(body, LONGEST_PAGE)).await);
        Ok(self.own_body(parts))
    }

    /// Reads the JSON text of an error. One that is no message is replaced, like any other page.
    async fn error<R: Body<Data = Bytes>>(
        self,
        mut parts: Parts,
        body: R,
    ) -> Result<Filtered<R, P>, Refusal> {
        let read = timeout(ERROR_TIMEOUT, read(body, self.shared.limits.max_response));
        let text = match read.await {
            Ok(Ok(text)) => text,
            // K506
            Ok(Err(Reason::ResponseUnreadable)) | Err(_) => return Ok(self.own_body(parts)),
            Ok(Err(reason)) => return Err(reason.into()),
        };
        let filtered = self.shared.filtered(self.principal, self.judged.states(), &text);
        let bytes = match filtered.ok().filter(|filtered| filtered.is_message) {
            Some(filtered) => match filtered.found {
                Found::Nothing => text.clone(),
                Found::Changed(changed) => changed.into(),
                Found::NotForThisCaller => return Ok(self.own_body(parts)),
            },
            None => return Ok(self.own_body(parts)),
        };
        describe_body(&mut parts.headers, bytes.len());
        Ok(Response::from_parts(parts, ResponseBody::bytes(bytes)))
    }

    async fn message<R: Body<Data = Bytes>>(
        self,
        mut parts: Parts,
        body: R,
    ) -> Result<Filtered<R, P>, Refusal> {
        let text = read(body, self.shared.limits.max_response).await?;
        // K507: there is no response, and so no session.
        if text.is_empty() && matches!(self.judged.kept(), Kept::Handshake(_)) {
            return Err(Reason::ResponseUnreadable.into());
        }
        let is_passed =
            text.is_empty() || (self.holds_no_list() && response::stays_as_it_is(&text));
        let found = if is_passed {
            Found::Nothing
        } else {
            let filtered = self.shared.filtered(self.principal, self.judged.states(), &text);
            let filtered = filtered.map_err(|unjudgeable| {
                // The first reason counts.
                self.trail.refused(unjudgeable.reason());
                Reason::ResponseUnreadable
            })?;
            if let Kept::Handshake(_) = self.judged.kept() {
                let kept = self.judged.kept().agreeing(filtered.agreed.as_deref())?;
                self.seal(&kept, &mut parts)?;
            }
            filtered.found
        };
        let bytes = match found {
            Found::Nothing => text,
            Found::Changed(changed) => {
                header_rules::remove_validators(&mut parts.headers);
                changed.into()
            }
            Found::NotForThisCaller => return Err(Reason::ResponseUnreadable.into()),
        };
        parts.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes.len()));
        parts.headers.remove(header::TRANSFER_ENCODING);
        header_rules::set_in_response(&mut parts.headers);
        Ok(Response::from_parts(parts, ResponseBody::bytes(bytes)))
    }

    /// Reads the stream of an `initialize` up to its response: the session ID, in the headers,
    /// keeps the revision that it agrees on.
    async fn handshake<R: Body<Data = Bytes>>(
        self,
        mut parts: Parts,
        body: R,
    ) -> Result<Filtered<R, P>, Refusal> {
        let limit = self.shared.limits.max_response;
        let (body, agreed) = FilterBody::begun(body, self.events(), limit).await?;
        let kept = self.judged.kept().agreeing(agreed.as_deref())?;
        self.seal(&kept, &mut parts)?;
        describe_events(&mut parts.headers);
        Ok(Response::from_parts(parts, ResponseBody::inner(body)))
    }
}

/// Describes an event stream that may be changed.
fn describe_events(headers: &mut HeaderMap) {
    header_rules::remove_validators(headers);
    headers.remove(header::CONTENT_LENGTH);
    header_rules::set_in_response(headers);
}

/// Describes a body of known length that replaces the upstream's.
fn describe_body(headers: &mut HeaderMap, length: usize) {
    header_rules::remove_validators(headers);
    headers.remove(header::TRANSFER_ENCODING);
    headers.remove(header::CONTENT_ENCODING);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    header_rules::set_in_response(headers);
}

async fn nothing<R: Body<Data = Bytes>, P>(
    mut parts: Parts,
    body: R,
) -> Result<Filtered<R, P>, Refusal> {
    let nothing = read(body, 0).await?;
    parts.headers.remove(header::TRANSFER_ENCODING);
    Ok(Response::from_parts(parts, ResponseBody::bytes(nothing)))
}

impl<P: Policy> Shared<P> {
    /// Filters one message of the server for this caller.
    pub(super) fn filtered<'a>(
        &self,
        principal: &Principal,
        states: Option<&RequestStates>,
        text: &'a [u8],
    ) -> Result<response::Filtered<'a>, Unjudgeable> {
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
