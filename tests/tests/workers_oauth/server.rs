//! The worker's process, the first tokens of its user, and its log.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use token_broker_tests::{ledger::Ledger, token_endpoint::guarded};

/// A running server, with a client and a grant of alice. It stops with the test.
pub(crate) struct WorkersOauth {
    child: Child,
    log: tempfile::NamedTempFile,
    pub(crate) base: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    pub(crate) refresh_token: String,
}

/// A request to the token endpoint with a refresh token, and its response.
pub(crate) struct Refresh {
    pub(crate) agent: String,
    pub(crate) presented: String,
    pub(crate) status: u64,
    pub(crate) rotated: Option<String>,
}

impl WorkersOauth {
    /// Starts a server. Prints a message and returns `None` if it is not installed for the tests.
    #[expect(clippy::disallowed_methods, reason = "the environment contains the path")]
    pub(crate) fn start() -> Option<Self> {
        let Ok(folder) = std::env::var("TOKEN_BROKER_WORKERS_OAUTH") else {
            // Not `eprintln!`: the test harness captures its output when a test passes.
            writeln!(
                std::io::stderr(),
                "NOT RUN: no workers-oauth-provider; run tests/interop/workers-oauth/run"
            )
            .unwrap();
            return None;
        };
        let log = tempfile::NamedTempFile::new().unwrap();
        let folder = Path::new(&folder);
        let mut child = Command::new(folder.join("node_modules/.bin/node"))
            .arg(folder.join("server.mjs"))
            .arg(log.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.as_mut().unwrap()).lines();
        // workerd prints notices before.
        let first: Option<Value> = lines.map_while(Result::ok).find_map(|line| line.parse().ok());
        let first = first.expect("the line of the server: it did not start");
        let text = |name: &str| first[name].as_str().unwrap().to_owned();
        Some(Self {
            base: text("base"),
            client_id: text("client_id"),
            client_secret: text("client_secret"),
            refresh_token: text("refresh_token"),
            child,
            log,
        })
    }

    /// Ends all grants of alice, as a user does at the provider.
    pub(crate) async fn revoke_grants(&self) {
        let request = Request::get(format!("{}/test/revoke", self.base)).body(Bytes::new());
        let response = guarded().fetch(request.unwrap()).await.unwrap();
        let text = std::str::from_utf8(response.body()).unwrap();
        assert_eq!(text, r#"{"revoked":1}"#);
    }

    pub(crate) fn refreshes(&self) -> Vec<Refresh> {
        let refresh = |line: &Value| {
            let presented = field(line, "refresh_token")?;
            let body: Value = line["body"].as_str()?.parse().ok()?;
            Some(Refresh {
                agent: line["agent"].as_str().unwrap_or_default().to_owned(),
                presented,
                status: line["status"].as_u64()?,
                rotated: body["refresh_token"].as_str().map(str::to_owned),
            })
        };
        self.log().iter().filter_map(refresh).collect()
    }

    /// Reports everything exchanged with the server to the ledger as secrets.
    pub(crate) fn report_to(&self, ledger: &Ledger) {
        ledger.in_use(self.client_secret.as_bytes());
        ledger.secret("the client secret", &self.client_secret);
        for line in self.log() {
            ledger.in_use(line["body"].as_str().unwrap().as_bytes());
            let body: Value = line["body"].as_str().unwrap().parse().unwrap();
            for name in ["access_token", "refresh_token"] {
                if let Some(token) = body[name].as_str() {
                    ledger.secret(name, token);
                }
            }
        }
    }

    fn log(&self) -> Vec<Value> {
        fs::read_to_string(self.log.path())
            .unwrap()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect()
    }
}

/// Returns a field of the form that a line has.
fn field(line: &Value, name: &str) -> Option<String> {
    let pairs = line["form"].as_str()?.split('&').filter_map(|pair| pair.split_once('='));
    let (_, value) = pairs.into_iter().find(|(found, _)| *found == name)?;
    Some(value.replace("%3A", ":"))
}

impl Drop for WorkersOauth {
    fn drop(&mut self) {
        // It ends workerd with it, and itself at the end of its input.
        drop(self.child.stdin.take());
        self.child.wait().unwrap();
    }
}
