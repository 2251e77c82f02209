//! What the log writes, the document (`docs/audit-schema.md`) and the schema
//! (`docs/audit-record.schema.json`) hold each other.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    time::Duration,
};

use http::StatusCode;
use regex::Regex;
use serde_json::{Value, json};

use super::{
    tests::{intent, parsed, principal, text},
    *,
};
use crate::{
    principal::GrantId,
    principal::{Actor, Initiator, Resource, Scopes, User},
    refusal::Reason,
    request_id::OuterRequestId,
    revocation::RevocationTarget,
};

/// A request of which all is known, one of which nothing is, one that is counted, one that a crash
/// leaves; and all else that is written.
async fn every_record() -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let grant = GrantId::new("grant-1");
    let scopes = Scopes::parse("read").unwrap();
    let full = || Intent::new("crm", "https://crm.example.com:443", &scopes, Some((&grant, 3)));
    let (trail, mut terminal) = Trail::begin(
        &log,
        Some(resource),
        Some(([127, 0, 0, 1], 4711).into()),
        OuterRequestId::new("7f"),
    )
    .unwrap();
    let actor = Actor::new(User::new("https://i.example", "agent"), None);
    trail.identified(&principal(Some(actor)));
    trail.decided_by(&"read".into());
    trail.judged(&Operation::new("tools/call", Some("get_contact")));
    trail.intent(full()).await.unwrap().used();
    trail.refresh_intent(full()).await.unwrap().finish(RefreshOutcome::Refreshed);
    trail.cut(Reason::AuditUnavailable);
    terminal.answered(StatusCode::OK, None);
    trail.grpc().came_in(1);
    terminal.grpc_fields(
        &[(http::HeaderName::from_static("grpc-status"), 16.into())].into_iter().collect(),
    );
    drop(terminal);
    trail.intent(full()).await.unwrap().used();
    let (nothing, ends) = Trail::for_test(&log);
    nothing.intent(intent()).await.unwrap().used();
    nothing.refresh_intent(intent()).await.unwrap().finish(RefreshOutcome::Failed);
    drop(ends);
    log.0.count(Reason::AuditUnavailable);
    let (initiator, alice) = (Initiator::system("scim"), User::new("https://i.example", "alice"));
    for (kind, target) in [
        ("revoked", RevocationTarget::Everything),
        ("blocked", RevocationTarget::User(alice.clone())),
        ("unblocked", RevocationTarget::User(alice)),
        ("grant_restored", RevocationTarget::Grant(grant.clone())),
    ] {
        log.note_revocation(kind, &target, &initiator).await.unwrap();
    }
    let (lost, _ends) = Trail::for_test(&log);
    lost.intent(intent()).await.unwrap().used();
    drop(lost.refresh_intent(intent()).await.unwrap());
    log.flush().await.unwrap();
    let copy = folder.path().join("copy.jsonl");
    fs::copy(&path, &copy).unwrap();
    let again = AuditLog::from(JsonLines::append(&copy).unwrap());
    again.close(Duration::from_secs(20)).await.unwrap();
    let lines: Vec<_> = fs::read_to_string(&copy).unwrap().lines().map(str::to_owned).collect();
    parsed(&lines)
}

/// For each kind its members, and whether each record of the kind has them.
type Members = BTreeMap<String, BTreeMap<String, bool>>;

/// By the tables of the document.
fn documented() -> Members {
    let mut kinds = Members::new();
    let mut of = String::new();
    for line in include_str!("../../../../docs/audit-schema.md").lines() {
        if let Some(title) = line.strip_prefix("### ") {
            title.trim_matches('`').clone_into(&mut of);
            kinds.entry(of.clone()).or_default();
        } else if let Some(row) = line.strip_prefix("| `") {
            let mut cells = row.split('|').map(str::trim);
            let member = cells.next().unwrap().trim_end_matches('`').to_owned();
            let always = cells.nth(1).unwrap() == "always";
            kinds.entry(of.clone()).or_default().insert(member, always);
        }
    }
    let common = kinds.remove("Every record").unwrap();
    for members in kinds.values_mut() {
        members.extend(common.clone());
    }
    kinds
}

