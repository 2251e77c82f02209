//! Judges requests: parses the message once, asks the policy, and forwards the judged bytes.

use bytes::Bytes;
use http::{HeaderMap, Method, Uri, request::Parts};
use http_body::Body;

use super::{
    judged::{Awaits, Judged, JudgedBody, Listening},
    layer::Shared,
    policy::{Arguments, Call, Decision, Permit, Policy, Verdict, is_canonical_path, judge},
};
use crate::{
    audit::{Operation, PolicyDigest, Trail},
    body::{NotCollected, RequestBody, collect},
    dialect::{Dialect, WithoutAccount},
    header_rules,
    limits::Limits,
    mcp::{
        Lifecycle, Revision,
        completion::Completion,
        headers::{self, JudgedHeaders},
        message::{Message, Reference},
        method::{JudgedAs, McpMethod},
    },
    media_type::{self, MediaType},
    principal::Principal,
    refusal::{Reason, Refusal},
    sealing::{Kept, RequestStates, Session, State},
};

/// A refusal and its dialect. Boxed, because refusals are rare.
pub(super) type RefusedRequest = Box<(Dialect, Refusal)>;

/// The caller of a request, and the policy that decides on it.
pub(super) struct Decider<'a, P> {
    pub(super) shared: &'a Shared<P>,
    pub(super) principal: &'a Principal,
    pub(super) trail: &'a Trail,
}

/// How the content of a plain HTTP request is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Content {
    Streamed,
    // H461: a server that ignores it may take it for the next request, of another user.
    Refused,
}

/// Reads the end of a body that must have no content.
pub(super) async fn no_content<B: Body<Data = Bytes>>(
    limits: &Limits,
    body: B,
) -> Result<(), Reason> {
    if body.is_end_stream() {
        return Ok(());
    }
    if body.size_hint().lower() > 0 {
        return Err(Reason::UnexpectedContent);
    }
    match tokio::time::timeout(limits.body_timeout, collect(body, 0)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(NotCollected::TooLarge)) => Err(Reason::UnexpectedContent),
        Ok(Err(NotCollected::Broken)) | Err(_) => Err(Reason::BodyIncomplete),
    }
}

/// The judged request, with its body.
type JudgedRequest<B> = Result<(Judged, RequestBody<B>), RefusedRequest>;

/// Reads the body of a POST completely and within its limits. Returns `None` for a GET or DELETE.
pub(super) async fn read<B: Body<Data = Bytes>>(
    limits: &Limits,
    parts: &Parts,
    body: B,
) -> Result<Option<Bytes>, Reason> {
    match parts.method {
        Method::POST => {}
        Method::GET | Method::DELETE => return Ok(None),
        // J216: no other method has a meaning here, and no header overrides the method.
        _ => return Err(Reason::HttpMethod),
    }
    // J212: exactly one media type, in UTF-8.
    if !MediaType::of(&parts.headers).is_some_and(MediaType::is_utf8_json) {
        return Err(Reason::MediaType);
    }
    // J211: no content coding.
    if media_type::is_coded(&parts.headers) {
        return Err(Reason::ContentEncoding);
    }
    if body.size_hint().lower() > limits.max_body as u64 {
        return Err(Reason::BodyTooLarge);
    }
    // J214, J215: an incomplete body is neither judged nor sent.
    match tokio::time::timeout(limits.body_timeout, collect(body, limits.max_body)).await {
        Ok(Ok(bytes)) => Ok(Some(bytes)),
        Ok(Err(NotCollected::TooLarge)) => Err(Reason::BodyTooLarge),
        Ok(Err(NotCollected::Broken)) | Err(_) => Err(Reason::BodyIncomplete),
    }
}

