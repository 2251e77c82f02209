//! The demo by the binary: its output, and the one that stays.

use std::{
    io::{BufRead as _, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
};

use token_broker_tests::{
    marker_scan::Scan,
    person::{App, Browser},
    wire,
};

/// The output has no form of any secret, as text or as JSON, even with every log event.
#[test]
fn the_output_of_the_demo_has_no_secret() {
    for arguments in [&["demo"][..], &["demo", "--json"]] {
        for log in ["off", "trace"] {
            let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
            let run = command.args(arguments).env("RUST_LOG", log).output().unwrap();
            assert!(run.status.success(), "{arguments:?} {log}");
            let printed = std::str::from_utf8(&run.stdout).unwrap();
            let scanned = "secrets in play; found at the client, in the broker's pages, in the";
            assert!(printed.contains(scanned), "{printed}");
            assert_eq!(run.stderr.is_empty(), log == "off", "{arguments:?} {log}");
            let mut scan = Scan::new();
            // Each secret has the marker. The output above states that secrets were used.
            scan.secret("a secret of the demo", token_broker_demo::MARKER)
                .received(token_broker_demo::MARKER.as_bytes());
            scan.source(format!("stdout of {arguments:?}"), run.stdout)
                .source(format!("stderr at {log}"), run.stderr);
            assert_eq!(scan.run(), Ok(()), "{arguments:?} {log}");
        }
    }
}

#[test]
fn the_demo_prints_one_object_as_documented() {
    let run =
        Command::new(env!("CARGO_BIN_EXE_token-broker")).args(["demo", "--json"]).output().unwrap();
    assert!(run.status.success());
    let text = std::str::from_utf8(&run.stdout).unwrap();
    let report: serde_json::Value = text.parse().unwrap();
    assert_eq!(report["pass"], true);
    // Each member and each check is documented.
    let document = include_str!("../../../../docs/demo.md");
    for member in report.as_object().unwrap().keys() {
        assert!(document.contains(&format!("`{member}`")), "{member}");
    }
    for check in report["checks"].as_array().unwrap() {
        assert!(document.contains(check["name"].as_str().unwrap()), "{check}");
        assert!(document.contains(check["title"].as_str().unwrap()), "{check}");
    }
}

/// The demo that stays, with what it printed.
struct Demo {
    child: Child,
    printed: String,
}

impl Demo {
    fn serve() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
        let arguments = ["demo", "--serve", "--listen", "127.0.0.1:0"];
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut printed = String::new();
        while !printed.ends_with("docs/getting-started.md.\n") {
            printed.push_str(&lines.next().unwrap().unwrap());
            printed.push('\n');
        }
        Self { child, printed }
    }

    /// Returns the word after this text.
    fn after(&self, text: &str) -> &str {
        let (_, rest) = self.printed.split_once(text).unwrap_or_else(|| panic!("{text}"));
        rest.split([' ', '\n', '\'']).find(|word| !word.is_empty()).unwrap()
    }

    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Ended already, unless a test failed.
        self.child.kill().unwrap_or_default();
        drop(self.child.wait());
    }
}

/// Allows access on the page of an upstream, and returns the target that leads back.
async fn allow_there(location: &str) -> String {
    let (host, query) =
        location.strip_prefix("http://").unwrap().split_once("/authorize?").unwrap();
    let to: SocketAddr = host.parse().unwrap();
    let request =
        format!("GET /authorize?{query} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let page = wire::send(to, request.as_bytes()).await;
    assert!(page.text().contains(">Allow</button>"), "{}", page.text());
    let fields = [("content-type", "application/x-www-form-urlencoded")];
    let form = format!("{query}&decision=allow");
    let back = wire::send(to, &wire::post("/authorize", host, &fields, &form)).await;
    let location = back.header("location").unwrap();
    format!("/{}", location.splitn(4, '/').nth(3).unwrap())
}

#[tokio::test]
async fn the_lines_that_the_demo_prints_work() {
    let demo = Demo::serve();
    let (user, password) = (demo.after("  user "), demo.after("  password "));
    let url = demo.after("add --transport http crm ");
    let address: SocketAddr =
        url.strip_prefix("http://").unwrap().split('/').next().unwrap().parse().unwrap();
    let call = async |token: &str| {
        let bearer = format!("Bearer {token}");
        let fields = [
            ("authorization", &*bearer),
            ("content-type", "application/json"),
            ("accept", "application/json, text/event-stream"),
        ];
        let (_, body) = demo.printed.rsplit_once("-d '").unwrap();
        let body = body.split('\'').next().unwrap();
        let request = wire::post("/crm/mcp", &address.to_string(), &fields, body);
        wire::send(address, &request).await.text().to_owned()
    };
    // By curl: the link to connect an account, and then the result.
    let token = demo.after("\nTOKEN=");
    let refused = call(token).await;
    let (_, link) = refused.split_once("/connect/crm?for=").unwrap_or_else(|| panic!("{refused}"));
    let link = format!("/connect/crm?for={}", link.split(['"', ' ']).next().unwrap());
    let mut browser = Browser::at(address);
    let page = browser.sign_in(&link, user, password).await;
    assert!(page.has("Connect your CRM account"), "{}", page.text());
    let leaving = browser.submit(&page, &[("action", "connect")]).await;
    let back = allow_there(&leaving.location.unwrap()).await;
    let done = browser.open_from_elsewhere(&back).await;
    assert!(done.has("Your account is connected"), "{}", done.text());
    assert!(call(token).await.contains("crm: get_contact done"));
    // A client that registers itself.
    let app = App::register(address, "Editor").await;
    let tokens = app.connect(&mut browser, "crm", (user, password)).await;
    assert!(call(&tokens.access).await.contains("crm: get_contact done"));
    demo.stop();
}

#[test]
fn the_demo_stays_on_loopback() {
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_token-broker"));
        let run = command.arg("demo").args(arguments).output().unwrap();
        (run.status.code().unwrap(), String::from_utf8(run.stderr).unwrap())
    };
    let (code, error) = run(&["--serve", "--listen", "0.0.0.0:0"]);
    assert!(code == 1 && error.contains("not on loopback"), "{error}");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = other.local_addr().unwrap().to_string();
    let (code, error) = run(&["--serve", "--listen", &taken]);
    assert!(code == 1 && error.contains("--listen"), "{error}");
    for wrong in [&["--listen", "127.0.0.1:0"][..], &["--json", "--serve"]] {
        assert_eq!(run(wrong).0, 2, "{wrong:?}");
    }
}
