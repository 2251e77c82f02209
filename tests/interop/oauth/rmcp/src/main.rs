//! rmcp as an OAuth client, in all phases of a trial: `interop-rmcp-oauth legacy|modern`.
//!
//! Each connection has a new manager on the credentials of the earlier ones, as in a new process.

#![expect(clippy::disallowed_methods, reason = "the trial passes addresses in the environment")]

use std::{env, error::Error, time::Duration};

use rmcp::{
    RoleClient,
    model::{CallToolRequestParams, ProtocolVersion},
    service::{ClientLifecycleMode, ClientServiceExt as _, RunningService},
    transport::{
        StreamableHttpClientTransport,
        auth::{
            AuthClient, AuthorizationManager, AuthorizationRequest, InMemoryCredentialStore,
            OAuthState,
        },
        streamable_http_client::StreamableHttpClientTransportConfig,
    },
};
use serde_json::json;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[tokio::main]
async fn main() -> Result<()> {
    let lifecycle = match env::args().nth(1).as_deref() {
        Some("legacy") => ClientLifecycleMode::Initialize,
        Some("modern") => ClientLifecycleMode::Discover {
            preferred_versions: vec![ProtocolVersion::V_2026_07_28],
        },
        other => return Err(format!("legacy or modern, not {other:?}").into()),
    };
    let trial = Trial { lifecycle, credentials: InMemoryCredentialStore::new() };
    trial.control("phase", "sign-in").await?;
    trial.call().await?;
    trial.control("phase", "expired").await?;
    let lifetime: u64 = env::var("LIFETIME")?.parse()?;
    tokio::time::sleep(Duration::from_secs(lifetime + 1)).await;
    trial.call().await?;
    trial.control("phase", "restarted").await?;
    trial.control("restart", "").await?;
    trial.call().await?;
    trial.control("phase", "revoked").await?;
    trial.control("revoke", "").await?;
    trial.call().await
}

struct Trial {
    lifecycle: ClientLifecycleMode,
    credentials: InMemoryCredentialStore,
}

impl Trial {
    /// Connects, lists the tools and calls one.
    async fn call(&self) -> Result<()> {
        let client = self.connect().await?;
        let tools = client.list_all_tools().await?;
        let names: Vec<_> = tools.iter().map(|tool| tool.name.as_ref()).collect();
        if !names.contains(&"get_item") || names.contains(&"delete_item") {
            return Err(format!("the list: {names:?}").into());
        }
        let arguments = json!({"number": 7}).as_object().cloned().unwrap_or_default();
        let call = CallToolRequestParams::new("get_item").with_arguments(arguments);
        let result = client.call_tool(call).await?;
        let text = result.content.first().and_then(|block| block.as_text());
        if text.is_none_or(|text| text.text != "item 7") {
            return Err(format!("the call: {result:?}").into());
        }
        client.cancel().await?;
        Ok(())
    }

    /// Connects with the credentials that are stored. If the server requires others, the user signs
    /// in, once.
    async fn connect(&self) -> Result<RunningService<RoleClient, ()>> {
        let error = match self.start(self.manager().await?).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let Some(challenge) = error.auth_challenge() else { return Err(error.into()) };
        let manager = self.authorize(challenge).await?;
        Ok(self.start(manager).await?)
    }

    async fn start(
        &self,
        manager: AuthorizationManager,
    ) -> std::result::Result<RunningService<RoleClient, ()>, rmcp::service::ClientInitializeError>
    {
        let http = AuthClient::new(reqwest::Client::default(), manager);
        let config = StreamableHttpClientTransportConfig::with_uri(url());
        let transport = StreamableHttpClientTransport::with_client(http, config);
        ().serve_with_lifecycle(transport, self.lifecycle.clone()).await
    }

    async fn manager(&self) -> Result<AuthorizationManager> {
        let mut manager = AuthorizationManager::new(url()).await?;
        manager.set_credential_store(self.credentials.clone());
        manager.initialize_from_store().await?;
        Ok(manager)
    }

    /// Identifies the client by its document, if there is one, or registers it.
    async fn authorize(&self, challenge: &str) -> Result<AuthorizationManager> {
        let mut request = AuthorizationRequest::new("http://127.0.0.1:3030/callback")
            .with_client_name("rmcp")
            .with_challenge(challenge);
        if let Ok(document) = env::var("DOCUMENT") {
            request = request.with_client_metadata_url(document);
        }
        let mut state = OAuthState::Unauthorized(self.manager().await?);
        state.start_authorization(request).await?;
        let ended = self.control("browser", &state.get_authorization_url().await?).await?;
        state.handle_callback_url(&ended).await?;
        state.into_authorization_manager().ok_or_else(|| "not authorized".into())
    }

    /// Calls the trial: its user, its operator or its record of phases.
    async fn control(&self, what: &str, body: &str) -> Result<String> {
        let url = format!("{}/{what}", env::var("CONTROL")?);
        let response = reqwest::Client::default().post(url).body(body.to_owned()).send().await?;
        let is_success = response.status().is_success();
        let text = response.text().await?;
        if is_success { Ok(text) } else { Err(format!("/{what}: {text}").into()) }
    }
}

fn url() -> String {
    env::var("MCP_URL").unwrap_or_default()
}
