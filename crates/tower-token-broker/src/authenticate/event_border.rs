//! Finds where events end in an event stream (WHATWG HTML, "Server-sent events", 9.2.5: an event ends with a blank line).

/// Reads bytes as they come, and knows whether it stands between two events.
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

    /// Reads on; gives how many of these bytes belong to events that are whole by now, if any event ended here.
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
            // CR LF is one line end; the LF of a blank line's belongs to the event that it ended.
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

    /// Whether an event has begun and not ended.
    pub(crate) const fn is_inside_event(&self) -> bool {
        self.inside_event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_ends_with_a_blank_line_however_lines_end() {
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
}
