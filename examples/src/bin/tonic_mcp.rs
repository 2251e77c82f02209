//! MCP over gRPC: a tonic server, the broker as one layer around it, and a client that holds nothing but broker tokens.
//!
//! Run:  cargo run --release --bin tonic_mcp
//! Keep: cargo run --release --bin tonic_mcp -- --serve     (prints URL and tokens; a line on its input revokes all of them)
//!
//! It prints what the client sees: a call that is allowed, one that is denied (`delete_*`, said like a tool that does not exist), one that needs a
//! scope, one by a user who has connected no account, and a stream that is cut when its token is revoked. The server
//! echoes the upstream's token into every answer; the last line says whether any of it came through. The policy is that of `axum_router`.

use std::{env, error::Error, pin::Pin, sync::LazyLock};

use token_broker_authority::issue::{Algorithm, Issuer, Mint, SigningKeys};
use token_broker_grpc::{
    Revision, call,
    mcp::v1::{Empty, Frame, mcp_client::McpClient, mcp_server},
};
use tokio::{io::AsyncBufReadExt as _, net::TcpListener};
use tokio_stream::{Stream, StreamExt as _, wrappers::TcpListenerStream};
use tonic::{Request, Response, Status, transport::Server};
use tonic_types::StatusExt as _;
use tower_token_broker::{
    BrokerStack, Secret,
    audit::{JsonLines, Trail},
    authenticate::JwtVerifier,
    clock::Clock,
    exchange::{Credential, CredentialError, ProvideCredential, Upstream},
    principal::{Principal, Resource, Scopes},
    revocation::{RevocationTarget, Revocations},
    tasks::Tasks,
};

#[path = "../policy.rs"]
mod policy;

static TASKS: LazyLock<Tasks> = LazyLock::new(Tasks::new);
/// alice's token for the upstream. No client ever sees it.
const KEY: &str = "tbm-8Jq2vXw5LrT0cZkB7nHd4mPsYf9uGe";

/// An MCP server as it is in the world: it takes its own token, and is careless with it.
struct Contacts;

#[tonic::async_trait]
impl mcp_server::Mcp for Contacts {
    type StreamStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn call(&self, request: Request<Frame>) -> Result<Response<Frame>, Status> {
        let token = request.metadata().get("authorization").and_then(|value| value.to_str().ok()).unwrap_or("nothing");
        let is_list = request.metadata().get("mcp-method").is_some_and(|method| method == "tools/list");
        let result = if is_list {
            r#""tools":[{"name":"get_contact"},{"name":"create_contact"},{"name":"delete_contact"}]"#.to_owned()
        } else {
            format!(r#""content":[{{"type":"text","text":"Ada; asked with {token}"}}]"#)
        };
        Ok(Response::new(Frame { json: format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{{result}}}}}"#).into() }))
    }

    async fn stream(&self, _: Request<Frame>) -> Result<Response<Self::StreamStream>, Status> {
        let progress =
            r#"{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1,"progress":1}}"#;
        let once = tokio_stream::iter([Ok(Frame { json: progress.into() })]);
        Ok(Response::new(Box::pin(once.chain(tokio_stream::pending()))))
    }

    async fn notify(&self, _: Request<Frame>) -> Result<Response<Empty>, Status> {
        Ok(Response::new(Empty {}))
    }
}

/// Whose account is connected: alice's. `StoredGrants` keeps grants and refreshes them; here one key is enough.
struct OneAccount(Upstream);

impl ProvideCredential for OneAccount {
    fn upstream(&self) -> &Upstream {
        &self.0
    }

    async fn credential(&self, caller: &Principal, _: &Scopes, _: &Trail) -> Result<Credential, CredentialError> {
        if caller.subject() == "alice" {
            return Ok(Credential::vouch(Secret::from_text(KEY.to_owned()), self.0.origin().clone()));
        }
        Err(CredentialError::ConnectRequired { connect_url: Some("https://broker.example.com/connect/crm".into()) })
    }

