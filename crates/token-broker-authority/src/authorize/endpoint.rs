//! From the authorization request to the consent page.

use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use token_broker_store::authority::{AuthorityStore, LookupKey};
use tower_token_broker::{Broker, principal::User, request_id::RequestId};

use super::{
    AuthorizePageError as PageError, AuthorizeSettings, ConsentClient, ConsentRedirect,
    ConsentRequest, Interaction, Pending, PendingRequests, RefusedRequest,
    consent::ClientIdentity,
    redirect::{Answer, location, redirect},
    request::{ErrorForClient, Refused, Verified, validate, verify},
    ticket::{Purpose, Ticket},
};
use crate::{
    client::{Client, ClientOrigin, Directory, VerifiedRedirect},
    limits::{CallerLimiter, Limiter, Network},
    oauth_error::ErrorCode,
    params::Params,
    request::EndpointRequest,
    servers::Servers,
    token::TokenSettings,
};

/// The authorize endpoint.
#[derive(Debug)]
pub(crate) struct AuthorizeEndpoint<S> {
    pub(crate) broker: Broker,
    pub(crate) issuer: Box<str>,
    pub(crate) base_path: Box<str>,
    pub(crate) store: Arc<S>,
    pub(crate) lookup: LookupKey,
    pub(crate) directory: Arc<Directory<S>>,
    pub(crate) servers: Servers,
    pub(crate) pending: PendingRequests,
    pub(crate) settings: AuthorizeSettings,
    pub(crate) tokens: TokenSettings,
    pub(crate) per_address: CallerLimiter<Step>,
    pub(crate) allowed_per_user: Limiter<User>,
}

/// A step of an authorization. Each has a quota of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    Authorize,
    Continue,
    Decide,
}

impl<S: AuthorityStore> AuthorizeEndpoint<S> {
    /// Responds to an authorization request.
    pub(crate) async fn authorize<I: Interaction>(
        &self,
        interaction: &I,
        request: &EndpointRequest,
    ) -> Response<Bytes> {
        let responded = async {
            self.limit(request, Step::Authorize).map_err(Refused::Page)?;
            let query = request.query.as_deref().unwrap_or_default();
            let params = Params::parse(query.as_bytes())
                .map_err(|_| Refused::Page(PageError::Unreadable))?;
            let (client, uri) = (params.get("client_id"), params.get("redirect_uri"));
            let caller = Network::of(request.peer);
            let verified = verify(&self.directory, (client, uri), caller).await;
            let verified = verified.map_err(Refused::Page)?;
            let pending = validate(&params, &verified, &self.servers)?;
            self.ask(interaction, request, pending, &verified).await
        };
        responded.await.unwrap_or_else(|refused| self.refuse(interaction, refused))
    }

    /// Responds where a request continues after its user has signed in.
    pub(crate) async fn resume<I: Interaction>(
        &self,
        interaction: &I,
        request: &EndpointRequest,
    ) -> Response<Bytes> {
        let responded = async {
            self.limit(request, Step::Continue).map_err(Refused::Page)?;
            let query = request.query.as_deref().unwrap_or_default();
            let params = Params::parse(query.as_bytes())
                .map_err(|_| Refused::Page(PageError::Unreadable))?;
            let sealed = params.get("request").ok_or(Refused::Page(PageError::Expired))?;
            let pending = self.pending.open(sealed).ok_or(Refused::Page(PageError::Expired))?;
            // The client may be another one since.
            let verified = self.verify_again(request, &pending).await.map_err(Refused::Page)?;
            self.ask(interaction, request, pending, &verified).await
        };
        responded.await.unwrap_or_else(|refused| self.refuse(interaction, refused))
    }

    pub(super) async fn verify_again(
        &self,
        request: &EndpointRequest,
        pending: &Pending,
    ) -> Result<Verified, PageError> {
        let of_client = (Some(&*pending.client), Some(&*pending.redirect_uri));
        verify(&self.directory, of_client, Network::of(request.peer)).await
    }

    /// Counts a request of this step.
    // D532: before anything is opened, looked up or fetched.
    pub(super) fn limit(&self, request: &EndpointRequest, step: Step) -> Result<(), PageError> {
        let taken = self.per_address.take_for(Network::of(request.peer), &step);
        taken.map_err(|_wait| PageError::TooManyRequests)
    }

