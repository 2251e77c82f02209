//! Checks that every other parser reads the messages that the broker forwards as the broker does.

use std::collections::BTreeMap;

use tower_token_broker::readers;

use crate::{
    bodies, mutations,
    parsers::{Id, PARSERS, Parsed},
    print_line, processes,
    random::Random,
};

/// Number of inputs per batch for parsers in other processes.
const BATCH: usize = 1000;

/// Counts by refusal reason and by parser.
type Counts = BTreeMap<(&'static str, &'static str), usize>;

#[test]
fn j207_forwarded_messages_are_unambiguous() {
    let (mut random, mut left) = (Random::seeded(0x207), bodies());
    let mut others = processes::all();
    let (mut let_through, mut refused): (usize, BTreeMap<&'static str, usize>) =
        (0, BTreeMap::new());
    let (mut theirs_alone, mut ours_alone) = (Counts::new(), Counts::new());
    let mut disagreed: BTreeMap<&'static str, usize> = BTreeMap::new();
    while left > 0 {
        let batch: Vec<_> = (0..left.min(BATCH)).map(|_| mutations::body(&mut random)).collect();
        left -= batch.len();
        let mut readings: Vec<(&'static str, Vec<Option<Parsed>>)> = PARSERS
            .iter()
            .map(|(name, read)| (*name, batch.iter().map(|body| read(body)).collect()))
            .collect();
        for other in &mut others {
            readings.push((other.name, other.read(&batch)));
        }
        for (at, body) in batch.iter().enumerate() {
            let ours = ours(body);
            match &ours {
                Ok(_) => let_through += 1,
                Err(reason) => *refused.entry(*reason).or_default() += 1,
            }
            let found: Vec<&Parsed> =
                readings.iter().filter_map(|(_, read)| read[at].as_ref()).collect();
            if let Err(reason) = ours
                && found.windows(2).any(|pair| pair[0] != pair[1])
            {
                *disagreed.entry(reason).or_default() += 1;
            }
            for (name, read) in &readings {
                match (&ours, &read[at]) {
                    (Ok(ours), Some(theirs)) => {
                        assert_eq!(ours, theirs, "J207 {name}: {}", body.escape_ascii());
                    }
                    (Ok(_), None) => *ours_alone.entry(("let through", *name)).or_default() += 1,
                    (Err(reason), Some(_)) => {
                        *theirs_alone.entry((*reason, *name)).or_default() += 1
                    }
                    (Err(_), None) => {}
                }
            }
        }
    }
    let all = bodies();
    print_line(&format!(
        "J207: {all} bodies, {let_through} let through, 0 differences; refused: {refused:?}"
    ));
    print_line(&format!("refused here, read there: {}", table(&theirs_alone)));
    print_line(&format!("of these, others read differently from each other: {disagreed:?}"));
    print_line(&format!("read here, refused there: {}", table(&ours_alone)));
    // Each reason must occur, and both kinds often enough; otherwise nothing was compared.
    assert!((all / 5..all * 4 / 5).contains(&let_through), "{let_through} of {all}");
    for reason in [
        "filter.not_json",
        "filter.duplicate_member",
        "filter.case_variant",
        "filter.not_a_message",
    ] {
        assert!(refused.contains_key(reason), "{reason} in {refused:?}");
    }
    // RFC 8259 §6 does not limit numbers, but parsers that use doubles do, and some limit the depth
    // to less than 128.
    assert!(ours_alone.values().all(|count| count * 20 < let_through), "{ours_alone:?}");
}

fn ours(body: &[u8]) -> Result<Parsed, &'static str> {
    let message = readers::message(body).map_err(|reason| reason.code())?;
    let bytes = |text: Option<String>| text.map(String::into_bytes);
    let id = match message.id.as_deref() {
        None => Id::None,
        // The parser's own text, with all escapes left as they are: the meaning of the text is not
        // compared.
        Some(text) if text.starts_with('"') => Id::Text(unescaped(text)),
        Some(number) => Id::Number(number.to_owned()),
    };
    Ok(Parsed {
        method: bytes(message.method),
        name: bytes(message.name),
        uri: bytes(message.uri),
        id,
    })
}

fn unescaped(text: &str) -> Vec<u8> {
    use tower_token_broker::json::{Limits, Value};

    let value = Value::parse(text.as_bytes(), &Limits::default()).unwrap();
    value.as_str().unwrap().into_owned().into_bytes()
}

fn table(counts: &Counts) -> String {
    let mut rows: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for ((reason, name), count) in counts {
        rows.entry(*reason).or_default().push(format!("{name} {count}"));
    }
    rows.into_iter()
        .map(|(reason, counts)| format!("\n  {reason}: {}", counts.join(", ")))
        .collect()
}
