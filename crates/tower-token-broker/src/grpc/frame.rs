//! gRPC frames: a flag, a length of four bytes, and a message.
//!
//! Source: gRPC over HTTP/2, "Length-Prefixed-Message".

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};

use crate::refusal::Reason;

/// The length of flag and length.
const HEAD: usize = 5;

/// The header of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Head {
    compressed: bool,
    length: usize,
}

/// The reason why a frame is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FrameError {
    /// A flag other than 0 or 1, or a length that does not fit in memory.
    Unreadable,
    /// A message whose length exceeds the limit.
    TooLong,
    /// More messages than the limit.
    TooMany,
    /// A compressed message where compression is not allowed.
    Compressed,
}

impl From<FrameError> for Reason {
    fn from(error: FrameError) -> Self {
        match error {
            FrameError::Unreadable => Self::NotAFrame,
            FrameError::TooLong => Self::BodyTooLarge,
            FrameError::TooMany => Self::TooManyMessages,
            FrameError::Compressed => Self::ContentEncoding,
        }
    }
}

impl Head {
    fn read(bytes: &[u8]) -> Option<Result<Self, FrameError>> {
        let [flag, length @ ..] = bytes.first_chunk::<HEAD>()?;
        let compressed = match flag {
            0 => false,
            1 => true,
            _ => return Some(Err(FrameError::Unreadable)),
        };
        let length =
            usize::try_from(u32::from_be_bytes(*length)).map_err(|_| FrameError::Unreadable);
        Some(length.map(|length| Self { compressed, length }))
    }
}

/// Puts an uncompressed message into a frame.
pub(crate) fn framed(message: &[u8]) -> Bytes {
    let mut frame = BytesMut::with_capacity(HEAD.saturating_add(message.len()));
    frame.put_u8(0);
    // Every message has a limit far below 4 GiB.
    frame.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
    frame.extend_from_slice(message);
    frame.freeze()
}

/// A message as it was in its frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) compressed: bool,
    pub(crate) bytes: Bytes,
}

/// Assembles messages from bytes that arrive in any pieces.
#[derive(Debug)]
pub(crate) struct Messages {
    limit: usize,
    buffer: BytesMut,
}

impl Messages {
    /// Creates an assembler for messages of at most `limit` bytes.
    pub(crate) fn new(limit: usize) -> Self {
        Self { limit, buffer: BytesMut::new() }
    }

    pub(crate) fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next complete message. Its length is checked as soon as the frame header is
    /// complete.
    pub(crate) fn next_message(&mut self) -> Result<Option<Message>, FrameError> {
        let Some(head) = Head::read(&self.buffer) else { return Ok(None) };
        let Head { compressed, length } = head?;
        if length > self.limit {
            return Err(FrameError::TooLong);
        }
        if self.buffer.len().saturating_sub(HEAD) < length {
            return Ok(None);
        }
        self.buffer.advance(HEAD);
        Ok(Some(Message { compressed, bytes: self.buffer.split_to(length).freeze() }))
    }

    /// Whether a message is unfinished.
    pub(crate) fn is_inside(&self) -> bool {
        !self.buffer.is_empty()
    }
}

/// Passes messages on as they arrive, but checks each frame header first. It ends a stream only
/// between two messages.
#[derive(Debug)]
pub(crate) struct Scanner {
    limits: Limits,
    count: u64,
    left: usize,
    held: BytesMut,
}

/// The limits of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) message: usize,
    pub(crate) count: u64,
    pub(crate) may_be_compressed: bool,
}

impl Scanner {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, count: 0, left: 0, held: BytesMut::new() }
    }

    /// Returns the bytes that may pass now, including any that were held back, and the error that
    /// ends the stream.
    pub(crate) fn pass(&mut self, mut data: Bytes) -> (Bytes, Option<FrameError>) {
        if !self.held.is_empty() {
            self.held.extend_from_slice(&data);
            data = std::mem::take(&mut self.held).freeze();
        }
        let mut at: usize = 0;
        let ended = loop {
            let rest = data.get(at..).unwrap_or_default();
            let inside = self.left.min(rest.len());
            self.left = self.left.saturating_sub(inside);
            at = at.saturating_add(inside);
            let rest = rest.get(inside..).unwrap_or_default();
            match Head::read(rest).map(|head| head.and_then(|head| self.judge(head))) {
                Some(Ok(length)) => {
                    self.left = length;
                    at = at.saturating_add(HEAD);
                }
                Some(Err(error)) => break Some(error),
                None => {
                    self.held.extend_from_slice(rest);
                    break None;
                }
            }
        };
        data.truncate(at);
        (data, ended)
    }

    /// Returns the number of messages that have begun.
    pub(crate) const fn count(&self) -> u64 {
        self.count
    }

    /// Whether a message or a frame header is unfinished.
    pub(crate) fn is_inside(&self) -> bool {
        self.left > 0 || !self.held.is_empty()
    }

    fn judge(&mut self, head: Head) -> Result<usize, FrameError> {
        if head.compressed && !self.limits.may_be_compressed {
            return Err(FrameError::Compressed);
        }
        if head.length > self.limits.message {
            return Err(FrameError::TooLong);
        }
        if self.count >= self.limits.count {
            return Err(FrameError::TooMany);
        }
        self.count = self.count.saturating_add(1);
        Ok(head.length)
    }
}

/// Tracks whether the bytes that passed ended between two messages.
#[derive(Debug, Default)]
pub(crate) struct Border {
    head: [u8; HEAD],
    have: usize,
    left: usize,
    /// Set after an unreadable frame header, which makes borders unknown.
    lost: bool,
}

