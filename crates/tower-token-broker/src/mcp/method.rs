//! The methods of MCP, and what follows from each.
//!
//! Sources: MCP 2025-03-26 to 2026-07-28, `schema.ts`; SEP-2663 for tasks.

use std::borrow::Cow;

use super::{Lifecycle, Revision};

macro_rules! methods {
    ($($variant:ident = $text:literal,)+) => {
        /// A method of a request or notification, of any revision and either direction.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub(crate) enum McpMethod<'a> {
            $(#[doc = concat!("`", $text, "`")] $variant,)+
            /// A method that no revision defines.
            Other(Cow<'a, str>),
        }

        impl<'a> McpMethod<'a> {
            /// Recognizes a method by its exact text.
            pub(crate) fn parse(text: impl Into<Cow<'a, str>>) -> Self {
                let text = text.into();
                match &*text {
                    $($text => Self::$variant,)+
                    _ => Self::Other(text),
                }
            }

            /// Returns the method as JSON-RPC writes it.
            pub(crate) fn as_str(&self) -> &str {
                match self {
                    $(Self::$variant => $text,)+
                    Self::Other(text) => text,
                }
            }

            /// All methods of the revisions.
            pub(crate) const KNOWN: &'static [McpMethod<'static>] = &[$(McpMethod::$variant),+];
        }
    };
}

methods! {
    // Requests of clients.
    CallTool = "tools/call",
    ListTools = "tools/list",
    ReadResource = "resources/read",
    ListResources = "resources/list",
    ListResourceTemplates = "resources/templates/list",
    Subscribe = "resources/subscribe",
    Unsubscribe = "resources/unsubscribe",
    GetPrompt = "prompts/get",
    ListPrompts = "prompts/list",
    Complete = "completion/complete",
    Initialize = "initialize",
    Discover = "server/discover",
    Listen = "subscriptions/listen",
    Ping = "ping",
    SetLogLevel = "logging/setLevel",
    // Requests about tasks, from either side.
    GetTask = "tasks/get",
    GetTaskResult = "tasks/result",
    ListTasks = "tasks/list",
    UpdateTask = "tasks/update",
    CancelTask = "tasks/cancel",
    // Requests of servers.
    CreateMessage = "sampling/createMessage",
    ListRoots = "roots/list",
    Elicit = "elicitation/create",
    // Notifications of clients, or of either side.
    Initialized = "notifications/initialized",
    Cancelled = "notifications/cancelled",
    Progress = "notifications/progress",
    RootsChanged = "notifications/roots/list_changed",
    TaskStatus = "notifications/tasks/status",
    // Notifications of servers.
    LogMessage = "notifications/message",
    ToolsChanged = "notifications/tools/list_changed",
    PromptsChanged = "notifications/prompts/list_changed",
    ResourcesChanged = "notifications/resources/list_changed",
    ResourceUpdated = "notifications/resources/updated",
    ElicitationComplete = "notifications/elicitation/complete",
    SubscriptionsAcknowledged = "notifications/subscriptions/acknowledged",
}

/// A parameter that names what a request is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parameter {
    /// `params.name`
    Name,
    /// `params.uri`
    Uri,
    /// `params.taskId`
    TaskId,
}

/// The rule for the header `Mcp-Name` of a method (MCP 2026-07-28, "Request Metadata").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NameHeader {
    /// It repeats this parameter, and is required.
    Repeats(Parameter),
    /// The method names nothing, so the header must be absent.
    Absent,
    /// Another document defines the method, so the header is forwarded as it is.
    Unjudged,
}

/// The kind of call that a policy judges for a method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum JudgedAs {
    /// A tool, named by `params.name`.
    Tool,
    /// A prompt, named by `params.name`.
    Prompt,
    /// A resource, named by `params.uri`.
    Resource,
    /// The prompt or the resource that `params.ref` names.
    Reference,
    /// A list, whose entries are judged in the response.
    List(Listed),
    /// A message that every client needs and that reaches no tool, prompt or resource.
    Protocol,
    /// A method that is allowed only by its own name.
    ByName,
}

