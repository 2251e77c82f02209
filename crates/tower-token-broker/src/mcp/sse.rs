//! Event streams, split into events. An unchanged event keeps its bytes.
//!
//! Source: WHATWG HTML, "Server-sent events", "Parsing an event stream".

use std::{borrow::Cow, iter, mem};

use bytes::{Buf as _, Bytes, BytesMut};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Splits a stream into events as it arrives.
#[derive(Debug)]
pub(crate) struct Events {
    /// The last chunk, if no event is unfinished. Nothing is copied then.
    chunk: Bytes,
    /// Otherwise, the unfinished event and everything after it.
    buffer: BytesMut,
    /// No event ends before this position.
    looked_at: usize,
    limit: usize,
}

/// An event that exceeds the limit.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct EventTooLong;

impl Events {
    pub(crate) fn new(limit: usize) -> Self {
        Self { chunk: Bytes::new(), buffer: BytesMut::new(), looked_at: 0, limit }
    }

    pub(crate) fn push(&mut self, chunk: Bytes) {
        if self.buffer.is_empty() && self.chunk.is_empty() {
            self.chunk = chunk;
        } else {
            self.keep();
            self.buffer.extend_from_slice(&chunk);
        }
    }

    /// Moves the chunk into the buffer, to be read together with the next one.
    fn keep(&mut self) {
        self.buffer.extend_from_slice(&mem::take(&mut self.chunk));
    }

    fn split_to(&mut self, at: usize) -> Bytes {
        if self.buffer.is_empty() {
            self.chunk.split_to(at)
        } else {
            self.buffer.split_to(at).freeze()
        }
    }

    /// Returns the next complete event, with the blank line that ends it.
    pub(crate) fn next_event(&mut self) -> Result<Option<Bytes>, EventTooLong> {
        let text = if self.buffer.is_empty() { &*self.chunk } else { &*self.buffer };
        match event_end(text, self.looked_at) {
            // K228: this includes an event that is complete but too long.
            Some(end) if end > self.limit => Err(EventTooLong),
            Some(end) => {
                self.looked_at = 0;
                let mut event = self.split_to(end);
                // K230: clients strip one mark at the start of their stream. Which event is the
                // first depends on those that were left out.
                while event.starts_with(BYTE_ORDER_MARK) {
                    event.advance(BYTE_ORDER_MARK.len());
                }
                Ok(Some(event))
            }
            None if text.len() > self.limit => Err(EventTooLong),
            None => {
                // Continue after the last content: trailing line ends are read again with those
                // that follow.
                self.looked_at =
                    text.iter().rposition(|byte| !is_line_end(*byte)).map_or(0, |at| at + 1);
                self.keep();
                Ok(None)
            }
        }
    }
}

const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\n' | b'\r')
}

/// Returns the position after the first blank line at or after `from`. `from` must be the start of
/// the event or the end of a line's content.
fn event_end(text: &[u8], from: usize) -> Option<usize> {
    let mut line_start = from == 0;
    let mut at = from;
    while let Some(byte) = text.get(at) {
        match byte {
            b'\r' | b'\n' => {
                let next = if *byte == b'\r' && text.get(at + 1) == Some(&b'\n') {
                    at + 2
                } else {
                    at + 1
                };
                if line_start {
                    return Some(next);
                }
                line_start = true;
                at = next;
            }
            _ => {
                line_start = false;
                at += memchr::memchr2(b'\r', b'\n', text.get(at..)?).unwrap_or(text.len() - at);
            }
        }
    }
    None
}

/// Returns the data of an event: its `data` lines, joined. Returns `None` if it has none.
pub(crate) fn data(event: &[u8]) -> Option<Cow<'_, [u8]>> {
    let mut values = lines(event).filter_map(data_line);
    let mut data = Cow::Borrowed(values.next()?);
    for value in values {
        let joined = data.to_mut();
        joined.push(b'\n');
        joined.extend_from_slice(value);
    }
    Some(data)
}

