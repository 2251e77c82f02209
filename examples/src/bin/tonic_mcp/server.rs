//! The MCP server, and the credential that the broker applies for it.

use std::pin::Pin;

use token_broker_grpc::mcp::v1::{Empty, Frame, mcp_server};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status};
use tower_token_broker::{
    exchange::{
        Credential, CredentialError, CredentialRequest, ProvideCredential, UpstreamRefusal,
    },
    prelude::*,
};

/// alice's token for the upstream. No client ever sees it.
pub(crate) const KEY: &str = "tbm-8Jq2vXw5LrT0cZkB7nHd4mPsYf9uGe";

/// An ordinary MCP server: it takes its own token, and is careless with it.
pub(crate) struct Contacts;

#[tonic::async_trait]
impl mcp_server::Mcp for Contacts {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let field = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let token = field("authorization").unwrap_or("nothing");
        let result = if field("mcp-method") == Some("tools/list") {
            let tools = ["get_contact", "create_contact", "delete_contact"];
            let tools = tools.map(|name| format!(r#"{{"name":"{name}"}}"#)).join(",");
            format!(r#""tools":[{tools}]"#)
        } else {
            format!(r#""content":[{{"type":"text","text":"Ada; asked with {token}"}}]"#)
        };
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{result}}}}}"#);
        Ok(Response::new(Frame { json: json.into() }))
    }

    async fn stream(&self, _: Request<Frame>) -> Result<Response<Self::StreamStream>, Status> {
        let progress = concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","#,
            r#""params":{"progressToken":1,"progress":1}}"#,
        );
        let once = tokio_stream::iter([Ok(Frame { json: progress.into() })]);
        Ok(Response::new(Box::pin(once.chain(tokio_stream::pending()))))
    }

    async fn notify(&self, _: Request<Frame>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

/// The one connected account is alice's. `StoredGrants` keeps grants and refreshes them; here one
/// key is enough.
pub(crate) struct OneAccount(pub(crate) Upstream);

impl ProvideCredential for OneAccount {
    fn upstream(&self) -> &Upstream {
        &self.0
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        if request.caller.subject() == "alice" {
            let key = Secret::from_text(KEY.to_owned());
            return Ok(Credential::vouch(key, self.0.origin().clone()));
        }
        Err(CredentialError::ConnectRequired)
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {}

    fn connect_url(&self, _: &Principal) -> Option<Box<str>> {
        Some("https://broker.example.com/connect/crm".into())
    }
}
