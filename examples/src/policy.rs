//! One policy for the same tools, whichever way they are reached: `axum_router` (HTTP) and `tonic_mcp` (gRPC) both use it.

use tower_token_broker::scope_filter::{Rules, tools};

/// Reads, with the scope for it.
pub(crate) fn reader() -> Rules {
    Rules::new().allow(tools(["list_*", "get_*"]).with_scope("crm:read"))
}

/// Writes too, with the scopes for both.
pub(crate) fn writer() -> Rules {
    reader().allow(tools(["create_*"]).with_scope("crm:read crm:write"))
}
