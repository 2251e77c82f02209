//! Any bytes as an event stream, in chunks of any size: the events are the stream, their data is as
//! in the standard, and replaced data stays data.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tower_token_broker::readers;

const MARK: &[u8] = b"\xef\xbb\xbf";

fuzz_target!(|input: (u8, &[u8])| {
    let (cut, text) = (usize::from(input.0).max(1), input.1);
    let whole = readers::events([text], usize::MAX).expect("there is no limit");
    let pieces = readers::events(text.chunks(cut), usize::MAX).expect("there is no limit");
    assert_eq!(data(&pieces), data(&whole), "the chunks change the events");
    if !holds_mark(text.strip_prefix(MARK).unwrap_or(text)) {
        assert_eq!(data(&whole), reference(text));
    }
    // A client that receives the events from any one on reads the same data.
    for first in 0..whole.len().min(20) {
        assert_eq!(reference(&whole[first..].concat()), data(&whole[first..]), "from {first} on");
    }
    for events in [&whole, &pieces] {
        assert!(
            without_marks(text).starts_with(&without_marks(&events.concat())),
            "bytes of an event were changed"
        );
    }
    if !holds_mark(text) {
        let ends = whole.concat().len();
        assert_eq!(readers::event_border([text]), ends);
        assert_eq!(readers::event_border(text.chunks(cut)), ends, "the chunks change the events");
    }
    for event in &whole {
        let other = b"{\r\n\"a\":\n1}\r";
        let changed = readers::event_with_data(event, other);
        assert_eq!(
            readers::events([&*changed], usize::MAX),
            Some(vec![changed.clone()]),
            "it is one event"
        );
        assert_eq!(reference(&changed), [b"{  \"a\": 1} "], "with this data");
        assert_eq!(fields(&changed), fields(event), "another line was changed");
    }
});

fn holds_mark(text: &[u8]) -> bool {
    text.windows(MARK.len()).any(|part| part == MARK)
}

fn without_marks(text: &[u8]) -> Vec<u8> {
    let (mut rest, mut left) = (text, Vec::new());
    while let Some((first, after)) = rest.split_first() {
        match rest.strip_prefix(MARK) {
            Some(after) => rest = after,
            None => {
                left.push(*first);
                rest = after;
            }
        }
    }
    left
}

fn data(events: &[Bytes]) -> Vec<Vec<u8>> {
    events.iter().filter_map(|event| readers::event_data(event)).collect()
}

/// Parses a stream as in WHATWG HTML §9.2.6, line by line.
fn reference(stream: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut buffer): (_, Option<Vec<u8>>) = (Vec::new(), None);
    let lines = lines(stream.strip_prefix(MARK).unwrap_or(stream));
    for line in lines {
        if line.is_empty() {
            // Empty data is an event here. The callers distinguish it from no data.
            found.extend(buffer.take());
            continue;
        }
        let (name, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &b""[..]),
        };
        if name == b"data" {
            let value = value.strip_prefix(b" ").unwrap_or(value);
            match &mut buffer {
                Some(data) => data.extend([b"\n", value].concat()),
                None => buffer = Some(value.to_vec()),
            }
        }
    }
    found
}

/// Returns the complete lines.
fn lines(stream: &[u8]) -> Vec<&[u8]> {
    let (mut lines, mut rest) = (Vec::new(), stream);
    while let Some(ends) = rest.iter().position(|byte| matches!(byte, b'\r' | b'\n')) {
        lines.push(&rest[..ends]);
        let length = if rest[ends..].starts_with(b"\r\n") { 2 } else { 1 };
        rest = &rest[ends + length..];
    }
    lines
}

/// Returns the lines that are not data, and that no parser may take for data.
fn fields(event: &[u8]) -> Vec<&[u8]> {
    let is_field = |line: &&[u8]| {
        !line.is_empty()
            && !line.starts_with(b"data:")
            && *line != b"data"
            && !line.starts_with(MARK)
    };
    lines(event).into_iter().filter(is_field).collect()
}
