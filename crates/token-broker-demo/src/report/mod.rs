//! The report, as text and as JSON.

mod comparison;
mod layout;
mod notes;
mod rows;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use self::layout::{WIDTH, wrap};
use crate::{
    checks::{Check, Evidence},
    scenario::Step,
    upstream::Seen,
};

pub use self::comparison::Comparison;

/// Steps, logs and checks of one run. `Display` renders them as text; serialized, the report is the
/// object that `--json` prints (`docs/demo.md`).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Version of this object.
    pub schema: u32,
    /// Whether every check holds.
    pub pass: bool,
    /// Steps of the client and the user.
    pub steps: Vec<Step>,
    /// The measurements before and after the broker, next to each other.
    pub comparison: Vec<Comparison>,
    /// Checks of the logs.
    pub checks: Vec<Check>,
    /// Explanations of numbers and words that may look odd, for people.
    pub notes: Vec<String>,
    /// Log of the CRM.
    pub crm: Vec<Seen>,
    /// Log of the ticket server.
    pub tickets: Vec<Seen>,
    /// Records of the audit file.
    pub audit: Vec<Value>,
}

const INTRODUCTION: &str = "An MCP client works with alice's accounts at two servers, CRM and \
    Tickets. Each server has its own sign-in, and logs what reaches it. All of it runs on this \
    machine: client, broker, servers, and alice's browser.";

impl Report {
    pub(crate) fn of(steps: Vec<Step>, evidence: &Evidence, checks: Vec<Check>) -> Self {
        Self {
            schema: 1,
            pass: checks.iter().all(|check| check.pass),
            steps,
            comparison: comparison::of(evidence),
            checks,
            notes: notes::of(evidence),
            crm: evidence.crm.clone(),
            tickets: evidence.tickets.clone(),
            audit: evidence.records(),
        }
    }

    /// Returns the exit code of the command: 0 if every check holds, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.checks.iter().all(|check| check.pass))
    }

    /// Renders everything but the line that states what to do next.
    pub(crate) fn story(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in wrap(INTRODUCTION, WIDTH) {
            writeln!(f, "{line}")?;
        }
        writeln!(f, "\nBEFORE: the client holds the CRM's own token\n")?;
        self.part(f, "before")?;
        writeln!(f, "AFTER: the client holds a broker token, and the broker keeps the real one\n")?;
        self.part(f, "after")?;
        writeln!(f, "BEFORE AND AFTER\n")?;
        comparison::table(f, &self.comparison)?;
        writeln!(f, "\nWHAT THE LOGS SHOW\n")?;
        for check in &self.checks {
            let mark = if check.pass { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark}  {}", check.title)?;
            layout::indented(f, ("        ", &check.found))?;
        }
        writeln!(f, "\nABOUT SOME WORDS AND NUMBERS\n")?;
        for note in &self.notes {
            layout::row(f, ("  - ", "    "), note)?;
        }
        let good = self.checks.iter().filter(|check| check.pass).count();
        writeln!(f, "\n{good} of {} checks hold.", self.checks.len())
    }

    fn part(&self, f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
        let steps = self.steps.iter().filter(|step| step.part == part);
        for (number, step) in (1..).zip(steps) {
            layout::row(f, (&format!("  {number:>2}. "), "      "), &format!("{}.", step.did))?;
            rows::of(f, self, step)?;
            writeln!(f)?;
        }
        Ok(())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.story(f)?;
        match self.pass {
            true => write!(
                f,
                "Next: `demo --serve` keeps all of this running, for a client of yours. With your \
                 own servers:\ndocs/getting-started.md. Each check: docs/demo.md."
            ),
            false => write!(f, "Next: please report this, with the output of `demo --json`."),
        }
    }
}