/// By the records themselves.
fn written(records: &[Value]) -> Members {
    let mut kinds: BTreeMap<String, Vec<&Value>> = BTreeMap::new();
    for record in records {
        kinds.entry(text(&record["kind"])).or_default().push(record);
    }
    let members = |records: &[&Value]| {
        let names: BTreeSet<_> =
            records.iter().flat_map(|record| record.as_object().unwrap().keys()).collect();
        let in_each = |name: &String| records.iter().all(|record| record.get(name).is_some());
        names.into_iter().map(|name| (name.clone(), in_each(name))).collect()
    };
    kinds.iter().map(|(kind, records)| (kind.clone(), members(records))).collect()
}

fn schema() -> Value {
    include_str!("../../../../docs/audit-record.schema.json").parse().unwrap()
}

/// The definition of each kind.
fn kinds(schema: &Value) -> BTreeMap<String, Value> {
    let listed = schema["oneOf"].as_array().unwrap().iter();
    let definitions = listed.map(|kind| definition(schema, kind["$ref"].as_str().unwrap()).clone());
    definitions.map(|kind| (text(&kind["properties"]["kind"]["const"]), kind)).collect()
}

/// By the schema.
fn described(schema: &Value) -> Members {
    let members = |kind: &Value| {
        let required: BTreeSet<_> = kind["required"].as_array().unwrap().iter().map(text).collect();
        let names = kind["properties"].as_object().unwrap().keys();
        names.map(|name| (name.clone(), required.contains(name))).collect()
    };
    kinds(schema).into_iter().map(|(name, kind)| (name, members(&kind))).collect()
}

fn definition<'s>(schema: &'s Value, reference: &str) -> &'s Value {
    schema
        .pointer(reference.strip_prefix('#').unwrap())
        .unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

/// As much of JSON Schema as our schema uses, and no more: another keyword is no schema here. The
/// crates that read all of it bring thirty others, one of them under a licence that is not on our
/// list; `tests/interop/python` has another one's reading.
fn is_valid(root: &Value, schema: &Value, value: &Value) -> bool {
    schema.as_object().unwrap().iter().all(|(keyword, says)| match keyword.as_str() {
        "$schema" | "title" | "description" | "$defs" => true,
        "$ref" => is_valid(root, definition(root, says.as_str().unwrap()), value),
        "oneOf" => {
            says.as_array().unwrap().iter().filter(|one| is_valid(root, one, value)).count() == 1
        }
        "type" => match says.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            other => panic!("a type that no record has: {other}"),
        },
        "const" => value == says,
        "enum" => says.as_array().unwrap().contains(value),
        "pattern" => value
            .as_str()
            .is_none_or(|text| Regex::new(says.as_str().unwrap()).unwrap().is_match(text)),
        "maxLength" => {
            value.as_str().is_none_or(|text| text.chars().count() as u64 <= says.as_u64().unwrap())
        }
        "minimum" => value.as_u64().is_none_or(|number| number >= says.as_u64().unwrap()),
        "maximum" => value.as_u64().is_none_or(|number| number <= says.as_u64().unwrap()),
        "minItems" => {
            value.as_array().is_none_or(|items| items.len() as u64 >= says.as_u64().unwrap())
        }
        "maxItems" => {
            value.as_array().is_none_or(|items| items.len() as u64 <= says.as_u64().unwrap())
        }
        "items" => {
            value.as_array().is_none_or(|items| items.iter().all(|item| is_valid(root, says, item)))
        }
        "required" => {
            says.as_array().unwrap().iter().all(|name| value.get(name.as_str().unwrap()).is_some())
        }
        "dependentRequired" => says.as_object().unwrap().iter().all(|(name, others)| {
            value.get(name).is_none() || is_valid(root, &json!({ "required": others }), value)
        }),
        "properties" => {
            says.as_object().unwrap().iter().all(|(name, says)| {
                value.get(name).is_none_or(|member| is_valid(root, says, member))
            })
        }
        "additionalProperties" => {
            assert_eq!(says, false, "what is open is no schema of ours");
            value.as_object().is_none_or(|object| {
                object.keys().all(|name| schema["properties"].get(name).is_some())
            })
        }
        other => panic!("a keyword that is not read here: {other}"),
    })
}

#[tokio::test]
async fn each_member_of_each_kind_stands_in_the_document_and_each_of_the_document_is_written() {
    let (written, documented) = (written(&every_record().await), documented());
    assert_eq!(written.keys().collect::<Vec<_>>(), documented.keys().collect::<Vec<_>>());
    for (kind, members) in &documented {
        let found = &written[kind];
        assert_eq!(found.keys().collect::<Vec<_>>(), members.keys().collect::<Vec<_>>(), "{kind}");
        for (member, always) in members.iter().filter(|(_, always)| **always) {
            assert_eq!(
                found.get(member),
                Some(always),
                "{kind}.{member} does not stand in each record"
            );
        }
    }
}

