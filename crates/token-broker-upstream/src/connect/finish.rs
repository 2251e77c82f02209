//! The return of the browser: from the code to the grant.

use std::sync::Arc;

use token_broker_outbound::Sent;
use token_broker_store::{
    AccessToken, Grant, GrantSummary, StoreError,
    connect::{
        ConnectError, ConnectStore, Connected, FinishConnect, PendingConnect, RevokedToken,
        RevokedTokenKind,
    },
};
use tower_token_broker::{
    Secret,
    alarm::Alarm,
    audit::{Connection as Recorded, GrantType, Intent, Note, TokenOutcome, TokenReceipt},
    exchange::Origin,
    principal::{GrantId, Initiator, Scopes},
    revocation::RevocationTarget,
    stack::RevokeError,
};

use super::{
    callback::{Callback, Response},
    connector::Inner,
    content::Content,
    give_back::{Granted, pauses},
    listing::is_at,
    random,
    server::ConnectServer,
};
use crate::{
    authorization_server::{
        AuthorizationServer, Codes, Denial, NoTokens, TOKEN_ENDPOINT_TIMEOUT, TokenResponse, Tokens,
    },
    scopes,
};

/// A connect whose browser came back with a code.
struct Finishing<S> {
    shared: Arc<Inner<S>>,
    server: Arc<ConnectServer>,
    connect: PendingConnect,
    content: Content,
    code: Secret,
    peer: Option<std::net::SocketAddr>,
    /// The usable grants that the new one replaces.
    replaced: Vec<GrantSummary>,
}

impl<S: ConnectStore> Inner<S> {
    /// Handles a callback. Nothing is sent before `state`, session, server and issuer are right.
    pub(super) async fn finish_connect(
        shared: &Arc<Self>,
        request: &FinishConnect<'_>,
    ) -> Result<Connected, ConnectError> {
        let callback = Callback::read(request.query).ok_or(ConnectError::State)?;
        let hash = shared.lookup.connect_state(&callback.state);
        let now = shared.broker.clock().now();
        let claimed = shared.store.claim_connect(&hash, request.session, now).await;
        // E110, E111: no difference shows whether there is such a connect.
        let connect = claimed.map_err(|_| ConnectError::Unavailable)?.ok_or(ConnectError::State)?;
        let checked = Self::check(shared, request, &connect, callback);
        match checked {
            Ok((server, content, code)) => {
                let peer = request.peer;
                let shared = Arc::clone(shared);
                let tasks = shared.broker.tasks().clone();
                let replaced = Vec::new();
                let finishing =
                    Finishing { shared, server, connect, content, code, peer, replaced };
                // No caller can cancel it: a code is redeemed once.
                let task = tasks.spawn("connect", async move { finishing.run().await });
                task.await.unwrap_or(Err(ConnectError::Unavailable))
            }
            Err(refused) => {
                // It expires if this fails.
                drop(shared.store.drop_connect(&connect.id).await);
                Err(refused)
            }
        }
    }

    fn check(
        shared: &Arc<Self>,
        request: &FinishConnect<'_>,
        connect: &PendingConnect,
        callback: Callback,
    ) -> Result<(Arc<ConnectServer>, Content, Secret), ConnectError> {
        let server = shared.server(request.server).ok_or(ConnectError::UnknownServer)?;
        if connect.key.user != *request.user || *server.name != *connect.key.server {
            return Err(ConnectError::State);
        }
        let content = Content::read(&connect.content).ok_or(ConnectError::State)?;
        // E113: before the code, and before an error, which may be another server's as well.
        if !callback.issuer.is_of(&content.issuer, content.must_have_issuer) {
            return Err(ConnectError::Issuer);
        }
        match callback.response {
            Response::Code(code) => Ok((server, content, code)),
            Response::Denied => Err(ConnectError::Denied { continuation: content.continuation }),
            Response::Unreadable => Err(ConnectError::State),
        }
    }
}

