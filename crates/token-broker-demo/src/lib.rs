//! `token-broker demo`: the whole story on loopback, in one process, with nothing to install and
//! nothing to set.
//!
//! Two upstreams, each with an authorization server of its own; the broker in front of them, with
//! the real layers throughout; a client that first holds the upstream's own token, and then a
//! broker token. What it proves is read from the upstreams' logs, the audit file and the client's
//! wire. See `docs/demo.md` for the object of `--json`.

mod checks;
mod raw_http;
mod report;
mod scenario;
mod setup;
mod upstream;
mod wiretap;

use std::fmt::Display;

pub use checks::Check;
pub use report::Report;
pub use scenario::Step;
pub use upstream::{MARKER, Seen};

/// Breaks the stack in one place, so that a test sees the check of that place turn false.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sabotage {
    /// The API behind the MCP server is shut.
    CloseTheBackDoor,
    /// The policy lets through what it should hide.
    ShowEveryTool,
    /// The policy lets no call through.
    RefuseEveryCall,
    /// The policy lets every call through.
    AllowEveryTool,
    /// No scope is asked for.
    AskForNoScope,
    /// The upstream gives all that the user allowed.
    ForwardEveryScope,
    /// Somebody else asks for a refresh, too.
    RefreshFromElsewhere,
    /// Both servers take tokens for one of them.
    OneAudienceForAll,
    /// Nobody is revoked.
    RevokeNobody,
    /// The tokens for one server are revoked, and not the user.
    RevokeAtOneServer,
    /// A route without the layers.
    LeaveARouteUnwatched,
    /// Somebody edits the audit file.
    EditTheAudit,
    /// Somebody uses a token outside of the broker.
    UseTheTokenUnseen,
    /// Something outside of the stack shows the token.
    LeakTheToken,
}

/// Why the demo could not be told to its end: loopback, a temporary folder, or a fault of ours.
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

/// Tells the scenario.
///
/// # Errors
/// It could not be told to its end.
///
/// # Cancellation
/// Dropped, its servers run on until the runtime ends; nothing is left on the disk.
pub async fn run() -> Result<Report, DemoError> {
    run_with(None).await
}

/// As [`run`], with one thing broken.
///
/// # Errors
/// As [`run`].
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
        got: setup.wire.got(),
        secrets: [setup.crm.secrets(), setup.tickets.secrets()].concat(),
        broker_tokens: outcome.broker_tokens,
    };
    let checks = checks::run(&evidence);
    Ok(Report::of(outcome.steps, &evidence, checks))
}