#[test]
fn the_schema_has_the_members_of_the_document_and_requires_those_that_are_always_there() {
    assert_eq!(described(&schema()), documented());
}

#[tokio::test]
async fn each_record_of_each_kind_is_valid_and_each_that_lacks_or_has_a_member_too_many_is_not() {
    let schema = schema();
    let described = described(&schema);
    let records = every_record().await;
    for record in &records {
        assert!(is_valid(&schema, &schema, record), "{record}");
        let kind = &described[record["kind"].as_str().unwrap()];
        // A member that is added to a record, and to the schema not.
        let mut more = record.clone();
        more["arguments"] = json!("x");
        assert!(!is_valid(&schema, &schema, &more), "{more}");
        for name in record.as_object().unwrap().keys() {
            let mut less = record.clone();
            less.as_object_mut().unwrap().remove(name);
            let together =
                ["actors", "actor_links", "grant", "grant_version"].contains(&name.as_str());
            assert_eq!(
                is_valid(&schema, &schema, &less),
                !kind[name] && !together,
                "{record} without {name}"
            );
            // No member is of free form.
            for free in [json!(null), json!({}), json!([]), json!(-1), json!(0.5), json!(false)] {
                let mut other = record.clone();
                other[name] = free;
                assert!(!is_valid(&schema, &schema, &other), "{other}");
            }
        }
    }
}

#[test]
fn each_word_of_a_closed_list_is_in_the_schema() {
    let schema = schema();
    let is_word = |kind: &str, member: &str, word: &str| {
        let says = &kinds(&schema)[kind]["properties"][member];
        assert!(is_valid(&schema, says, &json!(word)), "{kind}.{member}: {word}");
        assert!(
            !is_valid(&schema, says, &json!(format!("{word} "))),
            "{kind}.{member} is no closed list"
        );
    };
    for reason in Reason::ALL {
        is_word("result", "reason", reason.code());
    }
    use Outcome::{Completed, Cut, Dropped, Failed, Refused, Unknown};
    for outcome in [Completed, Refused, Failed, Dropped, Cut, Unknown] {
        is_word("result", "outcome", outcome.as_str());
    }
    use RefreshOutcome::{GrantEnded, Refreshed};
    for outcome in [Refreshed, GrantEnded, RefreshOutcome::Failed, RefreshOutcome::Unknown] {
        is_word("refresh_result", "outcome", outcome.as_str());
    }
    let (issuer, id) = (|| "https://i.example".into(), || "1".into());
    for revoked in [
        RevocationTarget::Token { issuer: issuer(), id: id() },
        RevocationTarget::Family { issuer: issuer(), id: id() },
        RevocationTarget::Client { issuer: issuer(), id: id() },
        RevocationTarget::User(User::new("https://i.example", "ana")),
        RevocationTarget::Grant(GrantId::new("grant-1")),
        RevocationTarget::Server(Resource::parse("https://broker.example.com/crm/mcp").unwrap()),
        RevocationTarget::Everything,
    ] {
        is_word("revoked", "what", revoked.in_words().0);
    }
}

#[test]
fn p296_the_schema_is_closed_and_each_of_its_members_has_a_type_and_a_bound() {
    fn closed(schema: &Value) {
        if schema["type"] == "object" {
            assert_eq!(schema["additionalProperties"], false, "{schema}");
            schema["properties"].as_object().unwrap().values().for_each(closed);
            return;
        }
        let has = |keyword: &str| schema.get(keyword).is_some();
        let is_bound = match schema["type"].as_str() {
            Some("array") => has("maxItems") && has("items"),
            Some("string") => {
                has("maxLength") || schema["pattern"].as_str().is_some_and(|it| it.ends_with('$'))
            }
            Some("integer") => has("minimum"),
            None => has("$ref") || has("const") || has("enum"),
            Some(_) => false,
        };
        assert!(is_bound, "{schema}");
        schema.get("items").into_iter().for_each(closed);
    }
    let schema = schema();
    let definitions = schema["$defs"].as_object().unwrap();
    assert!(definitions.len() > 8);
    definitions.values().for_each(closed);
}