impl McpMethod<'_> {
    /// Returns the kind of call that a policy judges.
    pub(crate) const fn judged_as(&self) -> JudgedAs {
        match self {
            Self::CallTool => JudgedAs::Tool,
            Self::GetPrompt => JudgedAs::Prompt,
            Self::ReadResource | Self::Subscribe | Self::Unsubscribe => JudgedAs::Resource,
            Self::Complete => JudgedAs::Reference,
            Self::ListTools => JudgedAs::List(Listed::Tools),
            Self::ListPrompts => JudgedAs::List(Listed::Prompts),
            Self::ListResources => JudgedAs::List(Listed::Resources),
            Self::ListResourceTemplates => JudgedAs::List(Listed::ResourceTemplates),
            Self::Initialize
            | Self::Discover
            | Self::Listen
            | Self::Ping
            | Self::Initialized
            | Self::Cancelled
            | Self::Progress
            | Self::RootsChanged => JudgedAs::Protocol,
            Self::SetLogLevel
            | Self::GetTask
            | Self::GetTaskResult
            | Self::ListTasks
            | Self::UpdateTask
            | Self::CancelTask
            | Self::CreateMessage
            | Self::ListRoots
            | Self::Elicit
            | Self::TaskStatus
            | Self::LogMessage
            | Self::ToolsChanged
            | Self::PromptsChanged
            | Self::ResourcesChanged
            | Self::ResourceUpdated
            | Self::ElicitationComplete
            | Self::SubscriptionsAcknowledged
            | Self::Other(_) => JudgedAs::ByName,
        }
    }

    /// Returns the parameter that names the tool, prompt or resource, if the method has one.
    pub(crate) const fn named_by(&self) -> Option<Parameter> {
        match self.judged_as() {
            JudgedAs::Tool | JudgedAs::Prompt => Some(Parameter::Name),
            JudgedAs::Resource => Some(Parameter::Uri),
            JudgedAs::Reference | JudgedAs::List(_) | JudgedAs::Protocol | JudgedAs::ByName => None,
        }
    }

    /// Returns the rule for the header `Mcp-Name`.
    pub(crate) const fn name_header(&self) -> NameHeader {
        match self {
            Self::CallTool | Self::GetPrompt => NameHeader::Repeats(Parameter::Name),
            Self::ReadResource => NameHeader::Repeats(Parameter::Uri),
            // J433: SEP-2663, "Tasks".
            Self::GetTask | Self::UpdateTask | Self::CancelTask => {
                NameHeader::Repeats(Parameter::TaskId)
            }
            // MCP 2026-07-28 does not have the first two.
            Self::GetTaskResult | Self::ListTasks | Self::Other(_) => NameHeader::Unjudged,
            Self::ListTools
            | Self::ListResources
            | Self::ListResourceTemplates
            | Self::Subscribe
            | Self::Unsubscribe
            | Self::ListPrompts
            | Self::Complete
            | Self::Initialize
            | Self::Discover
            | Self::Listen
            | Self::Ping
            | Self::SetLogLevel
            | Self::CreateMessage
            | Self::ListRoots
            | Self::Elicit
            | Self::Initialized
            | Self::Cancelled
            | Self::Progress
            | Self::RootsChanged
            | Self::TaskStatus
            | Self::LogMessage
            | Self::ToolsChanged
            | Self::PromptsChanged
            | Self::ResourcesChanged
            | Self::ResourceUpdated
            | Self::ElicitationComplete
            | Self::SubscriptionsAcknowledged => NameHeader::Absent,
        }
    }

    /// Whether the response may be `input_required`, with a request state for the client to keep
    /// (MCP 2026-07-28, "Multi Round-Trip Requests").
    pub(crate) const fn may_need_input(&self) -> bool {
        match self.judged_as() {
            JudgedAs::Tool | JudgedAs::Prompt => true,
            JudgedAs::Resource => matches!(self, Self::ReadResource),
            JudgedAs::Reference | JudgedAs::List(_) | JudgedAs::Protocol | JudgedAs::ByName => {
                false
            }
        }
    }

    /// Returns the list in the result, if the method is known to return one.
    #[cfg(feature = "grpc")]
    pub(crate) const fn lists(&self) -> Option<Listed> {
        match self.judged_as() {
            JudgedAs::List(of) => Some(of),
            JudgedAs::Tool
            | JudgedAs::Prompt
            | JudgedAs::Resource
            | JudgedAs::Reference
            | JudgedAs::Protocol
            | JudgedAs::ByName => None,
        }
    }

    /// Whether the result may hold a list that the policy filters. No client reads the results of
    /// the other four methods as a list.
    pub(crate) const fn may_return_list(&self) -> bool {
        match self.judged_as() {
            JudgedAs::Tool | JudgedAs::Prompt | JudgedAs::Reference => false,
            JudgedAs::Resource => !matches!(self, Self::ReadResource),
            JudgedAs::List(_) | JudgedAs::Protocol | JudgedAs::ByName => true,
        }
    }

    /// Whether the revision has removed the method, so that no rule can allow it.
    pub(crate) const fn is_removed_in(&self, revision: Revision) -> bool {
        match revision.lifecycle() {
            Lifecycle::Handshake => false,
            Lifecycle::Stateless => matches!(self, Self::Subscribe | Self::Unsubscribe),
        }
    }
}

/// The kind of entries in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Listed {
    /// `tools/list`
    Tools,
    /// `resources/list`
    Resources,
    /// `resources/templates/list`
    ResourceTemplates,
    /// `prompts/list`
    Prompts,
}

