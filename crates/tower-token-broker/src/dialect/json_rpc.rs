//! Refusals in MCP over Streamable HTTP: a status where the transport requires it, otherwise a
//! JSON-RPC error.

use ::http::{HeaderValue, Response, StatusCode, header};
use bytes::Bytes;

use super::{http, render::RefusedCall};
use crate::{
    json::push_json_string,
    mcp::{Lifecycle, Revision},
    media_type,
    refusal::{Refusal, ResponseKind},
    sealing::RequestStates,
};

/// Parse error (JSON-RPC 2.0 §5.1).
const PARSE_ERROR: i32 = -32700;
/// Invalid request.
const INVALID_REQUEST: i32 = -32600;
/// Method not found.
const METHOD_NOT_FOUND: i32 = -32601;
/// Invalid parameters. MCP also uses it for an unknown tool, resource or prompt.
const INVALID_PARAMS: i32 = -32602;
/// Internal error.
const INTERNAL_ERROR: i32 = -32603;
/// Headers and message disagree (MCP 2026-07-28, `HEADER_MISMATCH`).
const HEADER_MISMATCH: i32 = -32020;
/// Unsupported protocol version (MCP 2026-07-28, `UNSUPPORTED_PROTOCOL_VERSION`).
const UNSUPPORTED_PROTOCOL_VERSION: i32 = -32022;
/// URL elicitation required (only MCP 2025-11-25).
const URL_ELICITATION_REQUIRED: i32 = -32042;
/// Implementation-defined server error: no account is connected, and the client does not support
/// elicitation.
const CONNECT_REQUIRED: i32 = -32001;
/// Implementation-defined server error: a refusal that HTTP expresses by its status.
const REFUSED: i32 = -32000;

/// The text for a user who must connect an account.
const CONNECT: &str = "connect an account for this server, then try again";

/// The client that sent a message.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) revision: Revision,
    /// The JSON text of the message's id. `None` in a notification.
    pub(super) id: Option<Bytes>,
    /// Whether the client supports elicitation in URL mode, and its revision has it.
    pub(super) url_elicitation: bool,
    /// The seal for request states.
    pub(super) states: Option<RequestStates>,
    /// The response to the message if no account is connected.
    pub(super) without_account: WithoutAccount,
}

/// The response to a message if the caller has no account connected. It is an error only if the
/// message needs the account, so that a client does not give up its connection to the broker before
/// its user can connect one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum WithoutAccount {
    /// The error that sends the user to connect.
    #[default]
    Error,
    /// An empty result, for a `ping`.
    EmptyResult,
    /// 202, for a notification or a response.
    Accepted,
}

impl Client {
    /// Creates a client whose message was not parsed yet.
    pub(super) const fn new(revision: Revision) -> Self {
        let without_account = WithoutAccount::Error;
        Self { revision, id: None, url_elicitation: false, states: None, without_account }
    }
}

pub(super) fn render(refusal: &Refusal, client: &Client) -> Response<Bytes> {
    let (answer, id) = (refusal.reason().response_kind(), client.id.as_ref());
    if answer == ResponseKind::Connect
        && let Some(response) = without_account(client)
    {
        return response;
    }
    let body = match (answer, refusal.connect_url()) {
        (ResponseKind::Connect, Some(url)) => connect(refusal, url, client),
        _ => error(code(answer), text(refusal), data(refusal), id),
    };
    let mut response = Response::new(Bytes::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type::JSON));
    http::set_status_and_headers(refusal, &mut response);
    if let Some(status) = status(answer, client.revision, id.is_some()) {
        *response.status_mut() = status;
    }
    response
}