impl<S: ConnectStore> Finishing<S> {
    async fn run(mut self) -> Result<Connected, ConnectError> {
        let job = self.shared.broker.audit_log().job("connect");
        let job = job.map_err(|_| ConnectError::Unavailable)?;
        // Before the code is used up: a store that can't be read costs the user nothing yet.
        let connected = match self.usable_grants().await {
            Ok(replaced) => {
                self.replaced = replaced;
                self.redeem(job.trail()).await
            }
            Err(_) => Err(ConnectError::Unavailable),
        };
        match &connected {
            Ok(_) => job.complete(),
            Err(error) => {
                job.fail();
                tracing::info!(
                    server.name = &*self.server.name,
                    error = %error,
                    "an account was not connected"
                );
                // It expires if this fails.
                drop(self.shared.store.drop_connect(&self.connect.id).await);
            }
        }
        connected
    }

    async fn redeem(
        &self,
        trail: &tower_token_broker::audit::Trail,
    ) -> Result<Connected, ConnectError> {
        let authorization_server = self.authorization_server().await?;
        let clock = self.shared.broker.clock();
        let now = clock.now();
        let request = authorization_server.code_request(
            (&self.code, &self.content.verifier),
            &self.content.redirect_uri,
            now,
        );
        let request = request.map_err(|_| ConnectError::Unavailable)?;
        let origin = Origin::of(request.uri());
        let origin = origin.as_ref().map_or("", Origin::as_str);
        let requested = &self.content.scopes;
        let intent = Intent::new(&self.server.name, origin, requested, None);
        let receipt = trail.token_request(GrantType::AuthorizationCode, intent).await;
        let receipt = receipt.map_err(|_| ConnectError::Unavailable)?;
        let sent = TokenResponse::to(
            request,
            requested,
            Codes::Standard,
            (&self.server.client, TOKEN_ENDPOINT_TIMEOUT),
            clock,
        );
        match sent.await {
            Ok(response) => {
                let (refresh_token, tokens) = response.into_parts();
                self.keep(refresh_token, tokens, receipt).await
            }
            Err(error) => {
                receipt.finish(match error.sent() {
                    Sent::No => TokenOutcome::Failed,
                    Sent::Maybe => TokenOutcome::Unknown,
                });
                Err(ConnectError::AuthorizationServer { reason: error.code() })
            }
        }
    }

    /// Returns the authorization server as it was when the connect began.
    async fn authorization_server(&self) -> Result<AuthorizationServer, ConnectError> {
        let Content { issuer, token_endpoint, client_id, resource, .. } = &self.content;
        let (store, clients) = (&self.shared.store, &self.shared.clients);
        let client = clients.of_grant(store, &self.server, issuer, client_id.as_deref()).await;
        let client = client.map_err(|_| ConnectError::Unavailable)?;
        let client = client.ok_or(ConnectError::Misconfigured { reason: "connect.client" })?;
        Ok(self.server.requests.at(issuer, token_endpoint, client, resource.as_deref()))
    }

    /// Makes durable what the response contains, the refresh token whatever else it states.
    // E119, design 15.9
    async fn keep(
        &self,
        refresh_token: Option<Secret>,
        tokens: Result<Tokens, NoTokens>,
        receipt: TokenReceipt,
    ) -> Result<Connected, ConnectError> {
        let requested = &self.content.scopes;
        match (refresh_token, tokens) {
            (None, Err(no)) => Err(self.without_tokens(&no, receipt)),
            (Some(refresh_token), Err(no @ NoTokens::Denied { .. })) => {
                // E512: an error next to a refresh token is an error.
                self.give_back(vec![refresh_of(refresh_token)]).await?;
                Err(self.without_tokens(&no, receipt))
            }
            (Some(refresh_token), Err(_)) => {
                let grant = self.grant(requested.clone()).refresh_token(refresh_token);
                self.store(grant, receipt).await
            }
            (refresh_token, Ok(tokens)) => {
                let named = tokens.scopes.clone().unwrap_or_else(|| requested.clone());
                let additional = scopes::missing(&named, requested);
                if !requested.is_empty() && !additional.is_empty() {
                    return self.is_wider(refresh_token, tokens, additional, receipt).await;
                }
                let now = self.shared.broker.clock().now();
                let ends = now.plus(tokens.lifetime);
                let mut access = AccessToken::new(tokens.access_token, named.clone(), now, ends);
                access.requested = scopes::common(requested, &named);
                let mut grant = self.grant(named).access_token(access);
                grant.refresh_token = refresh_token;
                self.store(grant, receipt).await
            }
        }
    }

