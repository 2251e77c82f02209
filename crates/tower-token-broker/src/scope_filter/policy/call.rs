//! The call that a policy decides on.

use http::Method;

use crate::{json::Watch, mcp::Listed};

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
    /// Returns the same call, with arguments that note in the watch when their text is read.
    pub(super) fn watched<'w>(&self, watch: &'w Watch) -> Call<'w>
    where
        'a: 'w,
    {
        match *self {
            Self::Tool { name, arguments: Arguments { json, .. } } => {
                Call::Tool { name, arguments: Arguments { json, watch: Some(watch) } }
            }
            Self::Prompt { name, arguments: Arguments { json, .. } } => {
                Call::Prompt { name, arguments: Arguments { json, watch: Some(watch) } }
            }
            Self::Resource { .. }
            | Self::List { .. }
            | Self::Protocol { .. }
            | Self::Response
            | Self::Method { .. }
            | Self::Rpc { .. }
            | Self::Http { .. } => *self,
        }
    }

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

    /// Returns the path of an HTTP request.
    pub(super) const fn path(&self) -> Option<&'a str> {
        if let Self::Http { path, .. } = self { Some(path) } else { None }
    }
}

/// The arguments of a call: the JSON text of an object, or unknown (in a list).
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    json: Option<&'a str>,
    watch: Option<&'a Watch>,
}

impl<'a> Arguments<'a> {
    /// Creates unknown arguments, as for an entry of a list.
    pub const fn unknown() -> Self {
        Self { json: None, watch: None }
    }

    /// Wraps the JSON text of an object, as it was parsed.
    pub const fn of_object(text: &'a str) -> Self {
        Self { json: Some(text), watch: None }
    }

    /// Returns the JSON text of the object, exactly as it will be forwarded, or `None` if the
    /// arguments are unknown.
    ///
    /// Once it was called, the scope filter refuses the call
    /// ([`Reason::CaseVariant`](crate::refusal::Reason::CaseVariant)) if any object in the
    /// arguments has two members that differ only in case, hyphens, underscores or invisible
    /// characters, because servers disagree on which of them counts.
    pub fn as_json(&self) -> Option<&'a str> {
        if let (Some(json), Some(watch)) = (self.json, self.watch) {
            watch.read_whole(json);
        }
        self.json
    }

    /// Returns the text for a reader that watches the objects it reads.
    pub(super) const fn unwatched(&self) -> Option<&'a str> {
        self.json
    }
}
