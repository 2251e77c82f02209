//! The MCP server of all benches: its tools, the calls of a client, the responses and the policy.

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
/// The issuer of the broker tokens.
pub const ISSUER: &str = "https://broker.example.com";
/// The scopes of the broker tokens.
pub const SCOPES: &str = "items:read items:write";

/// Returns [`RESOURCE`], parsed.
///
/// # Panics
/// Never: it is a resource.
pub fn resource() -> Resource {
    Resource::parse(RESOURCE).expect("a resource")
}

/// Returns the policy: a dozen rules, as an operator might write them. It hides one in ten tools of
/// a list.
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

/// A call of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the benches handle each")]
pub enum Call {
    /// A call of about 300 bytes, with a response of the same size.
    Small,
    /// A call with 64 KiB of arguments, and a response of the same size.
    Large,
    /// `tools/list`, with a response of so many tools.
    List(usize),
    /// A call with a response of ten events.
    Events,
}

impl Call {
    /// All calls that the upstream distinguishes.
    pub const ALL: [Self; 5] =
        [Self::Small, Self::Large, Self::List(20), Self::List(500), Self::Events];

    /// Returns text that occurs near the beginning of this request's body, and in no other's.
    pub const fn mark(self) -> &'static str {
        match self {
            Self::Small => "\"get_item\"",
            Self::Large => "\"update_item\"",
            Self::List(20) => "\"page-of-20\"",
            Self::List(_) => "\"page-of-500\"",
            Self::Events => "\"watch_items\"",
        }
    }

    /// Returns the body of the request.
    pub fn request(self) -> String {
        let mark = self.mark();
        match self {
            Self::Small | Self::Events => format!(
                concat!(
                    r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{{"name":{mark},"#,
                    r#""arguments":{{"collection":"contacts","#,
                    r#""id":"8f14e45f-ceea-467f-a0e6-bb4b5b1f0d1c","fields":["name","email","#,
                    r#""phone","city"],"limit":25,"filter":{{"city":"Potsdam","active":true}}}},"#,
                    r#""_meta":{{"progressToken":17}}}}}}"#,
                ),
                mark = mark
            ),
            Self::Large => call(64 * 1024),
            Self::List(_) => {
                format!(
                    concat!(
                        r#"{{"jsonrpc":"2.0","id":17,"method":"tools/list","#,
                        r#""params":{{"cursor":{mark}}}}}"#,
                    ),
                    mark = mark
                )
            }
        }
    }

    /// Returns the body of the upstream's response.
    pub fn response(self) -> String {
        match self {
            Self::Small => result(concat!(
                r#"{\"name\":\"Ada\",\"email\":\"ada@example.com\",\"phone\":\"+49 331 "#,
                r#"0000\",\"city\":\"Potsdam\"}"#,
            )),
            Self::Large => result(&prose(64 * 1024)),
            Self::List(count) => list(count),
            Self::Events => {
                let mut events = String::new();
                for step in 1..10 {
                    event(
                        &mut events,
                        &format!(
                            concat!(
                                r#"{{"jsonrpc":"2.0","method":"notifications/progress","#,
                                r#""params":{{"progressToken":17,"progress":{step},"total":10,"#,
                                r#""message":"looked at shelf {step} of ten"}}}}"#,
                            ),
                            step = step
                        ),
                    );
                }
                event(&mut events, &result("ten shelves were looked at"));
                events
            }
        }
    }

    /// Returns the media type of the response.
    pub const fn response_type(self) -> &'static str {
        match self {
            Self::Events => "text/event-stream",
            Self::Small | Self::Large | Self::List(_) => "application/json",
        }
    }
}

/// Returns a call whose arguments are a text of so many bytes.
pub fn call(bytes: usize) -> String {
    let (mark, text) = (Call::Large.mark(), prose(bytes));
    format!(
        concat!(
            r#"{{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{{"name":{mark},"#,
            r#""arguments":{{"id":"8f14e45f","text":"{text}"}}}}}}"#,
        ),
        mark = mark,
        text = text
    )
}

/// Returns a list of so many tools, with descriptions as long as those of real servers.
pub fn list(count: usize) -> String {
    let mut text = String::from(r#"{"jsonrpc":"2.0","id":17,"result":{"tools":["#);
    for number in 0..count {
        let comma = if number == 0 { "" } else { "," };
        let verb = if number % 10 == 9 { "delete" } else { "get" };
        // Writing to a String cannot fail.
        write!(
            text,
            concat!(
                r#"{comma}{{"name":"{verb}_item_{number}","title":"Item {number}","#,
                r#""description":"Works on item {number} of the collection. Takes the id of the "#,
                r#"item and the fields that are wanted; answers with one object.","#,
                r#""inputSchema":{{"type":"object","properties":{{"id":{{"type":"string"}},"#,
                r#""fields":{{"type":"array","items":{{"type":"string"}}}}}},"required":["id"]}},"#,
                r#""annotations":{{"readOnlyHint":true}}}}"#,
            ),
            comma = comma,
            verb = verb,
            number = number
        )
        .unwrap_or_default();
    }
    text.push_str("]}}");
    text
}

fn result(text: &str) -> String {
    format!(
        concat!(
            r#"{{"jsonrpc":"2.0","id":17,"result":{{"content":[{{"type":"text","#,
            r#""text":"{text}"}}],"isError":false}}}}"#,
        ),
        text = text
    )
}

fn event(events: &mut String, data: &str) {
    // Writing to a String cannot fail.
    write!(events, "event: message\ndata: {data}\n\n").unwrap_or_default();
}

/// Returns text as in documents: words, line breaks and quoted words, escaped for JSON.
fn prose(bytes: usize) -> String {
    let sentence = concat!(
        r#"The quick brown fox jumps over the \"lazy\" dog, and nobody is surprised by it any "#,
        r#"more.\n"#,
    );
    let mut text = sentence.repeat(bytes / sentence.len());
    text.push_str(&"x".repeat(bytes - text.len()));
    text
}
