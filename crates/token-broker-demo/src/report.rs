//! The report, as text and as JSON.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::{
    checks::{Check, Evidence},
    scenario::Step,
    setup::OPERATORS_SCOPES,
    upstream::Seen,
};

/// Steps, logs and checks of one run. `Display` renders them as text; serialized, the report is the
/// object that `--json` prints (`docs/demo.md`).
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Report {
    /// Version of this object.
    pub schema: u32,
    /// Whether every check holds.
    pub pass: bool,
    /// Steps of the client.
    pub steps: Vec<Step>,
    /// Checks of the logs.
    pub checks: Vec<Check>,
    /// Log of the CRM.
    pub crm: Vec<Seen>,
    /// Log of the ticket server.
    pub tickets: Vec<Seen>,
    /// Records of the audit file.
    pub audit: Vec<Value>,
}

/// Width of the text, in columns.
const WIDTH: usize = 100;

impl Report {
    pub(crate) fn of(steps: Vec<Step>, evidence: &Evidence, checks: Vec<Check>) -> Self {
        Self {
            schema: 1,
            pass: checks.iter().all(|check| check.pass),
            steps,
            checks,
            crm: evidence.crm.clone(),
            tickets: evidence.tickets.clone(),
            audit: evidence.audit.lines().filter_map(|line| line.parse().ok()).collect(),
        }
    }

    /// Returns the exit code of the command: 0 if every check holds, 1 otherwise.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.checks.iter().all(|check| check.pass))
    }

    fn part(&self, f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
        for step in self.steps.iter().filter(|step| step.part == part) {
            writeln!(f, "  The client {}.", step.did)?;
            writeln!(f, "      -> {}", step.heard)?;
        }
        writeln!(f)
    }

    /// Renders what the client, the upstreams and the audit saw, in three columns.
    fn side_by_side(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let heard: Vec<_> = self
            .steps
            .iter()
            .filter(|step| step.part == "after")
            .map(|step| step.heard.clone())
            .collect();
        let saw = folded(
            self.crm
                .iter()
                .chain(&self.tickets)
                .map(|seen| format!("{} {} [{}]", seen.status, seen.what, seen.scopes)),
        );
        let recorded =
            folded(self.audit.iter().filter(|record| record["kind"] == "result").map(|record| {
                let text = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
                let what = if record["name"].is_string() { text("name") } else { text("method") };
                let why = text("reason");
                format!("{} {what} {why}", text("outcome")).trim_end().to_owned()
            }));
        let width = (WIDTH - 8) / 3;
        let columns = [
            ("the client received", heard),
            ("the upstreams saw", saw),
            ("the audit recorded", recorded),
        ];
        let wrapped = columns.map(|(title, lines)| {
            let mut all = vec![title.to_owned(), "-".repeat(width)];
            all.extend(lines.iter().flat_map(|line| wrap(line, width)));
            all
        });
        let rows = wrapped.iter().map(Vec::len).max().unwrap_or_default();
        for row in 0..rows {
            let cells = wrapped.each_ref().map(|column| column.get(row).map_or("", String::as_str));
            let line = cells.map(|cell| format!("{cell:width$}")).join(" | ");
            writeln!(f, "  {}", line.trim_end())?;
        }
        writeln!(
            f,
            "\n  Each list is in its own order. The scopes that the operator set: \
             {OPERATORS_SCOPES}.\n  dropped: the client closed the stream after reading its \
             result.\n"
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "BEFORE: the client holds the upstream's own token\n")?;
        self.part(f, "before")?;
        writeln!(f, "AFTER: the client holds a broker token, the broker keeps the real one\n")?;
        self.part(f, "after")?;
        writeln!(f, "SIDE BY SIDE\n")?;
        self.side_by_side(f)?;
        writeln!(f, "WHAT THE LOGS PROVE\n")?;
        for check in &self.checks {
            let mark = if check.pass { "ok  " } else { "FAIL" };
            writeln!(f, "  {mark} {}", title(check.name))?;
            writeln!(f, "       {}", check.found)?;
        }
        let good = self.checks.iter().filter(|check| check.pass).count();
        writeln!(
            f,
            "\n  Secrets in play: tokens that the upstreams issued, and received through the \
             broker.\n\n{good} of {} checks hold.",
            self.checks.len()
        )?;
        writeln!(
            f,
            "Next: put the broker in front of a server of yours (docs/embedding.md). \
             docs/demo.md explains the checks."
        )
    }
}

/// Returns the name of a check as a text for people.
fn title(name: &str) -> String {
    // An underscore is a space, and a name has no apostrophe.
    name.replace('_', " ")
        .replace("servers back", "server's back")
        .replace("operators scopes", "operator's scopes")
}

/// Joins equal lines in a row to one, with their number.
fn folded(lines: impl Iterator<Item = String>) -> Vec<String> {
    let mut folded: Vec<(String, usize)> = Vec::new();
    for line in lines {
        match folded.last_mut() {
            Some((last, times)) if *last == line => *times += 1,
            _ => folded.push((line, 1)),
        }
    }
    folded
        .into_iter()
        .map(|(line, times)| if times > 1 { format!("{line}  x{times}") } else { line })
        .collect()
}

/// Wraps a line at spaces, and indents its continuation.
fn wrap(line: &str, width: usize) -> Vec<String> {
    let mut lines = Vec::new();
    let mut current = String::new();
    for word in line.split(' ') {
        if !current.is_empty() && current.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut current));
            current.push_str("  ");
        } else if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    lines.push(current);
    lines
}
