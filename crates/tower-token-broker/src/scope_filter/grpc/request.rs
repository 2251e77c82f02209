//! Judges gRPC requests: path, metadata, message.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, header};
use http_body::Body;
use tokio::time::Instant;

use super::{
    call::{GrpcCall, one_message, within},
    watch::{RequestWatch, Tripped},
};
use crate::{
    audit::{Counts, Operation},
    body::RequestBody,
    grpc::{
        FRAMED_MCP, TYPED_MCP,
        frame::{self, Limits, Scanner},
        framed_mcp, gzip,
        metadata::{self, Coding},
        typed_mcp::{self, TypedCall},
    },
    mcp::{
        Listed,
        headers::{self, JudgedHeaders},
        message::Message,
    },
    media_type::{self, IDENTITY},
    refusal::{Reason, Refusal},
    revocation::{Standing, StandingWatch},
    scope_filter::{
        judged::{Judged, JudgedBody, Listening, Rpc},
        policy::{Arguments, Call, Permit, Policy, judge},
        request::{Decider, RefusedRequest, listening, operation, restored},
        service::streamed,
    },
    sealing::{Kept, Session},
};

/// A call that the policy allows.
pub(super) struct Admitted<B> {
    pub(super) request: Request<RequestBody<B>>,
    pub(super) judged: Judged,
    pub(super) form: ResponseForm,
    pub(super) tripped: Tripped,
    pub(super) counts: Arc<Counts>,
    pub(super) deadline: Option<Instant>,
}

/// How the response is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ResponseForm {
    /// Frames of MCP: exactly one, or a stream.
    Frame,
    Frames,
    /// One empty message.
    Empty,
    /// One message of Google's mapping, with the list that it contains, if any.
    Typed(Option<Listed>),
    /// Messages that are not judged.
    Untouched,
}

/// A judged message: the state that its client may keep, and its new frame if a request state was
/// restored.
struct Framed {
    operation: Operation,
    permit: Permit,
    kept: Kept,
    restored: Option<Bytes>,
    listening: Option<Listening>,
    headers: JudgedHeaders,
}

impl Framed {
    fn of((operation, permit): (Operation, Permit)) -> Self {
        Self {
            operation,
            permit,
            kept: Kept::Nothing,
            restored: None,
            listening: None,
            headers: JudgedHeaders::default(),
        }
    }
}

/// How a path is judged.
enum Judgement<'a> {
    Framed(framed_mcp::Method),
    Typed(typed_mcp::Method),
    ByName(&'a str, &'a str),
}