    fn grant(&self, granted: Scopes) -> Grant {
        let now = self.shared.broker.clock().now();
        let id = GrantId::new(&random::id());
        let mut grant = Grant::new(id, self.connect.key.clone(), &self.content.issuer)
            .connected_at(now)
            .granted(granted);
        grant.client_id = self.content.client_id.clone();
        grant.resource = self.content.resource.clone();
        grant.upstream(&self.content.upstream)
    }

    /// Returns the usable grants of the user and the account at this server, under its name and
    /// former names.
    async fn usable_grants(&self) -> Result<Vec<GrantSummary>, StoreError> {
        let key = &self.connect.key;
        let mut grants = self.shared.grants(&key.user).await?;
        grants.retain(|grant| {
            is_at(&self.server, &grant.key)
                && grant.key.account == key.account
                && grant.state.is_usable()
        });
        Ok(grants)
    }

    /// Stores a grant, ends the one that it replaces, and records the connection.
    async fn store(&self, grant: Grant, receipt: TokenReceipt) -> Result<Connected, ConnectError> {
        // Another connect may have finished meanwhile.
        let latest = self.usable_grants().await.unwrap_or_default();
        let outcome = match self.store_durably(&grant).await {
            Ok(None) => self.stored_after_all(&grant).await,
            outcome => outcome,
        };
        let stored = match outcome {
            Ok(Some(stored)) => {
                receipt.finish(TokenOutcome::Issued);
                stored
            }
            // Disconnected meanwhile: the tokens must not stay alive.
            Ok(None) => {
                receipt.finish(TokenOutcome::Failed);
                self.give_back(tokens_of(&grant)).await?;
                return Err(ConnectError::Overtaken);
            }
            Err(error) => {
                self.not_stored(&error, &grant).await;
                receipt.finish(TokenOutcome::Unknown);
                return Err(ConnectError::Unavailable);
            }
        };
        let initiator = Initiator::user(&self.connect.key.user);
        self.end_replaced(&latest, &stored, &initiator).await;
        let note = Note::connected(recorded(&self.server, &stored));
        let note = self.peer.iter().fold(note, |note, peer| note.peer(*peer));
        let recorded = self.shared.broker.audit_log().note(&initiator, note).await;
        recorded.map_err(|_| ConnectError::Unavailable)?;
        let refused = scopes::missing(&self.content.scopes, &stored.granted);
        let connection = self.shared.shown(&self.server, &stored.to_summary(), None);
        let mut connected = Connected::new(connection, refused);
        connected.continuation = self.content.continuation.clone();
        Ok(connected)
    }

    /// Reports tokens that the store did not take. They are revoked, unless it may have them.
    async fn not_stored(&self, error: &StoreError, grant: &Grant) {
        tracing::error!(
            alarm = Alarm::TokensNotStored.code(),
            error = %error,
            server.name = &*self.server.name,
            "the tokens of a new connection could not be stored"
        );
        if !matches!(error, StoreError::Unreachable) {
            // A failure is in the log as well.
            drop(self.give_back(tokens_of(grant)).await);
        }
    }

    /// Ends the grants that the stored one replaces: caches of all processes have their tokens, and
    /// those under a former name are still in the store.
    async fn end_replaced(&self, latest: &[GrantSummary], stored: &Grant, initiator: &Initiator) {
        let known = |id: &GrantId| self.replaced.iter().any(|before| before.id == *id);
        let others = latest.iter().filter(|grant| !known(&grant.id));
        let replaced = self.replaced.iter().chain(others);
        for replaced in replaced.filter(|before| before.id != stored.id) {
            let target = RevocationTarget::Grant(replaced.id.clone());
            let ended = match self.shared.broker.revoke(target, initiator).await {
                Ok(_) | Err(RevokeError::NotRecorded { .. }) => true,
                Err(_) => false,
            };
            let is_gone = replaced.key == stored.key
                || self.shared.store.revoke(&replaced.to_ref()).await.is_ok();
            if !ended || !is_gone {
                tracing::error!(
                    alarm = Alarm::GrantNotEnded.code(),
                    server.name = &*self.server.name,
                    grant.id = replaced.id.as_str(),
                    "a grant that its user replaced could not be ended everywhere; other processes \
                     may use its token for some minutes"
                );
            }
        }
    }

