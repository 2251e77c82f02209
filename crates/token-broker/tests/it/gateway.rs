//! The gateway as its operator runs it: the binary, a configuration file, a real store, real
//! sockets, and commands in other processes.

use std::{fs, sync::Arc, time::Duration};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::Response;
use serde_json::Value;
use token_broker_tests::{
    marker_scan::Scan,
    upstream::{ScriptedBody, ScriptedServer, json, live_events},
    wire,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::setup::{RESULT, SECRET, Setup, TokenEndpoint, protect, text};

const PROGRESS: &str = "data: {\"jsonrpc\":\"2.0\",\"method\":\"notifications/progress\",\
                        \"params\":{\"progressToken\":1,\"progress\":1}}\n\n";

pub(crate) async fn items() -> ScriptedServer {
    ScriptedServer::start(|_| json(RESULT)).await
}

/// An upstream that streams events for as long as the test holds the sender.
async fn streaming() -> (ScriptedServer, tokio::sync::mpsc::Sender<Bytes>) {
    let (events, chunks) = tokio::sync::mpsc::channel(16);
    let chunks = Arc::new(parking_lot::Mutex::new(Some(chunks)));
    let upstream = ScriptedServer::start(move |_| -> Response<ScriptedBody> {
        let first = chunks.lock().take();
        first.map_or_else(|| json(RESULT), live_events)
    })
    .await;
    (upstream, events)
}

#[tokio::test]
async fn a_call_passes_with_the_upstreams_credential_and_is_recorded() {
    let setup = Setup::new(items().await).await;
    let serving = setup.serve();
    let token = setup.token("alice");
    let response = setup.call(&token).await;
    assert_eq!((response.status, response.text()), (200, RESULT));
    let [call] = setup.upstream.received().try_into().unwrap();
    assert_eq!(call.values("authorization"), [format!("Bearer {SECRET}")]);
    assert_eq!(setup.call("another").await.status, 401);
    let metadata = format!(
        "GET /.well-known/oauth-protected-resource/crm/mcp HTTP/1.1\r\nhost: {}\r\n\
         connection: close\r\n\r\n",
        setup.address
    );
    let metadata = wire::send(setup.address, metadata.as_bytes()).await.json();
    assert_eq!(metadata["resource"], format!("http://{}/crm/mcp", setup.address));
    assert_eq!(metadata["scopes_supported"], serde_json::json!(["crm:read"]));
    for (path, status) in [("/livez", 200), ("/readyz", 200), ("/other/mcp", 404)] {
        let request =
            format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", setup.address);
        assert_eq!(wire::send(setup.address, request.as_bytes()).await.status, status, "{path}");
    }
    let log = serving.stop();
    let verified = setup.done(&["audit", "verify", "audit"]);
    assert!(verified.contains("whole"), "{verified}");
    let mut records = String::new();
    for file in fs::read_dir(setup.path("audit")).unwrap() {
        records.push_str(&fs::read_to_string(file.unwrap().path()).unwrap());
    }
    let command = r#""command":"serve""#;
    assert!(records.contains("alice") && records.contains(command), "{records}");
    // No secret is in the store, its journal, the records or the log.
    let mut scan = Scan::new();
    scan.secret("the secret", SECRET).received(SECRET.as_bytes());
    scan.secret("the token", &token).received(token.as_bytes());
    scan.source("the log", log).source("the records", records);
    for file in fs::read_dir(setup.folder.path()).unwrap().map(Result::unwrap) {
        let name = file.file_name().into_string().unwrap();
        if name.starts_with("token-broker.db") {
            scan.source(name, fs::read(file.path()).unwrap());
        }
    }
    assert_eq!(scan.run(), Ok(()));
}

#[tokio::test]
async fn a_block_by_a_command_ends_streams_and_outlives_a_restart() {
    let (upstream, events) = streaming().await;
    let setup = Setup::new(upstream).await;
    let serving = setup.serve();
    let (alice, bob) = (setup.token("alice"), setup.token("bob"));
    let mut stream = TcpStream::connect(setup.address).await.unwrap();
    stream.write_all(&setup.request(&alice)).await.unwrap();
    events.send(Bytes::from_static(PROGRESS.as_bytes())).await.unwrap();
    let mut read = Vec::new();
    while !text(&read).contains("notifications/progress") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{}", text(&read));
    }
    setup.done(&["users", "block", "alice", "--operator", "olga"]);
    let end = async { while stream.read_buf(&mut read).await.unwrap_or(0) > 0 {} };
    tokio::time::timeout(Duration::from_secs(10), end).await.expect("the stream ends");
    assert_eq!(setup.call(&alice).await.status, 401);
    assert_eq!(setup.call(&bob).await.status, 200);
    serving.stop();
    let serving = setup.serve();
    assert_eq!(setup.call(&alice).await.status, 401, "after a restart");
    setup.done(&["users", "unblock", "alice", "--operator", "olga"]);
    setup.until_status(&alice, 200).await;
    serving.stop();
    let verified: Value = setup.done(&["audit", "verify", "--json", "audit"]).parse().unwrap();
    assert_eq!(verified["whole"], true, "{verified}");
}

