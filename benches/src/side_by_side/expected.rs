//! Expected responses: the upstream's bytes, or a list filtered by the policy.

use std::collections::BTreeSet;

use token_broker_benches::fixtures::{self, Call};

use super::{Outcome, wire::Message};

/// The expected response of one proxy to one request. The first response is compared by its
/// meaning, each further one by its bytes.
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

/// Whether the proxy removes from lists what the policy hides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lists {
    Whole,
    Filtered,
}

impl Expected {
    pub(crate) fn of(call: Call, lists: Lists) -> Outcome<Self> {
        let response = call.response();
        let meaning = match call {
            Call::List(_) => {
                let mut tools = tools(response.as_bytes())?;
                tools.retain(|tool| lists == Lists::Whole || fixtures::is_visible(tool));
                Meaning::Tools(tools)
            }
            Call::Small | Call::Large | Call::Events => Meaning::Bytes(response),
        };
        Ok(Self { meaning, bytes: None })
    }

    pub(crate) fn check(&mut self, response: &Message<'_>) -> Outcome<()> {
        if !response.is_200() {
            let headers = String::from_utf8(response.head.to_vec()).unwrap_or_default();
            let body = String::from_utf8(response.body.to_vec()).unwrap_or_default();
            return Err(format!("a status other than 200: {headers}{body}").into());
        }
        let is_right = match (&self.bytes, &self.meaning) {
            (Some(bytes), _) => bytes == response.body,
            (None, Meaning::Bytes(bytes)) => bytes.as_bytes() == response.body,
            (None, Meaning::Tools(expected)) => tools(response.body)? == *expected,
            (None, Meaning::Nothing) => false,
        };
        if !is_right {
            let start = response.body.get(..response.body.len().min(400)).unwrap_or_default();
            return Err(format!("an unexpected response: {}", start.escape_ascii()).into());
        }
        if self.bytes.is_none() {
            self.bytes = Some(response.body.to_vec());
        }
        Ok(())
    }
}

#[expect(clippy::disallowed_methods, reason = "a parser other than the one of the stack")]
fn tools(response: &[u8]) -> Outcome<BTreeSet<String>> {
    let value: serde_json::Value = serde_json::from_slice(response)?;
    let tools = value
        .pointer("/result/tools")
        .and_then(serde_json::Value::as_array)
        .ok_or("no list of tools")?;
    let names = tools.iter().filter_map(|tool| tool.get("name")?.as_str().map(str::to_owned));
    Ok(names.collect())
}