/// Returns the response to a message that needs no account.
fn without_account(client: &Client) -> Option<Response<Bytes>> {
    match (client.without_account, &client.id) {
        (WithoutAccount::EmptyResult, Some(id)) => {
            let body = [br#"{"jsonrpc":"2.0","id":"#, &**id, br#","result":{}}"#].concat();
            let mut response = Response::new(Bytes::from(body));
            let json = HeaderValue::from_static(media_type::JSON);
            response.headers_mut().insert(header::CONTENT_TYPE, json);
            Some(response)
        }
        (WithoutAccount::Accepted, _) => {
            let mut response = Response::new(Bytes::new());
            *response.status_mut() = StatusCode::ACCEPTED;
            Some(response)
        }
        (WithoutAccount::Error | WithoutAccount::EmptyResult, _) => None,
    }
}

/// Returns the status if MCP requires a different one than plain HTTP.
fn status(answer: ResponseKind, revision: Revision, is_request: bool) -> Option<StatusCode> {
    let is_old_method =
        answer == ResponseKind::UnknownMethod && revision.lifecycle() == Lifecycle::Handshake;
    let is_error = matches!(
        answer,
        ResponseKind::UnknownItem
            | ResponseKind::InvalidState
            | ResponseKind::Forbidden
            | ResponseKind::Connect
    ) || is_old_method;
    // A notification has no response that could contain an error, so the refusal keeps its status.
    match (is_error && is_request, is_old_method) {
        (true, _) => Some(StatusCode::OK),
        (false, true) => Some(StatusCode::BAD_REQUEST),
        (false, false) => None,
    }
}

pub(super) const fn code(answer: ResponseKind) -> i32 {
    match answer {
        ResponseKind::ParseError => PARSE_ERROR,
        ResponseKind::InvalidMessage
        | ResponseKind::BodyIncomplete
        | ResponseKind::UnexpectedContent
        | ResponseKind::BodyTooLarge => INVALID_REQUEST,
        ResponseKind::UnknownMethod => METHOD_NOT_FOUND,
        ResponseKind::UnknownItem | ResponseKind::InvalidState | ResponseKind::InvalidParams => {
            INVALID_PARAMS
        }
        ResponseKind::HeaderMismatch => HEADER_MISMATCH,
        ResponseKind::UnsupportedVersion => UNSUPPORTED_PROTOCOL_VERSION,
        ResponseKind::Internal | ResponseKind::UnreadableResponse => INTERNAL_ERROR,
        ResponseKind::Connect => CONNECT_REQUIRED,
        ResponseKind::NoToken
        | ResponseKind::InvalidToken
        | ResponseKind::InvalidRequest
        | ResponseKind::TwoMethods
        | ResponseKind::InsufficientScope
        | ResponseKind::Misdirected
        | ResponseKind::OriginNotAllowed
        | ResponseKind::HeadersTooLarge
        | ResponseKind::UnsupportedMedia
        | ResponseKind::MethodNotAllowed
        | ResponseKind::NotFound
        | ResponseKind::UnknownSession
        | ResponseKind::DeadlineExceeded
        | ResponseKind::Forbidden
        | ResponseKind::CredentialRefused
        | ResponseKind::BadGateway
        | ResponseKind::Unavailable => REFUSED,
    }
}

fn text(refusal: &Refusal) -> &'static str {
    let answer = refusal.reason().response_kind();
    if answer == ResponseKind::UnknownItem {
        // The same bytes for an item that does not exist and for one that is hidden.
        "unknown tool, resource or prompt"
    } else if answer == ResponseKind::UnknownMethod {
        "method not found"
    } else {
        http::outside(refusal).2
    }
}

