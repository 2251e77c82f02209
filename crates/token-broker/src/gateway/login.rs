//! Sign-in at the gateway: its authorization server and pages, as configured.

use std::io::IsTerminal as _;

use axum::{Router, extract::Path, response::Redirect, routing::get};
use http::{StatusCode, header};
use token_broker_authority::{
    Authority, IssuerUrl, ProtectedServer,
    client::{ClientDocuments, DocumentLimits},
    pages::Site,
    sign_in::{BrowserPages, BrowserPagesOptions, first_account_link},
};
use token_broker_outbound::GuardedClient;
use token_broker_sql::SqlStore;
use token_broker_store::{
    StoreError,
    authority::{AccountStore as _, PageRequest, SessionStore as _},
    connect::BoxConnections,
};
use token_broker_upstream::Connector;
use tower_token_broker::{
    Broker,
    clock::Timestamp,
    principal::{Initiator, User},
};

use super::{
    GatewayError,
    servers::{names_of, scopes_of},
    tokens::origin,
};
use crate::configuration::{self, Configuration};

/// The command that makes a new link for the first account.
const LINK_COMMAND: &str = "token-broker users link";

/// The gateway's authorization server, with its pages.
pub(super) struct Login {
    pub(super) authority: Authority<SqlStore>,
    /// Its endpoints and pages.
    pub(super) router: Router,
    site: Site,
}

impl Login {
    /// Starts it. The first start of a store creates a signing key.
    pub(super) async fn start(
        broker: &Broker,
        store: &SqlStore,
        configuration: &Configuration,
        (login, client, connector): (&configuration::Login, GuardedClient, &Connector<SqlStore>),
    ) -> Result<Self, GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Login(error.to_string());
        let issuer =
            IssuerUrl::parse(&origin(&configuration.public_url)).map_err(|error| failed(&error))?;
        let mut builder =
            Authority::builder(broker, issuer.clone(), store.clone()).settings(login.settings);
        for server in protected(configuration, login)? {
            builder = builder.server(server);
        }
        for client in &login.clients {
            builder = builder.client(client.clone());
        }
        if login.has_client_documents {
            let documents = ClientDocuments::new(broker, client, DocumentLimits::default());
            builder = builder.client_documents(documents);
        }
        if !login.has_registration {
            builder = builder.without_registration();
        }
        let authority = builder.start().await.map_err(|error| failed(&error))?;
        let site = site(configuration, login)?;
        let pages = BrowserPages::new(
            broker,
            (site.clone(), issuer.as_str()),
            (store.clone(), authority.clone()),
            authority.pending().clone(),
            BrowserPagesOptions::default().session_lifetime(login.session_lifetime),
        );
        let pages = pages.connections(BoxConnections::new(connector.clone()));
        let router = document_router(connector)
            .route("/", get(async || Redirect::to("/connections")))
            .merge(pages.router())
            .merge(authority.router(pages));
        Ok(Self { authority, router, site })
    }

    /// Ends the access of all clients, and the sessions of all browsers: some of them may have
    /// ended since a backup was made.
    pub(super) async fn end_everything(
        &self,
        now: Timestamp,
        by: &Initiator,
    ) -> Result<(), GatewayError> {
        let failed = |error: &dyn std::fmt::Display| GatewayError::Login(error.to_string());
        let (store, issuer) = (self.authority.store(), self.authority.issuer().as_str());
        let mut page = PageRequest::first();
        loop {
            let accounts = store.accounts(&page).await.map_err(|error| failed(&error))?;
            let subjects = accounts.rows.iter().map(|account| &*account.subject);
            for subject in subjects.chain(accounts.unreadable.iter().map(|subject| &**subject)) {
                let ended = store.end_sessions(&User::new(issuer, subject), now).await;
                ended.map_err(|error| failed(&error))?;
            }
            match accounts.next {
                Some(next) => page = PageRequest::after(&next),
                None => break,
            }
        }
        let ended = self.authority.end_families(None, None, by).await;
        ended.map(drop).map_err(|error| failed(&error))
    }

    /// Prints the link for the first account to the terminal, if there is no account; without a
    /// terminal, the log names the command that does.
    pub(super) async fn offer_first_account(&self, now: Timestamp) -> Result<(), GatewayError> {
        let store = self.authority.store();
        let failed = |error: StoreError| GatewayError::Login(error.to_string());
        if !store.accounts(&PageRequest::first().limit(1)).await.map_err(failed)?.is_empty() {
            return Ok(());
        }
        if !std::io::stderr().is_terminal() {
            tracing::info!("no account exists yet: `{LINK_COMMAND}` prints the link for the first");
            return Ok(());
        }
        let link = first_account_link(store, &self.site, now).await.map_err(failed)?;
        #[expect(clippy::disallowed_methods, reason = "reviewed: printed to the terminal only")]
        let link = link.expose_text().unwrap_or_default();
        #[expect(clippy::print_stderr, reason = "for the person at the terminal; never in a log")]
        {
            eprintln!("\nNo account exists yet. Create the first one within an hour:\n  {link}\n");
        }
        Ok(())
    }
}

/// Returns the route of the metadata documents that describe the gateway as a client of each
/// server, for authorization servers that fetch them.
fn document_router(connector: &Connector<SqlStore>) -> Router {
    let connector = connector.clone();
    let document = async move |Path(server): Path<String>| {
        let document = connector.client_document(&server).ok_or(StatusCode::NOT_FOUND);
        document.map(|document| ([(header::CONTENT_TYPE, "application/json")], document))
    };
    Router::new().route("/connect/{server}/client-metadata.json", get(document))
}

/// Returns the address of the pages.
pub(crate) fn site(
    configuration: &Configuration,
    login: &configuration::Login,
) -> Result<Site, GatewayError> {
    let here = origin(&configuration.public_url);
    let mut site = Site::new(&here)
        .map_err(|error| GatewayError::Login(error.to_string()))?
        .link_command(LINK_COMMAND);
    if let Some(title) = &login.title {
        site = site.title(title);
    }
    for server in &configuration.servers {
        site = site.server(&server.name, server.resource.as_str());
    }
    Ok(site)
}

/// Returns the servers for which tokens are issued: at each of their names.
pub(super) fn protected(
    configuration: &Configuration,
    login: &configuration::Login,
) -> Result<Vec<ProtectedServer>, GatewayError> {
    let mut all = Vec::new();
    for server in &configuration.servers {
        let (title, scopes) = (server.title.as_deref().unwrap_or(&server.name), scopes_of(server));
        for (resource, _) in names_of(configuration, server)? {
            let is_former = resource != server.resource;
            let mut protected = ProtectedServer::new(resource, title, scopes.clone());
            let texts = login.scope_texts.iter().filter(|(scope, _)| scopes.contains(scope));
            for (scope, text) in texts {
                protected = protected.scope_text(scope, text);
            }
            all.push(if is_former { protected.only_if_named() } else { protected });
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;

    #[test]
    fn the_pages_are_at_the_public_url() {
        let url = Uri::from_static("http://127.0.0.1:8080/");
        assert_eq!(origin(&url), "http://127.0.0.1:8080");
        assert!(Site::new(&origin(&url)).is_ok() && IssuerUrl::parse(&origin(&url)).is_ok());
    }
}
