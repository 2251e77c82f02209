//! HAProxy as a peer: it verifies each token's signature and claims, and puts another credential in
//! its place.
//!
//! It keeps no verdicts, reads no message and writes no record; what it shares with the stack is
//! the way of a token.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use base64::{
    Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD,
};
use token_broker_benches::fixtures::{ISSUER, RESOURCE};
use tokio::{
    net::{TcpListener, TcpStream},
    process::Command,
};

use super::{Outcome, proxies::UPSTREAM_SECRET, role::Setting};

/// Returns the path of the program, if it is installed.
pub(crate) fn program() -> Option<&'static Path> {
    ["/usr/sbin/haproxy", "/usr/local/sbin/haproxy", "/usr/bin/haproxy"]
        .map(Path::new)
        .into_iter()
        .find(|p| p.exists())
}

/// Runs HAProxy in front of the upstream until `closed` is ready.
pub(crate) async fn run(setting: &Setting, closed: impl Future) -> Outcome<()> {
    let program = program().ok_or("HAProxy is not installed")?;
    // HAProxy does not report its port, so it takes one that was free a moment ago.
    let address = TcpListener::bind("127.0.0.1:0").await?.local_addr()?;
    let configuration = configure(setting, address)?;
    let mut haproxy = Command::new(program)
        .args(["-db", "-q", "-f"])
        .arg(&configuration)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    let pid = haproxy.id().ok_or("HAProxy ended at once")?;
    let mut tries = 0;
    while TcpStream::connect(address).await.is_err() {
        tries += 1;
        if tries > 500 || haproxy.try_wait()?.is_some() {
            return Err("HAProxy does not listen".into());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    super::role::announce(&address, Some(pid))?;
    closed.await;
    haproxy.kill().await?;
    Ok(())
}

fn configure(setting: &Setting, address: SocketAddr) -> Outcome<PathBuf> {
    let dir = Path::new(setting.required("dir")?);
    let (key, configuration) = (dir.join("es256.pem"), dir.join("haproxy.cfg"));
    fs::write(&key, public_key(&fs::read(dir.join("jwks.json"))?)?)?;
    let (threads, upstream) = (setting.number("threads")?.max(1), setting.required("upstream")?);
    let text = format!(
        r#"global
    nbthread {threads}
    maxconn 4000

defaults
    mode http
    option http-keep-alive
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s

frontend broker
    bind {address}
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request set-var(txn.iss) var(txn.bearer),jwt_payload_query('$.iss')
    http-request set-var(txn.aud) var(txn.bearer),jwt_payload_query('$.aud')
    http-request set-var(txn.exp) var(txn.bearer),jwt_payload_query('$.exp','int')
    http-request set-var(txn.now) date()
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str ES256 }}
    http-request deny deny_status 401 unless {{ var(txn.iss) -m str {ISSUER} }}
    http-request deny deny_status 401 unless {{ var(txn.aud) -m str {RESOURCE} }}
    http-request deny deny_status 401 if {{ var(txn.exp),sub(txn.now) -m int lt 0 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{}") 1 }}
    http-request set-header authorization "Bearer {UPSTREAM_SECRET}"
    http-request set-path /mcp
    default_backend upstream

backend upstream
    server one {upstream}
"#,
        key.display()
    );
    fs::write(&configuration, text)?;
    Ok(configuration)
}

/// Returns the one key of the set as PEM (RFC 5480): HAProxy reads no JWK.
#[expect(clippy::disallowed_methods, reason = "a file that this program wrote")]
fn public_key(jwks: &[u8]) -> Outcome<String> {
    const P256_SPKI: [u8; 27] = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08,
        0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
    ];
    let set: serde_json::Value = serde_json::from_slice(jwks)?;
    let mut der = P256_SPKI.to_vec();
    for coordinate in ["/keys/0/x", "/keys/0/y"] {
        let text = set
            .pointer(coordinate)
            .and_then(serde_json::Value::as_str)
            .ok_or("no EC key in the set")?;
        der.extend(URL_SAFE_NO_PAD.decode(text)?);
    }
    Ok(format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der)))
}
