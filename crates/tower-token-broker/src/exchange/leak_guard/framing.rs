//! The borders in a response at which nothing is held back.

use http::{HeaderMap, HeaderValue, header};

/// The framing of a response: at the end of an event or message, all of it is passed on, so that a
/// stream is not delayed.
#[derive(Debug, Default)]
pub(crate) enum Framing {
    /// None: bytes, such as a JSON document.
    #[default]
    None,
    /// An event stream: an event ends with an empty line.
    Events,
    /// gRPC: each message has its length before it.
    Grpc(Messages),
}

impl Framing {
    /// Returns the framing that the headers of a response declare.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let declared = headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is = |name: &[u8]| {
            declared
                .and_then(|declared| declared.split_at_checked(name.len()))
                .is_some_and(|(begin, _)| begin.eq_ignore_ascii_case(name))
        };
        if is(b"text/event-stream") {
            Self::Events
        } else if is(b"application/grpc") {
            Self::Grpc(Messages::default())
        } else {
            Self::None
        }
    }

    /// Reads the next bytes; returns how many of them follow the last border, if there is one.
    pub(super) fn after_border(&mut self, data: &[u8]) -> Option<usize> {
        match self {
            Self::None => None,
            // A border may consist of the last byte of a chunk and the first of the next.
            Self::Events => memchr::memchr2(b'\n', b'\r', data).map(|_| data.len()),
            Self::Grpc(messages) => messages.after_border(data),
        }
    }

    /// Returns how many of the last `held` bytes of `text` follow the last event.
    pub(super) fn after_event(&self, text: &[u8], held: usize) -> usize {
        if !matches!(self, Self::Events) {
            return held;
        }
        // The line end before the first byte that is held may be a part of the border.
        let first = text.len().saturating_sub(held + 3);
        let rest = text.get(first..).unwrap_or_default();
        let borders: [&[u8]; 3] = [b"\n\n", b"\r\r", b"\r\n\r\n"];
        let ends = borders.iter().filter_map(|border| {
            memchr::memmem::rfind(rest, border).map(|at| rest.len() - at - border.len())
        });
        ends.min().map_or(held, |after| after.min(held))
    }
}

/// The position in a stream of gRPC messages.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    prefix: [u8; 5],
    /// Number of bytes of the prefix that were read.
    read: usize,
    /// Number of bytes of the message that are missing.
    missing: usize,
}

impl Messages {
    fn after_border(&mut self, data: &[u8]) -> Option<usize> {
        let (mut rest, mut border) = (data, None);
        while !rest.is_empty() {
            if self.missing > 0 {
                let skipped = self.missing.min(rest.len());
                self.missing -= skipped;
                rest = rest.get(skipped..).unwrap_or_default();
            } else if let [byte, after @ ..] = rest {
                if let Some(place) = self.prefix.get_mut(self.read) {
                    *place = *byte;
                }
                self.read += 1;
                rest = after;
                if self.read < self.prefix.len() {
                    continue;
                }
                self.read = 0;
                let [_, length @ ..] = self.prefix;
                self.missing = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
            }
            if self.missing == 0 && self.read == 0 {
                border = Some(rest.len());
            }
        }
        border
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(content_type: &'static str) -> Framing {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
        Framing::of(&headers)
    }

    #[test]
    fn an_event_ends_with_an_empty_line() {
        let events = framing("Text/Event-Stream; charset=utf-8");
        for (text, held, after) in [
            ("data: ab\n\n", 3, 0),
            ("data: ab\r\n\r\n", 4, 0),
            ("data: ab\n\ndata: cd", 15, 8),
            ("data: ab\n", 3, 3),
            ("\n\nab", 2, 2),
        ] {
            assert_eq!(events.after_event(text.as_bytes(), held), after, "{text:?}");
        }
        assert_eq!(framing("application/json").after_event(b"ab\n\n", 4), 4);
    }

    #[test]
    fn a_message_ends_after_its_length() {
        let all = [&[0, 0, 0, 0, 2][..], b"ab", &[0, 0, 0, 0, 0], &[0, 0, 0, 0, 1], b"c"].concat();
        for cut in 0..=all.len() {
            let mut framing = framing("application/grpc+proto");
            let (first, second) = all.split_at(cut);
            let expected = match cut {
                ..7 => None,
                7..12 => Some(cut - 7),
                12..18 => Some(cut - 12),
                _ => Some(0),
            };
            assert_eq!(framing.after_border(first), expected, "{cut}");
            if !second.is_empty() {
                assert_eq!(framing.after_border(second), Some(0), "{cut}");
            }
        }
    }
}
