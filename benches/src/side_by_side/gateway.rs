//! The gateway, `token-broker serve`, with the same rules, credential and durable audit log as the
//! stack.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use token_broker_benches::fixtures::ISSUER;
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::{Outcome, proxies::UPSTREAM_SECRET, role::Setting, tokens::SIGNING_KEY};

/// Returns the path of the program, if it was built with this one.
pub(crate) fn program() -> Option<PathBuf> {
    let program = std::env::current_exe().ok()?.with_file_name("token-broker");
    program.exists().then_some(program)
}

/// Runs the gateway in front of the upstream until `closed` is ready.
pub(crate) async fn run(setting: &Setting, closed: impl Future) -> Outcome<()> {
    let program = program().ok_or("the gateway is not built")?;
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let folder = Path::new(setting.required("dir")?).join("gateway");
    drop(fs::remove_dir_all(&folder));
    fs::create_dir(&folder)?;
    let initialized =
        Command::new(&program).args(["init", "--trial"]).current_dir(&folder).output().await?;
    if !initialized.status.success() {
        return Err("`token-broker init` failed".into());
    }
    let upstream = setting.required("upstream")?;
    write_private(&folder.join("upstream.secret"), UPSTREAM_SECRET.as_bytes())?;
    let key = fs::read(Path::new(setting.required("dir")?).join(SIGNING_KEY))?;
    write_private(&folder.join("trial-signing.key"), &key)?;
    let configuration = configuration(&address.to_string(), upstream);
    fs::write(folder.join("token-broker.toml"), configuration)?;
    let mut gateway = Command::new(&program)
        .arg("serve")
        .current_dir(&folder)
        .env("TOKIO_WORKER_THREADS", setting.number("threads")?.max(1).to_string())
        .env("RUST_LOG", "warn")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = gateway.id().ok_or("the gateway ended at once")?;
    let mut tries = 0;
    while TcpStream::connect(address).await.is_err() {
        tries += 1;
        if tries > 500 || gateway.try_wait()?.is_some() {
            return Err("the gateway does not listen".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    super::role::announce(&address, Some(pid))?;
    closed.await;
    gateway.kill().await?;
    Ok(())
}

fn write_private(path: &Path, content: &[u8]) -> Outcome<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    Ok(file.write_all(content)?)
}

/// The rules are those of `fixtures::rules`.
fn configuration(address: &str, upstream: &str) -> String {
    format!(
        r#"public_url = "{ISSUER}"
listen = "{address}"

[store]
url = "sqlite://token-broker.db"
key_file = "token-broker.key"

[audit]
folder = "audit"
writer = "gateway"

[tokens]
kind = "trial"
signing_key_file = "trial-signing.key"

[[server]]
name = "items"
upstream = "http://{upstream}/mcp"
loopback_hosts = ["127.0.0.1"]
  [server.credential]
  kind = "static"
  secret_file = "upstream.secret"
  [[server.allow]]
  tools = ["list_*"]
  scope = "items:read"
  [[server.allow]]
  tools = ["get_*"]
  scope = "items:read"
  [[server.allow]]
  tools = ["count_*", "watch_*"]
  scope = "items:read"
  [[server.allow]]
  tools = ["create_item"]
  scope = "items:write"
  [[server.allow]]
  tools = ["update_item"]
  scope = "items:write"
  [[server.allow]]
  tools = ["move_item", "copy_item"]
  scope = "items:read items:write"
  [[server.allow]]
  prompts = ["*"]
  [[server.allow]]
  resources = ["items://*"]
  scope = "items:read"
  [[server.allow]]
  methods = ["logging/setLevel"]
  [[server.deny]]
  tools = ["get_salary"]
  [[server.deny]]
  tools = ["delete_*"]
  [[server.deny]]
  resources = ["items://private/*"]
"#
    )
}
