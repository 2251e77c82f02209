//! From the form of a consent page to the code.

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use token_broker_store::{
    StoreError,
    authority::{AuthorityStore, ClientId, Code, SessionId},
};
use tower_token_broker::{
    audit::{Consent, IssuedCode, Note},
    principal::{Initiator, Resource, Scopes, TokenTimes, Verified as Authorization},
    refusal::Reason,
};

use super::{
    AuthorizeEndpoint, AuthorizePageError as PageError, ConsentRequest, Interaction, Pending,
    SignedIn,
    endpoint::Step,
    redirect::{Answer, redirect},
    request::{Refused, Verified},
    ticket::Ticket,
};
use crate::{
    oauth_error::ErrorCode,
    params::{Params, is_form},
    request::EndpointRequest,
};

/// A server that the user chose, or the only one.
struct Choice {
    resource: Resource,
    scopes: Scopes,
}

impl<S: AuthorityStore> AuthorizeEndpoint<S> {
    /// Responds to the form of a consent page.
    ///
    /// # Cancellation
    /// The code may be stored; no one has it.
    pub(crate) async fn decide<I: Interaction>(
        &self,
        interaction: &I,
        request: &EndpointRequest,
    ) -> Response<Bytes> {
        match self.decided(interaction, request).await {
            Ok(response) => response,
            Err(error) => self.refuse(interaction, Refused::Page(error)),
        }
    }

    async fn decided<I: Interaction>(
        &self,
        interaction: &I,
        request: &EndpointRequest,
    ) -> Result<Response<Bytes>, PageError> {
        self.limit(request, Step::Decide)?;
        if request.method != Method::POST || !is_form(&request.headers) {
            return Err(PageError::Unreadable);
        }
        let params = Params::parse(&request.body).map_err(|_| PageError::Unreadable)?;
        if params.has_repeated() {
            return Err(PageError::Unreadable);
        }
        let signed_in = interaction.signed_in(&request.headers).await;
        let user = signed_in.map_err(|_| PageError::Unavailable)?.ok_or(PageError::Expired)?;
        // D098
        let csrf = params.get(ConsentRequest::CSRF_FIELD);
        if !interaction.is_own_form(&user, &request.headers, csrf) {
            return Err(PageError::Forged);
        }
        let sealed = params.get(ConsentRequest::REQUEST_FIELD).ok_or(PageError::Unreadable)?;
        let (keys, clock) = (self.broker.sealing_keys(), self.broker.clock());
        let ticket = Ticket::open(sealed, keys, clock, &user).ok_or(PageError::Expired)?;
        let verified = self.verify_again(request, &ticket.pending).await?;
        let is_allowed = match params.get(ConsentRequest::DECISION_FIELD) {
            Some(ConsentRequest::ALLOW) => true,
            Some(ConsentRequest::DENY) => false,
            _ => return Err(PageError::Unreadable),
        };
        let chosen = params.get(ConsentRequest::RESOURCE_FIELD);
        // A denial concerns no server in particular.
        let choice = match self.choice(&ticket.pending, chosen) {
            Err(_) if !is_allowed => self.choice_denied(&ticket.pending)?,
            choice => choice?,
        };
        self.complete(request, &user, &ticket, &verified, (&choice, is_allowed)).await
    }

    fn choice(&self, pending: &Pending, chosen: Option<&str>) -> Result<Choice, PageError> {
        let offered = self.servers.offered(pending.resource.as_ref(), pending.scopes.as_ref());
        let named = |resource: &Resource| match (chosen, offered.len()) {
            (Some(chosen), _) => chosen == resource.as_str(),
            (None, count) => count == 1,
        };
        let choice = offered.iter().find(|(server, _)| named(server.resource()));
        let (server, scopes) = choice.ok_or(PageError::Unreadable)?;
        Ok(Choice { resource: server.resource().clone(), scopes: scopes.clone() })
    }

    fn choice_denied(&self, pending: &Pending) -> Result<Choice, PageError> {
        let offered = self.servers.offered(pending.resource.as_ref(), pending.scopes.as_ref());
        let (server, scopes) = offered.into_iter().next().ok_or(PageError::Expired)?;
        Ok(Choice { resource: server.resource().clone(), scopes })
    }

