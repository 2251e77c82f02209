//! What an answer must be: the upstream's bytes, or, of a list, what the policy leaves of it.

use std::collections::BTreeSet;

use token_broker_benches::fixtures::{self, Ask};

use super::{Outcome, wire::Message};

/// The answer that one proxy must give to one request. The first one is judged by its meaning, each
/// further one must have the very same bytes.
#[derive(Debug, Default)]
pub(crate) struct Expected {
    meaning: Meaning,
    bytes: Option<Vec<u8>>,
}

#[derive(Debug, Default)]
enum Meaning {
    #[default]
    Nothing,
    Bytes(String),
    Tools(BTreeSet<String>),
}

/// Whether the proxy takes out of lists what the policy hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    Whole,
    Filtered,
}

impl Expected {
    pub(crate) fn of(ask: Ask, lists: Lists) -> Outcome<Self> {
        let answer = ask.answer();
        let meaning = match ask {
            Ask::List(_) => {
                let mut tools = tools(answer.as_bytes())?;
                tools.retain(|tool| lists == Lists::Whole || fixtures::is_visible(tool));
                Meaning::Tools(tools)
            }
            Ask::Small | Ask::Large | Ask::Events => Meaning::Bytes(answer),
        };
        Ok(Self { meaning, bytes: None })
    }

    pub(crate) fn check(&mut self, answer: &Message<'_>) -> Outcome<()> {
        if !answer.is_200() {
            let said = String::from_utf8(answer.head.to_vec()).unwrap_or_default();
            let body = String::from_utf8(answer.body.to_vec()).unwrap_or_default();
            return Err(format!("an answer other than 200: {said}{body}").into());
        }
        let is_right = match (&self.bytes, &self.meaning) {
            (Some(bytes), _) => bytes == answer.body,
            (None, Meaning::Bytes(bytes)) => bytes.as_bytes() == answer.body,
            (None, Meaning::Tools(expected)) => tools(answer.body)? == *expected,
            (None, Meaning::Nothing) => false,
        };
        if !is_right {
            let start = answer.body.get(..answer.body.len().min(400)).unwrap_or_default();
            return Err(format!("an unexpected answer: {}", start.escape_ascii()).into());
        }
        if self.bytes.is_none() {
            self.bytes = Some(answer.body.to_vec());
        }
        Ok(())
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "our own text, which has to be read by another reader than the stack's"
)]
fn tools(answer: &[u8]) -> Outcome<BTreeSet<String>> {
    let value: serde_json::Value = serde_json::from_slice(answer)?;
    let tools = value
        .pointer("/result/tools")
        .and_then(serde_json::Value::as_array)
        .ok_or("no list of tools")?;
    let names = tools.iter().filter_map(|tool| tool.get("name")?.as_str().map(str::to_owned));
    Ok(names.collect())
}
