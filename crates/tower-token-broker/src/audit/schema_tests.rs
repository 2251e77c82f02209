//! Compares the records with the document (`docs/audit-schema.md`) and the schema
//! (`docs/audit-record.schema.json`).

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    time::Duration,
};

use http::StatusCode;
use regex::Regex;
use serde_json::{Value, json};

use super::{
    log::Counted,
    tests::{intent, parsed, text},
    trail::RequestFacts,
    *,
};
use crate::{
    clock::{Clock, Timestamp},
    principal::{
        Actor, GrantId, Initiator, Principal, Resource, Scopes, TokenTimes, User, Verified,
    },
    refusal::Reason,
    request_id::OuterRequestId,
    revocation::{RevocationChange, RevocationTarget},
};

/// Two chains. In the first one, requests with all facts (also too long ones), with none, and
/// counted ones; a job; each note. The second one continues a copy of it, as after a crash.
async fn every_record() -> Vec<Value> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    for make in [str::to_owned as fn(&str) -> String, too_long] {
        requests(&log, make).await;
        notes(&log, make).await;
    }
    let (without_facts, ends) = Trail::for_test(&log);
    without_facts.intent(intent()).await.unwrap().used().unwrap();
    let receipt = without_facts.token_request(GrantType::TokenExchange, intent()).await.unwrap();
    receipt.finish(TokenOutcome::Failed);
    drop(ends);
    log.0.count(Counted::Refused(Reason::AuditUnavailable));
    log.0.count(Counted::Dropped);
    let job = log.job("grants.refresh_ahead").unwrap();
    job.trail().intent(intent()).await.unwrap().used().unwrap();
    let receipt = job.trail().token_request(GrantType::RefreshToken, intent()).await.unwrap();
    receipt.finish(TokenOutcome::GrantEnded);
    job.complete();
    let (lost, _ends) = Trail::for_test(&log);
    let lost_job = log.job("grants.refresh_ahead").unwrap();
    let mut receipts = Vec::new();
    for trail in [&lost, lost_job.trail()] {
        trail.intent(intent()).await.unwrap().used().unwrap();
        receipts.push(trail.token_request(GrantType::RefreshToken, intent()).await.unwrap());
    }
    log.flush().await.unwrap();
    let copy = folder.path().join("copy.jsonl");
    fs::copy(&path, &copy).unwrap();
    let again = AuditLog::from(JsonLines::append(&copy).unwrap());
    again.close(Duration::from_secs(20)).await.unwrap();
    let mut text = fs::read_to_string(&copy).unwrap();
    text.push_str(&segments(&folder.path().join("segments")).await);
    parsed(&text.lines().map(str::to_owned).collect::<Vec<_>>())
}

/// Segments, with what is open at the beginning of one, and their removal.
async fn segments(folder: &Path) -> String {
    let clock = Clock::manual(Timestamp::from_unix_seconds(1_790_000_000));
    let opened = |writer: &str| {
        let writer = WriterName::parse(writer).unwrap();
        let limits = SegmentLimits::default().max_bytes(1);
        let sink = AuditFolder::open_with(folder, &writer, limits).unwrap();
        AuditLog::start(sink, AuditOptions::new().with_clock(clock.clone()))
    };
    let log = opened("broker-1");
    let (open, _ends) = Trail::for_test(&log);
    let open_job = log.job("grants.refresh_ahead").unwrap();
    let mut receipts = Vec::new();
    for trail in [&open, open_job.trail()] {
        trail.intent(intent()).await.unwrap().used().unwrap();
        receipts.push(trail.token_request(GrantType::RefreshToken, intent()).await.unwrap());
    }
    requests(&log, str::to_owned).await;
    log.flush().await.unwrap();
    let mut text = String::new();
    for segment in fs::read_dir(folder).unwrap() {
        text.push_str(&fs::read_to_string(segment.unwrap().path()).unwrap());
    }
    clock.advance(Duration::from_secs(60));
    for initiator in [
        Initiator::operator(&too_long("olga")),
        Initiator::system("retention"),
        Initiator::user(&User::new(too_long("https://i.example"), too_long("alice"))),
        Initiator::client(&too_long("client")),
        Initiator::anonymous(),
    ] {
        let other = opened("commands");
        let old = Removal::plan(folder, &WriterName::parse("broker-1").unwrap(), clock.now());
        assert!(old.unwrap().unwrap().run(&other, &initiator).await.unwrap() > 0);
        requests(&log, str::to_owned).await;
        log.flush().await.unwrap();
        clock.advance(Duration::from_secs(60));
        other.close(Duration::from_secs(20)).await.unwrap();
        drop(other);
        while matches!(
            AuditFolder::open(folder, &WriterName::parse("commands").unwrap()),
            Err(AuditFileError::InUse { .. })
        ) {
            tokio::task::yield_now().await;
        }
    }
    for segment in fs::read_dir(folder).unwrap() {
        text.push_str(&fs::read_to_string(segment.unwrap().path()).unwrap());
    }
    text
}