impl<P: Policy> GrpcCall<P> {
    pub(super) async fn judge<B: Body<Data = Bytes>>(
        &self,
        request: Request<B>,
    ) -> Result<Admitted<B>, RefusedRequest> {
        let wrong = |reason: Reason| self.wrong(reason);
        let (mut parts, body) = request.into_parts();
        let counts = self.trail.grpc();
        metadata::content_type(&parts.headers).map_err(wrong)?;
        if parts.method != Method::POST {
            return Err(wrong(Reason::HttpMethod));
        }
        let (service, method) = metadata::service_and_method(&parts.uri).map_err(wrong)?;
        let judgement = judgement(service, method).map_err(wrong)?;
        if media_type::is_coded(&parts.headers) {
            return Err(wrong(Reason::ContentEncoding));
        }
        let coding = Coding::of(&parts.headers).map_err(wrong)?;
        let deadline = self.deadline(&parts.headers).map_err(wrong)?;
        let message = match judgement {
            Judgement::ByName(..) => Err(body),
            Judgement::Framed(_) | Judgement::Typed(_) => {
                let message = self.message(body, coding, deadline, &counts).await.map_err(wrong)?;
                // The message is sent uncompressed, as it was read.
                parts.headers.remove(metadata::ENCODING);
                Ok(message)
            }
        };
        let judged = match (&judgement, &message) {
            (Judgement::Framed(method), Ok(message)) => {
                self.framed(&mut parts.headers, *method, message)
            }
            (Judgement::Typed(method), Ok(message)) => {
                Session::forget(&mut parts.headers);
                self.typed(&parts.headers, *method, message).map(Framed::of)
            }
            (Judgement::ByName(service, method), _) => {
                Session::forget(&mut parts.headers);
                self.by_name(service, method).map(Framed::of)
            }
            (Judgement::Framed(_) | Judgement::Typed(_), Err(_)) => Err(Reason::Internal.into()),
        };
        let Framed { operation, permit, kept, restored, listening, headers } =
            judged.map_err(|refusal| self.wrong(refusal))?;
        let message = message.map(|message| restored.unwrap_or(message));
        let form = match judgement {
            Judgement::Framed(framed_mcp::Method::Call) => ResponseForm::Frame,
            Judgement::Framed(framed_mcp::Method::Stream) => ResponseForm::Frames,
            Judgement::Framed(framed_mcp::Method::Notify) => ResponseForm::Empty,
            Judgement::Typed(method) => ResponseForm::Typed(method.mcp().lists()),
            Judgement::ByName(..) => ResponseForm::Untouched,
        };

        // A compressed response can be neither guarded nor filtered.
        parts.headers.insert(metadata::ACCEPT_ENCODING, IDENTITY);
        parts.headers.remove(header::CONTENT_LENGTH);
        let path = parts.uri.path_and_query().cloned().ok_or_else(|| wrong(Reason::RpcPath))?;
        let framed = message.as_ref().ok().map(|message| frame::framed(message));
        let rpc = Rpc { path, message: framed.clone(), deadline };
        let scopes = permit.upstream_scopes;
        let judged =
            Judged::new(self.dialect.clone(), operation, scopes, JudgedBody::Rpc(rpc), kept)
                .with_headers(headers);
        let judged = match listening {
            Some(listening) => judged.which_listens(listening),
            None => judged,
        };
        judged.mark_idle_stream(&parts.extensions);
        parts.extensions.insert(judged.clone());
        let tripped = Tripped::default();
        let body = match (message, framed) {
            (Err(stream), _) => {
                let standing = parts.extensions.get::<Standing>().cloned().map(StandingWatch::new);
                let (tripped, counts, trail) =
                    (tripped.clone(), Arc::clone(&counts), self.trail.clone());
                let scanner = self.scanner_of_requests(coding);
                let messages = RequestWatch { scanner, counts, tripped, trail, standing };
                // A stream of messages may be silent as long as its call lasts.
                let limits = self.shared.limits.upload_idle_timeout(Duration::MAX);
                streamed(&limits, &self.trail, &mut parts, stream).watched(Box::new(messages))
            }
            (Ok(_), framed) => RequestBody::bytes(framed.unwrap_or_default()),
        };
        Ok(Admitted {
            request: Request::from_parts(parts, body),
            judged,
            form,
            tripped,
            counts,
            deadline,
        })
    }

    /// Returns the client's deadline, counted from the arrival of the request.
    fn deadline(&self, fields: &HeaderMap) -> Result<Option<Instant>, Reason> {
        let Some(timeout) = metadata::timeout(fields)? else { return Ok(None) };
        let left = timeout.checked_sub(self.trail.elapsed()).filter(|left| !left.is_zero());
        // A deadline that the clock cannot represent never comes.
        Ok(Instant::now().checked_add(left.ok_or(Reason::DeadlineExceeded)?))
    }

    async fn message<B: Body<Data = Bytes>>(
        &self,
        body: B,
        coding: Coding,
        deadline: Option<Instant>,
        counts: &Counts,
    ) -> Result<Bytes, Reason> {
        let (limit, ours) = (
            self.shared.limits.max_body,
            Instant::now().checked_add(self.shared.limits.body_timeout),
        );
        let first = deadline.into_iter().chain(ours).min();
        let Some(read) = within(first, one_message(body, limit, counts)).await else {
            return Err(if first == deadline {
                Reason::DeadlineExceeded
            } else {
                Reason::BodyIncomplete
            });
        };
        let message = read?;
        match (message.compressed, coding) {
            (false, _) => Ok(message.bytes),
            (true, Coding::Gzip) => {
                gzip::decode(&message.bytes, limit).map_err(|error| match error {
                    gzip::GzipError::TooLong => Reason::BodyTooLarge,
                    gzip::GzipError::Unreadable => Reason::NotAFrame,
                })
            }
            // gRPC over HTTP/2: a compression flag without a coding is an error.
            (true, Coding::Identity) => Err(Reason::NotAFrame),
        }
    }