    async fn refused(&self, _: &Credential) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let origin = format!("http://{}", listener.local_addr()?);
    let resource = Resource::parse(&format!("{origin}/"))?;
    let issuer = Issuer::new("https://authority.example.com", SigningKeys::generate(Algorithm::Es256)?);
    let revocations = Revocations::new(Clock::system());
    let audit = env::temp_dir().join(format!("tonic_mcp-{}.jsonl", std::process::id()));
    let broker = BrokerStack::for_resource(resource.as_str())
        .grpc()
        .revocations(revocations.clone())
        .audit(JsonLines::append(&audit)?)
        .authenticate(JwtVerifier::new(issuer.name(), issuer.keys()))
        .scope_filter(policy::writer())
        .exchange(OneAccount(Upstream::parse("crm", &origin)?))
        .build()?;
    let server = Server::builder().layer(broker).add_service(mcp_server::McpServer::new(Contacts));
    drop(TASKS.spawn("server", server.serve_with_incoming(TcpListenerStream::new(listener))));

    let token = |user: &str| -> Result<String, Box<dyn Error>> {
        let mint = Mint::for_user(user).client("example").resource(&resource).scopes(Scopes::parse("crm:read")?);
        Ok(issuer.mint(mint)?.into_text())
    };
    if env::args().any(|argument| argument == "--serve") {
        say(&format!("LISTENING {origin}\nTOKEN alice {}\nTOKEN bob {}", token("alice")?, token("bob")?));
        tokio::io::BufReader::new(tokio::io::stdin()).read_line(&mut String::new()).await?;
        revocations.revoke(RevocationTarget::Everything);
        say("REVOKED");
        return std::future::pending().await;
    }

    let mut client = McpClient::new(tonic::transport::Endpoint::new(origin)?.connect().await?);
    let (alice, bob) = (token("alice")?, token("bob")?);
    let mut got = String::new();
    for (what, user, tool) in [
        ("allowed", &alice, "get_contact"),
        ("denied", &alice, "delete_contact"),
        ("needs a scope", &alice, "create_contact"),
        ("connect required", &bob, "get_contact"),
    ] {
        let seen = match client.call(asking(user, tool)?).await {
            Ok(answer) => std::str::from_utf8(&answer.get_ref().json)?.to_owned(),
            Err(status) => {
                got.push_str(&format!("{:?}", status.metadata()));
                seen(&status)
            }
        };
        say(&format!("{what}: {seen}"));
        got.push_str(&seen);
    }
    let mut stream = client.stream(asking(&alice, "get_contact")?).await?.into_inner();
    let first = stream.message().await?.ok_or("the stream began with its end")?;
    let first = std::str::from_utf8(&first.json)?;
    say(&format!("streamed: {first}"));
    got.push_str(first);
    revocations.revoke(RevocationTarget::Everything);
    let ended = stream.message().await.err().ok_or("the stream was not cut")?;
    say(&format!("revoked in mid-stream: {}", seen(&ended)));
    got.push_str(&seen(&ended));
    let audited = std::fs::read_to_string(&audit)?;
    std::fs::remove_file(&audit)?;
    let leaked = [&got, &audited].iter().any(|text| text.contains(KEY));
    say(if leaked {
        "THE UPSTREAM'S TOKEN CAME THROUGH"
    } else {
        "the upstream's token is nowhere in what the client got"
    });
    if leaked { Err("leaked".into()) } else { Ok(()) }
}

/// A call of a tool, with a broker token and with the metadata that agrees with it.
fn asking(token: &str, tool: &str) -> Result<Request<Frame>, Box<dyn Error>> {
    let message = format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}"}}}}"#);
    let mut request = call(Revision::V2025_11_25, "tools/call", Some(tool), message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse()?);
    Ok(request)
}

/// All that a client sees of a refusal: status, text, reason, and what goes with it.
fn seen(status: &Status) -> String {
    let details = status.get_error_details();
    let mut seen = format!("{:?}: {}", status.code(), status.message());
    if let Some(info) = details.error_info() {
        let scope = info.metadata.get("scope").map(|scope| format!(", scope {scope}")).unwrap_or_default();
        seen.push_str(&format!(" [{}{scope}]", info.reason));
    }
    let code = status.metadata().get("mcp-error-code").and_then(|code| code.to_str().ok());
    seen.push_str(&code.map(|code| format!(" mcp-error-code {code}")).unwrap_or_default());
    for link in details.help().iter().flat_map(|help| &help.links) {
        seen.push_str(&format!(" {}", link.url));
    }
    seen
}

#[expect(clippy::print_stdout, reason = "an example speaks to who runs it")]
fn say(text: &str) {
    println!("{text}");
}