impl<P: Policy> Decider<'_, P> {
    /// Judges an MCP request whose body was read.
    pub(super) fn mcp<B>(
        &self,
        dialect: Dialect,
        parts: &mut Parts,
        read: Result<Option<Bytes>, Reason>,
    ) -> JudgedRequest<B> {
        let judged = match read {
            Ok(Some(bytes)) => self.message(dialect, &mut parts.headers, bytes),
            Ok(None) => self.without_message(dialect, &parts.method, &mut parts.headers),
            Err(reason) => {
                let stated = headers::stated_revision(&parts.headers).ok().flatten();
                let dialect = dialect.mcp(stated.unwrap_or_default(), None, false);
                Err(Box::new((dialect, reason.into())))
            }
        }?;
        let body = match judged.body() {
            JudgedBody::Bytes(bytes) => bytes.clone(),
            JudgedBody::Nothing | JudgedBody::Http(..) => Bytes::new(),
            #[cfg(feature = "grpc")]
            JudgedBody::Rpc(_) => Bytes::new(),
        };
        match judged.dialect().revision().map(Revision::lifecycle) {
            Some(Lifecycle::Stateless) => {}
            Some(Lifecycle::Handshake) | None => {
                header_rules::remove_uncompared(&mut parts.headers);
            }
        }
        Ok((judged, RequestBody::bytes(body)))
    }

    fn message(
        &self,
        dialect: Dialect,
        fields: &mut HeaderMap,
        bytes: Bytes,
    ) -> Result<Judged, RefusedRequest> {
        let read = Message::read(&bytes, &self.shared.json);
        let stated = headers::stated_revision(fields);
        let session = stated.as_ref().map_or(Ok(None), |stated| self.session(*stated, fields));
        let agreed = session.ok().flatten();
        // From here on, a refusal responds to this message, in its revision.
        let said_in = stated
            .as_ref()
            .map_or(Revision::V2026_07_28, |stated| Session::revision(agreed, *stated));
        let (id, can_elicit) = read.as_ref().map_or((None, false), |message| {
            let can_elicit = match said_in.lifecycle() {
                Lifecycle::Handshake => agreed
                    .is_some_and(|session| session.elicits_urls(*stated.as_ref().unwrap_or(&None))),
                Lifecycle::Stateless => {
                    message.params.url_elicitation
                        && message.method.as_ref().is_some_and(McpMethod::may_need_input)
                }
            };
            (message.id.map(|id| bytes.slice_ref(id.as_bytes())), can_elicit)
        });
        let dialect = dialect.mcp(said_in, id, can_elicit);
        let refuse = |refusal: Refusal| Box::new((dialect.clone(), refusal));
        let message = read.map_err(|reason| refuse(reason.into()))?;
        let stated = stated.map_err(refuse)?;
        let session = session.map_err(|reason| refuse(reason.into()))?;
        headers::agree(fields, stated, &message).map_err(|reason| refuse(reason.into()))?;
        let revision = said_in;

        let (operation, permit) = self.decide(revision, session, &message).map_err(refuse)?;
        let headers = JudgedHeaders::of(fields, revision, &message).for_http(revision);
        let listening = listening(&message).map_err(refuse)?;
        let kept = self.kept(revision, session, &message);
        let restored = restored(&kept, &message, &bytes).map_err(|reason| refuse(reason.into()))?;
        let is_request = message.method.is_some() && message.id.is_some();
        let (awaits, without_account) = match (is_request, &message.method) {
            (true, Some(McpMethod::Ping)) => (Awaits::Content, WithoutAccount::EmptyResult),
            (true, _) => (Awaits::Content, WithoutAccount::Error),
            (false, _) => (Awaits::Status, WithoutAccount::Accepted),
        };
        let dialect = dialect.without_account(without_account);
        drop(message);
        let dialect = match &kept {
            Kept::RequestState(states) if dialect.elicits_urls() => dialect.keeping(states.clone()),
            Kept::RequestState(_) | Kept::Handshake(_) | Kept::Session(_) | Kept::Nothing => {
                dialect
            }
        };
        let body = JudgedBody::Bytes(restored.unwrap_or(bytes));
        let judged = Judged::new(dialect, operation, permit.upstream_scopes, body, kept)
            .with_headers(headers)
            .which_awaits(awaits);
        Ok(match listening {
            Some(listening) => judged.which_listens(listening),
            None => judged,
        })
    }

    /// Opens the session of a request. 2026-07-28 has no sessions.
    pub(super) fn session(
        &self,
        stated: Option<Revision>,
        fields: &mut HeaderMap,
    ) -> Result<Option<Session>, Reason> {
        match stated.unwrap_or_default().lifecycle() {
            Lifecycle::Handshake => Session::open(&self.shared.keys, self.principal, fields),
            Lifecycle::Stateless => {
                Session::forget(fields);
                Ok(None)
            }
        }
    }

    /// Decides on a message, over HTTP and over gRPC.
    pub(super) fn decide(
        &self,
        revision: Revision,
        session: Option<Session>,
        message: &Message<'_>,
    ) -> Result<(Operation, Permit), Refusal> {
        if let Some(removed) =
            message.method.as_ref().filter(|method| method.is_removed_in(revision))
        {
            self.trail.judged(&Operation::new(removed.as_str(), None));
            return Err(Reason::MethodDenied.into());
        }
        let completion = match message.method {
            Some(McpMethod::Complete) => message.params.completion()?,
            _ => Completion::default(),
        };
        let (call, name) = call(message, session, &completion)?;
        let method = message.method.as_ref().map_or("response", McpMethod::as_str);
        let operation = operation(method, &call, name);
        self.trail.judged(&operation);
        let mut decision = judge(&self.shared.policy, self.principal, &call);
        // J428: a completion reveals what the template names with these values.
        if let Reference::Resource(template) = &message.params.reference
            && message.method == Some(McpMethod::Complete)
        {
            decision = self.with_completed(decision, &completion, template);
        }
        // J217: a subscription reveals the resource, so each resource is judged as if it were read.
        if message.method == Some(McpMethod::Listen) {
            let uris: Result<Vec<_>, Reason> = message.params.subscriptions()?.collect();
            decision = self.with_resources(decision, uris?);
        }
        Ok((operation, self.permit(decision)?))
    }

    /// Adds the decisions on the resources that the template of a completion may name.
    pub(super) fn with_completed(
        &self,
        (decision, digest): (Decision, Option<PolicyDigest>),
        completion: &Completion<'_>,
        template: &str,
    ) -> (Decision, Option<PolicyDigest>) {
        // J429: a call that is denied causes no more work.
        if decision.is_denied() {
            return (decision, digest);
        }
        match completion.expanded(template) {
            Ok(uris) => self.with_resources((decision, digest), uris),
            Err(reason) => (Decision::deny_for(reason).or_rule_of(&decision), digest),
        }
    }

    /// Adds the decisions on the resources that a request also reveals. All must be allowed.
    pub(super) fn with_resources<T: AsRef<str>>(
        &self,
        decision: (Decision, Option<PolicyDigest>),
        uris: impl IntoIterator<Item = T>,
    ) -> (Decision, Option<PolicyDigest>) {
        uris.into_iter().fold(decision, |(decision, _), uri| {
            let call = Call::Resource { uri: uri.as_ref() };
            let (of_resource, digest) = judge(&self.shared.policy, self.principal, &call);
            (decision.and(of_resource), digest)
        })
    }

    /// Returns the kind of state that the response may give its client to keep.
    pub(super) fn kept(
        &self,
        revision: Revision,
        session: Option<Session>,
        message: &Message<'_>,
    ) -> Kept {
        let params = &message.params;
        match (revision.lifecycle(), &message.method) {
            (Lifecycle::Handshake, Some(McpMethod::Initialize)) => {
                Kept::Handshake(Session::offered(params.declares_url_elicitation))
            }
            (Lifecycle::Handshake, _) => Kept::Session(session.unwrap_or_default()),
            (Lifecycle::Stateless, Some(method)) => {
                let Some(by) = method.named_by().filter(|_| method.may_need_input()) else {
                    return Kept::Nothing;
                };
                let (keys, name) = (&self.shared.keys, params.named(by));
                Kept::RequestState(RequestStates::new(
                    keys,
                    self.principal,
                    method.as_str(),
                    name.required().unwrap_or_default(),
                ))
            }
            (Lifecycle::Stateless, None) => Kept::Nothing,
        }
    }

    /// Judges the GET stream and the DELETE of a session, which 2026-07-28 does not have.
    fn without_message(
        &self,
        dialect: Dialect,
        method: &Method,
        fields: &mut HeaderMap,
    ) -> Result<Judged, RefusedRequest> {
        let stated = headers::stated_revision(fields);
        let revision = stated.as_ref().ok().copied().flatten().unwrap_or_default();
        let dialect = dialect.mcp(revision, None, false);
        let refuse = |refusal: Refusal| Box::new((dialect.clone(), refusal));
        let stated = stated.map_err(refuse)?;
        match revision.lifecycle() {
            Lifecycle::Handshake => {}
            Lifecycle::Stateless => return Err(refuse(Reason::HttpMethod.into())),
        }
        let operation = Operation::new(method.as_str(), None);
        self.trail.judged(&operation);
        let session = self.session(stated, fields).map_err(|reason| refuse(reason.into()))?;
        let call = Call::Protocol { method: method.as_str() };
        let decision = self.shared.policy.decide_with_digest(self.principal, &call);
        let permit = self.permit(decision).map_err(refuse)?;
        let kept = Kept::Session(session.unwrap_or_default());
        let (scopes, body) = (permit.upstream_scopes, JudgedBody::Nothing);
        let judged = Judged::new(dialect, operation, scopes, body, kept);
        Ok(match *method {
            Method::GET => judged.which_listens(Listening::Session),
            _ => judged.which_awaits(Awaits::Status),
        })
    }

    /// Judges a plain HTTP request by its method and path. `target` is the URI before a router
    /// changed it.
    pub(super) fn plain_http(
        &self,
        dialect: Dialect,
        parts: &mut Parts,
        target: Uri,
    ) -> Result<(Judged, Content), RefusedRequest> {
        let dialect = dialect.plain_http();
        let method = &parts.method;
        let operation = Operation::new(method.as_str(), Some(target.path()));
        self.trail.judged(&operation);
        if !is_canonical_path(target.path()) {
            return Err(Box::new((dialect, Reason::RequestDenied.into())));
        }
        let call = Call::Http { method, path: target.path() };
        match self.permit(self.shared.policy.decide_with_digest(self.principal, &call)) {
            Ok(permit) => {
                let content = match *method {
                    Method::GET if permit.get_content => Content::Streamed,
                    Method::GET | Method::HEAD | Method::TRACE => Content::Refused,
                    _ => Content::Streamed,
                };
                let body = JudgedBody::Http(method.clone(), target);
                header_rules::remove_uncompared(&mut parts.headers);
                let scopes = permit.upstream_scopes;
                Ok((Judged::new(dialect, operation, scopes, body, Kept::Nothing), content))
            }
            Err(refusal) => Err(Box::new((dialect, refusal))),
        }
    }

    /// Turns a decision into a permission or a refusal. The rule goes into the audit record.
    pub(super) fn permit(
        &self,
        (decision, digest): (Decision, Option<PolicyDigest>),
    ) -> Result<Permit, Refusal> {
        self.trail.decided_by(decision.shared_rule(), digest);
        let wait = decision.wait();
        match decision.verdict {
            Verdict::Allow(permit) => Ok(permit),
            Verdict::Deny(reason) => Err(match wait {
                Some(wait) => Refusal::new(reason).retry_after(wait),
                None => reason.into(),
            }),
            Verdict::NeedsScope(scopes) => Err(Refusal::new(Reason::InsufficientScope)
                .at(self.principal.resource())
                .needing(scopes)),
        }
    }
}

