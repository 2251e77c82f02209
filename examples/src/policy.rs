//! One policy for the same tools over HTTP (`axum_router`) and gRPC (`tonic_mcp`, `grpc_gateway`).

use tower_token_broker::scope_filter::{Rules, tools};

/// Returns rules that allow the tools that read, with the scope `crm:read`.
pub fn reader() -> Rules {
    Rules::new().allow(tools(["list_*", "get_*", "watch_*"]).with_scope("crm:read"))
}

/// Returns rules that also allow the tools that write, with the scopes for both.
pub fn writer() -> Rules {
    reader().allow(tools(["create_*"]).with_scope("crm:read crm:write"))
}