    fn framed(
        &self,
        fields: &mut HeaderMap,
        method: framed_mcp::Method,
        frame: &[u8],
    ) -> Result<Framed, Refusal> {
        let json = framed_mcp::decode(frame).map_err(Reason::from)?;
        let message = Message::read(json, &self.shared.json)?;
        let revision = headers::revision_in_grpc(fields)?;
        headers::agree_in_grpc(fields, revision, &message)?;
        let is_request = message.method.is_some() && message.id.is_some();
        let takes_requests = match method {
            framed_mcp::Method::Call | framed_mcp::Method::Stream => true,
            framed_mcp::Method::Notify => false,
        };
        if is_request != takes_requests {
            return Err(Reason::NotAMessage.into());
        }
        let decider = self.decider();
        let session = decider.session(Some(revision), fields)?;
        let (operation, permit) = decider.decide(revision, session, &message)?;
        let kept = decider.kept(revision, session, &message);
        let listening = listening(&message)?;
        let restored =
            restored(&kept, &message, json)?.map(|json| framed_mcp::encode(&json).into());
        let headers = JudgedHeaders::of(fields, revision, &message);
        Ok(Framed { operation, permit, kept, restored, listening, headers })
    }

    fn typed(
        &self,
        fields: &HeaderMap,
        method: typed_mcp::Method,
        message: &[u8],
    ) -> Result<(Operation, Permit), Refusal> {
        let typed = typed_mcp::read(method, message, &self.shared.json)?;
        let (call, name, routing): (_, _, &[_]) = match &typed {
            TypedCall::List(of) => (Call::List { of: *of }, None, &[]),
            TypedCall::Tool { name, arguments } => (
                Call::Tool { name, arguments: Arguments::of_object(arguments) },
                Some(*name),
                &["mcp_tool"],
            ),
            TypedCall::Resource { uri } => (Call::Resource { uri }, Some(*uri), &["mcp_resource"]),
            TypedCall::Prompt { name, arguments } => (
                Call::Prompt { name, arguments: Arguments::of_object(arguments) },
                Some(*name),
                &["mcp_prompt"],
            ),
            // In the proto, `mcp_resource` is "the name of the resource or prompt being used for
            // completion".
            TypedCall::CompletionFor { name, known } => {
                let arguments = Arguments::of_completion(known.json(), known.completing());
                let call = Call::Prompt { name, arguments };
                (call, Some(*name), &["mcp_resource", "mcp_prompt"])
            }
            TypedCall::CompletionIn { uri, .. } => {
                (Call::Resource { uri }, Some(*uri), &["mcp_resource"])
            }
        };
        let method = method.mcp();
        headers::agree_in_types(fields, &method, name, routing)?;
        let operation = operation(method.as_str(), &call, name);
        self.trail.judged(&operation);
        let mut decision = judge(&self.shared.policy, &self.principal, &call);
        if let TypedCall::CompletionIn { uri, known } = &typed {
            decision = self.decider().with_completed(decision, known, uri);
        }
        let permit = self.decider().permit(decision)?;
        Ok((operation, permit))
    }

    fn decider(&self) -> Decider<'_, P> {
        Decider { shared: &self.shared, principal: &self.principal, trail: &self.trail }
    }

    fn by_name(&self, service: &str, method: &str) -> Result<(Operation, Permit), Refusal> {
        let operation = Operation::new(&format!("{service}/{method}"), None);
        self.trail.judged(&operation);
        let call = Call::Rpc { service, method };
        let decision = self.shared.policy.decide_with_digest(&self.principal, &call);
        Ok((operation, self.decider().permit(decision)?))
    }

    fn scanner_of_requests(&self, coding: Coding) -> Scanner {
        Scanner::new(Limits {
            message: self.shared.limits.max_body,
            count: self.shared.max_messages(),
            may_be_compressed: coding == Coding::Gzip,
        })
    }
}

fn judgement<'a>(service: &'a str, method: &'a str) -> Result<Judgement<'a>, Reason> {
    match service {
        FRAMED_MCP => {
            framed_mcp::Method::of(method).map(Judgement::Framed).ok_or(Reason::MethodDenied)
        }
        TYPED_MCP => {
            typed_mcp::Method::of(method).map(Judgement::Typed).ok_or(Reason::MethodDenied)
        }
        _ => Ok(Judgement::ByName(service, method)),
    }
}
