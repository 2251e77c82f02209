//! The demo of token-broker, which `token-broker demo` runs on loopback, in one process and without
//! configuration.
//!
//! It starts two upstreams, each with an authorization server of its own, and the broker in front
//! of them, with the real layers and its own authorization server, where a user signs in and allows
//! the client. The client first holds the upstream's own token, then a broker token. The checks
//! read the upstreams' logs, the audit file and the bytes on the client's connections.
//! `docs/demo.md` describes the object that `--json` prints.

mod checks;
mod raw_http;
mod report;
mod scenario;
mod setup;
mod sign_in;
mod upstream;
mod wiretap;

use std::fmt::Display;

pub use checks::Check;
pub use report::Report;
pub use scenario::Step;
pub use upstream::{MARKER, Seen};

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

/// Runs the demo with one fault.
///
/// # Errors
/// The demo could not be completed.
#[doc(hidden)]
pub async fn run_with(sabotage: Option<Sabotage>) -> Result<Report, DemoError> {
    let setup = setup::Setup::start(sabotage).await?;
    let outcome = scenario::run(&setup, sabotage).await?;
    let mut audit = std::fs::read_to_string(setup.audit_file())?;
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
        secrets: [setup.crm.secrets(), setup.tickets.secrets()].concat(),
        broker_tokens: outcome.broker_tokens,
    };
    let checks = checks::run(&evidence);
    Ok(Report::of(outcome.steps, &evidence, checks))
}