/// Returns the event with other data, on one line. Line breaks in JSON have no meaning.
pub(crate) fn with_data(event: &[u8], mut data: Vec<u8>) -> Bytes {
    let mut changed = BytesMut::with_capacity(data.len() + 64);
    for line in lines(event) {
        // K230: without the empty lines before it, such a line would be the first one, and would be
        // data.
        if data_line(line).is_none() && !line.starts_with(BYTE_ORDER_MARK) {
            changed.extend_from_slice(line);
            changed.extend_from_slice(b"\n");
        }
    }
    changed.extend_from_slice(b"data: ");
    if memchr::memchr2(b'\r', b'\n', &data).is_some() {
        data.iter_mut().filter(|byte| is_line_end(**byte)).for_each(|byte| *byte = b' ');
    }
    changed.extend_from_slice(&data);
    changed.extend_from_slice(b"\n\n");
    changed.freeze()
}

fn lines(event: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = event;
    // The empty piece between CR and LF is not a line.
    iter::from_fn(move || {
        let begins = rest.iter().position(|byte| !is_line_end(*byte))?;
        rest = rest.get(begins..)?;
        let ends = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
        let (line, behind) = rest.split_at_checked(ends)?;
        rest = behind;
        Some(line)
    })
}

fn data_line(line: &[u8]) -> Option<&[u8]> {
    let rest = line.strip_prefix(b"data")?;
    match rest {
        [] => Some(rest),
        [b':', b' ', value @ ..] | [b':', value @ ..] => Some(value),
        _ => None,
    }
}

/// Tracks whether a stream is between two events.
#[derive(Debug)]
pub(crate) struct EventBorder {
    line_is_empty: bool,
    after_cr: bool,
    inside_event: bool,
}

impl EventBorder {
    pub(crate) const fn new() -> Self {
        Self { line_is_empty: true, after_cr: false, inside_event: false }
    }

