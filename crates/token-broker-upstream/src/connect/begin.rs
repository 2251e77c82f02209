//! The beginning of a connect: everything is decided before the browser leaves.

use std::{sync::Arc, time::Duration};

use token_broker_store::{
    GrantKey,
    connect::{BeginConnect, ConnectError, ConnectId, ConnectStore, PendingConnect},
};
use tower_token_broker::{Secret, alarm::Alarm, exchange::Origin, principal::Scopes};

use super::{
    connector::Inner,
    content::Content,
    discovery::{Found, NotFound},
    listing::is_at,
    random,
    server::{ConnectServer, ResourceParameter},
};

/// Time for the user to come back.
pub(super) const LIFETIME: Duration = Duration::from_secs(600);

impl From<NotFound> for ConnectError {
    fn from(not_found: NotFound) -> Self {
        match not_found.is_retryable {
            true => Self::AuthorizationServer { reason: not_found.code },
            false => Self::Misconfigured { reason: not_found.code },
        }
    }
}

impl<S: ConnectStore> Inner<S> {
    /// Begins a connect, and returns where the browser goes.
    pub(super) async fn begin_connect(
        &self,
        request: &BeginConnect<'_>,
    ) -> Result<Box<str>, ConnectError> {
        let server = self.server(request.server).ok_or(ConnectError::UnknownServer)?;
        if request.continuation.is_some_and(|text| text.len() > BeginConnect::MAX_CONTINUATION) {
            return Err(ConnectError::State);
        }
        if !self.quotas.admits(request.user, &server.name) {
            return Err(ConnectError::TooMany);
        }
        let found = self.discoveries.for_connect(&server).await;
        let found = found.inspect_err(|not_found| self.report(&server, not_found))?;
        let redirect_uri = self.redirect_uri(&server.name);
        let client = self.clients.of_connect(&self.store, &server, &found, &redirect_uri).await?;
        let scopes = self.requested_scopes(&server, request).await?;
        let (state, verifier) = (random::secret(), random::secret());
        let content = Content {
            issuer: found.issuer.clone(),
            upstream: server.origin().as_ref().map_or("", Origin::as_str).into(),
            token_endpoint: found.token_endpoint.clone(),
            must_have_issuer: found.has_issuer_in_response,
            client_id: client.id,
            redirect_uri: redirect_uri.into(),
            resource: resource(&server, found.resource.as_deref()),
            scopes,
            verifier,
            continuation: request.continuation.map(Into::into),
        };
        let client_id = client.authentication.client_id();
        let url = location(&server, &found, client_id, &content, &state, request.selects_account);
        let now = self.broker.clock().now();
        let connect = PendingConnect::new(
            (ConnectId::new(&random::id()), self.key(request.user, &server, request.account)),
            request.session.clone(),
            content.to_secret(),
            (now, now.plus(LIFETIME)),
        );
        let stored = self.store.put_connect(&self.lookup.connect_state(&state), &connect).await;
        stored.map_err(|_| ConnectError::Unavailable)?;
        Ok(url)
    }

    /// Returns the scopes that a connect requests: the operator's, and those of rules for which the
    /// user came, or which the user has given before.
    // I535
    async fn requested_scopes(
        &self,
        server: &ConnectServer,
        request: &BeginConnect<'_>,
    ) -> Result<Scopes, ConnectError> {
        let grants = self.grants(request.user).await.map_err(|_| ConnectError::Unavailable)?;
        let given = grants.iter().filter(|grant| {
            is_at(server, &grant.key)
                && grant.key.account == *request.account
                && grant.state.is_usable()
        });
        let wanted =
            given.fold(request.scopes.clone(), |wanted, grant| wanted.union(&grant.granted));
        Ok(server.operator_scopes().union(&server.of_rules(&wanted)))
    }

    pub(super) fn report(&self, server: &ConnectServer, not_found: &NotFound) {
        tracing::error!(
            alarm = Alarm::ConnectFailed.code(),
            server.name = &*server.name,
            reason = not_found.code,
            "users cannot connect accounts at this server: its authorization server was not found, \
             or announces what cannot be used"
        );
    }

    pub(super) fn key(
        &self,
        user: &tower_token_broker::principal::User,
        server: &Arc<ConnectServer>,
        account: &token_broker_store::Account,
    ) -> GrantKey {
        GrantKey::new(user.clone(), &server.name, account.clone())
    }
}

/// Returns the parameter `resource` of all requests for a server.
pub(super) fn resource(server: &ConnectServer, named: Option<&str>) -> Option<Box<str>> {
    match &server.resource {
        ResourceParameter::Upstream => Some(server.upstream.to_string().into()),
        ResourceParameter::Metadata => {
            Some(named.map_or_else(|| server.upstream.to_string().into(), Into::into))
        }
        ResourceParameter::Text(text) => Some(text.clone()),
        ResourceParameter::None => None,
    }
}

/// Returns the URL of the authorize request (RFC 6749 §4.1.1, RFC 7636 §4.3, RFC 8707 §2.1).
#[expect(clippy::disallowed_methods, reason = "reviewed: the state goes to the browser")]
fn location(
    server: &ConnectServer,
    found: &Found,
    client_id: &str,
    content: &Content,
    state: &Secret,
    selects_account: bool,
) -> Box<str> {
    let mut url = found.authorization_endpoint.clone();
    {
        let mut query = url.query_pairs_mut();
        query
            .append_pair("response_type", "code")
            .append_pair("client_id", client_id)
            .append_pair("redirect_uri", &content.redirect_uri)
            .append_pair("state", state.expose_text().unwrap_or_default())
            .append_pair("code_challenge", &random::challenge(&content.verifier))
            .append_pair("code_challenge_method", "S256");
        if !content.scopes.is_empty() {
            query.append_pair("scope", &content.scopes.to_string());
        }
        if let Some(resource) = &content.resource {
            query.append_pair("resource", resource);
        }
        let has_prompt = server.parameters.iter().any(|(name, _)| **name == *"prompt");
        for (name, value) in &server.parameters {
            let is_replaced = selects_account && **name == *"prompt";
            let both = format!("select_account {value}");
            query.append_pair(name, if is_replaced { &both } else { value });
        }
        if selects_account && !has_prompt {
            query.append_pair("prompt", "select_account");
        }
    }
    String::from(url).into()
}