impl Border {
    pub(crate) fn read(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.lost {
            let inside = self.left.min(bytes.len());
            self.left = self.left.saturating_sub(inside);
            bytes = bytes.get(inside..).unwrap_or_default();
            let wanted = HEAD.saturating_sub(self.have).min(bytes.len());
            let (of_head, rest) = bytes.split_at_checked(wanted).unwrap_or_default();
            if let Some(free) = self.head.get_mut(self.have..self.have.saturating_add(wanted)) {
                free.copy_from_slice(of_head);
            }
            self.have = self.have.saturating_add(wanted);
            bytes = rest;
            if self.have == HEAD {
                self.have = 0;
                match Head::read(&self.head) {
                    Some(Ok(head)) => self.left = head.length,
                    Some(Err(_)) | None => self.lost = true,
                }
            }
        }
    }

    /// Whether a message is unfinished.
    pub(crate) const fn is_inside(&self) -> bool {
        self.have > 0 || self.left > 0 || self.lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All that one reading makes of the bytes, in pieces of `cut`: the messages, the error,
    /// whether something began.
    fn all(bytes: &[u8], cut: usize) -> (Vec<Bytes>, Option<FrameError>, bool) {
        let mut messages = Messages::new(1 << 16);
        let mut found = Vec::new();
        for piece in bytes.chunks(cut) {
            messages.push(piece);
            loop {
                match messages.next_message() {
                    Ok(Some(message)) => found.push(message.bytes),
                    Ok(None) => break,
                    // Bytes after a refused frame header are not read.
                    Err(error) => return (found, Some(error), true),
                }
            }
        }
        let inside = messages.is_inside();
        (found, None, inside)
    }

    mod properties {
        use proptest::prelude::*;

        use super::*;

        fn limits() -> Limits {
            Limits { message: 64, count: 3, may_be_compressed: false }
        }

        fn passed(bytes: &[u8], cuts: &[usize]) -> (Vec<u8>, Option<FrameError>, u64) {
            let mut scanner = Scanner::new(limits());
            let (mut passed, mut rest, mut cuts) = (Vec::new(), bytes, cuts.iter().copied());
            while !rest.is_empty() {
                let (piece, later) =
                    rest.split_at(cuts.next().unwrap_or(rest.len()).clamp(1, rest.len()));
                rest = later;
                let (through, ended) = scanner.pass(Bytes::copy_from_slice(piece));
                passed.extend_from_slice(&through);
                if ended.is_some() {
                    return (passed, ended, scanner.count());
                }
            }
            (passed, None, scanner.count())
        }

        #[test]
        fn a_message_is_refused_by_its_frame_header() {
            for (what, bytes, error) in [
                ("too long", &[0, 0, 0, 0, 65][..], FrameError::TooLong),
                ("4 GiB", &[0, 255, 255, 255, 255], FrameError::TooLong),
                ("a flag of 2", &[2, 0, 0, 0, 1], FrameError::Unreadable),
                ("compressed", &[1, 0, 0, 0, 1], FrameError::Compressed),
            ] {
                assert_eq!(passed(bytes, &[]), (Vec::new(), Some(error), 0), "{what}");
            }
            let empty = [0_u8; 5];
            assert_eq!(
                passed(&empty.repeat(4), &[]),
                (empty.repeat(3), Some(FrameError::TooMany), 3)
            );
            let mut messages = Messages::new(64);
            messages.push(&[0, 0, 0, 0, 65]);
            assert_eq!(messages.next_message(), Err(FrameError::TooLong));
        }

        #[test]
        fn a_border_follows_each_complete_message() {
            let bytes = [framed(b"abc"), framed(b""), framed(b"d")].concat();
            let mut border = Border::default();
            let borders: Vec<usize> = (0..bytes.len())
                .filter(|at| {
                    border.read(&bytes[*at..=*at]);
                    !border.is_inside()
                })
                .map(|at| at + 1)
                .collect();
            assert_eq!(borders, [8, 13, 19]);
            let mut at_once = Border::default();
            at_once.read(&bytes);
            assert!(!at_once.is_inside());
            at_once.read(&[7, 0, 0, 0, 0]);
            assert!(at_once.is_inside());
        }

        fn frames() -> impl Strategy<Value = Vec<u8>> {
            let frame =
                (0..3_u8, prop::collection::vec(any::<u8>(), 0..70)).prop_map(|(flag, message)| {
                    let mut frame = framed(&message).to_vec();
                    frame[0] = flag / 2 * 2 + flag % 2;
                    frame
                });
            (prop::collection::vec(frame, 0..6), prop::collection::vec(any::<u8>(), 0..8))
                .prop_map(|(frames, rest)| [frames.concat(), rest].concat())
        }

        proptest! {
            #[test]
            fn splitting_makes_no_difference(
                bytes in frames(),
                cuts in prop::collection::vec(1..9_usize, 0..60),
            ) {
                prop_assert_eq!(passed(&bytes, &cuts), passed(&bytes, &[]));
                let cut = cuts.first().copied().unwrap_or(1);
                prop_assert_eq!(all(&bytes, cut), all(&bytes, usize::MAX));
            }

            #[test]
            fn bytes_before_a_refusal_end_at_a_border(
                bytes in frames(),
                cuts in prop::collection::vec(1..9_usize, 0..60),
            ) {
                let (through, ended, _) = passed(&bytes, &cuts);
                let mut border = Border::default();
                border.read(&through);
                prop_assert!(ended.is_none() || !border.is_inside());
                prop_assert!(bytes.starts_with(&through));
            }
        }
    }
}