fn too_long(text: &str) -> String {
    format!("{text}{}", "x".repeat(MAX_TEXT))
}

async fn requests(log: &AuditLog, make: fn(&str) -> String) {
    let (grant, scopes) = (GrantId::new(&make("grant-1")), Scopes::parse("read").unwrap());
    let full = || Intent::new("crm", "https://crm.example.com:443", &scopes, Some((&grant, 3)));
    let facts = RequestFacts {
        resource: Some(Resource::parse("https://broker.example.com/crm/mcp").unwrap()),
        peer: Some(([127, 0, 0, 1], 4711).into()),
        outer_request: OuterRequestId::new("7f"),
    };
    let (trail, mut terminal) = Trail::begin(log, facts).unwrap();
    let links = if make("").is_empty() { 1 } else { 17 };
    let actor = (0..links).fold(None, |before, _| {
        Some(Actor::new(User::new(make("https://i.example"), make("agent")), before))
    });
    let id = make("jti");
    let times = TokenTimes {
        id: &id,
        issued_at: Timestamp::from_unix_seconds(0),
        expires_at: Timestamp::from_unix_seconds(60),
    };
    let user = User::new(make("https://i.example"), make("alice"));
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let verified = Verified::vouch(user, &make("client"), resource, times);
    let verified = verified.with_family(&make("family")).with_actor(actor.unwrap());
    trail.identified(&Principal::of(&verified));
    trail.decided_by(Some(&make("read").into()), Some(PolicyDigest::of(b"rules")));
    trail.judged(&Operation::new(&make("tools/call"), Some(&make("get_contact"))));
    trail.intent(full()).await.unwrap().used().unwrap();
    let receipt = trail.token_request(GrantType::RefreshToken, full()).await.unwrap();
    receipt.finish(TokenOutcome::Issued);
    trail.cut(Reason::AuditUnavailable);
    terminal.responded(StatusCode::OK, None);
    trail.grpc().came_in(1);
    terminal.grpc_fields(
        &[(http::HeaderName::from_static("grpc-status"), 16.into())].into_iter().collect(),
    );
    drop(terminal);
    trail.intent(full()).await.unwrap().used().unwrap();
}

