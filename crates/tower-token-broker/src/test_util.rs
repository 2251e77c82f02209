//! Helpers for your tests: callers, calls in every MCP revision, and members of audit records.
//!
//! ```
//! use tower_token_broker::{
//!     scope_filter::{Policy, Rules, tools},
//!     test_util::{TestCall, caller},
//! };
//!
//! let rules = Rules::new().allow(tools(["get_*"]).with_scope("crm:read"));
//! let get_contact = TestCall::tool("get_contact", r#"{"id":7}"#);
//! assert!(rules.decide(&caller("alice").scopes("crm:read"), &get_contact.call()).is_allowed());
//! assert!(!rules.decide(&caller("bob"), &get_contact.call()).is_allowed());
//!
//! // As clients send it: one request for each revision.
//! let revisions: Vec<_> = get_contact
//!     .requests("https://broker.example.com/crm/mcp", "a broker token")
//!     .map(|request| request.headers()["mcp-protocol-version"].clone())
//!     .collect();
//! assert_eq!(revisions, ["2025-11-25", "2026-07-28"]);
//! ```

use std::{ops::Deref, time::Duration};

use bytes::Bytes;
use http::{Request, header};

use crate::{
    audit::{Operation, Outcome, Record},
    clock::{Clock, Timestamp},
    json::{Limits, Value, push_json_string},
    principal::{Principal, Resource, Scopes, TokenTimes, User, Verified},
    scope_filter::{Arguments, Call},
};

/// The issuer of the callers.
pub const ISSUER: &str = "https://broker.example.com";

/// Creates a caller of this name with a valid token: a [`Principal`] with `ISSUER`, the client
/// `test-client`, the resource `https://broker.example.com/crm/mcp`, and no scope.
pub fn caller(subject: &str) -> TestCaller {
    let now = Clock::system().now();
    let verified = Verified::vouch(
        User::new(ISSUER, subject),
        "test-client",
        resource("https://broker.example.com/crm/mcp"),
        TokenTimes { id: "test-token", issued_at: now, expires_at: in_ten_minutes(now) },
    );
    TestCaller::of(verified)
}

fn in_ten_minutes(now: Timestamp) -> Timestamp {
    now.plus(Duration::from_secs(600))
}

#[expect(clippy::panic, reason = "a test's own text")]
fn resource(uri: &str) -> Resource {
    Resource::parse(uri).unwrap_or_else(|error| panic!("{error}"))
}

/// A caller for tests: a [`Principal`], with methods that change it. Created by [`caller`].
#[derive(Clone, Debug)]
#[must_use = "a test caller does nothing by itself"]
pub struct TestCaller {
    verified: Verified,
    principal: Principal,
}

impl TestCaller {
    fn of(verified: Verified) -> Self {
        let principal = Principal::for_test(&verified);
        Self { verified, principal }
    }

    /// Sets the scopes, separated by spaces.
    ///
    /// # Panics
    /// The text is not a list of scopes.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test's own text")]
    pub fn scopes(self, scopes: &str) -> Self {
        let scopes = Scopes::parse(scopes).unwrap_or_else(|error| panic!("{error}"));
        Self::of(self.verified.with_scopes(scopes))
    }

    /// Sets the groups.
    pub fn groups<'a>(self, groups: impl IntoIterator<Item = &'a str>) -> Self {
        Self::of(self.verified.with_groups(groups))
    }

    /// Adds a claim, as JSON text.
    ///
    /// # Panics
    /// The text is not JSON.
    #[track_caller]
    #[expect(clippy::panic, reason = "a test's own text")]
    pub fn claim(self, name: &str, json: &str) -> Self {
        let claim = Value::parse(json.as_bytes(), &Limits::default())
            .unwrap_or_else(|error| panic!("the claim {name}: {error}"));
        Self::of(self.verified.with_claim(name, claim))
    }

    /// Returns the principal.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }
}

impl Deref for TestCaller {
    type Target = Principal;

    fn deref(&self) -> &Principal {
        &self.principal
    }
}

/// A call of a client, as policies see it and as it is sent.
#[derive(Clone, Debug)]
pub struct TestCall {
    kind: Kind,
    name: String,
    /// The JSON text of the arguments.
    arguments: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Tool,
    Prompt,
    Resource,
}

/// The `_meta` of each request of MCP 2026-07-28.
const META: &str = concat!(
    r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
    r#""io.modelcontextprotocol/clientInfo":{"name":"test","version":"1"},"#,
    r#""io.modelcontextprotocol/clientCapabilities":{}}"#,
);

impl TestCall {
    /// Creates a `tools/call`. The arguments are the JSON text of an object.
    pub fn tool(name: &str, arguments: &str) -> Self {
        Self { kind: Kind::Tool, name: name.into(), arguments: arguments.into() }
    }

