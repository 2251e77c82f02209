//! MCP as it is on the wire: one strict reading of a message, the header fields beside it, and
//! event streams.

pub(crate) mod headers;
pub(crate) mod message;
pub(crate) mod response;
pub(crate) mod sse;

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

/// The MCP revisions that we speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revision {
    /// Sessions, `initialize`, GET stream, DELETE. Also what is assumed where a request names no
    /// revision.
    V2025_11_25,
    /// Stateless; `Mcp-Method` and `Mcp-Name` beside the body.
    V2026_07_28,
}

impl Revision {
    /// As `MCP-Protocol-Version` has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }
}
