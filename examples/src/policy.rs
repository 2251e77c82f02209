//! One policy for the same tools over HTTP (`axum_router`) and gRPC (`tonic_mcp`, `grpc_gateway`).

use tower_token_broker::scope_filter::{Rules, tools};

/// Tools that read, with the scope for it.
pub(crate) fn reader() -> Rules {
    Rules::new().allow(tools(["list_*", "get_*", "watch_*"]).with_scope("crm:read"))
}

/// Tools that write, too, with the scopes for both.
pub(crate) fn writer() -> Rules {
    reader().allow(tools(["create_*"]).with_scope("crm:read crm:write"))
}
