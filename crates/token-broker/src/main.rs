//! The command line of token-broker.

use std::{
    env, fmt,
    io::{ErrorKind, IsTerminal as _, Write as _, stderr, stdout},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use clap::{Args, Parser, Subcommand};
use token_broker::{
    audit, audit_folder, audit_removal, check,
    commands::{self, CommandError, NewGrant, NewToken, Session, Store},
    configuration::{self, Configuration, LogFormat},
    gateway, init,
};
use token_broker_demo as demo;
use tower_token_broker::{
    audit::{WriterName, verify::Head},
    principal::User,
    revocation::RevocationTarget,
};

/// Long-lived blocks lie between blocks of one request: with glibc's allocator the process kept
/// three times as much memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// MCP clients hold broker tokens, the broker keeps the real ones.
#[derive(Parser)]
#[command(name = "token-broker", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run two upstreams, the broker and a client on loopback, and check what they logged
    Demo {
        /// Print one JSON object (docs/demo.md) instead of text
        #[arg(long)]
        json: bool,
    },
    /// Write a configuration and its keys into an empty folder
    Init {
        /// The folder
        #[arg(default_value = ".")]
        folder: PathBuf,
    },
    /// Check the configuration: report what is wrong, or each weakened default
    Check {
        #[command(flatten)]
        file: File,
    },
    /// Run the gateway until Ctrl-C or SIGTERM
    Serve {
        #[command(flatten)]
        file: File,
    },
    /// Print the JSON Schema of the configuration
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Block users, and let them in again
    Users {
        #[command(subcommand)]
        command: UsersCommand,
    },
    /// List, add and revoke the grants of users at upstreams
    Grants {
        #[command(subcommand)]
        command: GrantsCommand,
    },
    /// Issue tokens for trials, and revoke tokens
    Tokens {
        #[command(subcommand)]
        command: TokensCommand,
    },
    /// List the protected servers
    Servers {
        #[command(subcommand)]
        command: ServersCommand,
    },
    /// Verify an audit file or folder, or remove old segments
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
}

#[derive(Args)]
struct File {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = "token-broker.toml")]
    config: PathBuf,
}

/// The arguments of each command on the store.
#[derive(Args)]
struct Common {
    #[command(flatten)]
    file: File,
    /// Your name, for the record; that of the login by default
    #[arg(long, value_name = "NAME")]
    operator: Option<String>,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Print the JSON Schema of the configuration
    Schema,
}

