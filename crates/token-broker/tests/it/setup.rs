//! A folder in which the binary runs, with a configuration, a store and an upstream.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use token_broker_tests::{
    upstream::{ScriptedBody, ScriptedServer, json},
    wire::{self, RawResponse},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

pub(crate) const SECRET: &str = "upstream-7c1f0d5e9ab34426";
pub(crate) const RESULT: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"content":[]}}"#;
pub(crate) const CALL: &str =
    r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_item"}}"#;

/// A folder with a configuration, and the address that it names.
pub(crate) struct Setup {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
    pub(crate) upstream: ScriptedServer,
    /// The URL of the store.
    pub(crate) store: String,
    /// The section on where tokens come from.
    pub(crate) issuer: String,
}

const TRIAL: &str = "[tokens]\nkind = \"trial\"\nsigning_key_file = \"trial-signing.key\"";

impl Setup {
    /// Initializes a folder by the command, and names an upstream with these rules.
    pub(crate) async fn new(upstream: ScriptedServer) -> Self {
        Self::on("sqlite://token-broker.db", upstream).await
    }

    /// The same with this store.
    pub(crate) async fn on(store: &str, upstream: ScriptedServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let (store, issuer) = (store.to_owned(), TRIAL.to_owned());
        let setup = Self { folder, address, upstream, store, issuer };
        let done = setup.run(&["init", ".", "--trial"]);
        assert!(done.status.success(), "{}", text(&done.stderr));
        fs::write(setup.path("crm.key"), format!("{SECRET}\n")).unwrap();
        protect(&setup.path("crm.key"));
        setup.configure("get_*", "");
        setup
    }

    /// Lets users sign in at the gateway, with these keys.
    pub(crate) fn with_login(mut self, keys: &str) -> Self {
        self.issuer = format!("[login]\nkind = \"local\"\n{keys}");
        self.configure("get_*", "");
        self
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Writes a configuration whose server allows these tools, and has this text at its end.
    pub(crate) fn configure(&self, tools: &str, more: &str) {
        let Self { address, upstream, store, issuer, .. } = self;
        let upstream = upstream.url("/mcp");
        let text = format!(
            r#"public_url = "http://{address}"
listen = "{address}"

[store]
url = "{store}"
key_file = "token-broker.key"

[audit]
folder = "audit"
writer = "gateway"

{issuer}

[log]
format = "json"
filter = "debug"

[[server]]
name = "crm"
upstream = "{upstream}"
loopback_hosts = ["127.0.0.1"]
  [server.credential]
  kind = "static"
  secret_file = "crm.key"
  [[server.allow]]
  tools = ["{tools}"]
  scope = "crm:read"
{more}"#
        );
        fs::write(self.path("token-broker.toml"), text).unwrap();
    }

    /// Returns the configuration of a server `mail` with a grant of each user, at this token
    /// endpoint.
    pub(crate) fn mail(&self, token_endpoint: &str) -> String {
        format!(
            r#"
[[server]]
name = "mail"
upstream = "{}"
loopback_hosts = ["127.0.0.1"]
  [server.credential]
  kind = "oauth"
  issuer = "https://login.example"
  token_endpoint = "{token_endpoint}"
  client_id = "broker"
  client_authentication = "none"
  scopes = ["mail:read"]
  [[server.allow]]
  tools = ["*"]
"#,
            self.upstream.url("/mcp")
        )
    }

    /// Adds a grant for `mail` with the first refresh token of a [`TokenEndpoint`], and returns its
    /// ID.
    pub(crate) fn add_grant(&self, user: &str) -> String {
        fs::write(self.path("rt"), "rt-0").unwrap();
        protect(&self.path("rt"));
        let of = ["--user", user, "--server", "mail", "--refresh-token-file", "rt"];
        let added = self.done(&[&["grants", "add"][..], &of].concat());
        added.split(' ').nth(1).unwrap().to_owned()
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
        command.args(arguments).current_dir(self.folder.path()).env_remove("RUST_LOG");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs a command that must succeed, and returns its output.
    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout).trim().to_owned()
    }

    pub(crate) fn token(&self, user: &str) -> String {
        self.token_for("crm", user)
    }

    pub(crate) fn token_for(&self, server: &str, user: &str) -> String {
        self.done(&["tokens", "issue", "--user", user, "--server", server])
    }

    /// Starts the gateway, and waits until it is ready.
    pub(crate) fn serve(&self) -> Serving {
        Serving::start(&mut self.command(&["serve"]))
    }

