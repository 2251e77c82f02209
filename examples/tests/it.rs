//! Each example is started as a user would start it, and driven over its own socket.

#![cfg(test)]

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use token_broker_grpc::{Revision, mcp::v1::mcp_client::McpClient};
use token_broker_tests::person::{App, Browser};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
use tower_token_broker::audit::verify::{End, Verification};

/// The longest time from a signal to the end of the process: the grace of open calls is 5 s.
const END: Duration = Duration::from_secs(20);

/// A running example. It ends with the test.
struct Example {
    child: Child,
    lines: Vec<String>,
    /// None when the example has been stopped.
    rest: Option<BufReader<ChildStdout>>,
}

impl Example {
    /// Starts an example and reads the lines that it prints before it serves.
    fn start(binary: &str, lines: usize) -> Self {
        Self::start_with(binary, &[], lines)
    }

    fn start_with(binary: &str, arguments: &[&str], lines: usize) -> Self {
        let mut command = Command::new(binary);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let rest = BufReader::new(child.stdout.take().unwrap());
        let mut example = Self { child, lines: Vec::new(), rest: Some(rest) };
        example.lines = example.next_lines(lines);
        example
    }

    fn next_lines(&mut self, lines: usize) -> Vec<String> {
        let rest = self.rest.as_mut().unwrap();
        rest.lines().take(lines).map(Result::unwrap).collect()
    }

    /// Returns what follows these words at the beginning of a line.
    fn printed(&self, words: &str) -> &str {
        self.lines
            .iter()
            .find_map(|line| line.strip_prefix(words))
            .unwrap_or_else(|| panic!("{words} in {:?}", self.lines))
            .trim()
    }

    fn authority(&self) -> String {
        let url = self.printed("LISTENING").trim_start_matches("http://");
        url.split('/').next().unwrap().to_owned()
    }

    fn connect(&self, method: &str, path: &str, token: &str, body: &str) -> TcpStream {
        let authority = self.authority();
        let mut socket = TcpStream::connect(&authority).unwrap();
        let authorization = match token {
            "" => String::new(),
            token => format!("authorization: Bearer {token}\r\n"),
        };
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n\
             {authorization}content-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        socket
    }

    /// Sends one request, and returns the status and the whole response.
    fn send(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
        let mut text = String::new();
        self.connect(method, path, token, body).read_to_string(&mut text).unwrap();
        (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
    }

    fn call(&self, path: &str, token: &str, tool: &str) -> (u16, String) {
        self.send("POST", path, token, &call(tool))
    }

    fn list(&self, path: &str, token: &str) -> String {
        self.send("POST", path, token, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).1
    }

    /// Opens a stream of events, and returns it after the first event.
    fn watch(&self, path: &str, token: &str) -> BufReader<TcpStream> {
        let mut stream = BufReader::new(self.connect("POST", path, token, &call("watch_contacts")));
        let mut lines = stream.by_ref().lines().map(Result::unwrap);
        let first = lines.find(|line| line.starts_with("data:") || line.starts_with("HTTP/1.1 4"));
        assert!(first.as_ref().unwrap().contains("notifications/progress"), "{first:?}");
        stream
    }

    async fn channel(&self) -> Channel {
        let address = self.printed("LISTENING").to_owned();
        Endpoint::new(address).unwrap().connect().await.unwrap()
    }

    /// Sends SIGTERM. The example ends with exit code 0, and its audit file is whole and closed,
    /// without a gap, with a result for each request. Returns the file's text, and removes it.
    fn stop(mut self) -> String {
        let id = self.child.id().to_string();
        let signal = Command::new("sh").args(["-c", "kill -TERM \"$0\"", &id]).status().unwrap();
        assert!(signal.success());
        let (ended, end) = mpsc::channel();
        // The output ends with the process.
        let mut rest = self.rest.take().unwrap();
        thread::spawn(move || ended.send(rest.read_to_string(&mut String::new()).map(drop)));
        end.recv_timeout(END).expect("the process ends").unwrap();
        let status = self.child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}");

        let audit = fs::read_to_string(self.printed("AUDIT")).unwrap();
        fs::remove_file(self.printed("AUDIT")).unwrap();
        let report = Verification::new().run(audit.as_bytes()).unwrap();
        assert_eq!(report.found, Ok(End::Closed), "{audit}");
        assert!(report.gaps.is_empty() && report.unknown == 0, "{report:?}");
        audit
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A call that reports its progress, if it has any.
fn call(tool: &str) -> String {
    let params = format!(r#"{{"name":"{tool}","arguments":{{}},"_meta":{{"progressToken":7}}}}"#);
    format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{params}}}"#)
}

/// Counts the lines that have all these members.
fn count(audit: &str, members: &[&str]) -> usize {
    audit.lines().filter(|line| members.iter().all(|member| line.contains(member))).count()
}

#[test]
fn every_guide_with_rust_is_compiled() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let guides = include_str!("../src/guides.rs");
    let docs = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    for guide in docs.chain([root.join("README.md")]).filter(|path| path.is_file()) {
        let name = guide.file_name().unwrap().to_str().unwrap();
        let has_rust = fs::read_to_string(&guide).unwrap().contains("```rust");
        assert_eq!(has_rust, guides.contains(&format!("/{name}\"")), "{name}");
    }
}

