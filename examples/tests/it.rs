//! Each example is started as a user would start it, and driven over its own socket.

#![cfg(test)]

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    process::{Child, ChildStdout, Command, Stdio},
};

/// A running example; it ends with the test.
struct Example {
    child: Child,
    lines: Vec<String>,
    rest: BufReader<ChildStdout>,
}

impl Example {
    /// Starts it and reads as many lines as it prints before it serves.
    fn start(binary: &str, lines: usize) -> Self {
        let mut child = Command::new(binary).stdout(Stdio::piped()).spawn().unwrap();
        let rest = BufReader::new(child.stdout.take().unwrap());
        let mut example = Self { child, lines: Vec::new(), rest };
        example.lines = example.next_lines(lines);
        example
    }

    /// Reads what it prints next.
    fn next_lines(&mut self, lines: usize) -> Vec<String> {
        self.rest.by_ref().lines().take(lines).map(Result::unwrap).collect()
    }

    /// What stands behind these words at the beginning of a line.
    fn said(&self, words: &str) -> &str {
        self.lines
            .iter()
            .find_map(|line| line.strip_prefix(words))
            .unwrap_or_else(|| panic!("{words} in {:?}", self.lines))
            .trim()
    }

    fn authority(&self) -> String {
        self.said("LISTENING").trim_start_matches("http://").split('/').next().unwrap().to_owned()
    }

    /// Sends one request; gives status and the rest of the answer.
    fn send(&self, method: &str, path: &str, token: &str, body: &str) -> (u16, String) {
        let authority = self.authority();
        let mut socket = TcpStream::connect(&authority).unwrap();
        let authorization = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n{authorization}content-type: application/json\r\n\
             accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut text = String::new();
        socket.read_to_string(&mut text).unwrap();
        (text.split(' ').nth(1).unwrap().parse().unwrap(), text)
    }

