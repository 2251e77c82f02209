//! The Authlib process, the keys it knows the broker by, and its log.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use http::Uri;
use serde_json::{Value, json};
use token_broker_authority::issue::{Algorithm, SigningKeys};
use token_broker_tests::{harness, ledger::Ledger, token_endpoint::CLIENT_SECRET};
use token_broker_upstream::{SignError, SignJwt};
use tower_token_broker::clock::Clock;

/// The issuer in `server.py`.
pub(crate) const ISSUER: &str = "https://login.crm.example";

/// A running server. It stops with the test.
pub(crate) struct Authlib {
    child: Child,
    port: u16,
    log: tempfile::NamedTempFile,
    broker: Arc<SigningKeys>,
    client: Arc<SigningKeys>,
}

impl Authlib {
    /// Starts a server. Prints a message and returns `None` if Authlib is not installed for the
    /// tests.
    #[expect(clippy::disallowed_methods, reason = "the environment contains the path of Authlib")]
    pub(crate) fn start() -> Option<Self> {
        let Ok(python) = std::env::var("TOKEN_BROKER_AUTHLIB") else {
            // Not `eprintln!`: the test harness captures its output when a test passes.
            writeln!(std::io::stderr(), "NOT RUN: no Authlib; run tests/interop/authlib/run")
                .unwrap();
            return None;
        };
        let keys = || Arc::new(SigningKeys::generate(Algorithm::Es256).unwrap());
        let (broker, client, log) = (keys(), keys(), tempfile::NamedTempFile::new().unwrap());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/authlib/server.py");
        let mut child = Command::new(python)
            .arg(script)
            .arg(log.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let jwks = |keys: &SigningKeys| keys.jwks(Clock::system().read()).parse::<Value>().unwrap();
        let configuration = json!({
            "issuer": harness::ISSUER, "client_secret": CLIENT_SECRET,
            "broker_jwks": jwks(&broker), "client_jwks": jwks(&client)
        });
        writeln!(child.stdin.as_mut().unwrap(), "{configuration}").unwrap();
        let mut first_line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first_line).unwrap();
        let port = first_line.trim().parse().expect("the server's port: it did not start");
        Some(Self { child, port, log, broker, client })
    }

    pub(crate) fn token_endpoint(&self) -> Uri {
        format!("http://127.0.0.1:{}/token", self.port).parse().unwrap()
    }

    /// Signs the broker's assertions about users.
    pub(crate) fn broker_signer(&self) -> impl SignJwt {
        signer(&self.broker)
    }

    /// Signs the broker's client assertions (`private_key_jwt`).
    pub(crate) fn client_signer(&self) -> impl SignJwt {
        signer(&self.client)
    }

    /// Returns the number of requests received.
    pub(crate) fn asked(&self) -> usize {
        self.log().iter().filter(|line| line.get("form").is_some()).count()
    }

    /// Returns the number of tokens issued.
    pub(crate) fn gave(&self) -> usize {
        self.given().len()
    }

    /// Returns the error codes sent.
    pub(crate) fn refused(&self) -> Vec<String> {
        self.log().iter().filter_map(|line| line["refused"].as_str().map(str::to_owned)).collect()
    }

    /// Reports everything exchanged with the server to the ledger as secrets.
    pub(crate) fn report_to(&self, ledger: &Ledger) {
        for line in self.log() {
            ledger.in_use(line.to_string().as_bytes());
            for name in ["subject_token", "actor_token", "client_assertion", "client_secret"] {
                if let Some(secret) = line["form"][name][0].as_str() {
                    ledger.secret(name, secret);
                }
            }
            if let Some(basic) = line["authorization"].as_str() {
                ledger.secret("client_secret_basic", basic.strip_prefix("Basic ").unwrap());
            }
        }
        for token in self.given() {
            ledger.secret("an access token", &token);
        }
    }

    fn given(&self) -> Vec<String> {
        self.log().iter().filter_map(|line| line["gave"].as_str().map(str::to_owned)).collect()
    }

    fn log(&self) -> Vec<Value> {
        fs::read_to_string(self.log.path())
            .unwrap()
            .lines()
            .map(|line| line.parse().unwrap())
            .collect()
    }
}

fn signer(keys: &Arc<SigningKeys>) -> impl SignJwt {
    let keys = Arc::clone(keys);
    move |claims: &str| keys.active().sign_jwt(claims).map_err(|_| SignError)
}

impl Drop for Authlib {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}