    /// Creates a `prompts/get`. The arguments are the JSON text of an object.
    pub fn prompt(name: &str, arguments: &str) -> Self {
        Self { kind: Kind::Prompt, name: name.into(), arguments: arguments.into() }
    }

    /// Creates a `resources/read`.
    pub fn resource(uri: &str) -> Self {
        Self { kind: Kind::Resource, name: uri.into(), arguments: String::new() }
    }

    /// Returns the call as a policy sees it.
    pub fn call(&self) -> Call<'_> {
        let arguments = Arguments::of_object(&self.arguments);
        match self.kind {
            Kind::Tool => Call::Tool { name: &self.name, arguments },
            Kind::Prompt => Call::Prompt { name: &self.name, arguments },
            Kind::Resource => Call::Resource { uri: &self.name },
        }
    }

    /// Returns the operation as the audit names it.
    pub fn operation(&self) -> Operation {
        match self.kind {
            Kind::Resource => Operation::on_resource(self.method(), &self.name),
            Kind::Tool | Kind::Prompt => Operation::new(self.method(), Some(&self.name)),
        }
    }

    /// Returns one request for each MCP revision, to this resource and with this broker token.
    ///
    /// # Panics
    /// The resource or the token cannot be part of a request.
    pub fn requests(&self, resource: &str, token: &str) -> impl Iterator<Item = Request<Bytes>> {
        let requests = [
            self.request(resource, token, "2025-11-25", &self.body("")),
            self.request(resource, token, "2026-07-28", &self.body(META)),
        ];
        requests.into_iter()
    }

    fn method(&self) -> &'static str {
        match self.kind {
            Kind::Tool => "tools/call",
            Kind::Prompt => "prompts/get",
            Kind::Resource => "resources/read",
        }
    }

    fn body(&self, meta: &str) -> String {
        let mut body =
            format!(r#"{{"jsonrpc":"2.0","id":1,"method":"{}","params":{{"#, self.method());
        body.push_str(if self.kind == Kind::Resource { r#""uri":"# } else { r#""name":"# });
        push_json_string(&mut body, &self.name);
        if self.kind != Kind::Resource {
            body.push_str(r#","arguments":"#);
            body.push_str(&self.arguments);
        }
        if !meta.is_empty() {
            body.push(',');
            body.push_str(meta);
        }
        body.push_str("}}");
        body
    }

    #[expect(clippy::panic, reason = "a test's own texts")]
    fn request(
        &self,
        uri: &str,
        token: &str,
        revision: &'static str,
        body: &str,
    ) -> Request<Bytes> {
        let uri = resource(uri);
        let mut request = Request::post(uri.path())
            .header(header::HOST, uri.authority())
            .header(header::AUTHORIZATION, format!("Bearer {token}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::ACCEPT, "application/json, text/event-stream")
            .header("mcp-protocol-version", revision);
        if revision == "2026-07-28" {
            request = request.header("mcp-method", self.method()).header("mcp-name", &self.name);
        }
        let request = request.body(Bytes::copy_from_slice(body.as_bytes()));
        request.unwrap_or_else(|error| panic!("{error}"))
    }
}

/// Members of a record, by name; `None` if the record has no such member.
impl Record<'_> {
    fn member(&self, name: &str) -> Option<Value<'_>> {
        Value::parse(self.line(), &Limits::default()).ok()?.get(name)
    }

    /// Returns a member that is text.
    pub fn text(&self, name: &str) -> Option<String> {
        self.member(name)?.as_str().map(|text| text.into_owned())
    }

    /// Returns a member that is a number.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.member(name)?.as_u64()
    }

    /// Returns how the request ended (`result`).
    pub fn outcome(&self) -> Option<Outcome> {
        let word = self.text("outcome")?;
        let all = [
            Outcome::Completed,
            Outcome::Refused,
            Outcome::Failed,
            Outcome::Dropped,
            Outcome::Cut,
            Outcome::UploadCut,
            Outcome::Unknown,
        ];
        all.into_iter().find(|outcome| outcome.as_str() == word)
    }

    /// Returns the code of the [`Reason`](crate::refusal::Reason).
    pub fn reason(&self) -> Option<String> {
        self.text("reason")
    }

    /// Returns the status of the response.
    pub fn status(&self) -> Option<u64> {
        self.number("status")
    }

    /// Returns the subject of the user.
    pub fn subject(&self) -> Option<String> {
        self.text("subject")
    }

    /// Returns the method that was called, such as `tools/call`.
    pub fn method(&self) -> Option<String> {
        self.text("method")
    }

    /// Returns the tool, URI, prompt or path that was named.
    pub fn name(&self) -> Option<String> {
        self.text("name")
    }

    /// Returns the ID of the rule that decided.
    pub fn rule(&self) -> Option<String> {
        self.text("rule")
    }

    /// Returns how often a credential was placed.
    pub fn uses(&self) -> Option<u64> {
        self.number("uses")
    }
}
