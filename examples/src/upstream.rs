//! An MCP server and a plain API on loopback, which accept only tokens that they issued.

use std::{collections::HashSet, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::{Request, State},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse as _, Response},
    routing::get,
};
use http::{StatusCode, header::AUTHORIZATION};
use parking_lot::Mutex;
use rmcp::{
    Peer, RoleServer,
    model::{ProgressNotificationParam, RequestMetaObject},
    tool, tool_router,
    transport::streamable_http_server::{
        StreamableHttpServerConfig, StreamableHttpService, session::local::LocalSessionManager,
    },
};
use tokio::net::TcpListener;
use tower_token_broker::tasks::Tasks;

/// A running server. It ends with the process.
#[derive(Clone, Debug)]
pub struct Contacts {
    address: SocketAddr,
    /// The values of `Authorization` that it accepts.
    accepted: Arc<Mutex<HashSet<String>>>,
}

impl Contacts {
    /// Starts a server on a free port.
    ///
    /// # Errors
    /// No port is free.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let contacts = Self { address: listener.local_addr()?, accepted: Arc::default() };
        let mcp = StreamableHttpService::new(
            || Ok(Tools),
            LocalSessionManager::default().into(),
            StreamableHttpServerConfig::default().with_legacy_session_mode(false),
        );
        let router = Router::new()
            .route_service("/mcp", mcp)
            .route("/api/contacts", get(async || r#"["Ada","Grace"]"#))
            .layer(from_fn_with_state(contacts.clone(), check_token));
        let serving = axum::serve(listener, router);
        drop(Tasks::new().spawn("upstream", async move { serving.await }));
        Ok(contacts)
    }

    /// Returns the URL of the MCP server.
    pub fn mcp_url(&self) -> String {
        format!("http://{}/mcp", self.address)
    }

    /// Returns the URL of the API.
    pub fn api_url(&self) -> String {
        format!("http://{}/api", self.address)
    }

    /// Issues a token that this server accepts.
    pub fn issue_token(&self) -> String {
        let mut accepted = self.accepted.lock();
        // The examples never leave loopback: a real server draws its tokens at random.
        let token = format!("tbm-upstream-token-{:08}", accepted.len());
        accepted.insert(format!("Bearer {token}"));
        token
    }
}

async fn check_token(State(contacts): State<Contacts>, request: Request, next: Next) -> Response {
    let value = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    if value.is_some_and(|value| contacts.accepted.lock().contains(value)) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

#[derive(Debug)]
struct Tools;

#[tool_router(server_handler)]
impl Tools {
    /// Lists the contacts.
    #[tool]
    async fn list_contacts(&self) -> String {
        "list_contacts done".to_owned()
    }

    /// Returns one contact.
    #[tool]
    async fn get_contact(&self) -> String {
        "get_contact done".to_owned()
    }

    /// Creates a contact.
    #[tool]
    async fn create_contact(&self) -> String {
        "create_contact done".to_owned()
    }

    /// Deletes a contact.
    #[tool]
    async fn delete_contact(&self) -> String {
        "delete_contact done".to_owned()
    }

    /// Reports changes for 20 seconds.
    #[tool]
    async fn watch_contacts(&self, meta: RequestMetaObject, peer: Peer<RoleServer>) -> String {
        for change in 0..400_u32 {
            if let Some(token) = meta.get_progress_token() {
                let progress = ProgressNotificationParam::new(token, f64::from(change));
                if peer.notify_progress(progress).await.is_err() {
                    break;
                }
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        "watch_contacts done".to_owned()
    }
}