#[tokio::test]
async fn tokens_end_by_their_id_and_all_at_once() {
    let setup = Setup::new(items().await).await;
    let serving = setup.serve();
    let (one, other) = (setup.token("alice"), setup.token("alice"));
    let claims = one.split('.').nth(1).unwrap();
    let claims = URL_SAFE_NO_PAD.decode(claims).unwrap();
    let id = text(&claims).parse::<Value>().unwrap()["jti"].as_str().unwrap().to_owned();
    assert_eq!(setup.call(&one).await.status, 200);
    setup.done(&["tokens", "revoke", "--id", &id]);
    setup.until_status(&one, 401).await;
    assert_eq!(setup.call(&other).await.status, 200);
    setup.done(&["tokens", "revoke", "--all"]);
    setup.until_status(&other, 401).await;
    assert_eq!(setup.run(&["tokens", "revoke"]).status.code(), Some(2));
    serving.stop();
}

#[tokio::test]
async fn t328_a_changed_file_is_applied_as_a_whole_or_not_at_all() {
    let setup = Setup::new(items().await).await;
    let mut serving = setup.serve();
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200);
    // An error in the second server: the first one keeps its rules.
    setup.configure("none_*", "[[server]]\nname = \"mail\"\n");
    serving.until("gateway.reload_refused");
    assert_eq!(setup.call(&token).await.text(), RESULT, "T328");
    // A setting outside of the servers would be in effect only in part.
    setup.configure("none_*", "");
    let file = setup.path("token-broker.toml");
    let text_of = fs::read_to_string(&file).unwrap();
    fs::write(&file, text_of.replace("filter = \"debug\"", "filter = \"info\"")).unwrap();
    serving.until("restart the gateway");
    assert_eq!(setup.call(&token).await.text(), RESULT, "T328");
    // A refused file is tried again: here its secret file returns.
    fs::rename(setup.path("crm.key"), setup.path("gone")).unwrap();
    fs::write(&file, text_of).unwrap();
    serving.until("the file of `secret_file` does not exist");
    assert_eq!(setup.call(&token).await.text(), RESULT, "T328");
    fs::rename(setup.path("gone"), setup.path("crm.key")).unwrap();
    serving.until("servers and rules were read again");
    let refused = setup.call(&token).await;
    assert!(refused.text().contains("error"), "T328 {}", refused.text());
    setup.configure("get_*", "");
    serving.until("servers and rules were read again");
    assert_eq!(setup.call(&token).await.text(), RESULT, "T328");
    serving.stop();
}

