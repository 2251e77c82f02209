//! The command line of token-broker.

mod arguments;
mod core_dumps;
mod terminal;

use std::{env, net::SocketAddr, path::Path, process::ExitCode, sync::Arc, time::Duration};

use clap::Parser as _;
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

use self::{
    arguments::{
        Arguments, AuditCommand, ClientsCommand, Command, Common, ConfigCommand, GrantsCommand,
        KeysCommand, ServersCommand, TokensCommand, UsersCommand,
    },
    terminal::{Percents, complain, failed, finish, to_stderr},
};

/// Long-lived blocks lie between blocks of one request: with glibc's allocator the process kept
/// three times as much memory.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[tokio::main]
async fn main() -> ExitCode {
    let command = Arguments::parse().command;
    // Before anything is read.
    if let Err(error) = core_dumps::disable() {
        return failed(&error);
    }
    if !matches!(command, Command::Serve { .. }) {
        gateway::start_logs(LogFormat::Auto, "off");
    }
    match command {
        Command::Demo { json, serve: false, .. } => match demo::run().await {
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
        Command::Demo { listen, .. } => serve_demo(listen).await,
        Command::Init { folder, trial } => match init::run(
            &folder,
            if trial { init::TokensFrom::Trial } else { init::TokensFrom::Login },
        ) {
            Ok(next) => finish(&next, 0),
            Err(error) => failed(&error),
        },
        Command::Check { file } => {
            let checked = check::run(&file.config);
            finish(&checked.to_string(), checked.exit_code())
        }
        Command::Serve { file, recovered } => serve(&file.config, recovered).await,
        Command::Config { command: ConfigCommand::Schema } => {
            finish(&serde_json::to_string_pretty(&configuration::schema()).unwrap_or_default(), 0)
        }
        Command::Users { command } => users(command).await,
        Command::Clients { command } => clients(command).await,
        Command::Grants { command } => grants(command).await,
        Command::Tokens { command } => tokens(command).await,
        Command::Keys { command } => keys(command).await,
        Command::Backup { file, common } => {
            run(&common, Store::MustExist, async |session, _| session.back_up(&file).await).await
        }
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

/// Runs the demo until a signal arrives.
async fn serve_demo(listen: SocketAddr) -> ExitCode {
    let running = match demo::serve(listen).await {
        Ok(running) => running,
        Err(error) => return failed(&error),
    };
    // From here on, a signal ends it in order.
    let signal = gateway::signal();
    let code = running.report().exit_code();
    let printed = finish(&running.to_string(), code);
    signal.await;
    match running.stop().await {
        Ok(()) => printed,
        Err(error) => failed(&error),
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

async fn serve(path: &Path, is_recovered: bool) -> ExitCode {
    let configuration = match load(path) {
        Ok(configuration) => configuration,
        Err(code) => return code,
    };
    gateway::start_logs(configuration.log_format, &configuration.log_filter);
    match gateway::serve(path, is_recovered).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.is_of_configuration() => {
            complain(&error.to_string());
            ExitCode::from(WRONG_CONFIGURATION)
        }
        Err(error) => failed(&error),
    }
}

async fn users(command: UsersCommand) -> ExitCode {
    match command {
        UsersCommand::Add { name, password, common } => {
            let file = password.password_file;
            run(&common, Store::MayBeNew, async |session, _| {
                session.add_user(&name, file.as_deref()).await
            })
            .await
        }
        UsersCommand::Passwd { name, password, common } => {
            let file = password.password_file;
            run(&common, Store::MustExist, async |session, _| {
                session.set_password(&name, file.as_deref()).await
            })
            .await
        }
        UsersCommand::Disable { name, disconnect, common } => {
            run(&common, Store::MustExist, async |session, _| {
                session.disable(&name, disconnect).await
            })
            .await
        }
        UsersCommand::Enable { name, common } => {
            run(&common, Store::MustExist, async |session, _| session.enable(&name).await).await
        }
        UsersCommand::List { json, common } => {
            run(&common, Store::MustExist, async |session, _| {
                Ok(commands::show_users(&session.users().await?, json))
            })
            .await
        }
        UsersCommand::Link { common } => {
            run(&common, Store::MayBeNew, async |session, _| {
                let link = session.link().await?;
                #[expect(clippy::disallowed_methods, reason = "reviewed: for its operator")]
                Ok(link.expose_text().unwrap_or_default().to_owned())
            })
            .await
        }
        UsersCommand::Block { subject, common } => {
            run(&common, Store::MustExist, async |session, _| {
                session.block(&session.user(&subject).await?).await
            })
            .await
        }
        UsersCommand::Unblock { subject, common } => {
            run(&common, Store::MustExist, async |session, _| {
                session.unblock(&session.user(&subject).await?).await
            })
            .await
        }
    }
}

async fn clients(command: ClientsCommand) -> ExitCode {
    match command {
        ClientsCommand::List { json, common } => {
            run(&common, Store::MustExist, async |session, _| {
                Ok(commands::show_clients(&session.clients().await?, json))
            })
            .await
        }
        ClientsCommand::Remove { id, common } => {
            run(&common, Store::MustExist, async |session, _| session.remove_client(&id).await)
                .await
        }
        ClientsCommand::Revoke { id, user, common } => {
            run(&common, Store::MustExist, async |session, _| {
                let user = match user {
                    Some(user) => Some(session.user(&user).await?),
                    None => None,
                };
                session.revoke_client(&id, user.as_ref()).await
            })
            .await
        }
    }
}

async fn grants(command: GrantsCommand) -> ExitCode {
    match command {
        GrantsCommand::List { user, server, json, common } => {
            run(&common, Store::MustExist, async |session, _| {
                let user = match user {
                    Some(user) => Some(session.user(&user).await?),
                    None => None,
                };
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
            run(&common, Store::MayBeNew, async |session, _| {
                let new = NewGrant {
                    user: &session.user(&user).await?,
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
        GrantsCommand::Revoke { id, user, server, common } => {
            run(&common, Store::MustExist, async |session, _| match id {
                Some(id) => session.revoke_grant(&id).await,
                None => {
                    let user = match user {
                        Some(user) => Some(session.user(&user).await?),
                        None => None,
                    };
                    session.revoke_grants(user.as_ref(), server.as_deref()).await
                }
            })
            .await
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
                let user = match user {
                    Some(user) => Some(session.user(&user).await?),
                    None => None,
                };
                let (target, shown) = revoked(issuer, id, client, user);
                session.revoke_tokens(target, &shown).await
            })
            .await
        }
    }
}

async fn keys(command: KeysCommand) -> ExitCode {
    match command {
        KeysCommand::List { json, common } => {
            run(&common, Store::MustExist, async |session, _| {
                let (uses, known) = session.keys().await?;
                Ok(commands::show_keys(&uses, &known, json))
            })
            .await
        }
        KeysCommand::Rotate { progress, common } => {
            let percents = Percents::new(progress);
            let rotated = run(&common, Store::MustExist, async |session, _| {
                let mut last = None;
                let rotated = session.rotate_keys(|done| {
                    let percent = done.rewrapped * 100 / (done.rewrapped + done.left).max(1);
                    if last.replace(percent) != Some(percent) {
                        percents.say(percent);
                    }
                });
                let rotated = rotated.await;
                percents.end();
                rotated
            });
            rotated.await
        }
    }
}

/// Returns what is revoked, and its name for people.
fn revoked(
    issuer: &str,
    id: Option<String>,
    client: Option<String>,
    user: Option<User>,
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
        (.., Some(user)) => {
            let shown = format!("the tokens of {}", user.subject());
            (RevocationTarget::User(user), shown)
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
    match session.is_outdated().await {
        Ok(false) => {}
        Ok(true) => complain(OUTDATED),
        Err(error) => complain(&error.to_string()),
    }
    let done = command(&session, &commands::issuer(&configuration)).await;
    let left_out = session.left_out();
    // On each path: a chain without its end has a gap.
    let closed = session.close(done.is_ok()).await;
    match done.and_then(|text| closed.map(|()| text)) {
        Ok(text) => match left_out {
            None => finish(&text, 0),
            Some(left_out) => {
                complain(&left_out);
                finish(&text, 1)
            }
        },
        Err(error) => failed(&error),
    }
}

/// A warning, after which the command is run.
const OUTDATED: &str = "warning: the store is older than when it was used last, so revocations may \
                        be missing: start the gateway with `serve --recovered`";

/// Returns the name of the login, for the record. It is no proof.
#[expect(clippy::disallowed_methods, reason = "no secret")]
fn login() -> String {
    let names = ["SUDO_USER", "USER", "LOGNAME"];
    names.into_iter().find_map(|name| env::var(name).ok()).unwrap_or_else(user_id)
}

/// Returns the number of the user, as in a container or a scheduled job.
fn user_id() -> String {
    #[cfg(unix)]
    let number = format!("user {}", rustix::process::getuid().as_raw());
    #[cfg(not(unix))]
    let number = "unknown".to_owned();
    number
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
    let percents = Percents::new(progress);
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
