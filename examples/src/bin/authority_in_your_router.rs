//! The authorization server and a protected MCP server in one axum router: clients find their way
//! by themselves, and users sign in and allow them what they may do.
//!
//! Run: cargo run --release --bin authority_in_your_router
//!
//! It prints the URL of the MCP server and a link for the first account, which works once. Open the
//! link, create an account, and give the URL to an MCP client, such as:
//! ```sh
//! claude mcp add --transport http contacts http://127.0.0.1:PORT/contacts/mcp
//! ```
//! The client registers itself and opens the browser. The page offers `contacts:read` and
//! `contacts:write`; `delete_contact` is denied to everyone. `/connections` shows which clients
//! have access, and ends it. Accounts and tokens are in memory: with `SqlStore` in place of
//! `MemoryAuthority` they last. Ctrl-C and SIGTERM end it.

#![expect(clippy::print_stdout, reason = "the output of the example")]

use std::{env, error::Error};

use axum::Router;
use token_broker_authority::{
    Authority, IssuerUrl, ProtectedServer,
    pages::Site,
    sign_in::{BrowserPages, BrowserPagesOptions, first_account_link},
};
use token_broker_examples::{server, upstream::Contacts};
use token_broker_store::authority::MemoryAuthority;
use token_broker_upstream::prelude::*;
use tokio::net::TcpListener;
use tower_token_broker::{prelude::*, scope_filter::tools};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let contacts = Contacts::start().await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    // In production: the https URL under which browsers and clients reach this process.
    let origin = format!("http://{}", listener.local_addr()?);
    let audit = env::temp_dir().join(format!("authority-{}.jsonl", std::process::id()));
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;

    // The authorization server: who may have which tokens.
    let store = MemoryAuthority::new();
    let resource = Resource::parse(&format!("{origin}/contacts/mcp"))?;
    let scopes = Scopes::parse("contacts:read contacts:write")?;
    let server = ProtectedServer::new(resource.clone(), "Contacts", scopes)
        .scope_text("contacts:read", "read your contacts")
        .scope_text("contacts:write", "create contacts");
    let authority = Authority::builder(&broker, IssuerUrl::parse(&origin)?, store.clone())
        .server(server)
        .start()
        .await?;

    // Its pages: accounts, sign-in, consent, connections.
    let site = Site::new(&origin)?.title("Contacts").server("contacts", resource.as_str());
    let pages = BrowserPages::new(
        &broker,
        (site.clone(), &origin),
        (store.clone(), authority.clone()),
        authority.pending().clone(),
        BrowserPagesOptions::default(),
    );

    // The protected server: its tokens are those of the authority.
    let upstream = Upstream::parse("contacts", &contacts.mcp_url())?;
    let policy = Rules::new()
        .allow(tools(["get_*", "list_*"]).with_scope("contacts:read"))
        .allow(tools(["create_*"]).with_scope("contacts:write"));
    let layer = broker
        .protect(resource.as_str())
        .authenticate(JwtVerifier::new(&origin, authority.keys()))
        .scope_filter(policy)
        .exchange(StaticSecret::new(Secret::from_text(contacts.issue_token()), upstream)?)
        .build()?;
    let proxy = Proxy::new(&Guard::new().allow_loopback("127.0.0.1"))?;

    let link = first_account_link(&store, &site, broker.clock().now()).await?;
    #[expect(clippy::disallowed_methods, reason = "for the person who runs the example")]
    let link = link.expose_text().unwrap_or_default();
    println!("LISTENING {}\nLINK {link}\nAUDIT {}", resource.as_str(), audit.display());
    let router = Router::new()
        .route_service("/contacts/mcp", layer.layer(proxy))
        .merge(broker.metadata_router())
        .merge(pages.router())
        .merge(authority.router(pages));
    Ok(server::serve(&broker, listener, router).await?)
}
