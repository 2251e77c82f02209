//! The demo of token-broker, which `token-broker demo` runs on loopback, in one process and without
//! configuration.
//!
//! It starts two upstreams, each with an authorization server of its own, and the broker in front
//! of them, with the real layers, a temporary SQLite store, its own authorization server, where a
//! user signs in and allows the client, and the connect flow, by which she connects her accounts.
//! The client first holds the upstream's own token, then a broker token. The checks read the
//! upstreams' logs, the audit file, the store's files, and the bytes that client and browser
//! received. [`serve`] leaves all of it running. `docs/demo.md` describes the object that `--json`
//! prints.

mod broker;
mod browser;
mod checks;
mod form;
mod raw_http;
mod report;
mod scenario;
mod serve;
mod setup;
mod sign_in;
mod upstream;
mod wiretap;

use std::{fmt::Display, net::SocketAddr};

pub use checks::Check;
pub use report::{Comparison, Report};
pub use scenario::Step;
pub use serve::Running;
pub use upstream::{MARKER, Seen};

use crate::{scenario::Outcome, setup::Setup};

/// A fault in one place, with which a test sees the check of that place fail.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sabotage {
    /// The API next to the MCP server is closed.
    CloseTheBackDoor,
    /// The policy shows a tool that it should hide.
    ShowEveryTool,
    /// The policy denies every call.
    RefuseEveryCall,
    /// The policy allows every call.
    AllowEveryTool,
    /// No rule requires a scope.
    AskForNoScope,
    /// The broker requests every scope that the user allowed.
    ForwardEveryScope,
    /// Another client has access to an account, too.
    ConnectUnseen,
    /// The user does not open the page to connect an account.
    FollowNoLink,
    /// The user does not disconnect the account.
    DisconnectNothing,
    /// Another client requests a refresh, too.
    RefreshFromElsewhere,
    /// Both servers accept tokens for one of them.
    OneAudienceForAll,
    /// No one is revoked.
    RevokeNobody,
    /// The tokens for one server are revoked, not the user.
    RevokeAtOneServer,
    /// One route has no layers.
    LeaveARouteUnwatched,
    /// The audit file is edited.
    EditTheAudit,
    /// A token is used outside of the broker.
    UseTheTokenUnseen,
    /// A middleware outside of the stack reveals a token.
    LeakTheToken,
}

/// The reason why the demo stopped early: loopback, the temporary folder, or an internal error.
#[derive(Debug, thiserror::Error)]
#[error("the demo stopped: {0}")]
pub struct DemoError(String);

impl DemoError {
    pub(crate) fn new(error: impl Display) -> Self {
        Self(error.to_string())
    }
}

impl From<std::io::Error> for DemoError {
    fn from(error: std::io::Error) -> Self {
        Self::new(error)
    }
}

impl From<tower_token_broker::audit::AuditFileError> for DemoError {
    fn from(error: tower_token_broker::audit::AuditFileError) -> Self {
        Self::new(error)
    }
}

impl From<tower_token_broker::audit::AuditError> for DemoError {
    fn from(error: tower_token_broker::audit::AuditError) -> Self {
        Self::new(error)
    }
}

/// Runs the demo.
///
/// # Errors
/// The demo could not be completed.
///
/// # Cancellation
/// The servers run until the runtime ends. No file is left on the disk.
pub async fn run() -> Result<Report, DemoError> {
    run_with(None).await
}

/// Runs the demo at this address of loopback, and leaves it running.
///
/// # Errors
/// The demo could not be completed, or the address is in use or not on loopback.
///
/// # Cancellation
/// The servers run until the runtime ends. No file is left on the disk.
pub async fn serve(listen: SocketAddr) -> Result<Running, DemoError> {
    Running::start(listen).await
}

/// Runs the demo with one fault.
///
/// # Errors
/// The demo could not be completed.
#[doc(hidden)]
pub async fn run_with(sabotage: Option<Sabotage>) -> Result<Report, DemoError> {
    let setup = Setup::start(SocketAddr::from(([127, 0, 0, 1], 0)), sabotage).await?;
    let outcome = scenario::run(&setup, sabotage).await?;
    setup.shutdown().await?;
    report_of(&setup, outcome, sabotage).await
}

/// Checks the logs and files after a scenario.
async fn report_of(
    setup: &Setup,
    outcome: Outcome,
    sabotage: Option<Sabotage>,
) -> Result<Report, DemoError> {
    let mut audit = setup.audit()?;
    if sabotage == Some(Sabotage::EditTheAudit) {
        audit = audit.replacen("\"status\":403", "\"status\":200", 1);
    }
    let evidence = checks::Evidence {
        marks: outcome.marks,
        before: outcome.before,
        crm: setup.crm.log(),
        tickets: setup.tickets.log(),
        audit,
        sent: setup.wire.sent(),
        received: setup.wire.received(),
        pages: setup.browser.lock().await.pages(),
        store: setup.store_files()?,
        secrets: [setup.crm.secrets(), setup.tickets.secrets()].concat(),
        broker_tokens: outcome.broker_tokens,
        operators_scopes: [&setup.crm, &setup.tickets]
            .map(|upstream| upstream.kind().operators_scopes()),
    };
    let checks = checks::run(&evidence);
    Ok(Report::of(outcome.steps, &evidence, checks))
}
