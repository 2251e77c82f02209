//! Alice connects another account when a call needs it, and disconnects it.

use super::{
    Scenario,
    client::{heard, link_of},
};
use crate::{
    DemoError, Sabotage, browser::Account, form::encode, raw_http::Request, sign_in::REDIRECT_URI,
};

impl Scenario<'_> {
    /// The client calls the other server: without an account, with one, and after its end. Returns
    /// its token.
    pub(super) async fn with_another_account(&mut self) -> Result<String, DemoError> {
        let setup = self.setup;
        let token = setup.token(&setup.tickets, "tickets:read", Account::Later).await?;
        self.broker_tokens.push(token.clone());
        let refused = self.get_ticket(&token).await?;
        self.step(
            "The client requests access to Tickets. Alice allows it, but connects no account yet. \
             The client calls get_ticket",
            heard(&refused),
        )
        .await?;

        self.connect_unseen().await?;
        let link = link_of(&refused).filter(|_| self.sabotage != Some(Sabotage::FollowNoLink));
        if let Some(link) = &link {
            setup.browser.lock().await.follow(link).await?;
        }
        let called = self.get_ticket(&token).await?;
        self.step(
            "Alice opens that page and connects her Tickets account. The client repeats the call, \
             with the same token",
            heard(&called),
        )
        .await?;

        self.disconnect(&token, link.is_some()).await?;
        Ok(token)
    }

    async fn disconnect(&mut self, token: &str, is_connected: bool) -> Result<(), DemoError> {
        let setup = self.setup;
        if is_connected && self.sabotage != Some(Sabotage::DisconnectNothing) {
            setup.browser.lock().await.disconnect(setup.tickets.name()).await?;
        }
        self.marks.tickets_disconnected = setup.tickets.log().len();
        let called = self.get_ticket(token).await?;
        // The broker revokes the tokens at the upstream by itself.
        setup.until_recorded("upstream_revocation").await?;
        self.step(
            "Alice disconnects her Tickets account. The client repeats the call",
            heard(&called),
        )
        .await
    }

    /// Lets another client have access to alice's account, for a demo that must fail.
    async fn connect_unseen(&self) -> Result<(), DemoError> {
        if self.sabotage != Some(Sabotage::ConnectUnseen) {
            return Ok(());
        }
        let tickets = &self.setup.tickets;
        let message = format!(r#"{{"redirect_uris":["{REDIRECT_URI}"]}}"#);
        let (to, path, message) = (tickets.address(), "/register", Some(&*message));
        let registered = Request { to, path, token: "", message }.response().await?;
        let (_, rest) = registered.body().split_once("\"client_id\":\"").unwrap_or_default();
        let query = encode(&[
            ("response_type", "code"),
            ("client_id", rest.split('"').next().unwrap_or_default()),
            ("redirect_uri", REDIRECT_URI),
            ("code_challenge", "another"),
            ("code_challenge_method", "S256"),
            ("resource", &tickets.mcp_url()),
            ("scope", "tickets:read"),
        ]);
        let url = format!("{}/authorize?{query}", tickets.issuer());
        self.setup.browser.lock().await.allow_at_upstream(&url).await
    }
}