async fn notes(log: &AuditLog, make: fn(&str) -> String) {
    let user = User::new(make("https://i.example"), make("alice"));
    let resource = Resource::parse("https://broker.example.com/crm/mcp").unwrap();
    let (scopes, grant) = (Scopes::parse("read").unwrap(), GrantId::new(&make("grant-1")));
    let (client, name) = (make("client"), make("personal"));
    let consent = Consent { user: &user, client: &client, resource: &resource, scopes: &scopes };
    let token = |family| IssuedToken {
        user: &user,
        client: &client,
        resource: &resource,
        scopes: &scopes,
        token: &name,
        family,
        expires: Timestamp::from_unix_seconds(60),
    };
    let registered =
        |name| RegisteredClient { client: &client, name, redirect_uris: client.as_str() };
    let connection = |account| Connection {
        user: &user,
        upstream: "crm",
        account,
        grant: &grant,
        scopes: &scopes,
    };
    let upstream_revocation = |outcome, account| {
        let (user, grant) = (&user, &grant);
        Note::upstream_revocation(UpstreamRevocation {
            user,
            upstream: "crm",
            account,
            grant,
            outcome,
        })
    };
    let notes = [
        Note::signed_in(&user),
        Note::sign_in_failed(None, SignInFailure::UnknownAccount),
        Note::sign_in_failed(Some(&user), SignInFailure::WrongPassword),
        Note::signed_out(&user, SignOutExtent::Session),
        Note::signed_out(&user, SignOutExtent::Everywhere),
        Note::password_changed(&user),
        Note::password_change_failed(&user),
        Note::first_account(&user),
        Note::first_account_failed(&user),
        Note::consent_allowed(consent),
        Note::consent_denied(consent),
        Note::token_issued(token(Some(&name))),
        Note::token_issued(token(None)),
        Note::token_issued_for(token(Some(&name)), TokenGrant::AuthorizationCode),
        Note::token_issued_for(token(Some(&name)), TokenGrant::StaleRefreshToken),
        Note::code_issued(IssuedCode {
            user: &user,
            client: &client,
            resource: &resource,
            scopes: &scopes,
            family: &name,
            expires: Timestamp::from_unix_seconds(60),
        }),
        Note::client_registered(registered(Some(&name))),
        Note::client_registered(registered(None)),
        Note::family_ended(EndedFamily {
            user: &user,
            client: &client,
            resource: &resource,
            family: &name,
            cause: FamilyEndCause::RefreshReplay,
        }),
        Note::key_published(PublishedKey {
            key: &name,
            signs_from: Timestamp::from_unix_seconds(60),
        }),
        Note::connected(connection(Some(&name))),
        Note::connected(connection(None)),
        Note::disconnected(connection(Some(&name))),
        Note::disconnected(connection(None)),
        upstream_revocation(UpstreamRevocationOutcome::Revoked, Some(&name)),
        upstream_revocation(UpstreamRevocationOutcome::Refused, None),
        upstream_revocation(UpstreamRevocationOutcome::NotSupported, None),
        upstream_revocation(UpstreamRevocationOutcome::GivenUp, None),
        Note::command("users block", Some(&name)),
        Note::command_failed("serve", None),
        Note::reloaded(Reloaded::Policy, Some(PolicyDigest::of(b"rules"))),
        Note::reload_refused(Reloaded::Servers),
    ];
    let (issuer, id) = (|| make("https://i.example").into(), || make("1").into());
    let targets = [
        RevocationTarget::Token { issuer: issuer(), id: id() },
        RevocationTarget::Family { issuer: issuer(), id: id() },
        RevocationTarget::Client { issuer: issuer(), id: id() },
        RevocationTarget::User(user.clone()),
        RevocationTarget::Grant(grant.clone()),
        RevocationTarget::Server(resource.clone()),
        RevocationTarget::Everything,
    ];
    let changes: Vec<_> = targets
        .into_iter()
        .map(RevocationChange::Revoked)
        .chain([
            RevocationChange::Blocked(user.clone()),
            RevocationChange::Unblocked(user.clone()),
            RevocationChange::GrantRestored(grant.clone()),
        ])
        .collect();
    for initiator in [
        Initiator::operator(&make("olga")),
        Initiator::system(&make("scim")),
        Initiator::user(&user),
        Initiator::client(&client),
        Initiator::anonymous(),
    ] {
        for note in notes {
            log.note(&initiator, note).await.unwrap();
            log.note(&initiator, note.peer(([127, 0, 0, 1], 4711).into())).await.unwrap();
        }
        for change in &changes {
            log.note(&initiator, Note::revocation(change)).await.unwrap();
        }
    }
}

/// The members of each kind, and whether each record of the kind has them.
type Members = BTreeMap<String, BTreeMap<String, bool>>;

/// The members in the tables of the document. A text has a hash of the whole where it is truncated.
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
            let kind = cells.next().unwrap();
            let always = cells.next().unwrap() == "always";
            let members = kinds.entry(of.clone()).or_default();
            if ["text", "setting", "scopes", "array"].contains(&kind) {
                members.insert(format!("{member}_sha256"), false);
            }
            members.insert(member, always);
        }
    }
    let common = kinds.remove("Every record").unwrap();
    for members in kinds.values_mut() {
        members.extend(common.clone());
    }
    kinds
}

/// The members of the records.
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

/// Returns the definition of each kind.
fn kinds(schema: &Value) -> BTreeMap<String, Value> {
    let listed = schema["oneOf"].as_array().unwrap().iter();
    let definitions = listed.map(|kind| definition(schema, kind["$ref"].as_str().unwrap()).clone());
    definitions.map(|kind| (text(&kind["properties"]["kind"]["const"]), kind)).collect()
}

