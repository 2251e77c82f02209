//! Finds where events end in an event stream (WHATWG HTML, "Server-sent events", 9.2.5: an event ends with a blank line).

/// Reads bytes as they come, and knows whether it stands between two events.
#[derive(Debug)]
pub(super) struct EventBorder {
    line_is_empty: bool,
    after_cr: bool,
    inside_event: bool,
}

impl EventBorder {
    pub(super) const fn new() -> Self {
        Self { line_is_empty: true, after_cr: false, inside_event: false }
    }

    /// Reads on; gives how many of these bytes belong to events that are whole by now, if any event ended here.
    pub(super) fn read(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut whole = None;
        for (position, byte) in bytes.iter().enumerate() {
            let is_second_half = std::mem::replace(&mut self.after_cr, *byte == b'\r') && *byte == b'\n';
            let ends_line = matches!(byte, b'\r' | b'\n');
            if is_second_half {
                // CR LF is one line end; the LF of a blank line's belongs to the event that it ended.
            } else if ends_line {
                self.inside_event = !self.line_is_empty;
                self.line_is_empty = true;
            } else {
                self.line_is_empty = false;
                self.inside_event = true;
            }
            if !self.inside_event {
                whole = Some(position.saturating_add(1));
            }
        }
        whole
    }

    /// Whether an event has begun and not ended.
    pub(super) const fn is_inside_event(&self) -> bool {
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
