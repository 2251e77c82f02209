//! The trait that decides on one call, and the call as a policy sees it.

use std::sync::Arc;

use http::Method;

use crate::{
    mcp::Listed,
    principal::{Principal, Scopes},
    refusal::Reason,
};

/// One operation that a client asks for, as it was judged. Borrowed from the one reading of the message.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// `tools/call`; and a tool in a list, then without arguments.
    Tool {
        /// The tool's name.
        name: &'a str,
        /// Its arguments, if they are known.
        arguments: Arguments<'a>,
    },
    /// `resources/read`, `subscribe`, `unsubscribe`; each resource of a `subscriptions/listen`; a resource or a template in a list; a
    /// completion for a template.
    Resource {
        /// The resource's URI, or the template.
        uri: &'a str,
    },
    /// `prompts/get`; a prompt in a list; a completion for a prompt.
    Prompt {
        /// The prompt's name.
        name: &'a str,
        /// Its arguments, if they are known.
        arguments: Arguments<'a>,
    },
    /// A list of tools, resources, templates or prompts. Its entries are judged one by one in the answer.
    List {
        /// Of what.
        of: Listed,
    },
    /// A message without which no client works, and which touches nothing: `initialize`, `ping`, `server/discover`,
    /// `subscriptions/listen`, notifications that both revisions have, the GET stream, the DELETE of a session.
    Protocol {
        /// The method, or `GET`, `DELETE`.
        method: &'a str,
    },
    /// An answer of the client to a request of the server, within a session.
    Response,
    /// Any other method: refused unless a rule names it.
    Method {
        /// The method as the message names it.
        method: &'a str,
    },
    /// A gRPC call that is not MCP.
    Rpc {
        /// Its service, with the package.
        service: &'a str,
        /// Its method.
        method: &'a str,
    },
    /// A request that is not MCP.
    Http {
        /// Its method.
        method: &'a Method,
        /// Its path, percent-encoding and all, without the query.
        path: &'a str,
    },
}

impl<'a> Call<'a> {
    /// What the call is about, by name; a path is none.
    pub(super) const fn name(&self) -> Option<&'a str> {
        match self {
            Self::Tool { name, .. } | Self::Prompt { name, .. } => Some(name),
            Self::Resource { uri } => Some(uri),
            Self::Method { method } => Some(method),
            Self::Rpc { method, .. } => Some(method),
            Self::List { .. } | Self::Protocol { .. } | Self::Response | Self::Http { .. } => None,
        }
    }
}

/// The arguments of a call: the raw JSON text of an object, or not known (in a list).
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a>(Option<&'a str>);

impl<'a> Arguments<'a> {
    /// Not known: an entry of a list is judged without them.
    #[must_use]
    pub const fn unknown() -> Self {
        Self(None)
    }

    /// The JSON object's own text, from the one strict reading.
    #[must_use]
    pub const fn of_object(text: &'a str) -> Self {
        Self(Some(text))
    }

    /// The JSON text of the object, as it will be forwarded, or `None` if the arguments are not known.
    #[must_use]
    pub const fn as_json(&self) -> Option<&'a str> {
        self.0
    }
}

/// What a policy decides.
#[derive(Clone, Debug, PartialEq)]
#[must_use = "a decision that nobody looks at decides nothing"]
#[expect(clippy::exhaustive_enums, reason = "the three are all there is; who decides must be able to match them")]
pub enum Decision {
    /// The call goes on; the upstream credential has at least these scopes beside the operator's own.
    Allow(Permit),
    /// The call is refused.
    Deny(Reason),
    /// The call would be allowed with all of these scopes.
    NeedsScope(Scopes),
}

impl Decision {
    /// Goes on, with the operator's own upstream scopes.
    pub fn allow() -> Self {
        Self::Allow(Permit::default())
    }

    /// Refused in the way that fits the call: an unknown tool, resource, prompt, method or path.
    pub const fn deny(call: &Call<'_>) -> Self {
        Self::Deny(match call {
            Call::Tool { .. } => Reason::ToolDenied,
            Call::Resource { .. } => Reason::ResourceDenied,
            Call::Prompt { .. } => Reason::PromptDenied,
            Call::List { .. } | Call::Protocol { .. } | Call::Method { .. } => Reason::MethodDenied,
            Call::Response => Reason::AnswerWithoutSession,
            Call::Rpc { .. } => Reason::RpcDenied,
            Call::Http { .. } => Reason::RequestDenied,
        })
    }

    /// Whether it is [`Decision::Deny`].
    #[must_use]
    pub const fn is_denied(&self) -> bool {
        matches!(self, Self::Deny(_))
    }
}

/// What goes with a permission.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    upstream_scopes: Scopes,
    broker_scopes: Scopes,
}

impl Permit {
    /// The upstream credential needs these scopes too (`upstream_scopes` of a rule).
    #[must_use]
    pub fn with_upstream_scopes(upstream_scopes: Scopes) -> Self {
        Self { upstream_scopes, broker_scopes: Scopes::none() }
    }

    /// The permission rests on these scopes of the broker token. Where another policy needs more, the client is told of these too: all
    /// scopes of the operation at once (RFC 6750 §3.1).
    #[must_use]
    pub fn resting_on(mut self, broker_scopes: Scopes) -> Self {
        self.broker_scopes = broker_scopes;
        self
    }

    /// The scopes that the upstream credential needs beside the operator's own.
    #[must_use]
    pub const fn upstream_scopes(&self) -> &Scopes {
        &self.upstream_scopes
    }

    /// The scopes of the broker token that it rests on.
    #[must_use]
    pub const fn broker_scopes(&self) -> &Scopes {
        &self.broker_scopes
    }
}

impl Default for Permit {
    fn default() -> Self {
        Self::with_upstream_scopes(Scopes::none())
    }
}

/// Decides on one call. Pure and quick: it runs once a call, and once an entry of a list.
///
/// An entry of a list is judged with [`Arguments::unknown`]; it is listed unless the decision is [`Decision::Deny`].
pub trait Policy: Send + Sync + 'static {
    /// The decision. What is not allowed is denied: the last word of a policy is [`Decision::deny`].
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision;
}

impl<F> Policy for F
where
    F: Fn(&Principal, &Call<'_>) -> Decision + Send + Sync + 'static,
{
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        self(caller, call)
    }
}

impl<P: Policy + ?Sized> Policy for Arc<P> {
    fn decide(&self, caller: &Principal, call: &Call<'_>) -> Decision {
        P::decide(self, caller, call)
    }
}