/// The members in the schema.
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
    schema.as_object().unwrap().iter().all(|(keyword, operand)| match keyword.as_str() {
        "$schema" | "title" | "description" | "$defs" => true,
        "$ref" => is_valid(root, definition(root, operand.as_str().unwrap()), value),
        "oneOf" => {
            operand.as_array().unwrap().iter().filter(|one| is_valid(root, one, value)).count() == 1
        }
        "type" => match operand.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_u64(),
            other => panic!("a type that no record has: {other}"),
        },
        "const" => value == operand,
        "enum" => operand.as_array().unwrap().contains(value),
        "pattern" => value
            .as_str()
            .is_none_or(|text| Regex::new(operand.as_str().unwrap()).unwrap().is_match(text)),
        "maxLength" => value
            .as_str()
            .is_none_or(|text| text.chars().count() as u64 <= operand.as_u64().unwrap()),
        "minimum" => value.as_u64().is_none_or(|number| number >= operand.as_u64().unwrap()),
        "maximum" => value.as_u64().is_none_or(|number| number <= operand.as_u64().unwrap()),
        "minItems" => {
            value.as_array().is_none_or(|items| items.len() as u64 >= operand.as_u64().unwrap())
        }
        "maxItems" => {
            value.as_array().is_none_or(|items| items.len() as u64 <= operand.as_u64().unwrap())
        }
        "items" => value
            .as_array()
            .is_none_or(|items| items.iter().all(|item| is_valid(root, operand, item))),
        "required" => operand
            .as_array()
            .unwrap()
            .iter()
            .all(|name| value.get(name.as_str().unwrap()).is_some()),
        "dependentRequired" => operand.as_object().unwrap().iter().all(|(name, others)| {
            value.get(name).is_none() || is_valid(root, &json!({ "required": others }), value)
        }),
        "properties" => operand.as_object().unwrap().iter().all(|(name, operand)| {
            value.get(name).is_none_or(|member| is_valid(root, operand, member))
        }),
        "additionalProperties" => {
            assert_eq!(operand, false, "our schemas are closed");
            value.as_object().is_none_or(|object| {
                object.keys().all(|name| schema["properties"].get(name).is_some())
            })
        }
        other => panic!("a keyword that is not read here: {other}"),
    })
}

/// The hash of a setting is left out: a setting of 16 KiB is not written here.
fn without_hashes_of_settings(mut kinds: Members) -> Members {
    let settings = [
        "upstream_sha256",
        "origin_sha256",
        "resource_sha256",
        "scopes_sha256",
        "upstream_scopes_sha256",
    ];
    for members in kinds.values_mut() {
        members.retain(|member, _| !settings.contains(&member.as_str()));
    }
    kinds
}

#[tokio::test]
async fn document_and_records_have_the_same_members() {
    let written = written(&every_record().await);
    let documented = without_hashes_of_settings(documented());
    let words: BTreeSet<_> = RecordKind::ALL.iter().map(|kind| kind.as_str()).collect();
    assert!(written.keys().map(String::as_str).eq(words));
    assert!(written.keys().eq(documented.keys()));
    for (kind, members) in &documented {
        let found = &written[kind];
        assert_eq!(found.keys().collect::<Vec<_>>(), members.keys().collect::<Vec<_>>(), "{kind}");
        for (member, always) in members.iter().filter(|(_, always)| **always) {
            assert_eq!(found.get(member), Some(always), "{kind}.{member} is not in each record");
        }
    }
    let known: BTreeSet<_> = documented
        .values()
        .flat_map(|members| members.keys().map(String::as_str))
        .filter(|member| !member.ends_with("_sha256"))
        .collect();
    let members: BTreeSet<_> = Member::ALL.iter().map(|member| member.name()).collect();
    assert_eq!(known, members);
}

#[test]
fn document_and_schema_have_the_same_members() {
    assert_eq!(described(&schema()), documented());
}

#[tokio::test]
async fn each_record_is_valid_and_no_variant_of_it_is() {
    let schema = schema();
    let described = described(&schema);
    let records = every_record().await;
    // Members that another one requires, or one of which is required.
    let related = [
        "request",
        "job",
        "job_name",
        "chain",
        "writer",
        "actors",
        "actor_links",
        "grant",
        "grant_version",
        "issuer",
        "subject",
        "initiator_issuer",
        "initiator_subject",
    ];
    assert!(records.iter().all(|record| is_valid(&schema, &schema, record)));
    // Variants of one record of each shape.
    let shape = |record: &Value| {
        let members = record.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        ([&record["kind"], &record["what"]].map(Value::to_string), members)
    };
    let shapes: BTreeMap<_, _> = records.iter().map(|record| (shape(record), record)).collect();
    for record in shapes.into_values() {
        let kind = &described[record["kind"].as_str().unwrap()];
        // A member that the schema does not have.
        let mut more = record.clone();
        more["arguments"] = json!("x");
        assert!(!is_valid(&schema, &schema, &more), "{more}");
        for name in record.as_object().unwrap().keys() {
            let mut less = record.clone();
            less.as_object_mut().unwrap().remove(name);
            let has_hash = record.get(format!("{name}_sha256")).is_some();
            if !related.contains(&name.as_str()) {
                let expected = !kind[name] && !has_hash;
                let found = is_valid(&schema, &schema, &less);
                assert_eq!(found, expected, "{record} without {name}");
            }
            // No member has a free form.
            for free in [json!(null), json!({}), json!([]), json!(-1), json!(0.5), json!(false)] {
                let mut other = record.clone();
                other[name] = free;
                assert!(!is_valid(&schema, &schema, &other), "{other}");
            }
        }
    }
}

