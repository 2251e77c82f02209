//! The revisions of MCP.

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