#[test]
fn hyper_proxy_lists_calls_and_denies() {
    let example = Example::start(env!("CARGO_BIN_EXE_hyper_proxy"), 3);
    let token = example.printed("TOKEN").to_owned();
    let list = example.list("/mcp", &token);
    assert!(list.contains("get_contact") && list.contains("watch_contacts"), "{list}");
    assert!(!list.contains("delete_contact"), "{list}");
    assert!(example.call("/mcp", &token, "get_contact").1.contains("get_contact done"));
    assert!(example.call("/mcp", &token, "delete_contact").1.contains("-32602"));
    assert_eq!(example.call("/mcp", "", "get_contact").0, 401);
    assert_eq!(example.call("/other", &token, "get_contact").0, 404);
    let audit = example.stop();
    assert_eq!(count(&audit, &[r#""kind":"intent""#]), 2, "{audit}");
    assert_eq!(count(&audit, &[r#""kind":"result""#, r#""peer":"127.0.0.1:"#]), 5, "{audit}");
    assert!(!audit.contains(&token));
}

#[test]
fn axum_router_has_a_policy_for_each_route() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum_router"), 10);
    let token = |path: &str| example.printed(&format!("TOKEN {path}")).to_owned();
    let (reader, writer, nobody, api) =
        (token("/reader/mcp"), token("/writer/mcp"), token("/nobody/mcp"), token("/api"));
    assert!(example.call("/reader/mcp", &reader, "get_contact").1.contains("get_contact done"));
    assert!(example.call("/reader/mcp", &reader, "create_contact").1.contains("-32602"));
    let (status, refused) = example.call("/writer/mcp", &writer, "create_contact");
    assert_eq!(status, 403);
    assert!(refused.contains(r#"scope="crm:read crm:write""#), "{refused}");
    let writes = example.printed("WRITES /writer/mcp").to_owned();
    let (_, created) = example.call("/writer/mcp", &writes, "create_contact");
    assert!(created.contains("create_contact done"), "{created}");
    assert!(example.list("/nobody/mcp", &nobody).contains("-32601"));
    // A token is valid for one route.
    assert_eq!(example.call("/writer/mcp", &reader, "get_contact").0, 401);
    assert_eq!(example.send("GET", "/api/contacts", &api, "").0, 200);
    assert_eq!(example.send("DELETE", "/api/contacts", &api, "").0, 403);
    assert_eq!(example.send("GET", "/api/../mcp", &api, "").0, 403);
    assert_eq!(example.send("GET", "/", "", "").0, 200);
    assert_eq!(example.send("GET", "/elsewhere", "", "").0, 404);
    let metadata = "/.well-known/oauth-protected-resource/reader/mcp";
    let (status, metadata) = example.send("GET", metadata, "", "");
    assert!(status == 200 && metadata.contains("authorization_servers"), "{metadata}");
    // One audit log has every request to the four stacks, each once. It has no request for the
    // page, the metadata and the fallback.
    let origin = example.printed("LISTENING").to_owned();
    let audit = example.stop();
    let of = |path: &str, outcome: &str| {
        let resource = format!(r#""resource":"{origin}{path}""#);
        count(&audit, &[&resource, &format!(r#""outcome":"{outcome}""#)])
    };
    let of = |path: &str| (of(path, "completed"), of(path, "refused"));
    assert_eq!(of("/reader/mcp"), (1, 1), "{audit}");
    assert_eq!(of("/writer/mcp"), (1, 2), "{audit}");
    assert_eq!(of("/nobody/mcp"), (0, 1), "{audit}");
    assert_eq!(of("/api"), (1, 2), "{audit}");
    assert_eq!(count(&audit, &[r#""kind":"result""#]), 9, "{audit}");
    assert_eq!(count(&audit, &[r#""kind":"result""#, r#""peer":"127.0.0.1:"#]), 9, "{audit}");
}

/// A person creates the first account by the link, and a client that registers itself obtains what
/// the person allows.
#[tokio::test]
async fn authority_in_your_router_signs_in_and_asks_for_consent() {
    const PASSWORD: &str = "seven blue lamps on a wall";
    let example = Example::start(env!("CARGO_BIN_EXE_authority_in_your_router"), 3);
    let address: SocketAddr = example.authority().parse().unwrap();
    let link = example.printed("LINK").to_owned();
    let target = link.strip_prefix(&format!("http://{address}")).unwrap();
    let mut browser = Browser::at(address);
    let page = browser.open(target).await;
    browser.submit(&page, &[("user", "ada"), ("password", PASSWORD)]).await;
    let app = App::register(address, "Editor").await;
    let page = browser.sign_in(&app.authorization("contacts"), "ada", PASSWORD).await;
    assert!(page.has("read your contacts") && page.has("create contacts"), "{}", page.text());
    let tokens = app.connect(&mut browser, "contacts", ("ada", PASSWORD)).await;
    let call = |tool: &str| example.call("/contacts/mcp", &tokens.access, tool);
    assert!(call("get_contact").1.contains("get_contact done"));
    assert!(call("create_contact").1.contains("create_contact done"));
    assert!(call("delete_contact").1.contains("-32602"));
    app.revoke(&tokens.refresh).await;
    assert_eq!(call("get_contact").0, 401);
    let audit = example.stop();
    for kind in ["first_account", "client_registered", "consent", "token_issued", "family_ended"] {
        assert_eq!(count(&audit, &[&format!(r#""kind":"{kind}""#)]), 1, "{kind} {audit}");
    }
    assert!(!audit.contains(&tokens.access) && !audit.contains(&tokens.refresh));
}

#[test]
fn your_own_policy_decides() {
    let run = Command::new(env!("CARGO_BIN_EXE_your_own_policy")).output().unwrap();
    let printed = String::from_utf8(run.stdout).unwrap();
    let decisions: Vec<_> =
        printed.lines().filter_map(|line| Some(line.split_once("}: ")?.1)).collect();
    assert!(decisions[3].starts_with("needs a scope"), "{printed}");
    assert!(decisions[3].contains("crm:admin"), "{printed}");
    let others = [0, 1, 2, 4, 5].map(|at| decisions[at]);
    assert_eq!(others, ["allowed", "denied", "denied", "allowed", "denied"], "{printed}");
}

#[test]
fn your_own_credentials_are_rotated_or_connect_is_required() {
    let example = Example::start(env!("CARGO_BIN_EXE_your_own_credentials"), 4);
    let (alice, bob) = (example.printed("TOKEN alice"), example.printed("TOKEN bob"));
    let (status, response) = example.call("/mcp", alice, "get_contact");
    assert!(status == 200 && response.contains("get_contact done"), "{response}");
    let (_, refused) = example.call("/mcp", bob, "get_contact");
    assert!(refused.contains("https://broker.example.com/connect"), "{refused}");
    let audit = example.stop();
    // The stale key, and the one that replaced it.
    assert_eq!(count(&audit, &[r#""kind":"intent""#]), 2, "{audit}");
}

#[test]
fn token_exchange_obtains_a_token_for_each_user() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_token_exchange"), 4);
    let alice = example.printed("TOKEN alice").to_owned();
    let mallory = example.printed("TOKEN mallory").to_owned();
    for _ in 0..2 {
        assert!(example.call("/mcp", &alice, "get_contact").1.contains("get_contact done"));
        assert!(!example.call("/mcp", &mallory, "get_contact").1.contains("done"));
    }
    let requests = example.next_lines(2);
    let for_alice = r#"REQUEST for "alice", scope contacts:read, resource http"#;
    assert!(requests[0].starts_with(for_alice), "{requests:?}");
    assert!(requests[1].starts_with(r#"REQUEST for "mallory""#), "{requests:?}");
    // One request each: the token and the refusal are cached.
    let audit = example.stop();
    assert_eq!(count(&audit, &[r#""kind":"token_request""#]), 2, "{audit}");
}

#[test]
fn your_own_mcp_server_calls_for_its_caller() {
    let example = Example::start(env!("CARGO_BIN_EXE_protect_your_own_mcp_server"), 4);
    let (alice, bob) = (example.printed("TOKEN alice"), example.printed("TOKEN bob"));
    let (_, contacts) = example.call("/mcp", alice, "list_contacts");
    assert!(contacts.contains("Ada"), "{contacts}");
    assert!(example.call("/mcp", alice, "delete_contact").1.contains("-32602"));
    assert_eq!(example.call("/mcp", "nonsense", "list_contacts").0, 401);
    let (_, refused) = example.call("/mcp", bob, "list_contacts");
    let data = r#""data":{"connectUrl":"https://broker.example.com/connect/crm"}"#;
    assert!(refused.contains(r#""code":-32001"#) && refused.contains(data), "{refused}");
    let audit = example.stop();
    assert_eq!(count(&audit, &[r#""kind":"intent""#]), 1, "{audit}");
    assert_eq!(count(&audit, &[r#""uses":1"#]), 1, "{audit}");
    assert_eq!(count(&audit, &[r#""kind":"result""#]), 4, "{audit}");
}

#[test]
fn tonic_mcp_shows_what_a_client_sees() {
    let run = Command::new(env!("CARGO_BIN_EXE_tonic_mcp")).output().unwrap();
    let printed = String::from_utf8(run.stdout).unwrap();
    assert!(run.status.success(), "{printed}");
    let connect = "https://broker.example.com/connect/crm";
    for (line, words) in [
        ("allowed: ", &["Ada; asked with Bearer ", "****"][..]),
        ("denied: ", &["PermissionDenied", "FORBIDDEN", "-32602"]),
        ("needs a scope: ", &["PermissionDenied", "INSUFFICIENT_SCOPE", "crm:write"]),
        ("connect required: ", &["FailedPrecondition", "CONNECT_REQUIRED", connect]),
        ("streamed: ", &["notifications/progress"]),
        ("revoked in mid-stream: ", &["Unauthenticated", "INVALID_TOKEN"]),
        ("the upstream's token is nowhere in what the client received", &[]),
    ] {
        let found = printed.lines().find(|printed| printed.starts_with(line));
        let found = found.unwrap_or_else(|| panic!("{line} in {printed}"));
        assert!(words.iter().all(|word| found.contains(word)), "{found}");
    }
}

fn authorized<T>(mut request: tonic::Request<T>, token: &str) -> tonic::Request<T> {
    if !token.is_empty() {
        let value = format!("Bearer {token}").parse().unwrap();
        request.metadata_mut().insert("authorization", value);
    }
    request
}

#[tokio::test]
async fn grpc_gateway_applies_the_users_own_token() {
    let example = Example::start(env!("CARGO_BIN_EXE_grpc_gateway"), 5);
    let mut client = HealthClient::new(example.channel().await);
    let request =
        |token: &str| authorized(tonic::Request::new(HealthCheckRequest::default()), token);
    let (alice, bob) = (example.printed("TOKEN alice"), example.printed("TOKEN bob"));
    assert_eq!(client.check(request(alice)).await.unwrap().into_inner().status, 1);
    let needs_scope = client.watch(request(alice)).await.unwrap_err();
    assert_eq!(needs_scope.code(), tonic::Code::PermissionDenied);
    let unauthenticated = client.check(request("")).await.unwrap_err();
    assert_eq!(unauthenticated.code(), tonic::Code::Unauthenticated);
    let connect = client.check(request(bob)).await.unwrap_err();
    assert_eq!(connect.code(), tonic::Code::FailedPrecondition);
    // The connection is open and idle.
    let audit = tokio::task::spawn_blocking(|| example.stop()).await.unwrap();
    assert_eq!(count(&audit, &[r#""kind":"result""#]), 4, "{audit}");
}

#[test]
fn sigterm_ends_hyper_proxy_with_an_open_stream() {
    ends_with_an_open_stream(env!("CARGO_BIN_EXE_hyper_proxy"), 3, "/mcp", "TOKEN");
}

#[test]
fn sigterm_ends_axum_router_with_an_open_stream() {
    let (path, token) = ("/reader/mcp", "TOKEN /reader/mcp");
    ends_with_an_open_stream(env!("CARGO_BIN_EXE_axum_router"), 10, path, token);
}

#[test]
fn sigterm_ends_your_own_credentials_with_an_open_stream() {
    let binary = env!("CARGO_BIN_EXE_your_own_credentials");
    ends_with_an_open_stream(binary, 4, "/mcp", "TOKEN alice");
}

#[test]
fn sigterm_ends_token_exchange_with_an_open_stream() {
    ends_with_an_open_stream(env!("CARGO_BIN_EXE_token_exchange"), 4, "/mcp", "TOKEN alice");
}

fn ends_with_an_open_stream(binary: &str, lines: usize, path: &str, token: &str) {
    let example = Example::start(binary, lines);
    let mut stream = example.watch(path, example.printed(token));
    let audit = example.stop();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("notifications/progress"), "it continued for the grace: {rest}");
    assert!(!rest.contains("watch_contacts done"), "it was cut: {rest}");
    assert_eq!(count(&audit, &[r#""kind":"result""#, r#""outcome":"cut""#]), 1, "{audit}");
}

#[tokio::test]
async fn sigterm_ends_grpc_gateway_with_an_open_stream() {
    let example = Example::start(env!("CARGO_BIN_EXE_grpc_gateway"), 5);
    let mut client = HealthClient::new(example.channel().await);
    let request = tonic::Request::new(HealthCheckRequest::default());
    let request = authorized(request, example.printed("WATCHES"));
    let mut stream = client.watch(request).await.unwrap().into_inner();
    assert_eq!(stream.message().await.unwrap().unwrap().status, 1);
    let audit = tokio::task::spawn_blocking(|| example.stop()).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::Unavailable);
    assert_eq!(count(&audit, &[r#""kind":"result""#, r#""outcome":"cut""#]), 1, "{audit}");
}

#[tokio::test]
async fn sigterm_ends_tonic_mcp_with_an_open_stream() {
    let binary = env!("CARGO_BIN_EXE_tonic_mcp");
    let example = Example::start_with(binary, &["--serve"], 4);
    let mut client = McpClient::new(example.channel().await);
    let message = call("get_contact");
    let request =
        token_broker_grpc::call(Revision::V2025_11_25, "tools/call", Some("get_contact"), message);
    let request = authorized(request, example.printed("TOKEN alice"));
    let mut stream = client.stream(request).await.unwrap().into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert!(first.json.starts_with(br#"{"jsonrpc":"2.0","method":"notifications/progress""#));
    let audit = tokio::task::spawn_blocking(|| example.stop()).await.unwrap();
    assert_eq!(stream.message().await.unwrap_err().code(), tonic::Code::Unavailable);
    assert_eq!(count(&audit, &[r#""kind":"result""#, r#""outcome":"cut""#]), 1, "{audit}");
}