    /// Returns the grant if it is stored: a step whose response was lost may have taken effect.
    async fn stored_after_all(&self, grant: &Grant) -> Result<Option<Grant>, StoreError> {
        let found = self.shared.store.load(&self.connect.key).await?;
        Ok(found.filter(|found| found.id == grant.id && found.state.is_usable()))
    }

    /// Stores the grant, and retries for a while: the code is used up.
    async fn store_durably(&self, grant: &Grant) -> Result<Option<Grant>, StoreError> {
        let (store, connect) = (&self.shared.store, &self.connect.id);
        for pause in pauses() {
            match store.finish_connect(connect, grant.clone()).await {
                Err(StoreError::Unreachable) => tokio::time::sleep(pause).await,
                stored => return stored,
            }
        }
        store.finish_connect(connect, grant.clone()).await
    }

    /// Refuses tokens with more scopes than were requested: they are kept to be revoked, and not
    /// used.
    async fn is_wider(
        &self,
        refresh_token: Option<Secret>,
        tokens: Tokens,
        additional: Scopes,
        receipt: TokenReceipt,
    ) -> Result<Connected, ConnectError> {
        let mut secrets = vec![&tokens.access_token];
        secrets.extend(&refresh_token);
        tracing::error!(
            alarm = Alarm::WiderScopes.code(),
            server.name = &*self.server.name,
            extra = %scopes::for_log(&additional, &secrets),
            "the authorization server granted more scopes than requested: nothing was connected"
        );
        let mut given: Vec<_> = refresh_token.map(refresh_of).into_iter().collect();
        given.push(RevokedToken::new(RevokedTokenKind::Access, tokens.access_token));
        self.give_back(given).await?;
        receipt.finish(TokenOutcome::Issued);
        Err(ConnectError::WiderScopes { additional })
    }

    /// Keeps tokens that are not used, until their authorization server has revoked them.
    async fn give_back(&self, tokens: Vec<RevokedToken>) -> Result<(), ConnectError> {
        let of = Granted {
            key: &self.connect.key,
            id: GrantId::new(&random::id()),
            issuer: &self.content.issuer,
            client_id: self.content.client_id.as_deref(),
        };
        let kept = self.shared.give_back(of, tokens).await;
        kept.map_err(|_| ConnectError::Unavailable)
    }

    fn without_tokens(&self, no: &NoTokens, receipt: TokenReceipt) -> ConnectError {
        let (problem, outcome, reason) = match no {
            NoTokens::Denied { denial, problem, .. } => {
                if let (Denial::Client, Some(id)) = (denial, &self.content.client_id) {
                    self.shared.clients.forget(&self.content.issuer, id);
                }
                (problem, TokenOutcome::Failed, "connect.refused")
            }
            NoTokens::Failed { problem, .. } => {
                (problem, TokenOutcome::Failed, "connect.bad_response")
            }
            NoTokens::Unknown { problem } => {
                (problem, TokenOutcome::Unknown, "connect.bad_response")
            }
        };
        receipt.finish(outcome);
        tracing::error!(
            alarm = Alarm::ConnectFailed.code(),
            server.name = &*self.server.name,
            cause = problem.cause(),
            status = problem.status(),
            oauth.error = problem.error_code(),
            "an account was not connected: the token endpoint returned no tokens"
        );
        ConnectError::AuthorizationServer { reason }
    }
}

fn refresh_of(secret: Secret) -> RevokedToken {
    RevokedToken::new(RevokedTokenKind::Refresh, secret)
}

/// Returns the tokens of a grant, in the order in which they are revoked.
fn tokens_of(grant: &Grant) -> Vec<RevokedToken> {
    let refresh = grant.refresh_token.iter().cloned().map(refresh_of);
    let access = grant
        .access
        .iter()
        .map(|token| RevokedToken::new(RevokedTokenKind::Access, token.secret.clone()));
    refresh.chain(access).collect()
}

/// Returns what the record has of a connection.
pub(super) fn recorded<'a>(server: &'a ConnectServer, grant: &'a Grant) -> Recorded<'a> {
    let account = grant.key.account.as_str();
    Recorded {
        user: &grant.key.user,
        upstream: &server.name,
        account: (grant.key.account != token_broker_store::Account::default_account())
            .then_some(account),
        grant: &grant.id,
        scopes: &grant.granted,
    }
}
