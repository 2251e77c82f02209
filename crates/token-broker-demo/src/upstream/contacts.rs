//! The MCP server of an upstream, with six tools.

use std::time::Duration;

use rmcp::{
    ErrorData, RoleServer, ServerHandler,
    model::{
        CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, JsonObject,
        ListToolsResult, PaginatedRequestParams, ProgressNotificationParam, ServerCapabilities,
        ServerConfig, Tool,
    },
    service::RequestContext,
};
use serde_json::json;

use super::Kind;

/// The MCP server.
#[derive(Clone, Debug)]
pub(super) struct Contacts(pub(super) Kind);

impl Contacts {
    fn tools(&self) -> [(String, String); 6] {
        let Kind { noun, .. } = self.0;
        [
            (format!("list_{noun}s"), format!("List all {noun}s")),
            (format!("get_{noun}"), format!("Get one {noun}")),
            (format!("create_{noun}"), format!("Create a {noun}")),
            (format!("delete_{noun}"), format!("Delete a {noun}")),
            ("export_everything".to_owned(), "Export all data".to_owned()),
            (format!("watch_{noun}s"), "Report changes".to_owned()),
        ]
    }
}

impl ServerHandler for Contacts {
    fn get_info(&self) -> ServerConfig {
        let mut info = ServerConfig::default();
        info.capabilities = ServerCapabilities::builder().enable_tools().build();
        info
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        let schema: JsonObject = [("type".to_owned(), json!("object"))].into_iter().collect();
        let tools =
            self.tools().map(|(name, description)| Tool::new(name, description, schema.clone()));
        Ok(ListToolsResult::with_all_items(tools.to_vec()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        if !self.tools().iter().any(|(name, _)| *name == request.name) {
            return Err(ErrorData::invalid_params("unknown tool", None));
        }
        if request.name.starts_with("watch_") {
            // 20 seconds of changes: if the stream ends earlier, it was cut.
            for change in 0..400_u32 {
                if let Some(token) = context.meta.get_progress_token() {
                    let progress = ProgressNotificationParam::new(token, f64::from(change));
                    if context.peer.notify_progress(progress).await.is_err() {
                        break;
                    }
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        let text = format!("{}: {} done", self.0.name, request.name);
        Ok(CallToolResult::success(vec![ContentBlock::text(text)]).into())
    }
}