#[derive(Subcommand)]
enum UsersCommand {
    /// Refuse all requests of a user, and cut open streams, until `unblock`
    Block {
        /// The user's subject, as in the records (`sub`; with Okta, `uid`)
        #[arg(allow_hyphen_values = true)]
        subject: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let a blocked user in again
    Unblock {
        /// The user's subject, as in the records (`sub`; with Okta, `uid`)
        #[arg(allow_hyphen_values = true)]
        subject: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
enum GrantsCommand {
    /// List grants, without their tokens
    List {
        /// Only those of this user, by subject
        #[arg(long)]
        user: Option<String>,
        /// Only those for this server
        #[arg(long)]
        server: Option<String>,
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Store a grant that was obtained elsewhere
    Add {
        /// The user's subject, as in the records (`sub`; with Okta, `uid`)
        #[arg(long)]
        user: String,
        /// The server
        #[arg(long)]
        server: String,
        /// The account, for users with several; `default` if none is named
        #[arg(long)]
        account: Option<String>,
        /// The scopes that the user agreed to; those of the configuration by default
        #[arg(long)]
        scopes: Option<String>,
        /// The file with the refresh token
        #[arg(long, value_name = "FILE")]
        refresh_token_file: PathBuf,
        /// Replace a grant that the user has already
        #[arg(long)]
        replace: bool,
        #[command(flatten)]
        common: Common,
    },
    /// End a grant: no request uses it any longer, and its tokens are erased
    Revoke {
        /// The ID of the grant
        #[arg(allow_hyphen_values = true)]
        id: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
enum TokensCommand {
    /// Issue a broker token for trials, and print it on stdout
    Issue {
        /// The subject of the user
        #[arg(long)]
        user: String,
        /// The server
        #[arg(long)]
        server: String,
        /// The scopes; all that the rules of the server name by default
        #[arg(long)]
        scopes: Option<String>,
        /// The lifetime, at most a day
        #[arg(long, value_name = "MINUTES", default_value_t = 60,
              value_parser = clap::value_parser!(u64).range(1..=1440))]
        minutes: u64,
        #[command(flatten)]
        common: Common,
    },
    /// End broker tokens at once: one, those of a client or a user, or all
    #[command(group = clap::ArgGroup::new("target").required(true))]
    Revoke {
        /// The ID of a token (`jti`)
        #[arg(long, group = "target", value_name = "JTI", allow_hyphen_values = true)]
        id: Option<String>,
        /// All tokens of a client that were issued until now
        #[arg(long, group = "target", value_name = "CLIENT_ID", allow_hyphen_values = true)]
        client: Option<String>,
        /// All tokens of a user that were issued until now, by subject
        #[arg(long, group = "target", value_name = "SUBJECT", allow_hyphen_values = true)]
        user: Option<String>,
        /// All tokens that were issued until now
        #[arg(long, group = "target")]
        all: bool,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Subcommand)]
enum ServersCommand {
    /// List the protected servers and their URLs
    List {
        /// Print a JSON array
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        file: File,
    },
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Verify a file or a folder offline: names the first wrong record of each file and the reason,
    /// and distinguishes the traces of a crash from a manipulation (docs/audit.md)
    Verify {
        /// The file of JSON lines, or the folder of segments
        path: PathBuf,
        /// A head noted elsewhere, which the file or folder must contain; can be repeated
        #[arg(long, value_name = "SEQ:HASH")]
        expect_head: Vec<Head>,
        /// Print one JSON object (docs/audit.md) instead of text
        #[arg(long)]
        json: bool,
        /// Print progress on stderr even if stderr is not a terminal
        #[arg(long)]
        progress: bool,
    },
    /// Remove the segments of one writer that are old enough, after verifying all, and record it
    /// in the folder, as writer `commands` (docs/audit.md)
    Remove {
        /// The folder of segments
        folder: PathBuf,
        /// The writer, as in the names of its segments
        #[arg(long)]
        writer: WriterName,
        /// Remove segments whose last record is older than this many days
        #[arg(long, value_name = "DAYS")]
        older_than_days: u32,
        /// The one who signs off, for the record
        #[arg(long, value_name = "NAME", required_unless_present = "dry_run")]
        operator: Option<String>,
        /// Print the segments that would be removed; change and record nothing
        #[arg(long)]
        dry_run: bool,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let command = Arguments::parse().command;
    if !matches!(command, Command::Serve { .. }) {
        gateway::start_logs(LogFormat::Auto, "off");
    }
    match command {
        Command::Demo { json } => match demo::run().await {
            Ok(report) => {
                let text = if json {
                    serde_json::to_string_pretty(&report).unwrap_or_default()
                } else {
                    report.to_string()
                };
                finish(&text, report.exit_code())
            }
            Err(error) => failed(&error),
        },
        Command::Init { folder } => match init::run(&folder) {
            Ok(next) => finish(&next, 0),
            Err(error) => failed(&error),
        },
        Command::Check { file } => {
            let checked = check::run(&file.config);
            finish(&checked.to_string(), checked.exit_code())
        }
        Command::Serve { file } => serve(&file.config).await,
        Command::Config { command: ConfigCommand::Schema } => {
            finish(&serde_json::to_string_pretty(&configuration::schema()).unwrap_or_default(), 0)
        }
        Command::Users { command } => users(command).await,
        Command::Grants { command } => grants(command).await,
        Command::Tokens { command } => tokens(command).await,
        Command::Servers { command: ServersCommand::List { json, file } } => {
            match load(&file.config) {
                Ok(configuration) => finish(&commands::show_servers(&configuration, json), 0),
                Err(code) => code,
            }
        }
        Command::Audit { command: AuditCommand::Verify { path, expect_head, json, progress } } => {
            verify(&path, &expect_head, json, progress)
        }
        Command::Audit {
            command: AuditCommand::Remove { folder, writer, older_than_days, operator, dry_run },
        } => remove(&folder, &writer, older_than_days, operator.filter(|_| !dry_run)).await,
    }
}

/// Wrong configuration (`EX_CONFIG` of sysexits.h).
const WRONG_CONFIGURATION: u8 = 78;

/// Loads the configuration, or reports what is wrong with it.
fn load(path: &Path) -> Result<Configuration, ExitCode> {
    configuration::load(path).map_err(|errors| {
        to_stderr(format_args!("{errors}\n"));
        ExitCode::from(WRONG_CONFIGURATION)
    })
}

async fn serve(path: &Path) -> ExitCode {
    let configuration = match load(path) {
        Ok(configuration) => configuration,
        Err(code) => return code,
    };
    gateway::start_logs(configuration.log_format, &configuration.log_filter);
    match gateway::serve(path).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failed(&error),
    }
}

async fn users(command: UsersCommand) -> ExitCode {
    let (common, subject, is_blocked) = match command {
        UsersCommand::Block { subject, common } => (common, subject, true),
        UsersCommand::Unblock { subject, common } => (common, subject, false),
    };
    run(&common, Store::MustExist, async |session, issuer| {
        let user = User::new(issuer, subject.as_str());
        if is_blocked { session.block(&user).await } else { session.unblock(&user).await }
    })
    .await
}

async fn grants(command: GrantsCommand) -> ExitCode {
    match command {
        GrantsCommand::List { user, server, json, common } => {
            run(&common, Store::MustExist, async |session, issuer| {
                let user = user.as_deref().map(|subject| User::new(issuer, subject));
                let found = session.grants(user.as_ref(), server.as_deref()).await?;
                Ok(commands::show_grants(&found, json))
            })
            .await
        }
        GrantsCommand::Add {
            user,
            server,
            account,
            scopes,
            refresh_token_file,
            replace,
            common,
        } => {
            run(&common, Store::MayBeNew, async |session, issuer| {
                let new = NewGrant {
                    user: &User::new(issuer, user.as_str()),
                    server: &server,
                    account: account.as_deref(),
                    scopes: scopes.as_deref(),
                    refresh_token_file: &refresh_token_file,
                    replace,
                };
                session.add_grant(&new).await
            })
            .await
        }
        GrantsCommand::Revoke { id, common } => {
            run(&common, Store::MustExist, async |session, _| session.revoke_grant(&id).await).await
        }
    }
}

async fn tokens(command: TokensCommand) -> ExitCode {
    match command {
        TokensCommand::Issue { user, server, scopes, minutes, common } => {
            run(&common, Store::MayBeNew, async |session, _| {
                let new = NewToken {
                    user: &user,
                    server: &server,
                    scopes: scopes.as_deref(),
                    lifetime: Duration::from_secs(minutes * 60),
                };
                let issued = session.issue(&new).await?;
                to_stderr(format_args!(
                    "token {} for {}, scopes: {}, until {}\n",
                    issued.id,
                    issued.resource.as_str(),
                    issued.scopes,
                    issued.expires_at
                ));
                Ok(issued.token)
            })
            .await
        }
        TokensCommand::Revoke { id, client, user, all: _, common } => {
            run(&common, Store::MustExist, async |session, issuer| {
                let (target, shown) = revoked(issuer, id, client, user);
                session.revoke_tokens(target, &shown).await
            })
            .await
        }
    }
}

/// Returns what is revoked, and its name for people.
fn revoked(
    issuer: &str,
    id: Option<String>,
    client: Option<String>,
    user: Option<String>,
) -> (RevocationTarget, String) {
    let issuer: Arc<str> = issuer.into();
    match (id, client, user) {
        (Some(id), ..) => {
            let shown = format!("token {id}");
            (RevocationTarget::Token { issuer, id: id.into() }, shown)
        }
        (_, Some(id), _) => {
            let shown = format!("the tokens of client {id}");
            (RevocationTarget::Client { issuer, id: id.into() }, shown)
        }
        (.., Some(subject)) => {
            let shown = format!("the tokens of {subject}");
            (RevocationTarget::User(User::new(issuer, subject.as_str())), shown)
        }
        (None, None, None) => (RevocationTarget::Everything, "all tokens".to_owned()),
    }
}

/// Runs a command on the store, which gets the issuer of the users.
async fn run(
    common: &Common,
    store: Store,
    command: impl AsyncFnOnce(&Session<'_>, &str) -> Result<String, CommandError>,
) -> ExitCode {
    let configuration = match load(&common.file.config) {
        Ok(configuration) => configuration,
        Err(code) => return code,
    };
    let operator = common.operator.clone().unwrap_or_else(login);
    let session = match Session::open(&configuration, &operator, store).await {
        Ok(session) => session,
        Err(error) => return failed(&error),
    };
    let done = command(&session, &commands::issuer(&configuration)).await;
    // On each path: a chain without its end has a gap.
    let closed = session.close().await;
    match done.and_then(|text| closed.map(|()| text)) {
        Ok(text) => finish(&text, 0),
        Err(error) => failed(&error),
    }
}

/// Returns the name of the login, for the record. It is no proof.
#[expect(clippy::disallowed_methods, reason = "no secret")]
fn login() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    names.into_iter().find_map(|name| env::var(name).ok()).unwrap_or_else(|| "unknown".to_owned())
}

fn failed(error: &dyn fmt::Display) -> ExitCode {
    complain(&error.to_string());
    ExitCode::FAILURE
}

/// Removes old segments, for the record of this operator; without one, shows what would be removed.
async fn remove(
    folder: &Path,
    writer: &WriterName,
    older_than_days: u32,
    operator: Option<String>,
) -> ExitCode {
    let done = match operator {
        Some(operator) => {
            let removed = audit_removal::remove(folder, writer, older_than_days, &operator);
            removed.await.map(|removed| removed.to_string())
        }
        None => {
            audit_removal::plan(folder, writer, older_than_days).map(|planned| planned.to_string())
        }
    };
    match done {
        Ok(text) => finish(&text, 0),
        Err(error) => failed(&error),
    }
}

fn verify(path: &Path, noted: &[Head], json: bool, progress: bool) -> ExitCode {
    let percents =
        Percents { shown: progress || stderr().is_terminal(), over: stderr().is_terminal() };
    let say = |percent| percents.say(percent);
    let verified = if path.is_dir() {
        audit_folder::verify_folder(path, noted, say).map(|verified| {
            let text = if json { verified.to_json() } else { verified.to_string() };
            (text, verified.exit_code())
        })
    } else {
        audit::verify(path, noted, say).map(|verified| {
            let text = if json { verified.to_json() } else { verified.to_string() };
            (text, verified.exit_code())
        })
    };
    percents.end();
    match verified {
        Ok((text, code)) => finish(&text, code),
        Err(error) => {
            complain(&format!("{} cannot be read: {error}", path.display()));
            ExitCode::FAILURE
        }
    }
}

/// Progress in percent, on stderr.
struct Percents {
    shown: bool,
    /// On a terminal, each line overwrites the last, and none is left.
    over: bool,
}

impl Percents {
    fn say(&self, percent: u64) {
        match (self.shown, self.over) {
            (false, _) => {}
            (true, true) => to_stderr(format_args!("\r{percent} %")),
            (true, false) => to_stderr(format_args!("{percent} %\n")),
        }
    }

    fn end(&self) {
        if self.shown && self.over {
            to_stderr(format_args!("\r\x1b[K"));
        }
    }
}

/// Prints the result, and returns the exit code. A reader that has read enough, as `head` does, is
/// no failure: the code is that of the result. If the output cannot be written otherwise, it is 1.
fn finish(text: &str, code: u8) -> ExitCode {
    let mut output = stdout().lock();
    match writeln!(output, "{text}").and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            complain(&format!("the result cannot be written: {error}"));
            ExitCode::FAILURE
        }
        Ok(()) | Err(_) => ExitCode::from(code),
    }
}

/// Prints one line. It may contain the name of a file.
fn complain(text: &str) {
    let line: String = text.chars().map(visible).collect();
    to_stderr(format_args!("token-broker: {line}\n"));
}

/// Escapes a character that a terminal acts on or does not show.
fn visible(character: char) -> String {
    match character {
        '"' | '\'' | '\\' => character.to_string(),
        _ => character.escape_debug().to_string(),
    }
}

/// Writes to stderr. If that is not possible, there is no one to report it to.
fn to_stderr(text: fmt::Arguments<'_>) {
    stderr().lock().write_fmt(text).unwrap_or_default();
}
