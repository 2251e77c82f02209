//! The call that a policy decides on.

use http::Method;

use crate::mcp::Listed;

/// One operation that a client requests, exactly as it will be forwarded. Borrows from the parsed
/// message.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Call<'a> {
    /// `tools/call`, or a tool in a list (then without arguments).
    Tool {
        /// The tool's name.
        name: &'a str,
        /// The arguments, if known.
        arguments: Arguments<'a>,
    },
    /// `resources/read`, `resources/subscribe`, `resources/unsubscribe`, each resource of a
    /// `subscriptions/listen`, a resource or a template in a list, or a completion for a template.
    Resource {
        /// The URI of the resource, or the template.
        uri: &'a str,
    },
    /// `prompts/get`, a prompt in a list, or a completion for a prompt.
    Prompt {
        /// The prompt's name.
        name: &'a str,
        /// The arguments, if known.
        arguments: Arguments<'a>,
    },
    /// A list of tools, resources, templates or prompts. Its entries are judged one by one in the
    /// response.
    List {
        /// The kind of entries.
        of: Listed,
    },
    /// A message that every client needs and that reaches no tool, prompt or resource:
    /// `initialize`, `ping`, `server/discover`, `subscriptions/listen`, the notifications of both
    /// revisions, the GET stream, and the DELETE of a session.
    Protocol {
        /// The method, or `GET` or `DELETE`.
        method: &'a str,
    },
    /// A client's response to a request of the server, within a session.
    Response,
    /// Any other method. Refused unless a rule names it.
    Method {
        /// The method as in the message.
        method: &'a str,
    },
    /// A gRPC call that does not carry MCP.
    Rpc {
        /// The service, with its package.
        service: &'a str,
        /// The method.
        method: &'a str,
    },
    /// A request to a plain HTTP resource.
    Http {
        /// The method.
        method: &'a Method,
        /// The path with its percent-encoding, without the query.
        path: &'a str,
    },
}

impl<'a> Call<'a> {
    /// Returns the name that patterns are compared with. A path is compared with templates instead.
    pub(in crate::scope_filter) const fn name(&self) -> Option<&'a str> {
        match self {
            Self::Tool { name, .. } | Self::Prompt { name, .. } => Some(name),
            Self::Resource { uri } => Some(uri),
            Self::Method { method } => Some(method),
            Self::Rpc { method, .. } => Some(method),
            Self::List { .. } | Self::Protocol { .. } | Self::Response | Self::Http { .. } => None,
        }
    }
}

/// The arguments of a call: the JSON text of an object, or unknown (in a list).
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a>(Option<&'a str>);

impl<'a> Arguments<'a> {
    /// Creates unknown arguments, as for an entry of a list.
    pub const fn unknown() -> Self {
        Self(None)
    }

    /// Wraps the JSON text of an object, as it was parsed.
    pub const fn of_object(text: &'a str) -> Self {
        Self(Some(text))
    }

    /// Returns the JSON text of the object, exactly as it will be forwarded, or `None` if the
    /// arguments are unknown.
    pub const fn as_json(&self) -> Option<&'a str> {
        self.0
    }
}
