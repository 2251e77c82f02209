//! MCP as it is on the wire: one strict reading of a message, the header fields beside it, and event streams.

pub(crate) mod answer;
pub(crate) mod headers;
pub(crate) mod message;
pub(crate) mod sse;
pub mod strict_json;

/// What a list holds.
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