    /// Shows the consent page, or lets the user sign in first.
    // D097: a page in each case. Consent is not remembered.
    async fn ask<I: Interaction>(
        &self,
        interaction: &I,
        request: &EndpointRequest,
        pending: Pending,
        verified: &Verified,
    ) -> Result<Response<Bytes>, Refused> {
        let signed_in = interaction.signed_in(&request.headers).await;
        let signed_in = signed_in.map_err(|_| Refused::Page(PageError::Unavailable))?;
        let Some(user) = signed_in else {
            return Ok(interaction.sign_in(&self.pending.seal(&pending)));
        };
        let offered = self.servers.offered(pending.resource.as_ref(), pending.scopes.as_ref());
        if offered.is_empty() {
            return Err(verified.refused(pending.state.as_deref(), ErrorCode::InvalidTarget));
        }
        let mut servers = Vec::new();
        for (server, scopes) in &offered {
            let needs_account = interaction.needs_account(&user, server.resource()).await;
            let needs_account = needs_account.map_err(|_| Refused::Page(PageError::Unavailable))?;
            servers.push(server.on_page(scopes).needs_account(needs_account));
        }
        let redirect = on_page(&verified.redirect);
        let pages =
            offered.iter().map(|(server, scopes)| (server.resource().clone(), scopes.clone()));
        let restart = self.pending.seal(&pending);
        let ticket = Ticket::new(pending, pages.collect());
        let ticket = ticket.map_err(|_| Refused::Page(PageError::Unavailable))?;
        let sealed =
            ticket.seal(self.broker.sealing_keys(), self.broker.clock(), &user, Purpose::Form);
        let sealed = sealed.ok_or(Refused::Page(PageError::Unreadable))?;
        let client = self.on_page(&verified.client);
        let mut page = ConsentRequest::new(client, redirect, servers, &sealed);
        page.pending = restart.into();
        page.action = format!("{}/oauth/consent", self.base_path).into();
        page.idle_lifetime = self.tokens.refresh_idle_lifetime;
        page.absolute_lifetime = self.tokens.refresh_absolute_lifetime;
        Ok(interaction.consent(&user, &page))
    }

    pub(crate) fn on_page(&self, client: &Client) -> ConsentClient {
        let identity = match &client.origin {
            ClientOrigin::Configured => ClientIdentity::Configured,
            ClientOrigin::Document { host } => {
                ClientIdentity::MetadataDocument { host: host.clone() }
            }
            ClientOrigin::Registered { at } => {
                ClientIdentity::SelfRegistered { since: at.until(self.broker.clock().now()) }
            }
        };
        ConsentClient::new(client.id.as_str(), client.name.as_deref(), identity)
    }

    pub(super) fn refuse<I: Interaction>(
        &self,
        interaction: &I,
        refused: Refused,
    ) -> Response<Bytes> {
        match refused {
            Refused::Redirect(ErrorForClient { to, state, code }) => {
                tracing::info!(code = code.as_str(), "an authorization request was refused");
                let answer = Answer::Error(code);
                redirect(&to, &answer, state.as_deref(), &self.issuer, StatusCode::FOUND)
            }
            Refused::Link(ErrorForClient { to, state, code }, client) => {
                let id = request_id(code.as_str());
                let answer = Answer::Error(code);
                let link = location(&to, &answer, state.as_deref(), &self.issuer);
                let client = self.on_page(&client);
                interaction.refused(&RefusedRequest::new(code, client, on_page(&to), &link), &id)
            }
            Refused::Page(error) => {
                let id = request_id(error.code());
                interaction.error(error, &id)
            }
        }
    }
}

fn on_page(redirect: &VerifiedRedirect) -> ConsentRedirect {
    ConsentRedirect::new(redirect.as_str(), redirect.host(), redirect.target())
}

/// Logs an error page, and returns the ID that it shows.
fn request_id(code: &str) -> RequestId {
    let mut bits = [0; 16];
    // Without random numbers, the ID is no help; the page is shown all the same.
    let is_random = aws_lc_rs::rand::fill(&mut bits).is_ok();
    let id = RequestId::from_bits(bits);
    tracing::info!(request.id = %id, code, is_random, "an error page was shown");
    id
}
