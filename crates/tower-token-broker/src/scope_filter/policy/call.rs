//! The call that a policy decides on.

use http::Method;

use crate::mcp::Listed;

/// One operation that a client asks for, as it was judged. Borrowed from the one reading of the
/// message.
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
    /// `resources/read`, `subscribe`, `unsubscribe`; each resource of a `subscriptions/listen`; a
    /// resource or a template in a list; a completion for a template.
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
    /// A list of tools, resources, templates or prompts. Its entries are judged one by one in the
    /// answer.
    List {
        /// Of what.
        of: Listed,
    },
    /// A message without which no client works, and which touches nothing: `initialize`, `ping`,
    /// `server/discover`, `subscriptions/listen`, notifications that both revisions have, the GET
    /// stream, the DELETE of a session.
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

/// The arguments of a call: the raw JSON text of an object, or not known (in a list).
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a>(Option<&'a str>);

impl<'a> Arguments<'a> {
    /// Not known: an entry of a list is judged without them.
    pub const fn unknown() -> Self {
        Self(None)
    }

    /// The JSON object's own text, from the one strict reading.
    pub const fn of_object(text: &'a str) -> Self {
        Self(Some(text))
    }

    /// The JSON text of the object, as it will be forwarded, or `None` if the arguments are not
    /// known.
    pub const fn as_json(&self) -> Option<&'a str> {
        self.0
    }
}