    async fn complete(
        &self,
        request: &EndpointRequest,
        user: &SignedIn,
        ticket: &Ticket,
        verified: &Verified,
        (choice, is_allowed): (&Choice, bool),
    ) -> Result<Response<Bytes>, PageError> {
        let now = self.broker.clock().now();
        let expires = now.plus(self.settings.code_lifetime);
        let client = ClientId::new(&ticket.pending.client);
        let ids = (SessionId::new(&user.session), ticket.family.clone());
        let code =
            Code::new(user.user.clone(), client, choice.resource.clone(), ids, (now, expires))
                .redirect_uri(verified.redirect.as_str())
                .scopes(choice.scopes.clone())
                .challenge(&ticket.pending.challenge)
                .authenticated_at(user.authenticated_at.unwrap_or(now));
        let hash = self.lookup.code(&ticket.code);
        // D501: stored once, so each form is decided once. No one has the code yet.
        match self.store.put_code(&hash, &code).await {
            Ok(()) => {}
            Err(StoreError::Exists { .. }) => return Err(PageError::AlreadyDecided),
            Err(_) => return Err(PageError::Unavailable),
        }
        let may_issue = is_allowed && self.permits(user, &code)?;
        let recorded = self.record(request, user, &code, (is_allowed, may_issue)).await;
        if !may_issue || recorded.is_err() {
            self.store.end_code(&hash, now).await.map_err(|_| PageError::Unavailable)?;
        }
        recorded?;
        if may_issue {
            // F145: a client that a user has allowed is not removed as an unused one.
            let used = self.store.mark_client_used(&code.client, now).await;
            used.map_err(|_| PageError::Unavailable)?;
            // F522
            self.directory.documents().mark_in_use(code.client.as_str());
        }
        #[expect(clippy::disallowed_methods, reason = "returned to its client")]
        let issued = ticket.code.expose_text().unwrap_or_default();
        let answer = match may_issue {
            true => Answer::Code(issued),
            false => Answer::Error(ErrorCode::AccessDenied),
        };
        let state = ticket.pending.state.as_deref();
        let status = StatusCode::SEE_OTHER;
        Ok(redirect(&verified.redirect, &answer, state, &self.issuer, status))
    }

    /// Returns whether the user may allow anything: not while blocked.
    fn permits(&self, user: &SignedIn, code: &Code) -> Result<bool, PageError> {
        let times = TokenTimes { id: "", issued_at: code.issued_at, expires_at: code.expires_at };
        let (user, client) = (user.user.clone(), code.client.as_str());
        let authorization = Authorization::vouch(user, client, code.resource.clone(), times);
        match self.broker.revocations().permits(&authorization) {
            Ok(()) => Ok(true),
            Err(Reason::Blocked) => Ok(false),
            // Of this very second: the next attempt is later.
            Err(_) => Err(PageError::Unavailable),
        }
    }

    async fn record(
        &self,
        request: &EndpointRequest,
        user: &SignedIn,
        code: &Code,
        (is_allowed, may_issue): (bool, bool),
    ) -> Result<(), PageError> {
        let log = self.broker.audit_log();
        let initiator = Initiator::user(&user.user);
        let (client, resource, scopes) = (code.client.as_str(), &code.resource, &code.scopes);
        let consent = Consent { user: &user.user, client, resource, scopes };
        let note = match is_allowed {
            true => Note::consent_allowed(consent),
            false => Note::consent_denied(consent),
        };
        let unavailable = |_| PageError::Unavailable;
        log.note(&initiator, request.with_peer(note)).await.map_err(unavailable)?;
        if may_issue {
            let note = Note::code_issued(IssuedCode {
                user: &user.user,
                client,
                resource,
                scopes,
                family: code.family.as_str(),
                expires: code.expires_at,
            });
            log.note(&initiator, request.with_peer(note)).await.map_err(unavailable)?;
        }
        Ok(())
    }
}