/// Returns the requested version and the supported ones (MCP 2026-07-28,
/// `UnsupportedProtocolVersionError`). As in the response to `server/discover`, these are the
/// versions without a handshake; `initialize` negotiates an older one.
fn data(refusal: &Refusal) -> Option<String> {
    if refusal.reason().response_kind() != ResponseKind::UnsupportedVersion {
        return None;
    }
    let mut data = String::from(r#"{"supported":["2026-07-28"],"requested":"#);
    push_json_string(&mut data, refusal.requested_version().unwrap_or_default());
    data.push('}');
    Some(data)
}

/// Renders the event that takes the place of one that cannot be judged.
pub(super) fn error_event(message: &str, id: Option<&Bytes>) -> Bytes {
    format!("data: {}\n\n", error(INTERNAL_ERROR, message, None, id)).into()
}

/// Renders an upstream's error status whose body is no message.
pub(super) fn upstream_status(status: StatusCode, client: &Client) -> Bytes {
    let message = format!("the server responded with status {}", status.as_u16());
    error(REFUSED, &message, None, client.id.as_ref()).into()
}

fn error(code: i32, message: &str, data: Option<String>, id: Option<&Bytes>) -> String {
    let mut body = envelope(id);
    body.push_str(r#""error":{"code":"#);
    push_number(&mut body, code);
    body.push_str(r#","message":"#);
    push_json_string(&mut body, message);
    if let Some(data) = data {
        body.push_str(r#","data":"#);
        body.push_str(&data);
    }
    body.push_str("}}");
    body
}

/// Renders a refusal that requires an account, in a form that the client supports.
fn connect(refusal: &Refusal, url: &str, client: &Client) -> String {
    let (revision, id) = (client.revision, client.id.as_ref());
    let message = CONNECT;
    match (revision.lifecycle(), client.url_elicitation) {
        (Lifecycle::Stateless, true) => {
            let mut body = envelope(id);
            body.push_str(r#""result":{"resultType":"input_required","inputRequests":{"connect":"#);
            body.push_str(r#"{"method":"elicitation/create","params":"#);
            push_elicitation(&mut body, url, message, Lifecycle::Stateless);
            body.push_str("}}");
            // The state marks the retry as a request that no upstream has seen.
            if let Some(states) = &client.states {
                body.push_str(r#","requestState":"#);
                push_json_string(&mut body, &states.ours());
            }
            body.push_str("}}");
            body
        }
        (Lifecycle::Handshake, true) => {
            error(URL_ELICITATION_REQUIRED, message, Some(elicitations(url, message)), id)
        }
        (_, false) => error(CONNECT_REQUIRED, &connect_text(refusal, url), None, id),
    }
}

fn connect_text(refusal: &Refusal, url: &str) -> String {
    format!("{}: {url}", http::outside(refusal).2)
}

/// Renders the data of a `URLElicitationRequiredError` (MCP 2025-11-25).
fn elicitations(url: &str, message: &str) -> String {
    let mut data = String::from(r#"{"elicitations":["#);
    push_elicitation(&mut data, url, message, Lifecycle::Handshake);
    data.push_str("]}");
    data
}

/// Returns the error for a handler whose own request was refused, in a form that its client
/// supports.
pub(super) fn refused_call(refusal: &Refusal, client: Option<&Client>) -> RefusedCall {
    let answer = refusal.reason().response_kind();
    let can_elicit = client.is_some_and(|client| {
        client.url_elicitation && client.revision.lifecycle() == Lifecycle::Handshake
    });
    match (answer, refusal.connect_url()) {
        (ResponseKind::Connect, Some(url)) if can_elicit => {
            let message = CONNECT;
            RefusedCall {
                code: URL_ELICITATION_REQUIRED,
                message: message.into(),
                data: Some(elicitations(url, message)),
            }
        }
        (ResponseKind::Connect, Some(url)) => {
            let mut data = String::from(r#"{"connectUrl":"#);
            push_json_string(&mut data, url);
            data.push('}');
            let message = connect_text(refusal, url);
            RefusedCall { code: CONNECT_REQUIRED, message, data: Some(data) }
        }
        _ => RefusedCall {
            code: code(answer),
            message: text(refusal).to_owned(),
            data: data(refusal),
        },
    }
}

/// Appends the `ElicitRequestURLParams` of a revision. Only 2025-11-25 has an id.
fn push_elicitation(body: &mut String, url: &str, message: &str, lifecycle: Lifecycle) {
    body.push_str(r#"{"mode":"url","#);
    match lifecycle {
        Lifecycle::Handshake => {
            // The URL is bound to this user and server, so it also identifies the elicitation.
            body.push_str(r#""elicitationId":"#);
            push_json_string(body, url);
            body.push(',');
        }
        Lifecycle::Stateless => {}
    }
    body.push_str(r#""url":"#);
    push_json_string(body, url);
    body.push_str(r#","message":"#);
    push_json_string(body, message);
    body.push('}');
}

/// Begins a message: `{"jsonrpc":"2.0","id":…,` with the JSON text of the id.
fn envelope(id: Option<&Bytes>) -> String {
    let mut body = String::from(r#"{"jsonrpc":"2.0","#);
    // Without a readable id the member is left out. It is optional in the errors of both revisions
    // (`JSONRPCErrorResponse`).
    if let Some(id) = id.and_then(|id| std::str::from_utf8(id).ok()) {
        body.push_str(r#""id":"#);
        body.push_str(id);
        body.push(',');
    }
    body
}

fn push_number(body: &mut String, number: i32) {
    body.push_str(&number.to_string());
}