    fn call(&self, path: &str, token: &str, tool: &str) -> (u16, String) {
        let call = format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"{tool}","arguments":{{}}}}}}"#
        );
        self.send("POST", path, token, &call)
    }

    fn list(&self, path: &str, token: &str) -> String {
        self.send("POST", path, token, r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#).1
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn hyper_proxy_lists_calls_and_denies() {
    let example = Example::start(env!("CARGO_BIN_EXE_hyper_proxy"), 3);
    let token = example.said("TOKEN");
    let list = example.list("/mcp", token);
    assert!(
        list.contains("get_contact") && list.contains("watch_contacts") && !list.contains("delete_contact"),
        "{list}"
    );
    assert!(example.call("/mcp", token, "get_contact").1.contains("get_contact done"));
    assert!(example.call("/mcp", token, "delete_contact").1.contains("-32602"));
    assert_eq!(example.call("/mcp", "", "get_contact").0, 401);
    let audit = std::fs::read_to_string(example.said("AUDIT")).unwrap();
    assert!(audit.contains(r#""kind":"intent""#) && !audit.contains(token));
    std::fs::remove_file(example.said("AUDIT")).unwrap();
}

#[test]
fn axum_router_has_a_policy_for_each_route() {
    let example = Example::start(env!("CARGO_BIN_EXE_axum_router"), 10);
    let token = |path: &str| example.said(&format!("TOKEN {path}")).to_owned();
    let (reader, writer, nobody, api) =
        (token("/reader/mcp"), token("/writer/mcp"), token("/nobody/mcp"), token("/api"));
    assert!(example.call("/reader/mcp", &reader, "get_contact").1.contains("get_contact done"));
    assert!(example.call("/reader/mcp", &reader, "create_contact").1.contains("-32602"));
    let (status, asked) = example.call("/writer/mcp", &writer, "create_contact");
    assert_eq!(status, 403);
    assert!(asked.contains(r#"scope="crm:read crm:write""#), "{asked}");
    let writes = example.said("WRITES /writer/mcp").to_owned();
    assert!(example.call("/writer/mcp", &writes, "create_contact").1.contains("create_contact done"));
    assert!(example.list("/nobody/mcp", &nobody).contains("-32601"));
    // A token is good for one route.
    assert_eq!(example.call("/writer/mcp", &reader, "get_contact").0, 401);
    assert_eq!(example.send("GET", "/api/contacts", &api, "").0, 200);
    assert_eq!(example.send("DELETE", "/api/contacts", &api, "").0, 403);
    assert_eq!(example.send("GET", "/api/../mcp", &api, "").0, 403);
    assert_eq!(example.send("GET", "/", "", "").0, 200);
    let (status, metadata) = example.send("GET", "/.well-known/oauth-protected-resource/reader/mcp", "", "");
    assert!(status == 200 && metadata.contains("authorization_servers"), "{metadata}");
    // One audit log has seen every request to the four, each once, and none to the page and the metadata.
    // A call whose intent is on the disk before it is sent: so is all that came before.
    assert_eq!(example.call("/reader/mcp", &reader, "get_contact").0, 200);
    let audit = std::fs::read_to_string(example.said("AUDIT")).unwrap();
    let (audit, _) = audit.rsplit_once(r#""kind":"intent""#).unwrap();
    let of = |path: &str, outcome: &str| {
        let resource = format!(r#""resource":"{}{path}""#, example.said("LISTENING"));
        let outcome = format!(r#""outcome":"{outcome}""#);
        audit.lines().filter(|line| line.contains(&resource) && line.contains(&outcome)).count()
    };
    assert_eq!((of("/reader/mcp", "completed"), of("/reader/mcp", "refused")), (1, 1), "{audit}");
    assert_eq!((of("/writer/mcp", "completed"), of("/writer/mcp", "refused")), (1, 2), "{audit}");
    assert_eq!((of("/nobody/mcp", "completed"), of("/nobody/mcp", "refused")), (0, 1), "{audit}");
    assert_eq!((of("/api", "completed"), of("/api", "refused")), (1, 2), "{audit}");
    assert_eq!(audit.lines().filter(|line| line.contains(r#""kind":"result""#)).count(), 9, "{audit}");
}

#[test]
fn your_own_policy_decides() {
    let run = Command::new(env!("CARGO_BIN_EXE_your_own_policy")).output().unwrap();
    let said = String::from_utf8(run.stdout).unwrap();
    let decisions: Vec<_> =
        said.lines().filter_map(|line| line.split_once("}: ")).map(|(_, decision)| decision).collect();
    assert!(decisions[3].starts_with("needs a scope") && decisions[3].contains("crm:admin"), "{said}");
    assert_eq!([0, 1, 2, 4, 5].map(|at| decisions[at]), ["allowed", "denied", "denied", "allowed", "denied"], "{said}");
}

#[test]
fn your_own_credentials_are_rotated_and_a_user_without_is_asked_to_connect() {
    let example = Example::start(env!("CARGO_BIN_EXE_your_own_credentials"), 3);
    let (status, answer) = example.call("/mcp", example.said("TOKEN alice"), "get_contact");
    assert!(status == 200 && answer.contains("get_contact done"), "{answer}");
    let (_, refused) = example.call("/mcp", example.said("TOKEN bob"), "get_contact");
    assert!(refused.contains("https://broker.example.com/connect"), "{refused}");
}

#[test]
fn token_exchange_gives_each_user_a_token_or_the_servers_refusal() {
    let mut example = Example::start(env!("CARGO_BIN_EXE_token_exchange"), 4);
    let (alice, mallory) = (example.said("TOKEN alice").to_owned(), example.said("TOKEN mallory").to_owned());
    for _ in 0..2 {
        assert!(example.call("/mcp", &alice, "get_contact").1.contains("get_contact done"));
        assert!(!example.call("/mcp", &mallory, "get_contact").1.contains("done"));
    }
    // Each is asked for once: what was given, and what was refused, is remembered.
    let audit = std::fs::read_to_string(example.said("AUDIT")).unwrap();
    assert_eq!(audit.lines().filter(|line| line.contains(r#""kind":"refresh_intent""#)).count(), 2, "{audit}");
    let asked = example.next_lines(2);
    assert!(asked[0].starts_with(r#"ASKED for "alice", scope contacts:read, resource http"#), "{asked:?}");
    assert!(asked[1].starts_with(r#"ASKED for "mallory""#), "{asked:?}");
    std::fs::remove_file(example.said("AUDIT")).unwrap();
}

#[test]
fn your_own_mcp_server_calls_for_its_caller() {
    let example = Example::start(env!("CARGO_BIN_EXE_protect_your_own_mcp_server"), 3);
    let token = example.said("TOKEN");
    assert!(example.call("/mcp", token, "list_contacts").1.contains("Ada"));
    assert!(example.call("/mcp", token, "delete_contact").1.contains("-32602"));
    assert_eq!(example.call("/mcp", "nonsense", "list_contacts").0, 401);
    // A result is written a moment behind its answer: nobody waits for it.
    let audit = || std::fs::read_to_string(example.said("AUDIT")).unwrap();
    let is_recorded = (0..1_000_000).any(|_| {
        std::thread::yield_now();
        audit().contains(r#""uses":1"#)
    });
    assert!(is_recorded, "{}", audit());
    std::fs::remove_file(example.said("AUDIT")).unwrap();
}

#[test]
fn tonic_mcp_shows_what_a_client_sees() {
    let ran = Command::new(env!("CARGO_BIN_EXE_tonic_mcp")).output().unwrap();
    let said = String::from_utf8(ran.stdout).unwrap();
    assert!(ran.status.success(), "{said}");
    for (line, words) in [
        ("allowed: ", &["Ada; asked with Bearer ", "****"][..]),
        ("denied: ", &["PermissionDenied", "FORBIDDEN", "-32602"]),
        ("needs a scope: ", &["PermissionDenied", "INSUFFICIENT_SCOPE", "crm:write"]),
        ("connect required: ", &["FailedPrecondition", "CONNECT_REQUIRED", "https://broker.example.com/connect/crm"]),
        ("streamed: ", &["notifications/progress"]),
        ("revoked in mid-stream: ", &["Unauthenticated", "INVALID_TOKEN"]),
        ("the upstream's token is nowhere in what the client got", &[]),
    ] {
        let found = said.lines().find(|said| said.starts_with(line)).unwrap_or_else(|| panic!("{line} in {said}"));
        assert!(words.iter().all(|word| found.contains(word)), "{found}");
    }
}

#[tokio::test]
async fn grpc_gateway_stands_before_a_server_that_wants_a_token_of_its_own() {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

    let example = Example::start(env!("CARGO_BIN_EXE_grpc_gateway"), 4);
    let channel =
        tonic::transport::Endpoint::new(example.said("LISTENING").to_owned()).unwrap().connect().await.unwrap();
    let mut client = HealthClient::new(channel);
    let asking = |token: &str| {
        let mut request = tonic::Request::new(HealthCheckRequest::default());
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        request
    };
    let (alice, bob) = (example.said("TOKEN alice"), example.said("TOKEN bob"));
    assert_eq!(client.check(asking(alice)).await.unwrap().into_inner().status, 1);
    let needs = client.watch(asking(alice)).await.unwrap_err();
    assert_eq!(needs.code(), tonic::Code::PermissionDenied);
    assert_eq!(client.check(asking("")).await.unwrap_err().code(), tonic::Code::Unauthenticated);
    let connect = client.check(asking(bob)).await.unwrap_err();
    assert_eq!(connect.code(), tonic::Code::FailedPrecondition);
    std::fs::remove_file(example.said("AUDIT")).unwrap();
}