#[tokio::test]
async fn the_reader_returns_each_member_that_was_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.jsonl");
    let log = AuditLog::from(JsonLines::append(&path).unwrap());
    requests(&log, too_long).await;
    notes(&log, str::to_owned).await;
    log.close(Duration::from_secs(20)).await.unwrap();
    let written = fs::read(&path).unwrap();
    let mut reader = reader::RecordReader::new(written.as_slice());
    let mut records = 0;
    while let Some(record) = reader.read().unwrap() {
        let expected: Value = str::from_utf8(record.line()).unwrap().parse().unwrap();
        assert_eq!(record.kind().map(RecordKind::as_str), expected["kind"].as_str());
        assert_eq!(Some(record.time().to_string().as_str()), expected["time"].as_str());
        for member in Member::ALL.iter().copied() {
            let value = expected.get(member.name());
            assert_eq!(record.text(member).as_deref(), value.and_then(Value::as_str));
            assert_eq!(record.number(member), value.and_then(Value::as_u64));
            assert_eq!(record.flag(member), value.is_some_and(|value| value == &json!(true)));
            let hash = expected.get(format!("{}_sha256", member.name()));
            let read =
                record.sha256_of_whole(member).map(|hash| crate::hex::Hex(&hash).to_string());
            assert_eq!(read.as_deref(), hash.and_then(Value::as_str));
        }
        let user = expected.get("issuer").zip(expected.get("subject"));
        assert_eq!(record.user().is_some(), user.is_some());
        let actors = expected.get("actors").map_or(0, |actors| actors.as_array().unwrap().len());
        assert_eq!(record.actors().len(), actors);
        records += 1;
    }
    assert!(records > 50);
    assert_eq!(reader.bytes(), written.len() as u64);
}

#[test]
fn each_word_of_a_closed_list_is_in_the_schema() {
    let schema = schema();
    let is_word = |kind: &str, member: &str, word: &str| {
        let expected = &kinds(&schema)[kind]["properties"][member];
        assert!(is_valid(&schema, expected, &json!(word)), "{kind}.{member}: {word}");
        let other = json!(format!("{word} "));
        assert!(!is_valid(&schema, expected, &other), "{kind}.{member} is not a closed list");
    };
    for reason in Reason::ALL {
        is_word("result", "reason", reason.code());
    }
    use Outcome::{Completed, Cut, Dropped, Failed, Refused, Unknown, UploadCut};
    for outcome in [Completed, Refused, Failed, Dropped, Cut, UploadCut, Unknown] {
        is_word("result", "outcome", outcome.as_str());
    }
    for outcome in [Completed, Failed, Dropped, Cut, Unknown] {
        is_word("job_result", "outcome", outcome.as_str());
    }
    for extent in SignOutExtent::ALL {
        is_word("sign_out", "what", extent.as_str());
    }
    for failure in SignInFailure::ALL {
        is_word("sign_in", "reason", failure.code());
    }
    for outcome in TokenOutcome::ALL {
        is_word("token_result", "outcome", outcome.as_str());
    }
    for grant_type in GrantType::ALL {
        is_word("token_request", "grant_type", grant_type.as_str());
    }
    for grant in [TokenGrant::AuthorizationCode, TokenGrant::StaleRefreshToken] {
        is_word("token_issued", "grant_type", grant.as_str());
    }
    for cause in FamilyEndCause::ALL {
        is_word("family_ended", "what", cause.as_str());
    }
    for what in Reloaded::ALL {
        is_word("reloaded", "what", what.as_str());
    }
}

#[test]
fn p296_the_schema_is_closed_and_bounded() {
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
