//! The connect page, its form, and the return of the browser from a server.

use bytes::Bytes;
use http::{Method, Response};
use token_broker_store::{
    Account,
    authority::{AuthorityStore, SessionId},
    connect::{
        BeginConnect, BoxConnections, ConnectError, ConnectionState, Connections as _,
        FinishConnect,
    },
};

use tower_token_broker::principal::Scopes;

use super::{
    BrowserRequest, ClientAccess,
    browser_pages::Shared,
    csrf::is_own_form,
    form::Form,
    request::{method_not_allowed, see_other, see_other_site},
};
use crate::{
    authorize::SignedIn,
    pages::{self, ConnectProblem, ConnectView, PageError},
};

/// A path below `/connect/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectPath<'p> {
    /// `/connect/{server}`
    Page(&'p str),
    /// `/connect/{server}/callback`
    Callback(&'p str),
}

impl<'p> ConnectPath<'p> {
    pub(super) fn of(path: &'p str) -> Option<Self> {
        let rest = path.strip_prefix("/connect/")?;
        let (server, is_callback) = match rest.strip_suffix("/callback") {
            Some(server) => (server, true),
            None => (rest, false),
        };
        let allowed = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        let is_name = (1..=64).contains(&server.len()) && server.bytes().all(allowed);
        let path = if is_callback { Self::Callback(server) } else { Self::Page(server) };
        is_name.then_some(path)
    }
}

impl<S: AuthorityStore, A: ClientAccess> Shared<S, A> {
    /// Responds to a request of the connect flow.
    pub(super) async fn connect_requests(
        &self,
        path: ConnectPath<'_>,
        request: &BrowserRequest<'_>,
    ) -> Response<Bytes> {
        let (ConnectPath::Page(server) | ConnectPath::Callback(server)) = path;
        let known = self.connections.as_ref().filter(|known| known.has_server(server));
        let Some(connections) = known else {
            let unknown = ConnectProblem::Failed(ConnectError::UnknownServer);
            return self.connect_problem(request, &unknown, (server, None));
        };
        match (path, request.method) {
            (ConnectPath::Page(server), &Method::GET | &Method::HEAD) => {
                self.connect_page(connections, request, server).await
            }
            (ConnectPath::Page(server), &Method::POST) => {
                let Ok(form) = Form::read(request.headers, request.body) else {
                    return self.error(request, PageError::FormUnreadable);
                };
                self.begin_connect(connections, request, (server, &form)).await
            }
            (ConnectPath::Page(_), _) => method_not_allowed("GET, HEAD, POST"),
            // E117: no other method brings a code.
            (ConnectPath::Callback(server), &Method::GET) => {
                self.finish_connect(connections, request, server).await
            }
            (ConnectPath::Callback(_), _) => method_not_allowed("GET"),
        }
    }

    async fn connect_page(
        &self,
        connections: &BoxConnections,
        request: &BrowserRequest<'_>,
        server: &str,
    ) -> Response<Bytes> {
        let link = request.query("for").filter(|link| is_base64url(link));
        let ticket = request.query("continue").filter(|ticket| is_ticket(ticket));
        let here = here(server, link.as_deref(), ticket.as_deref());
        let user = match self.session(request.headers).await {
            Ok(Some(user)) => user,
            Ok(None) => {
                let sealed = self.pending.seal_page(&here);
                return see_other(&self.site.path(&format!("/sign-in?continue={sealed}")));
            }
            Err(_) => return self.error(request, PageError::Unavailable),
        };
        let Some(scopes) = scopes_of(connections, &user, (server, link.as_deref())) else {
            let other = ConnectProblem::LinkOfAnother;
            return self.connect_problem(request, &other, (server, None));
        };
        let account = Account::default_account();
        let connection = match connections.connection(&user.user, server, &account).await {
            Ok(Some(connection)) => connection.with_scopes(&scopes),
            Ok(None) => {
                let unknown = ConnectProblem::Failed(ConnectError::UnknownServer);
                return self.connect_problem(request, &unknown, (server, None));
            }
            Err(_) => return self.error(request, PageError::Unavailable),
        };
        let here = self.pending.seal_page(&here);
        let ticket = ticket.as_deref();
        let view =
            ConnectView { connection: &connection, here: &here, link: link.as_deref(), ticket };
        pages::connect(&self.site, &user, &view, self.clock().now())
    }

    async fn begin_connect(
        &self,
        connections: &BoxConnections,
        request: &BrowserRequest<'_>,
        (server, form): (&str, &Form),
    ) -> Response<Bytes> {
        let user = match self.own_form(request, form).await {
            Ok(user) => user,
            Err(response) => return response,
        };
        let ticket = form.get("continue").filter(|ticket| is_ticket(ticket));
        let link = form.get("for").filter(|link| is_base64url(link));
        let Some(scopes) = scopes_of(connections, &user, (server, link)) else {
            let other = ConnectProblem::LinkOfAnother;
            return self.connect_problem(request, &other, (server, None));
        };
        let (account, session) = (Account::default_account(), SessionId::new(&user.session));
        let mut begin = BeginConnect::new(&user.user, server, &account, &session);
        begin.continuation = ticket;
        begin.scopes = scopes;
        begin.selects_account = form.get("action") == Some("choose");
        begin.peer = request.peer;
        match connections.begin(&begin).await {
            Ok(location) => see_other_site(&location),
            Err(error) => {
                let problem = ConnectProblem::Failed(error);
                self.connect_problem(request, &problem, (server, ticket))
            }
        }
    }

    async fn finish_connect(
        &self,
        connections: &BoxConnections,
        request: &BrowserRequest<'_>,
        server: &str,
    ) -> Response<Bytes> {
        let user = match self.session(request.headers).await {
            Ok(Some(user)) => user,
            Ok(None) => {
                let problem = ConnectProblem::NotSignedIn;
                return self.connect_problem(request, &problem, (server, None));
            }
            Err(_) => return self.error(request, PageError::Unavailable),
        };
        let session = SessionId::new(&user.session);
        let query = request.uri.query().unwrap_or_default();
        let mut finish = FinishConnect::new(&user.user, server, &session, query);
        finish.peer = request.peer;
        match connections.finish(&finish).await {
            Ok(connected) => {
                let ticket = connected.continuation.as_deref().filter(|ticket| is_ticket(ticket));
                let is_whole = connected.refused.is_empty();
                // The code does not stay in the address bar.
                see_other(&self.site.path(&match ticket {
                    Some(ticket) if is_whole => format!("/oauth/allowed?ticket={ticket}"),
                    Some(_) | None if !is_whole => here(server, None, ticket),
                    Some(_) | None => format!("/connections?connected={server}"),
                }))
            }
            Err(error) => {
                let ticket = error.continuation().map(Box::from);
                let ticket: Option<Box<str>> = ticket;
                let ticket = ticket.as_deref().filter(|ticket| is_ticket(ticket));
                let problem = ConnectProblem::Failed(error);
                self.connect_problem(request, &problem, (server, ticket))
            }
        }
    }

    /// Disconnects an account, from the form of the account page.
    pub(super) async fn disconnect(
        &self,
        request: &BrowserRequest<'_>,
        (user, server): (&SignedIn, &str),
        account: Option<&str>,
    ) -> Response<Bytes> {
        let Some(connections) = &self.connections else {
            return self.error(request, PageError::FormUnreadable);
        };
        let account = account.map_or(Ok(Account::default_account()), Account::parse);
        let Ok(account) = account else { return self.error(request, PageError::FormUnreadable) };
        match connections.disconnect(&user.user, server, &account, request.peer).await {
            // Of an account that was not connected, too: the result is the same.
            Ok(_) => see_other(&self.site.path("/connections?disconnected=1")),
            Err(_) => self.error(request, PageError::NotEnded),
        }
    }

    /// Returns whether a server needs an account of this user that is not connected.
    pub(super) async fn needs_account(
        &self,
        user: &SignedIn,
        resource: &tower_token_broker::principal::Resource,
    ) -> Result<Option<Box<str>>, token_broker_store::connect::ConnectionsUnavailable> {
        let Some(connections) = &self.connections else { return Ok(None) };
        let Some(server) = connections.server_of(resource) else { return Ok(None) };
        let account = Account::default_account();
        let connection = connections.connection(&user.user, &server, &account).await?;
        let is_missing = connection.is_some_and(|connection| {
            let state = connection.state;
            !state.is_usable() || state == ConnectionState::NeedsUser
        });
        Ok(is_missing.then_some(server))
    }

    /// Returns who sent a form from our own page.
    async fn own_form(
        &self,
        request: &BrowserRequest<'_>,
        form: &Form,
    ) -> Result<SignedIn, Response<Bytes>> {
        let user = match self.session(request.headers).await {
            Ok(Some(user)) => user,
            Ok(None) => return Err(see_other(&self.site.path("/sign-in"))),
            Err(_) => return Err(self.error(request, PageError::Unavailable)),
        };
        match is_own_form(&self.site, request.headers, &user.csrf_token, form.get("csrf")) {
            true => Ok(user),
            false => Err(self.error(request, PageError::Forged)),
        }
    }

    fn connect_problem(
        &self,
        request: &BrowserRequest<'_>,
        problem: &ConnectProblem,
        of: (&str, Option<&str>),
    ) -> Response<Bytes> {
        // Never a scope or a ticket, which the variants may have.
        let page = match problem {
            ConnectProblem::NotSignedIn => "not signed in".to_owned(),
            ConnectProblem::LinkOfAnother => "the link of another user".to_owned(),
            ConnectProblem::Failed(error) => error.to_string(),
        };
        tracing::info!(request.id = %request.id, page, "an error page was shown");
        pages::connect_problem(&self.site, problem, of, request.id)
    }
}

/// Returns the scopes that a link names, if there is one; `None` if it is of another user. The link
/// of one user connects nothing for another.
fn scopes_of(
    connections: &BoxConnections,
    user: &SignedIn,
    (server, link): (&str, Option<&str>),
) -> Option<Scopes> {
    match link {
        Some(link) => connections.scopes_of_link(&user.user, server, link),
        None => Some(Scopes::none()),
    }
}

/// Returns the path of the connect page with these parameters, which need no escape.
fn here(server: &str, link: Option<&str>, ticket: Option<&str>) -> String {
    let mut here = format!("/connect/{server}");
    let link = link.map(|link| format!("for={link}"));
    let ticket = ticket.map(|ticket| format!("continue={ticket}"));
    let query: Vec<_> = link.into_iter().chain(ticket).collect();
    if !query.is_empty() {
        here.push('?');
        here.push_str(&query.join("&"));
    }
    here
}

/// Returns whether a text may be a sealed ticket. Whether it is one is decided where it is opened.
pub(super) fn is_ticket(text: &str) -> bool {
    text.len() <= BeginConnect::MAX_CONTINUATION && is_base64url(text)
}

fn is_base64url(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    !text.is_empty() && text.bytes().all(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_of_servers_have_a_page() {
        assert_eq!(ConnectPath::of("/connect/crm"), Some(ConnectPath::Page("crm")));
        let callback = Some(ConnectPath::Callback("my-crm"));
        assert_eq!(ConnectPath::of("/connect/my-crm/callback"), callback);
        let long = format!("/connect/{}", "a".repeat(65));
        for path in [
            "/connect",
            "/connect/",
            "/connect/a/b",
            "/connect/CRM",
            "/connect/a%2fb",
            "/connect//callback",
            "/connect/a.json",
            "/connections",
            &long,
        ] {
            assert_eq!(ConnectPath::of(path), None, "{path}");
        }
    }

    #[test]
    fn the_page_returns_to_itself() {
        assert_eq!(here("crm", None, None), "/connect/crm");
        assert_eq!(here("crm", Some("a"), Some("b")), "/connect/crm?for=a&continue=b");
        assert!(is_ticket("aZ0-_") && !is_ticket("") && !is_ticket("a&b") && !is_ticket("/a"));
    }
}