/// Returns the operation for the audit record. Only the names of resources are URIs.
pub(super) fn operation(method: &str, call: &Call<'_>, name: Option<&str>) -> Operation {
    match (call, name) {
        (Call::Resource { .. }, Some(uri)) => Operation::on_resource(method, uri),
        (_, name) => Operation::new(method, name),
    }
}

/// Returns the stream that the message opens, if it belongs to no call.
pub(super) fn listening(message: &Message<'_>) -> Result<Option<Listening>, Refusal> {
    if message.method != Some(McpMethod::Listen) {
        return Ok(None);
    }
    let mut resources = Vec::new();
    for uri in message.params.subscriptions()? {
        resources.push(uri?.as_ref().into());
    }
    Ok(Some(Listening::Subscriptions(resources)))
}

/// Restores the message for the upstream: with the upstream's own request state, or, if the state
/// is ours, as a first request.
pub(super) fn restored(
    kept: &Kept,
    message: &Message<'_>,
    text: &[u8],
) -> Result<Option<Bytes>, Reason> {
    let Some(sealed) = message.params.request_state()? else { return Ok(None) };
    // No client received a state for such a request.
    let Kept::RequestState(states) = kept else { return Err(Reason::RequestState) };
    let restored = match states.open(sealed)? {
        State::Upstream(state) => message.with_request_state(text, &state),
        State::Ours => message.as_first_asked(text),
    };
    restored.map(Bytes::from).map(Some).ok_or(Reason::Internal)
}

