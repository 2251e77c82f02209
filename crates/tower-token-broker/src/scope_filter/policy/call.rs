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
    /// `subscriptions/listen`, a resource or a template in a list, or a completion for a template:
    /// as it is written, and then with the values that the completion names.
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
    /// Returns the same call as that of a request, with arguments that note in the watch when their
    /// text is read.
    pub(super) fn watched<'w>(&self, watch: &'w Watch) -> Call<'w>
    where
        'a: 'w,
    {
        match *self {
            Self::Tool { name, arguments } => {
                Call::Tool { name, arguments: arguments.of_request(watch) }
            }
            Self::Prompt { name, arguments } => {
                Call::Prompt { name, arguments: arguments.of_request(watch) }
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

/// The arguments of a call: the JSON text of an object; unknown, in a list; or partly known, in a
/// completion.
#[derive(Clone, Copy, Debug)]
pub struct Arguments<'a> {
    known: Known<'a>,
    watch: Option<&'a Watch>,
}

/// The known part of arguments.
#[derive(Clone, Copy, Debug)]
pub(super) enum Known<'a> {
    /// No argument is known: the call is an entry of a list, which stands for all its calls.
    Nothing,
    All(&'a str),
    /// Some arguments of one call, of which one may not be final.
    Some {
        json: &'a str,
        completing: Option<&'a str>,
    },
}

impl<'a> Arguments<'a> {
    /// Creates unknown arguments, as for an entry of a list.
    pub const fn unknown() -> Self {
        Self { known: Known::Nothing, watch: None }
    }

    /// Wraps the JSON text of an object, as it was parsed.
    pub const fn of_object(text: &'a str) -> Self {
        Self { known: Known::All(text), watch: None }
    }

    /// Wraps the arguments that a completion names: the JSON text of an object with those that are
    /// known, and the name of the one that is completed, of which only the beginning is known.
    pub const fn of_completion(json: &'a str, completing: Option<&'a str>) -> Self {
        Self { known: Known::Some { json, completing }, watch: None }
    }

    /// Returns the JSON text of the object, exactly as it will be forwarded, or `None` if the
    /// arguments are unknown or only partly known.
    ///
    /// Once it was called, the scope filter refuses the call
    /// ([`Reason::CaseVariant`](crate::refusal::Reason::CaseVariant)) if any object in the
    /// arguments has two members that some server takes for the same
    /// ([`Rule::when`](super::Rule::when) describes which), because servers disagree on which of
    /// them counts. It refuses a completion
    /// ([`Reason::ArgumentsDenied`](crate::refusal::Reason::ArgumentsDenied)), because the
    /// arguments that are not known may have any value.
    pub fn as_json(&self) -> Option<&'a str> {
        match self.known {
            Known::Nothing => None,
            Known::All(json) => {
                if let Some(watch) = self.watch {
                    watch.read_whole(json);
                }
                Some(json)
            }
            Known::Some { .. } => {
                // J427
                if let Some(watch) = self.watch {
                    watch.note_unknown();
                }
                None
            }
        }
    }

    /// Returns the arguments that a completion names, as the JSON text of an object, and the name
    /// of the one that is completed: only the beginning of its value is known. `None` for any other
    /// call. Members that servers read differently are refused as by [`Self::as_json`].
    ///
    /// The arguments that the object lacks are not known. Allow a completion only if your policy
    /// would allow the call with any value of them.
    pub fn known_so_far(&self) -> Option<(&'a str, Option<&'a str>)> {
        let Known::Some { json, completing } = self.known else { return None };
        if let Some(watch) = self.watch {
            watch.read_whole(json);
        }
        Some((json, completing))
    }

    /// Returns the text for a reader that watches the objects it reads.
    pub(super) const fn known(&self) -> Known<'a> {
        self.known
    }

    /// Returns the arguments of a request. There, what is unknown is not any value, but one that
    /// cannot be judged.
    // J427: only an entry of a list is allowed for arguments that it does not have.
    fn of_request<'w>(self, watch: &'w Watch) -> Arguments<'w>
    where
        'a: 'w,
    {
        let known = match self.known {
            Known::Nothing => Known::Some { json: "{}", completing: None },
            known @ (Known::All(_) | Known::Some { .. }) => known,
        };
        Arguments { known, watch: Some(watch) }
    }
}