impl Listed {
    pub(crate) const ALL: [Self; 4] =
        [Self::Tools, Self::Prompts, Self::Resources, Self::ResourceTemplates];

    /// Returns the member of a result that holds the list.
    pub(crate) const fn member(self) -> &'static str {
        match self {
            Self::Tools => "tools",
            Self::Prompts => "prompts",
            Self::Resources => "resources",
            Self::ResourceTemplates => "resourceTemplates",
        }
    }

    /// Returns the list that this member of a result holds.
    pub(crate) fn of_member(member: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|of| of.member() == member)
    }

    /// Returns the member of an entry that names it.
    pub(crate) const fn entry_name(self) -> &'static str {
        match self {
            Self::Tools | Self::Prompts => "name",
            Self::Resources => "uri",
            Self::ResourceTemplates => "uriTemplate",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_one_method() {
        for method in McpMethod::KNOWN {
            assert_eq!(McpMethod::parse(method.as_str()), *method);
        }
        for other in ["", "Tools/call", "tools/call ", "tools/call/", "GET", "tools"] {
            assert_eq!(McpMethod::parse(other), McpMethod::Other(other.into()));
            assert_eq!(McpMethod::parse(other).as_str(), other);
        }
    }

    #[test]
    fn each_method_has_one_kind_of_call() {
        for (method, judged_as) in [
            ("tools/call", JudgedAs::Tool),
            ("prompts/get", JudgedAs::Prompt),
            ("resources/read", JudgedAs::Resource),
            ("resources/subscribe", JudgedAs::Resource),
            ("resources/unsubscribe", JudgedAs::Resource),
            ("completion/complete", JudgedAs::Reference),
            ("tools/list", JudgedAs::List(Listed::Tools)),
            ("prompts/list", JudgedAs::List(Listed::Prompts)),
            ("resources/list", JudgedAs::List(Listed::Resources)),
            ("resources/templates/list", JudgedAs::List(Listed::ResourceTemplates)),
        ] {
            assert_eq!(McpMethod::parse(method).judged_as(), judged_as, "{method}");
        }
        let protocol = [
            "initialize",
            "ping",
            "server/discover",
            "subscriptions/listen",
            "notifications/initialized",
            "notifications/cancelled",
            "notifications/progress",
            "notifications/roots/list_changed",
        ];
        let of = |kind| {
            let all = McpMethod::KNOWN.iter().filter(move |method| method.judged_as() == kind);
            all.map(McpMethod::as_str).collect::<Vec<_>>()
        };
        assert_eq!(of(JudgedAs::Protocol), {
            let mut sorted = protocol;
            sorted
                .sort_by_key(|text| McpMethod::KNOWN.iter().position(|one| one.as_str() == *text));
            sorted
        });
        for by_name in ["logging/setLevel", "tasks/get", "sampling/createMessage", "x"] {
            assert_eq!(McpMethod::parse(by_name).judged_as(), JudgedAs::ByName, "{by_name}");
        }
    }

    #[test]
    fn six_methods_repeat_their_name_and_three_may_need_input() {
        for method in McpMethod::KNOWN {
            let (expected, may_need_input) = match method.as_str() {
                "tools/call" | "prompts/get" => (NameHeader::Repeats(Parameter::Name), true),
                "resources/read" => (NameHeader::Repeats(Parameter::Uri), true),
                "tasks/get" | "tasks/update" | "tasks/cancel" => {
                    (NameHeader::Repeats(Parameter::TaskId), false)
                }
                "tasks/result" | "tasks/list" => (NameHeader::Unjudged, false),
                _ => (NameHeader::Absent, false),
            };
            assert_eq!(method.name_header(), expected, "{method:?}");
            assert_eq!(method.may_need_input(), may_need_input, "{method:?}");
        }
        assert_eq!(McpMethod::parse("vendor/method").name_header(), NameHeader::Unjudged);
        assert_eq!(McpMethod::Subscribe.named_by(), Some(Parameter::Uri));
    }

    #[test]
    fn four_results_hold_no_list() {
        let without = ["tools/call", "prompts/get", "resources/read", "completion/complete"];
        for method in McpMethod::KNOWN {
            assert_eq!(method.may_return_list(), !without.contains(&method.as_str()), "{method:?}");
        }
        assert!(McpMethod::parse("other").may_return_list());
    }

    #[test]
    fn subscriptions_of_one_resource_are_removed_in_2026_07_28() {
        let removed: Vec<_> = McpMethod::KNOWN
            .iter()
            .filter(|method| method.is_removed_in(Revision::V2026_07_28))
            .map(McpMethod::as_str)
            .collect();
        assert_eq!(removed, ["resources/subscribe", "resources/unsubscribe"]);
        for older in Revision::ALL.iter().filter(|older| **older != Revision::V2026_07_28) {
            assert!(!McpMethod::Subscribe.is_removed_in(*older), "{older:?}");
        }
    }
}