    pub(crate) async fn call(&self, token: &str) -> RawResponse {
        wire::send(self.address, &self.request(token)).await
    }

    pub(crate) fn request(&self, token: &str) -> Vec<u8> {
        self.request_to("crm", token)
    }

    pub(crate) fn request_to(&self, server: &str, token: &str) -> Vec<u8> {
        let bearer = format!("Bearer {token}");
        let fields = [("authorization", bearer.as_str())];
        wire::post(&format!("/{server}/mcp"), &self.address.to_string(), &fields, CALL)
    }

    /// Returns the first bytes of the response to a call, whatever follows them.
    pub(crate) async fn begin_call(&self, server: &str, token: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(&self.request_to(server, token)).await.unwrap();
        let mut read = Vec::new();
        // An event, an error, or a refusal.
        while !["progress", "error", "\r\n\r\n0"].iter().any(|end| text(&read).contains(end)) {
            if stream.read_buf(&mut read).await.unwrap() == 0 {
                break;
            }
        }
        text(&read)
    }

    /// Calls until a changed configuration is in effect.
    pub(crate) async fn until_served(&self, server: &str, token: &str) {
        let mut response = String::new();
        for _ in 0..200 {
            response = self.begin_call(server, token).await;
            if response.contains("progress") {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{server} is not served: {response}");
    }

    /// Calls until the response has this status: a running gateway learns of a change from the
    /// store.
    pub(crate) async fn until_status(&self, token: &str, status: u16) {
        let mut last = 0;
        for _ in 0..500 {
            last = self.call(token).await.status;
            if last == status {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("no response with status {status}, but {last}");
    }
}

/// A running gateway.
pub(crate) struct Serving {
    pub(crate) child: Child,
    logged: mpsc::Receiver<String>,
    log: String,
}

impl Serving {
    /// Starts the gateway, and waits until it is ready.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let (lines, logged) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        });
        let mut serving = Self { child, logged, log: String::new() };
        serving.until("the gateway is ready");
        serving
    }

    /// Reads the log until a line contains this text.
    pub(crate) fn until(&mut self, text: &str) {
        loop {
            let line = self.logged.recv_timeout(Duration::from_secs(30));
            let line = line.unwrap_or_else(|_| panic!("no line has {text:?}:\n{}", self.log));
            self.log.push_str(&line);
            self.log.push('\n');
            if line.contains(text) {
                return;
            }
        }
    }

    /// Sends SIGTERM, and returns the whole log of a gateway that ended in order.
    pub(crate) fn stop(mut self) -> String {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let status = self.child.wait().unwrap();
        while let Ok(line) = self.logged.recv_timeout(Duration::from_secs(5)) {
            self.log.push_str(&line);
            self.log.push('\n');
        }
        assert!(status.success(), "{}", self.log);
        std::mem::take(&mut self.log)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // Ended already, unless a test failed.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) fn protect(file: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A token endpoint whose refresh tokens are valid once, and its number of requests. A token that
/// was used last is accepted again: a client may have lost the response.
pub(crate) struct TokenEndpoint {
    pub(crate) server: ScriptedServer,
    pub(crate) state: Arc<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) posts: AtomicUsize,
    issued: AtomicUsize,
    pub(crate) refused: AtomicUsize,
}

impl TokenEndpoint {
    pub(crate) async fn start(lifetime: u32) -> Self {
        let state = Arc::new(State::default());
        let serving = Arc::clone(&state);
        let server = ScriptedServer::start(move |request| serving.respond(&request.body, lifetime));
        Self { server: server.await, state }
    }
}

impl State {
    fn respond(&self, form: &Bytes, lifetime: u32) -> Response<ScriptedBody> {
        self.posts.fetch_add(1, Ordering::SeqCst);
        let form = std::str::from_utf8(form).unwrap();
        let sent = form.split('&').find_map(|pair| pair.strip_prefix("refresh_token=rt-"));
        let sent: usize = sent.unwrap().parse().unwrap();
        let last = self.issued.load(Ordering::SeqCst);
        if sent != last && sent + 1 != last {
            self.refused.fetch_add(1, Ordering::SeqCst);
            let mut response = json(r#"{"error":"invalid_grant"}"#);
            *response.status_mut() = http::StatusCode::BAD_REQUEST;
            return response;
        }
        let next = self.issued.fetch_add(1, Ordering::SeqCst) + 1;
        json(&format!(
            r#"{{"access_token":"at-{next}-4c0d9e2277aa41b3","token_type":"Bearer",
                "expires_in":{lifetime},"refresh_token":"rt-{next}"}}"#
        ))
    }
}
