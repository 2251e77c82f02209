//! The revisions of MCP.

/// A supported revision of MCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revision {
    /// Sessions, `initialize`, a GET stream and DELETE. The header `MCP-Protocol-Version` does not
    /// exist yet, so this revision is assumed if a request states none.
    V2025_03_26,
    /// Adds the header `MCP-Protocol-Version`.
    V2025_06_18,
    /// Adds elicitation in URL mode.
    V2025_11_25,
    /// Stateless. The headers `Mcp-Method` and `Mcp-Name` repeat the message.
    V2026_07_28,
}

/// How client and server agree on a revision, and what follows for each request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lifecycle {
    /// `initialize` agrees on one, and a session may keep it. No header repeats the message.
    Handshake,
    /// Each request states it, and headers repeat the message.
    Stateless,
}

impl Revision {
    /// All supported revisions, the oldest one first.
    pub const ALL: &'static [Self] =
        &[Self::V2025_03_26, Self::V2025_06_18, Self::V2025_11_25, Self::V2026_07_28];

    /// Returns the value of `MCP-Protocol-Version`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Recognizes a revision by its exact text.
    pub(crate) fn parse(text: &[u8]) -> Option<Self> {
        Self::ALL.iter().copied().find(|revision| revision.as_str().as_bytes() == text)
    }

    pub(crate) const fn lifecycle(self) -> Lifecycle {
        match self {
            Self::V2025_03_26 | Self::V2025_06_18 | Self::V2025_11_25 => Lifecycle::Handshake,
            Self::V2026_07_28 => Lifecycle::Stateless,
        }
    }

    /// Whether a server may send the user to a URL by the error −32042. Earlier revisions have no
    /// elicitation in URL mode, and 2026-07-28 has `input_required`.
    pub(crate) const fn has_url_elicitation_error(self) -> bool {
        matches!(self, Self::V2025_11_25)
    }
}

impl Default for Revision {
    /// Returns the revision of a request that states none (MCP 2025-06-18 and 2025-11-25,
    /// "Protocol Version Header").
    fn default() -> Self {
        Self::V2025_03_26
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_text_is_one_revision() {
        for revision in Revision::ALL {
            assert_eq!(Revision::parse(revision.as_str().as_bytes()), Some(*revision));
        }
        for other in ["", "2024-11-05", "2025-06-18 ", "2025-6-18", "DRAFT-2026-v1", "2026-07-29"] {
            assert_eq!(Revision::parse(other.as_bytes()), None, "{other}");
        }
        assert_eq!(Revision::default(), Revision::V2025_03_26);
    }

    #[test]
    fn only_the_newest_revision_has_no_handshake() {
        for revision in Revision::ALL {
            let is_stateless = revision.lifecycle() == Lifecycle::Stateless;
            assert_eq!(is_stateless, *revision == Revision::V2026_07_28, "{revision:?}");
        }
    }
}
