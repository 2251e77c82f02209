//! The account page with its forms, and signing out.

use bytes::Bytes;
use http::Response;
use token_broker_store::{authority::AuthorityStore, connect::Connections as _};
use tower_token_broker::audit::{Note, SignOutExtent};

use super::{
    BrowserRequest, ClientAccess,
    browser_pages::Shared,
    cookie::{self, CookieKind},
    csrf::is_own_form,
    form::Form,
    request::{see_other, with_cookie},
};
use crate::{
    authorize::SignedIn,
    pages::{self, Accounts, Notice, PageError, SignedOut},
};

/// Returns the news that a redirect to the account page carries.
fn notice_of(request: &BrowserRequest<'_>) -> Option<Notice> {
    let notices = [
        ("ended", Notice::Ended),
        ("connected", Notice::Connected),
        ("disconnected", Notice::Disconnected),
    ];
    let notice = notices.into_iter().find(|(name, _)| request.query(name).is_some());
    notice.map(|(_, notice)| notice)
}

impl<S: AuthorityStore, A: ClientAccess> Shared<S, A> {
    /// Shows the account page.
    pub(super) async fn connections_page(&self, request: &BrowserRequest<'_>) -> Response<Bytes> {
        let user = match self.session(request.headers).await {
            Ok(Some(user)) => user,
            Ok(None) => return see_other(&self.site.path("/sign-in")),
            Err(_) => return self.error(request, PageError::Unavailable),
        };
        let Ok(view) = self.access.clients(&user.user).await else {
            return self.error(request, PageError::Unavailable);
        };
        let connections = match &self.connections {
            None => None,
            Some(connections) => Some(connections.connections(&user.user).await.ok()),
        };
        let accounts = connections
            .as_ref()
            .map(|connections| Accounts { connections: connections.as_deref() });
        let notice = notice_of(request);
        pages::connections(&self.site, &user, (&view, accounts), notice, self.clock().now())
    }

    /// Ends the access of one token family, or everything.
    pub(super) async fn change_connections(
        &self,
        request: &BrowserRequest<'_>,
        form: &Form,
    ) -> Response<Bytes> {
        let user = match self.session(request.headers).await {
            Ok(Some(user)) => user,
            Ok(None) => return see_other(&self.site.path("/sign-in")),
            Err(_) => return self.error(request, PageError::Unavailable),
        };
        if !is_own_form(&self.site, request.headers, &user.csrf_token, form.get("csrf")) {
            return self.error(request, PageError::Forged);
        }
        match (form.get("action"), form.get("family")) {
            (Some("end"), Some(family)) => match self.access.end(&user.user, family).await {
                // Q304: an unknown family and one of another user have the same response.
                Ok(true | false) => see_other(&self.site.path("/connections?ended=1")),
                Err(_) => self.error(request, PageError::NotEnded),
            },
            (Some("end-all"), _) => self.end_everything(request, &user).await,
            (Some("disconnect"), _) => match form.get("server") {
                Some(server) => {
                    self.disconnect(request, (&user, server), form.get("account")).await
                }
                None => self.error(request, PageError::FormUnreadable),
            },
            (Some(_) | None, _) => self.error(request, PageError::FormUnreadable),
        }
    }

    /// Ends all access and all sessions of a user. Access first: while it is not ended, the user
    /// can try again in this session.
    async fn end_everything(
        &self,
        request: &BrowserRequest<'_>,
        user: &SignedIn,
    ) -> Response<Bytes> {
        if self.access.end_all(&user.user).await.is_err()
            || self.store.end_sessions(&user.user, self.clock().now()).await.is_err()
        {
            return self.error(request, PageError::NotEnded);
        }
        let note = Note::signed_out(&user.user, SignOutExtent::Everywhere);
        // What has ended stays ended without a record; the user learns that something is wrong.
        if self.note(request, Some(&user.user), note).await.is_err() {
            return self.error(request, PageError::Unavailable);
        }
        self.leave(pages::signed_out(&self.site, SignedOut::Everywhere))
    }

    /// Ends the session of this browser. With a waiting application, another user can sign in.
    pub(super) async fn sign_out(
        &self,
        request: &BrowserRequest<'_>,
        form: &Form,
    ) -> Response<Bytes> {
        let user = match self.session(request.headers).await {
            Ok(Some(user)) => user,
            // D534: another site may have sent this, without the cookie that the browser has.
            Ok(None) => return pages::signed_out(&self.site, SignedOut::Here),
            Err(_) => return self.error(request, PageError::Unavailable),
        };
        if !is_own_form(&self.site, request.headers, &user.csrf_token, form.get("csrf")) {
            return self.error(request, PageError::Forged);
        }
        let note = Note::signed_out(&user.user, SignOutExtent::Session);
        if self.end_session(request.headers).await.is_err()
            || self.note(request, Some(&user.user), note).await.is_err()
        {
            return self.error(request, PageError::Unavailable);
        }
        match self.waiting(form.get("continue")) {
            Ok(Some(waiting)) => {
                // Base64url needs no escape.
                let path = format!("/sign-in?continue={}", waiting.sealed);
                self.leave(see_other(&self.site.path(&path)))
            }
            Ok(None) | Err(_) => self.leave(pages::signed_out(&self.site, SignedOut::Here)),
        }
    }

    fn leave(&self, response: Response<Bytes>) -> Response<Bytes> {
        with_cookie(response, cookie::remove(&self.site, CookieKind::Session))
    }
}