#[tokio::test]
async fn grants_are_added_listed_and_revoked() {
    let setup = Setup::new(items().await).await;
    setup.configure("get_*", &setup.mail("https://login.mail.example/token"));
    let refresh_token = "rt-9d1c27aa0b6e4f1382c4";
    fs::write(setup.path("rt"), refresh_token).unwrap();
    protect(&setup.path("rt"));
    let add =
        ["grants", "add", "--user", "alice", "--server", "mail", "--refresh-token-file", "rt"];
    setup.done(&add);
    let listed: Value = setup.done(&["grants", "list", "--json"]).parse().unwrap();
    let [grant] = listed.as_array().unwrap().as_slice() else { panic!("{listed}") };
    assert_eq!((&grant["server"], &grant["state"]), (&"mail".into(), &"active".into()));
    assert_eq!(grant["scopes"], "mail:read");
    let id = grant["id"].as_str().unwrap();
    let again = setup.run(&add);
    assert!(text(&again.stderr).contains("--replace"), "{}", text(&again.stderr));
    assert!(setup.done(&["grants", "list", "--user", "alice"]).contains(id));
    assert!(!setup.done(&["grants", "list", "--user", "bob"]).contains(id));
    setup.done(&["grants", "revoke", id]);
    let listed: Value = setup.done(&["grants", "list", "--json"]).parse().unwrap();
    assert_eq!(listed[0]["state"], "revoked");
    assert_eq!(listed[0]["has_refresh_token"], false);
    let unknown = setup.run(&["grants", "revoke", "-unknown"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("grants list"), "{}", text(&unknown.stderr));
    let of_static = setup.run(&[&add[..5], &["crm"], &add[6..]].concat());
    assert!(text(&of_static.stderr).contains("oauth"), "{}", text(&of_static.stderr));
}

/// An upstream, and the credentials that it received, the last one last.
fn last_credential(setup: &Setup) -> String {
    let received = setup.upstream.received();
    received.last().unwrap().values("authorization").concat()
}

#[tokio::test]
async fn a_replaced_grant_is_used_at_once_and_a_revoked_one_no_longer() {
    let setup = Setup::new(items().await).await;
    let (one, two) = (TokenEndpoint::start(3600).await, TokenEndpoint::start(3600).await);
    setup.configure("get_*", &setup.mail(&one.server.url("/token")));
    let first = setup.add_grant("alice");
    let serving = setup.serve();
    let token = setup.token_for("mail", "alice");
    let call = async || wire::send(setup.address, &setup.request_to("mail", &token)).await;
    assert_eq!(call().await.text(), RESULT);
    let of_first = last_credential(&setup);
    // Revoked and added again: what was in memory is not used, and not in the way.
    setup.done(&["grants", "revoke", &first]);
    let mut response = String::new();
    for _ in 0..200 {
        response = call().await.text().to_owned();
        if response.contains("connect") {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(response.contains("connect"), "{response}\n{}", serving.stop());
    drop(two);
    let endpoint = TokenEndpoint::start(3600).await;
    // The refresh token of a new endpoint, after the same first token.
    setup.configure("get_*", &setup.mail(&endpoint.server.url("/token")));
    let second = setup.add_grant("alice");
    assert_ne!(first, second);
    for _ in 0..200 {
        response = call().await.text().to_owned();
        if response == RESULT {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(response, RESULT);
    // Replaced, without a revocation in between: the gateway has the access token in memory.
    let calls = setup.upstream.received().len();
    fs::write(setup.path("rt"), "rt-1").unwrap();
    let replace = ["--server", "mail", "--refresh-token-file", "rt", "--replace"];
    setup.done(&[&["grants", "add", "--user", "alice"][..], &replace].concat());
    let of_second = last_credential(&setup);
    for _ in 0..200 {
        // A call that is under way at this moment may be refused.
        response = call().await.text().to_owned();
        if response == RESULT && last_credential(&setup) != of_second {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(response, RESULT);
    assert!(setup.upstream.received().len() > calls);
    assert_ne!(last_credential(&setup), of_second);
    let listed: Value = setup.done(&["grants", "list", "--json"]).parse().unwrap();
    let third = listed[0]["id"].as_str().unwrap().to_owned();
    assert_ne!(third, second);
    setup.done(&["grants", "revoke", &third]);
    for _ in 0..200 {
        response = call().await.text().to_owned();
        if response != RESULT {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(response.contains("connect"), "{response}");
    drop(of_first);
    serving.stop();
}

#[tokio::test]
async fn a_failed_command_is_on_the_record_as_failed() {
    let setup = Setup::new(items().await).await;
    setup.serve().stop();
    setup.done(&["users", "block", "alice"]);
    assert_eq!(setup.run(&["grants", "revoke", "nonsense"]).status.code(), Some(1));
    let mut outcomes = Vec::new();
    for file in fs::read_dir(setup.path("audit")).unwrap().map(|file| file.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        for line in fs::read_to_string(file).unwrap().lines() {
            let record: Value = line.parse().unwrap();
            if record["kind"] == "command" {
                let member = |name: &str| record[name].as_str().unwrap().to_owned();
                outcomes.push((member("command"), member("outcome")));
            }
        }
    }
    outcomes.sort();
    let expected = [
        ("grants revoke", "begun"),
        ("grants revoke", "failed"),
        ("serve", "succeeded"),
        ("users block", "begun"),
        ("users block", "succeeded"),
    ];
    let expected = expected.map(|(name, outcome)| (name.to_owned(), outcome.to_owned()));
    assert_eq!(outcomes, expected);
}

#[tokio::test]
async fn a_replaced_secret_is_read_without_a_restart() {
    let setup = Setup::new(items().await).await;
    let mut serving = setup.serve();
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200);
    fs::write(setup.path("crm.key"), "another-51bd0c77e2aa4930\n").unwrap();
    serving.until("servers and rules were read again");
    assert_eq!(setup.call(&token).await.status, 200);
    assert_eq!(last_credential(&setup), "Bearer another-51bd0c77e2aa4930");
    serving.stop();
}

#[tokio::test]
async fn a_command_without_a_store_reaches_no_gateway_and_fails() {
    let setup = Setup::new(items().await).await;
    // Each of them twice: a refused command creates no store for the next one.
    let block = ["users", "block", "alice"];
    let revoke = ["tokens", "revoke", "--all"];
    for command in [&block[..], &block, &revoke, &revoke, &["users", "unblock", "alice"]] {
        let refused = setup.run(command);
        assert_eq!(refused.status.code(), Some(1), "{command:?}");
        assert!(text(&refused.stderr).contains("no gateway uses it"), "{}", text(&refused.stderr));
        assert!(!setup.path("token-broker.db").exists(), "{command:?}");
    }
}

#[tokio::test]
async fn the_example_has_no_errors() {
    let setup = Setup::new(items().await).await;
    let example = include_str!("../../../../examples/gateway/token-broker.toml");
    fs::write(setup.path("token-broker.toml"), example).unwrap();
    for name in ["search.key", "crm.secret", "reports.secret"] {
        fs::write(setup.path(name), SECRET).unwrap();
        protect(&setup.path(name));
    }
    let checked = setup.done(&["check"]);
    assert!(checked.contains("no errors; 3 servers"), "{checked}");
}

/// An upstream that begins a stream for each request, and ends none.
async fn endless() -> ScriptedServer {
    let held = parking_lot::Mutex::new(Vec::new());
    ScriptedServer::start(move |_| {
        let (events, chunks) = tokio::sync::mpsc::channel(1);
        events.try_send(Bytes::from_static(PROGRESS.as_bytes())).unwrap();
        held.lock().push(events);
        live_events(chunks)
    })
    .await
}

/// Opens a stream, and returns it once its first event has arrived.
async fn open_stream(setup: &Setup, server: &str, token: &str) -> TcpStream {
    let mut stream = TcpStream::connect(setup.address).await.unwrap();
    stream.write_all(&setup.request_to(server, token)).await.unwrap();
    let mut read = Vec::new();
    while !text(&read).contains("notifications/progress") {
        assert_ne!(stream.read_buf(&mut read).await.unwrap(), 0, "{}", text(&read));
    }
    stream
}

/// Waits until a stream has ended.
async fn ended(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let end = async { while stream.read_buf(&mut rest).await.unwrap_or(0) > 0 {} };
    tokio::time::timeout(Duration::from_secs(20), end).await.expect("the stream ends");
}

/// `TOKEN_BROKER_OUTSIDE_REVOCATIONS` sets how often.
#[tokio::test]
#[expect(clippy::print_stdout, reason = "the figures")]
async fn n470_a_revocation_from_outside_ends_streams_and_requests() {
    #[expect(clippy::disallowed_methods, reason = "no secret")]
    let runs = std::env::var("TOKEN_BROKER_OUTSIDE_REVOCATIONS");
    let runs: usize = runs.map_or(2, |runs| runs.parse().unwrap());
    let setup = Setup::new(endless().await).await;
    let serving = {
        setup.configure("get_*", "");
        setup.serve()
    };
    for way in ["tokens revoke", "users block", "grants revoke"] {
        let (mut longest, mut late) = (Duration::ZERO, 0);
        for run in 0..runs {
            let user = format!("{}-{run}", way.replace(' ', "-"));
            // The tokens of each grant are those of an endpoint of its own.
            let endpoint = TokenEndpoint::start(3600).await;
            let (server, grant) = match way {
                "grants revoke" => {
                    setup.configure("get_*", &setup.mail(&endpoint.server.url("/token")));
                    ("mail", Some(setup.add_grant(&user)))
                }
                _ => ("crm", None),
            };
            let token = setup.token_for(server, &user);
            if grant.is_some() {
                setup.until_served(server, &token).await;
            }
            // Warm caches, and open streams.
            let one = open_stream(&setup, server, &token).await;
            let other = open_stream(&setup, server, &token).await;
            match (way, &grant) {
                ("users block", _) => setup.done(&["users", "block", &user]),
                (_, Some(grant)) => setup.done(&["grants", "revoke", grant]),
                _ => setup.done(&["tokens", "revoke", "--user", &user]),
            };
            let began = tokio::time::Instant::now();
            tokio::join!(ended(one), ended(other));
            longest = longest.max(began.elapsed());
            tokio::time::sleep_until(began + Duration::from_secs(1)).await;
            let response = setup.begin_call(server, &token).await;
            late += usize::from(response.contains("notifications/progress"));
        }
        println!("{way}: {runs} runs, streams ended within {longest:?}, {late} accepted after 1 s");
        assert_eq!(late, 0, "N470 {way}");
    }
    serving.stop();
}
