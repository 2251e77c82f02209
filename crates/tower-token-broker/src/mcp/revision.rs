//! The revisions of MCP.

/// A supported revision of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revision {
    /// Sessions, `initialize`, a GET stream and DELETE. Assumed if a request states no revision.
    V2025_11_25,
    /// Stateless. The headers `Mcp-Method` and `Mcp-Name` repeat the message.
    V2026_07_28,
}

impl Revision {
    /// Returns the value of `MCP-Protocol-Version`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }
}
