//! From the form of a consent page to the code.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Response, StatusCode};
use token_broker_store::{
    StoreError,
    authority::{AuthorityStore, ClientId, Code, CodeState, SessionId, StoredCode},
};
use tower_token_broker::{
    audit::{Consent, IssuedCode, Note},
    principal::{Initiator, Resource, Scopes, TokenTimes, Verified as Authorization},
    refusal::Reason,
};

use super::{
    AuthorizeEndpoint, AuthorizePageError as PageError, ConsentRequest, Interaction, SignedIn,
    endpoint::Step,
    redirect::{Answer, redirect},
    request::{Refused, Verified},
    ticket::{Purpose, Ticket},
};
use crate::{
    oauth_error::ErrorCode,
    params::{Params, is_form},
    request::EndpointRequest,
};

/// The form of a page, as its user sent it.
#[derive(Clone, Copy)]
struct Decision<'a> {
    request: &'a EndpointRequest,
    user: &'a SignedIn,
    ticket: &'a Ticket,
    is_allowed: bool,
}

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
        let ticket = Ticket::open(sealed, keys, clock, &user, Purpose::Form);
        let ticket = ticket.ok_or(PageError::Expired)?;
        let verified = self.verify_again(request, &ticket.pending).await?;
        let is_allowed = match params.get(ConsentRequest::DECISION_FIELD) {
            Some(ConsentRequest::ALLOW) => true,
            Some(ConsentRequest::DENY) => false,
            _ => return Err(PageError::Unreadable),
        };
        let chosen = params.get(ConsentRequest::RESOURCE_FIELD);
        // A denial concerns no server in particular.
        let choice = match self.choice(&ticket, chosen) {
            Err(_) if !is_allowed => choice_denied(&ticket)?,
            choice => choice?,
        };
        if is_allowed
            && let Some(connect) = self.connect_first(interaction, &user, &ticket, &choice).await?
        {
            return Ok(connect);
        }
        let decision = Decision { request, user: &user, ticket: &ticket, is_allowed };
        self.issue(interaction, &decision, (choice, &verified)).await
    }

    /// Responds when a user who has allowed access comes back from connecting an account, or
    /// continues without.
    ///
    /// # Cancellation
    /// As for [`AuthorizeEndpoint::decide`].
    pub(crate) async fn allowed<I: Interaction>(
        &self,
        interaction: &I,
        request: &EndpointRequest,
    ) -> Response<Bytes> {
        let responded = async {
            self.limit(request, Step::Decide)?;
            let signed_in = interaction.signed_in(&request.headers).await;
            let user = signed_in.map_err(|_| PageError::Unavailable)?.ok_or(PageError::Expired)?;
            let ticket = self.allowed_ticket(request, &user)?;
            let verified = self.verify_again(request, &ticket.pending).await?;
            let choice = self.choice(&ticket, None)?;
            let decision = Decision { request, user: &user, ticket: &ticket, is_allowed: true };
            self.issue(interaction, &decision, (choice, &verified)).await
        };
        responded.await.unwrap_or_else(|error| self.refuse(interaction, Refused::Page(error)))
    }

    /// Returns the request that the user allowed in this session.
    // Its seal proves the form: only the decision makes one.
    fn allowed_ticket(
        &self,
        request: &EndpointRequest,
        user: &SignedIn,
    ) -> Result<Ticket, PageError> {
        let query = request.query.as_deref().unwrap_or_default();
        let params = Params::parse(query.as_bytes()).map_err(|_| PageError::Unreadable)?;
        let sealed = params.get("ticket").ok_or(PageError::Unreadable)?;
        let (keys, clock) = (self.broker.sealing_keys(), self.broker.clock());
        Ticket::open(sealed, keys, clock, user, Purpose::Allowed).ok_or(PageError::Expired)
    }

    /// Returns the response that lets the user connect an account first, if the server needs one.
    async fn connect_first<I: Interaction>(
        &self,
        interaction: &I,
        user: &SignedIn,
        ticket: &Ticket,
        choice: &Choice,
    ) -> Result<Option<Response<Bytes>>, PageError> {
        let allowed = Ticket {
            pending: ticket.pending.clone(),
            offered: vec![(choice.resource.clone(), choice.scopes.clone())],
            code: ticket.code.clone(),
            family: ticket.family.clone(),
        };
        let (keys, clock) = (self.broker.sealing_keys(), self.broker.clock());
        let sealed = allowed.seal(keys, clock, user, Purpose::Allowed);
        let sealed = sealed.ok_or(PageError::Unreadable)?;
        let connect = interaction.connect_first(user, &choice.resource, &sealed).await;
        connect.map_err(|_| PageError::Unavailable)
    }

    /// Decides on the request, and returns the redirect to the client.
    async fn issue<I: Interaction>(
        &self,
        interaction: &I,
        decision: &Decision<'_>,
        (choice, verified): (Choice, &Verified),
    ) -> Result<Response<Bytes>, PageError> {
        let Decision { request, user, ticket, .. } = *decision;
        let is_issued = self.complete(decision, choice).await?;
        // D504: the session may have ended meanwhile, with the codes that were stored by then.
        let signed_in = interaction.signed_in(&request.headers).await;
        let signed_in = signed_in.map_err(|_| PageError::Unavailable)?;
        if signed_in.is_none_or(|now| now.session != user.session || now.user != user.user) {
            self.end(decision).await?;
            return Err(PageError::Expired);
        }
        #[expect(clippy::disallowed_methods, reason = "returned to its client")]
        let issued = ticket.code.expose_text().unwrap_or_default();
        let answer = match is_issued {
            true => Answer::Code(issued),
            false => Answer::Error(ErrorCode::AccessDenied),
        };
        let state = ticket.pending.state.as_deref();
        let status = StatusCode::SEE_OTHER;
        Ok(redirect(&verified.redirect, &answer, state, &self.issuer, status))
    }

    /// Returns what is allowed: what the page offered, as far as it is still configured.
    // D503: never more than the page showed.
    fn choice(&self, ticket: &Ticket, chosen: Option<&str>) -> Result<Choice, PageError> {
        let named = |resource: &Resource| match (chosen, ticket.offered.len()) {
            (Some(chosen), _) => chosen == resource.as_str(),
            (None, count) => count == 1,
        };
        let offered = ticket.offered.iter().find(|(resource, _)| named(resource));
        let (resource, offered) = offered.ok_or(PageError::Unreadable)?;
        let scopes = self.servers.remaining(resource, offered).ok_or(PageError::Expired)?;
        Ok(Choice { resource: resource.clone(), scopes })
    }

    /// Decides on the request, once, and returns whether its code is issued.
    async fn complete(&self, decision: &Decision<'_>, choice: Choice) -> Result<bool, PageError> {
        let Decision { request, user, ticket, is_allowed } = *decision;
        let now = self.broker.clock().now();
        // The code of a denial is over when it is stored.
        let lifetime = if is_allowed { self.settings.code_lifetime } else { Duration::ZERO };
        let client = ClientId::new(&ticket.pending.client);
        let ids = (SessionId::new(&user.session), ticket.family.clone());
        let times = (now, now.plus(lifetime));
        let code = Code::new(user.user.clone(), client, choice.resource, ids, times)
            .redirect_uri(&ticket.pending.redirect_uri)
            .scopes(choice.scopes)
            .challenge(&ticket.pending.challenge)
            .authenticated_at(user.authenticated_at.unwrap_or(now));
        // F511: each is a token family, and the end of a family is a revocation.
        if is_allowed && self.allowed_per_user.take(user.user.clone()).is_err() {
            let decided = self.decided_before(decision, &code).await;
            let is_new = decided == Err(PageError::AlreadyDecided);
            return if is_new { Err(PageError::TooManyRequests) } else { decided };
        }
        let hash = self.lookup.code(&ticket.code);
        // D501: stored once, so each form is decided once. No one has the code yet.
        let stored = self.store.put_code(&hash, &code).await;
        if is_allowed && stored.is_err() {
            self.allowed_per_user.give_back(&user.user);
        }
        match stored {
            Ok(()) => {}
            Err(StoreError::Exists { .. }) => return self.decided_before(decision, &code).await,
            Err(_) => return Err(PageError::Unavailable),
        }
        let may_issue = is_allowed && self.permits(user, &code)?;
        let recorded = self.record(request, user, &code, (is_allowed, may_issue)).await;
        if !may_issue || recorded.is_err() {
            self.end(decision).await?;
        }
        recorded?;
        if may_issue {
            // F145: a client that a user has allowed is not removed as an unused one.
            let used = self.store.mark_client_used(&code.client, now).await;
            used.map_err(|_| PageError::Unavailable)?;
            // F522
            self.directory.documents().mark_in_use(code.client.as_str());
        }
        Ok(may_issue)
    }

    /// Responds to a form that was decided before: a double click, or a page that was loaded again.
    /// The same decision has the same outcome, as long as its code can be redeemed. The browser may
    /// have received only this response.
    // D501: the code is the same one, so no second one is issued.
    async fn decided_before(
        &self,
        decision: &Decision<'_>,
        again: &Code,
    ) -> Result<bool, PageError> {
        let Decision { request, user, ticket, is_allowed } = *decision;
        let hash = self.lookup.code(&ticket.code);
        let stored = async || {
            let stored = self.store.code(&hash).await.map_err(|_| PageError::Unavailable)?;
            stored.ok_or(PageError::AlreadyDecided)
        };
        let found = stored().await?;
        let now = self.broker.clock().now();
        let is_usable =
            |stored: &StoredCode| stored.state == CodeState::Unused && now < stored.code.expires_at;
        if !is_allowed {
            let is_denied = !is_usable(&found) && !matches!(found.state, CodeState::Redeemed(_));
            let was_denied = found.code.expires_at == found.code.issued_at;
            let is_same = is_denied && was_denied;
            return if is_same { Ok(false) } else { Err(PageError::AlreadyDecided) };
        }
        if !is_usable(&found) || !is_same_decision(&found.code, again) {
            return Err(PageError::AlreadyDecided);
        }
        if !self.permits(user, &found.code)? {
            return Err(PageError::AlreadyDecided);
        }
        // F503: the record of the first response may not be durable yet, in another process.
        self.record(request, user, &found.code, (true, true)).await?;
        if is_usable(&stored().await?) { Ok(true) } else { Err(PageError::AlreadyDecided) }
    }

    /// Ends the code of a form.
    async fn end(&self, decision: &Decision<'_>) -> Result<(), PageError> {
        let hash = self.lookup.code(&decision.ticket.code);
        let ended = self.store.end_code(&hash, self.broker.clock().now()).await;
        ended.map(drop).map_err(|_| PageError::Unavailable)
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
            self.record_issue(request, user, code).await?;
        }
        Ok(())
    }

    async fn record_issue(
        &self,
        request: &EndpointRequest,
        user: &SignedIn,
        code: &Code,
    ) -> Result<(), PageError> {
        let note = Note::code_issued(IssuedCode {
            user: &user.user,
            client: code.client.as_str(),
            resource: &code.resource,
            scopes: &code.scopes,
            family: code.family.as_str(),
            expires: code.expires_at,
        });
        let initiator = Initiator::user(&user.user);
        let recorded = self.broker.audit_log().note(&initiator, request.with_peer(note)).await;
        recorded.map_err(|_| PageError::Unavailable)
    }
}

/// Returns the first server of the page: a denial concerns none in particular.
fn choice_denied(ticket: &Ticket) -> Result<Choice, PageError> {
    let (resource, scopes) = ticket.offered.first().ok_or(PageError::Expired)?;
    Ok(Choice { resource: resource.clone(), scopes: scopes.clone() })
}

/// Returns whether both codes mean the same, whenever they were made.
fn is_same_decision(stored: &Code, again: &Code) -> bool {
    stored.user == again.user
        && stored.client == again.client
        && stored.redirect_uri == again.redirect_uri
        && stored.resource == again.resource
        && stored.scopes == again.scopes
        && stored.challenge == again.challenge
        && stored.session == again.session
}