    /// Reads bytes. Returns how many of them belong to complete events, if an event ended here.
    pub(crate) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let (mut whole, mut at) = (None, 0);
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let content = memchr::memchr2(b'\r', b'\n', rest).unwrap_or(rest.len());
            if content > 0 {
                (self.line_is_empty, self.inside_event, self.after_cr) = (false, true, false);
                at += content;
                continue;
            }
            let is_cr = rest.first() == Some(&b'\r');
            // CR LF is one line end. The LF after a blank line's CR belongs to the event that it
            // ended.
            let is_second_half = std::mem::replace(&mut self.after_cr, is_cr) && !is_cr;
            if !is_second_half {
                self.inside_event = !self.line_is_empty;
                self.line_is_empty = true;
            }
            at += 1;
            if !self.inside_event {
                whole = Some(at);
            }
        }
        whole
    }

    /// Whether an event is unfinished.
    pub(crate) const fn is_inside_event(&self) -> bool {
        self.inside_event
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(text: &[u8], cuts: &[usize]) -> Vec<Bytes> {
        let mut events = Events::new(1 << 20);
        let (mut found, mut rest, mut cuts) = (Vec::new(), text, cuts.iter().copied());
        while !rest.is_empty() {
            let (chunk, later) =
                rest.split_at(cuts.next().unwrap_or(rest.len()).clamp(1, rest.len()));
            rest = later;
            events.push(Bytes::copy_from_slice(chunk));
            while let Some(event) = events.next_event().unwrap() {
                found.push(event);
            }
        }
        found
    }

    #[test]
    fn events_end_at_blank_lines_of_every_kind() {
        let text = b"data: a\n\ndata: b\r\n\r\ndata: c\r\r: comment\n\n\
            id: 1\ndata: d\ndata: e\n\nunfinished";
        let found = all(text, &[]);
        let data: Vec<_> = found
            .iter()
            .map(|event| data(event).map(|data| String::from_utf8(data.into_owned()).unwrap()))
            .collect();
        let expected = [Some("a"), Some("b"), Some("c"), None, Some("d\ne")];
        assert_eq!(data, expected.map(|text| text.map(str::to_owned)));
        assert_eq!(found.concat(), text[..text.len() - b"unfinished".len()]);
    }

    /// A client strips a mark only at the start of its stream, and its stream may start later than
    /// ours.
    #[test]
    fn k230_a_byte_order_mark_hides_no_data() {
        let mark = "\u{feff}";
        for (text, cuts) in [
            (format!("{mark}{mark}data: a\n\n"), &[][..]),
            (format!("{mark}{mark}data: a\n\n"), &[1, 1, 1, 1, 1]),
            (format!("id: 1\n\n{mark}data: a\n\n"), &[]),
            (format!("\n{mark}data: a\n\n"), &[1, 2, 1]),
        ] {
            let found = all(text.as_bytes(), cuts);
            assert_eq!(
                found.iter().find_map(|event| data(event)).as_deref(),
                Some(&b"a"[..]),
                "{text:?}"
            );
            assert!(found.iter().all(|event| !event.starts_with(mark.as_bytes())), "{text:?}");
        }
        let event = format!("\n{mark}data: a\ndata: b\nid: 1\n\n");
        assert_eq!(with_data(event.as_bytes(), b"c".to_vec()), "id: 1\ndata: c\n\n");
    }

    #[test]
    fn replacing_data_keeps_the_other_lines() {
        assert_eq!(
            with_data(b"id: 7\r\ndata: a\r\ndata: b\r\n\r\n", b"{\n}".to_vec()),
            "id: 7\ndata: { }\n\n"
        );
    }

    #[test]
    fn an_event_has_a_maximum_length() {
        let mut events = Events::new(10);
        events.push(Bytes::from_static(b"data: 12\n\ndata: 123\n\n"));
        assert_eq!(events.next_event(), Ok(Some(Bytes::from_static(b"data: 12\n\n"))));
        assert_eq!(events.next_event(), Err(EventTooLong), "by its last byte");
        let mut unfinished = Events::new(10);
        unfinished.push(Bytes::from_static(b"data: 12345"));
        assert_eq!(unfinished.next_event(), Err(EventTooLong));
    }

    #[test]
    fn borders_are_found_for_all_line_endings() {
        for (stream, whole) in [
            ("data: a\n\ndata: b", Some(9)),
            ("data: a\r\n\r\ndata: b", Some(11)),
            ("data: a\r\rdata: b", Some(9)),
            ("data: a\n\r\ndata: b", Some(10)),
            ("data: a\r\n\ndata: b", Some(10)),
            ("data: a\r\ndata: b\r\n", None),
            ("data: a\n", None),
            ("", None),
            (":\n\n", Some(3)),
            ("id: 1\ndata: a\n\n", Some(15)),
            ("a\n\nb\n\nc", Some(6)),
        ] {
            assert_eq!(EventBorder::new().read(stream.as_bytes()), whole, "{stream:?}");
            // The same, byte by byte.
            let mut border = EventBorder::new();
            let mut last = None;
            for (position, byte) in stream.bytes().enumerate() {
                if border.read(&[byte]).is_some() {
                    last = Some(position + 1);
                }
            }
            assert_eq!(last, whole, "{stream:?} byte by byte");
        }
    }

    proptest! {
        #[test]
        fn chunking_makes_no_difference(
            text in "(data: [a-z]{0,3}|:|id: 1|\r\n|\n|\r|\n\n){0,24}",
            cuts in prop::collection::vec(1..7_usize, 0..40),
        ) {
            // A split between CR and LF may add an empty event, which has no data.
            let data_of = |cuts: &[usize]| -> Vec<_> {
                let events = all(text.as_bytes(), cuts);
                events.iter().filter_map(|event| data(event).map(Cow::into_owned)).collect()
            };
            prop_assert_eq!(data_of(&cuts), data_of(&[]));
        }
    }
}
