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

use std::{env, error::Error, io, pin::Pin, sync::LazyLock, thread, time::Duration};

use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_grpc::{
    Revision, call,
    mcp::v1::{Empty, Frame, mcp_client::McpClient, mcp_server},
};
use tokio::{net::TcpListener, sync::oneshot};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};
use tonic_types::StatusExt as _;
use tower_token_broker::{
    exchange::{
        ApplyCredentialLayer, Credential, CredentialError, CredentialRequest, ProvideCredential,
        UpstreamRefusal,
    },
    limits::GrpcOptions,
    prelude::*,
    tasks::Tasks,
};

#[path = "../policy.rs"]
mod policy;
#[path = "../shutdown.rs"]
mod shutdown;

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);
/// alice's token for the upstream. No client ever sees it.
const KEY: &str = "tbm-8Jq2vXw5LrT0cZkB7nHd4mPsYf9uGe";

/// An ordinary MCP server: it takes its own token, and is careless with it.
struct Contacts;

#[tonic::async_trait]
impl mcp_server::Mcp for Contacts {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let field = |name| request.metadata().get(name).and_then(|value| value.to_str().ok());
        let token = field("authorization").unwrap_or("nothing");
        let result = if field("mcp-method") == Some("tools/list") {
            let tools = ["get_contact", "create_contact", "delete_contact"];
            let tools = tools.map(|name| format!(r#"{{"name":"{name}"}}"#)).join(",");
            format!(r#""tools":[{tools}]"#)
        } else {
            format!(r#""content":[{{"type":"text","text":"Ada; asked with {token}"}}]"#)
        };
        let json = format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{result}}}}}"#);
        Ok(Response::new(Frame { json: json.into() }))
    }

    async fn stream(&self, _: Request<Frame>) -> Result<Response<Self::StreamStream>, Status> {
        let progress = concat!(
            r#"{"jsonrpc":"2.0","method":"notifications/progress","#,
            r#""params":{"progressToken":1,"progress":1}}"#,
        );
        let once = tokio_stream::iter([Ok(Frame { json: progress.into() })]);
        Ok(Response::new(Box::pin(once.chain(tokio_stream::pending()))))
    }

    async fn notify(&self, _: Request<Frame>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

/// The one connected account is alice's. `StoredGrants` keeps grants and refreshes them; here one
/// key is enough.
struct OneAccount(Upstream);

impl ProvideCredential for OneAccount {
    fn upstream(&self) -> &Upstream {
        &self.0
    }

    async fn credential(
        &self,
        request: &CredentialRequest<'_>,
    ) -> Result<Credential, CredentialError> {
        if request.caller.subject() == "alice" {
            let key = Secret::from_text(KEY.to_owned());
            return Ok(Credential::vouch(key, self.0.origin().clone()));
        }
        Err(CredentialError::ConnectRequired)
    }

    async fn refused(&self, _: &UpstreamRefusal<'_>) {}

    fn connect_url(&self, _: &Principal) -> Option<Box<str>> {
        Some("https://broker.example.com/connect/crm".into())
    }
}

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
        .layer(layer)
        .layer(ApplyCredentialLayer::new())
        .add_service(mcp_server::McpServer::new(Contacts))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), shutdown::signal());
    let server = async { server.await.map_err(io::Error::other) };

    let token = |user: &str| -> Result<String, Box<dyn Error>> {
        let mint = Mint::for_user(user).client("example").resource(&resource);
        Ok(issuer.mint(mint.scopes(Scopes::parse("crm:read")?))?.into_text())
    };
    let (alice, bob) = (token("alice")?, token("bob")?);
    if env::args().any(|argument| argument == "--serve") {
        print(&format!("LISTENING {origin}\nTOKEN alice {alice}\nTOKEN bob {bob}"));
        print(&format!("AUDIT {}", audit.display()));
        tokio::select! {
            // Either may be dropped: the process ends.
            served = shutdown::serve(&broker, server) => return Ok(served?),
            failed = revoke_at_a_line(&broker) => return failed,
        }
    }
    drop(TASKS.spawn("server", server));
    let mut received = story(&broker, origin, &alice, &bob).await?;
    broker.shutdown(Duration::from_secs(5)).await?;
    received.push_str(&std::fs::read_to_string(&audit)?);
    std::fs::remove_file(&audit)?;
    if received.contains(KEY) {
        return Err("THE UPSTREAM'S TOKEN LEAKED".into());
    }
    print("the upstream's token is nowhere in what the client received");
    Ok(())
}

/// Plays the client. Returns all that it received.
async fn story(
    broker: &Broker,
    origin: String,
    alice: &str,
    bob: &str,
) -> Result<String, Box<dyn Error>> {
    let mut client = McpClient::new(tonic::transport::Endpoint::new(origin)?.connect().await?);
    let mut received = String::new();
    for (what, token, tool) in [
        ("allowed", alice, "get_contact"),
        ("denied", alice, "delete_contact"),
        ("needs a scope", alice, "create_contact"),
        ("connect required", bob, "get_contact"),
    ] {
        let seen = match client.call(request(token, tool)?).await {
            Ok(response) => std::str::from_utf8(&response.get_ref().json)?.to_owned(),
            Err(status) => {
                received.push_str(&format!("{:?}", status.metadata()));
                seen(&status)
            }
        };
        print(&format!("{what}: {seen}"));
        received.push_str(&seen);
    }
    let mut stream = client.stream(request(alice, "get_contact")?).await?.into_inner();
    let first = stream.message().await?.ok_or("the stream has no first message")?;
    let first = std::str::from_utf8(&first.json)?;
    print(&format!("streamed: {first}"));
    received.push_str(first);
    broker.revoke(RevocationTarget::Everything, &Initiator::operator("example")).await?;
    let ended = stream.message().await.err().ok_or("the stream was not cut")?;
    print(&format!("revoked in mid-stream: {}", seen(&ended)));
    received.push_str(&seen(&ended));
    Ok(received)
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
        print("REVOKED");
    }
    std::future::pending().await
}

/// Returns a call of a tool, with a broker token and with the metadata that agrees with it.
fn request(token: &str, tool: &str) -> Result<Request<Frame>, Box<dyn Error>> {
    let message =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    let mut request = call(Revision::V2025_11_25, "tools/call", Some(tool), message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

/// Renders all that a client sees of a refusal: status, text, reason and details.
fn seen(status: &Status) -> String {
    let details = status.get_error_details();
    let mut seen = format!("{:?}: {}", status.code(), status.message());
    if let Some(info) = details.error_info() {
        let scope =
            info.metadata.get("scope").map(|scope| format!(", scope {scope}")).unwrap_or_default();
        seen.push_str(&format!(" [{}{scope}]", info.reason));
    }
    let code = status.metadata().get("mcp-error-code").and_then(|code| code.to_str().ok());
    seen.push_str(&code.map(|code| format!(" mcp-error-code {code}")).unwrap_or_default());
    for link in details.help().iter().flat_map(|help| &help.links) {
        seen.push_str(&format!(" {}", link.url));
    }
    seen
}

#[expect(clippy::print_stdout, reason = "the output of the example")]
fn print(text: &str) {
    println!("{text}");
}
