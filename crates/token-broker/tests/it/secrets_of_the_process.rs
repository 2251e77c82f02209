//! Secrets in the process: core dumps, memory and environment, arguments.

use std::{
    fs,
    process::{Child, Command, Output},
};

use token_broker_tests::marker_scan::Scan;

use crate::{
    gateway::items,
    setup::{RESULT, SECRET, Serving, Setup, TokenEndpoint, text},
};

/// A secret that the gateway reads from its environment.
const IN_VARIABLE: &str = "variable-5e0b7d11c94f4a7a";
const VARIABLE: &str = "TOKEN_BROKER__SERVER__CRM__CREDENTIAL__SECRET";

/// Creates a command without the capabilities of root, as a service has it.
fn without_capabilities(program: &str) -> Command {
    // Another user than root has none.
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", program]);
    command
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Reads a file of a process, from another process of the same user.
fn read(child: &Child, file: &str) -> Output {
    let path = format!("/proc/{}/{file}", child.id());
    without_capabilities("head").args(["-c", "100000", &path]).output().unwrap()
}

/// Another process of the gateway's user reads nothing. A process without the protection shows that
/// it could otherwise.
#[tokio::test]
async fn r317_no_process_of_the_same_user_reads_the_environment() {
    let setup = Setup::new(items().await).await;
    let mut command = without_capabilities(env!("CARGO_BIN_EXE_token-broker"));
    command.arg("serve").current_dir(setup.folder.path()).env_remove("RUST_LOG");
    let serving = Serving::start(command.env(VARIABLE, IN_VARIABLE));
    // The variable is in use: the upstream receives it.
    let token = setup.done(&["tokens", "issue", "--user", "alice", "--server", "crm"]);
    let response = setup.call(&token).await;
    assert_eq!((response.status, response.text()), (200, RESULT), "R317");
    let received = setup.upstream.received();
    assert_eq!(received[0].values("authorization"), [format!("Bearer {IN_VARIABLE}")], "R317");

    let mut unprotected =
        without_capabilities("sleep").arg("600").env(VARIABLE, IN_VARIABLE).spawn().unwrap();
    // After its `exec`.
    while !text(&fs::read(format!("/proc/{}/comm", unprotected.id())).unwrap()).contains("sleep") {
        std::thread::yield_now();
    }
    let control = read(&unprotected, "environ");
    unprotected.kill().unwrap();
    unprotected.wait().unwrap();
    assert!(text(&control.stdout).contains(IN_VARIABLE), "R317: {control:?}");
    for file in ["environ", "maps", "auxv", "mem"] {
        let refused = read(&serving.child, file);
        assert!(!refused.status.success(), "R317 {file}");
        assert_eq!(refused.stdout, b"", "R317 {file}");
        let reason = text(&refused.stderr);
        assert!(reason.contains("denied") || reason.contains("permitted"), "R317 {file} {reason}");
    }
    // Arguments can be read by everyone.
    let arguments = fs::read(format!("/proc/{}/cmdline", serving.child.id())).unwrap();
    assert!(text(&arguments).ends_with("token-broker\0serve\0"), "R317");
    let log = serving.stop();
    assert!(!log.contains(IN_VARIABLE) && !log.contains(SECRET), "R317");
}

/// A gateway that crashes leaves no core, whatever its limit is.
#[tokio::test]
async fn r317_a_crash_leaves_no_core() {
    use std::os::unix::process::ExitStatusExt as _;
    let setup = Setup::new(items().await).await;
    let with_cores = |program: &str, argument: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -c unlimited; exec \"$0\" \"$1\"", program, argument]);
        command.current_dir(setup.folder.path()).env_remove("RUST_LOG");
        command
    };
    let crash = |child: &mut Child| {
        let pid = child.id().to_string();
        assert!(Command::new("kill").args(["-ABRT", &pid]).status().unwrap().success());
        child.wait().unwrap()
    };
    let mut serving = Serving::start(&mut with_cores(env!("CARGO_BIN_EXE_token-broker"), "serve"));
    let token = setup.token("alice");
    assert_eq!(setup.call(&token).await.status, 200, "R317");
    let crashed = crash(&mut serving.child);
    assert_eq!(crashed.signal(), Some(6), "R317");
    assert!(!crashed.core_dumped(), "R317");
    let cores = |folder: &std::path::Path| {
        let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name());
        files.filter(|name| name.to_string_lossy().starts_with("core")).count()
    };
    assert_eq!(cores(setup.folder.path()), 0, "R317");
    // Another program would leave one here, unless the system keeps none at all.
    let mut other = with_cores("sleep", "600").spawn().unwrap();
    while !text(&fs::read(format!("/proc/{}/comm", other.id())).unwrap()).contains("sleep") {
        std::thread::yield_now();
    }
    let dumped = crash(&mut other).core_dumped();
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    assert!(dumped || pattern.trim().is_empty() || pattern.starts_with('|'), "R317 {pattern}");
}

