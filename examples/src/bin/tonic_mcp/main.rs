//! MCP over gRPC: a tonic server, the broker as one layer around it, and a client that holds only
//! broker tokens.
//!
//! Run:  cargo run --release --bin tonic_mcp
//! Keep: cargo run --release --bin tonic_mcp -- --serve     (prints its address and tokens; a line
//!       on its input revokes all of them, Ctrl-C and SIGTERM end it)
//!
//! It prints what the client sees: a call that is allowed, one that is denied (`delete_*`, refused
//! like a tool that does not exist), one that needs a scope, one of a user without a connected
//! account, and a stream that is cut when its token is revoked. The server echoes the upstream's
//! token into every response; the last line reports whether any of it reached the client. The
//! policy is that of `axum_router`.

#![expect(clippy::print_stdout, reason = "the output of the example")]

mod client;
mod server;

use std::{env, error::Error, io, thread, time::Duration};

use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_examples::{policy, shutdown};
use token_broker_grpc::mcp::v1::mcp_server::McpServer;
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tower_token_broker::{
    exchange::ApplyCredentialLayer, limits::GrpcOptions, prelude::*, tasks::Tasks,
};

use self::server::{Contacts, KEY, OneAccount};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/"))?;
    let keys = SigningKeys::generate(Algorithm::Es256)?;
    let issuer = Issuer::new("https://authority.example.com", keys);
    let audit = env::temp_dir().join(format!("tonic_mcp-{}.jsonl", std::process::id()));
    let broker = Broker::builder().audit(JsonLines::append(&audit)?).build()?;
    let layer = broker
        .protect(resource.as_str())
        .protocol(Protocol::Grpc(GrpcOptions::default()))
        .authenticate(JwtVerifier::new(issuer.name(), issuer.keys()))
        .scope_filter(policy::writer())
        .exchange(OneAccount(Upstream::parse("crm", &origin)?))
        .build()?;
    // The server in this process takes the place of a proxy: the credential is applied around it.
    let server = Server::builder()
        // A client that is gone without closing its connection is disconnected.
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .layer(layer)
        .layer(ApplyCredentialLayer::new())
        .add_service(McpServer::new(Contacts))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown::signal());
    let server = async { server.await.map_err(io::Error::other) };

    let token = |user: &str| -> Result<String, Box<dyn Error>> {
        let mint = Mint::for_user(user).client("example").resource(&resource);
        Ok(issuer.mint(mint.scopes(Scopes::parse("crm:read")?))?.into_text())
    };
    let (alice, bob) = (token("alice")?, token("bob")?);
    if env::args().any(|argument| argument == "--serve") {
        println!("LISTENING {origin}\nTOKEN alice {alice}\nTOKEN bob {bob}");
        println!("AUDIT {}", audit.display());
        tokio::select! {
            // Either may be dropped: the process ends.
            served = shutdown::serve(&broker, server) => return Ok(served?),
            failed = revoke_at_a_line(&broker) => return failed,
        }
    }
    drop(Tasks::new().spawn("server", server));
    let mut received = client::story(&broker, origin, &alice, &bob).await?;
    broker.shutdown(Duration::from_secs(5)).await?;
    received.push_str(&std::fs::read_to_string(&audit)?);
    std::fs::remove_file(&audit)?;
    if received.contains(KEY) {
        return Err("THE UPSTREAM'S TOKEN LEAKED".into());
    }
    println!("the upstream's token is nowhere in what the client received");
    Ok(())
}

/// Revokes everything when a line arrives on the standard input. Completes only if that fails.
async fn revoke_at_a_line(broker: &Broker) -> Result<(), Box<dyn Error>> {
    let (send, line) = oneshot::channel();
    // tokio's standard input would keep the process until a line arrives.
    thread::spawn(move || {
        if io::stdin().read_line(&mut String::new()).is_ok_and(|bytes| bytes > 0) {
            send.send(()).unwrap_or_default();
        }
    });
    if line.await.is_ok() {
        broker.revoke(RevocationTarget::Everything, &Initiator::operator("example")).await?;
        println!("REVOKED");
    }
    std::future::pending().await
}
