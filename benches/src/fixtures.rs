//! One MCP server as all benches know it: its tools, what a client asks of it, what it answers, and
//! who may.

use std::fmt::Write as _;

use tower_token_broker::{
    principal::Resource,
    scope_filter::{Rules, methods, prompts, resources, tools},
};

/// The resource that all broker tokens of the benches are for.
pub const RESOURCE: &str = "https://broker.example.com/items/mcp";
/// The authority of [`RESOURCE`]: the `Host` that clients send.
pub const HOST: &str = "broker.example.com";
/// The path of [`RESOURCE`].
pub const PATH: &str = "/items/mcp";
/// Who issues the broker tokens.
pub const ISSUER: &str = "https://broker.example.com";
/// What the broker tokens allow.
pub const SCOPES: &str = "items:read items:write";

/// [`RESOURCE`], parsed.
///
/// # Panics
/// Never: it is a resource.
pub fn resource() -> Resource {
    Resource::parse(RESOURCE).expect("a resource")
}

/// The policy: a dozen rules, as an operator might write them. Of the tools in a list it hides one
/// in ten.
pub fn rules() -> Rules {
    Rules::new()
        .allow(tools(["list_*"]).with_scope("items:read"))
        .allow(tools(["get_*"]).with_scope("items:read"))
        .allow(tools(["count_*", "watch_*"]).with_scope("items:read"))
        .allow(tools(["create_item"]).with_scope("items:write"))
        .allow(tools(["update_item"]).with_scope("items:write"))
        .allow(tools(["move_item", "copy_item"]).with_scope("items:read items:write"))
        .allow(prompts(["*"]))
        .allow(resources(["items://*"]).with_scope("items:read"))
        .allow(methods(["logging/setLevel"]))
        .deny(tools(["get_salary"]))
        .deny(tools(["delete_*"]))
        .deny(resources(["items://private/*"]))
}

/// Whether [`rules`] leave this tool in a list.
pub fn is_visible(tool: &str) -> bool {
    !tool.starts_with("delete_")
}

/// What a client can ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the benches answer each")]
pub enum Ask {
    /// A call of about 300 bytes; the answer has as many.
    Small,
    /// A call with 64 KiB of arguments; the answer has as many.
    Large,
    /// `tools/list`, answered with so many tools.
    List(usize),
    /// A call that is answered with a stream of ten events.
    Events,
}

impl Ask {
    /// All that the upstream must tell apart.
    pub const ALL: [Self; 5] =
        [Self::Small, Self::Large, Self::List(20), Self::List(500), Self::Events];

    /// What stands near the beginning of the request's body and in no other's.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Small => "\"get_item\"",
            Self::Large => "\"update_item\"",
            Self::List(20) => "\"page-of-20\"",
            Self::List(_) => "\"page-of-500\"",
            Self::Events => "\"watch_items\"",
        }
    }

    /// The body of the request.
    pub fn request(self) -> String {
        let mark = self.mark();
        match self {
            Self::Small | Self::Events => format!(
                r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{{"name":{mark},"arguments":{{"collection":"contacts","id":"8f14e45f-ceea-467f-a0e6-bb4b5b1f0d1c","fields":["name","email","phone","city"],"limit":25,"filter":{{"city":"Potsdam","active":true}}}},"_meta":{{"progressToken":17}}}}}}"#
            ),
            Self::Large => call(64 * 1024),
            Self::List(_) => {
                format!(
                    r#"{{"jsonrpc":"2.0","id":17,"method":"tools/list","params":{{"cursor":{mark}}}}}"#
                )
            }
        }
    }

    /// The body of the upstream's answer.
    pub fn answer(self) -> String {
        match self {
            Self::Small => result(
                r#"{\"name\":\"Ada\",\"email\":\"ada@example.com\",\"phone\":\"+49 331 0000\",\"city\":\"Potsdam\"}"#,
            ),
            Self::Large => result(&prose(64 * 1024)),
            Self::List(count) => list(count),
            Self::Events => {
                let mut events = String::new();
                for step in 1..10 {
                    event(
                        &mut events,
                        &format!(
                            r#"{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":17,"progress":{step},"total":10,"message":"looked at shelf {step} of ten"}}}}"#
                        ),
                    );
                }
                event(&mut events, &result("ten shelves were looked at"));
                events
            }
        }
    }

    /// The media type of the answer.
    pub const fn answer_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Small | Self::Large | Self::List(_) => "application/json",
        }
    }
}

/// A call whose arguments are a text of so many bytes.
pub fn call(bytes: usize) -> String {
    let (mark, text) = (Ask::Large.mark(), prose(bytes));
    format!(
        r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{{"name":{mark},"arguments":{{"id":"8f14e45f","text":"{text}"}}}}}}"#
    )
}

/// A list answer of so many tools, each described at the length that real servers have.
pub fn list(count: usize) -> String {
    let mut text = String::from(r#"{"jsonrpc":"2.0","id":17,"result":{"tools":["#);
    for number in 0..count {
        let comma = if number == 0 { "" } else { "," };
        let verb = if number % 10 == 9 { "delete" } else { "get" };
        // Writing to a String can't fail.
        write!(
            text,
            r#"{comma}{{"name":"{verb}_item_{number}","title":"Item {number}","description":"Works on item {number} of the collection. Takes the id of the item and the fields that are wanted; answers with one object.","inputSchema":{{"type":"object","properties":{{"id":{{"type":"string"}},"fields":{{"type":"array","items":{{"type":"string"}}}}}},"required":["id"]}},"annotations":{{"readOnlyHint":true}}}}"#
        )
        .unwrap_or_default();
    }
    text.push_str("]}}");
    text
}

fn result(text: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":17,"result":{{"content":[{{"type":"text","text":"{text}"}}],"isError":false}}}}"#
    )
}

fn event(events: &mut String, data: &str) {
    // Writing to a String can't fail.
    write!(events, "event: message\ndata: {data}\n\n").unwrap_or_default();
}

/// Text as it stands in documents: words, a line break and a quoted word now and then, escaped as
/// JSON wants it.
fn prose(bytes: usize) -> String {
    let sentence = r#"The quick brown fox jumps over the \"lazy\" dog, and nobody is surprised by it any more.\n"#;
    let mut text = sentence.repeat(bytes / sentence.len());
    text.push_str(&"x".repeat(bytes - text.len()));
    text
}