/// Returns the help of a command and of all below it.
fn helps(path: &[&str], found: &mut Vec<(String, String)>) {
    let help = Command::new(env!("CARGO_BIN_EXE_token-broker")).args(path).arg("--help").output();
    let help = text(&help.unwrap().stdout);
    let commands = help.split_once("Commands:\n").map(|(_, rest)| rest.to_owned());
    found.push((path.join(" "), help));
    let Some(commands) = commands else { return };
    for line in commands.lines().take_while(|line| line.starts_with("  ")) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" && line.starts_with("  ") && !line.starts_with("   ") {
            helps(&[path, &[name]].concat(), found);
        }
    }
}

/// An argument is seen by every user of the machine, and is in the history of the shell.
#[test]
fn r317_no_argument_takes_a_secret() {
    let mut found = Vec::new();
    helps(&[], &mut found);
    assert!(found.len() > 25, "{}", found.len());
    let mut of_files = 0;
    for (command, help) in &found {
        for option in help.split_whitespace().filter(|word| word.starts_with("--")) {
            let option = option.trim_end_matches([',', '.', ';', ')']);
            if ["password", "secret", "token", "key", "credential", "code"]
                .iter()
                .any(|secret| option.contains(secret))
            {
                assert!(option.ends_with("-file"), "R317 {command} {option}");
                of_files += 1;
            }
        }
    }
    assert!(of_files >= 3, "R317 {of_files}");
}

/// The value of a variable that is not accepted is not in the message: messages are logged.
#[tokio::test]
async fn r317_no_message_shows_a_variable() {
    let endpoint = TokenEndpoint::start(600).await;
    let setup = Setup::new(items().await).await;
    setup.configure("get_*", &setup.mail(&endpoint.server.url("/token")));
    for (name, value) in [
        (VARIABLE, "variable-5e0b7d11c94f4a7a\nsecond line"),
        ("TOKEN_BROKER__SERVER__CRM__CREDENTIAL__SECRETS", IN_VARIABLE),
        ("TOKEN_BROKER_SERVER_CRM_CREDENTIAL_SECRET", IN_VARIABLE),
        ("TOKEN_BROKER__SERVER__MAIL__CREDENTIAL__SECRET", IN_VARIABLE),
        ("TOKEN_BROKER__SERVER__MAIL__CREDENTIAL__CLIENT_SECRET", IN_VARIABLE),
        ("TOKEN_BROKER__STORE__URL", "postgres://u:variable-5e0b7d11c94f4a7a@[::1"),
        ("TOKEN_BROKER__LISTEN", IN_VARIABLE),
    ] {
        for command in ["check", "serve"] {
            let output = setup.command(&[command]).env(name, value).output().unwrap();
            assert!(!output.status.success(), "R317 {name}");
            let mut scan = Scan::new();
            scan.secret(name, IN_VARIABLE).received(IN_VARIABLE.as_bytes());
            let shown = [output.stdout, output.stderr].concat();
            assert!(text(&shown).contains(name), "R317 {name}: {}", text(&shown));
            scan.source(format!("output of {command} with {name}"), shown);
            assert_eq!(scan.run(), Ok(()), "R317");
        }
    }
}