/// Returns the call that a message requests, and the name for its audit record.
fn call<'a>(
    message: &'a Message<'_>,
    session: Option<Session>,
    completion: &'a Completion<'_>,
) -> Result<(Call<'a>, Option<&'a str>), Reason> {
    let Some(method) = &message.method else {
        return if session.is_some() {
            Ok((Call::Response, None))
        } else {
            Err(Reason::ResponseWithoutSession)
        };
    };
    let params = &message.params;
    Ok(match method.judged_as() {
        JudgedAs::Tool => {
            let name = params.name.required()?;
            (Call::Tool { name, arguments: Arguments::of_object(params.arguments()?) }, Some(name))
        }
        JudgedAs::Prompt => {
            let name = params.name.required()?;
            (
                Call::Prompt { name, arguments: Arguments::of_object(params.arguments()?) },
                Some(name),
            )
        }
        JudgedAs::Resource => {
            let uri = params.uri.required()?;
            (Call::Resource { uri }, Some(uri))
        }
        JudgedAs::Reference => match &params.reference {
            Reference::Prompt(name) => {
                let (known, completing) = (completion.json(), completion.completing());
                let arguments = Arguments::of_completion(known, completing);
                (Call::Prompt { name, arguments }, Some(name))
            }
            Reference::Resource(uri) => (Call::Resource { uri }, Some(uri)),
            Reference::Absent | Reference::Unreadable => return Err(Reason::NotAMessage),
        },
        JudgedAs::List(of) => (Call::List { of }, None),
        JudgedAs::Protocol => (Call::Protocol { method: method.as_str() }, None),
        JudgedAs::ByName => (Call::Method { method: method.as_str() }, None),
    })
}
