//! The pages of the authorize endpoint.

use bytes::Bytes;
use http::{HeaderMap, Response};
use token_broker_store::authority::AuthorityStore;
use tower_token_broker::{principal::Resource, request_id::RequestId};

use super::{
    BrowserPages, ClientAccess, connect::is_ticket, csrf::is_own_form, request::see_other,
};
use crate::{
    authorize::{
        AuthorizePageError, ConsentRequest, Interaction, RefusedRequest, SessionsUnavailable,
        SignedIn,
    },
    pages::{authorize_error, consent, refused_request},
};

impl<S: AuthorityStore, A: ClientAccess> Interaction for BrowserPages<S, A> {
    async fn signed_in(
        &self,
        headers: &HeaderMap,
    ) -> Result<Option<SignedIn>, SessionsUnavailable> {
        self.shared().session(headers).await.map_err(|_| SessionsUnavailable::new())
    }

    fn sign_in(&self, pending: &str) -> Response<Bytes> {
        // Base64url needs no escape.
        see_other(&self.shared().site.path(&format!("/sign-in?continue={pending}")))
    }

    fn consent(&self, user: &SignedIn, request: &ConsentRequest) -> Response<Bytes> {
        consent(&self.shared().site, user, request)
    }

    async fn needs_account(
        &self,
        user: &SignedIn,
        resource: &Resource,
    ) -> Result<bool, SessionsUnavailable> {
        let server = self.shared().needs_account(user, resource).await;
        server.map(|server| server.is_some()).map_err(|_| SessionsUnavailable::new())
    }

    async fn connect_first(
        &self,
        user: &SignedIn,
        resource: &Resource,
        ticket: &str,
    ) -> Result<Option<Response<Bytes>>, SessionsUnavailable> {
        let server = self.shared().needs_account(user, resource).await;
        let server = server.map_err(|_| SessionsUnavailable::new())?;
        // A request that is too long to be carried along: the application asks later.
        let server = server.filter(|_| is_ticket(ticket));
        Ok(server.map(|server| {
            see_other(&self.shared().site.path(&format!("/connect/{server}?continue={ticket}")))
        }))
    }

    fn is_own_form(&self, user: &SignedIn, headers: &HeaderMap, token: Option<&str>) -> bool {
        is_own_form(&self.shared().site, headers, &user.csrf_token, token)
    }

    fn error(&self, error: AuthorizePageError, request: &RequestId) -> Response<Bytes> {
        authorize_error(&self.shared().site, error, *request)
    }

    fn refused(&self, refused: &RefusedRequest, request: &RequestId) -> Response<Bytes> {
        refused_request(&self.shared().site, refused, *request)
    }
}
