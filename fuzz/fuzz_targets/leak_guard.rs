//! Any secret and any response, in chunks of any size: the length stays, only `*` is new, and no
//! form of the secret is left.

#![no_main]

use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::OnceLock,
    task::{Context, Poll, Waker},
};

use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use bytes::Bytes;
use http_body::{Body, Frame};
use libfuzzer_sys::fuzz_target;
use tower_token_broker::{
    Secret,
    audit::{AuditLog, Terminal, Trail},
    readers,
};

fuzz_target!(|input: (u8, u8, &[u8])| {
    let (cut, length, rest) = (usize::from(input.0).max(1), usize::from(input.1), input.2);
    let Some((secret, text)) = rest.split_at_checked(length) else { return };
    // Another one cannot be sent: it is no header value, or loses its blanks on the wire.
    let is_value = secret.iter().all(|byte| matches!(byte, b'\t' | 0x20..=0x7e | 0x80..))
        && secret.trim_ascii() == secret;
    // A shorter one than eight bytes may be a part of a line break of events (`data:`).
    if secret.len() < 8 || secret.contains(&b'*') || !is_value {
        return;
    }
    let masked = masked(secret, text.chunks(cut));
    assert_eq!(masked.len(), text.len(), "the length changed");
    assert!(
        masked.iter().zip(text).all(|(now, was)| now == was || *now == b'*'),
        "a byte other than `*` is new"
    );
    for form in [secret.to_vec(), hex(secret), STANDARD_NO_PAD.encode(secret).into_bytes()] {
        assert!(!holds(&masked, &form), "{:?} is left", String::from_utf8_lossy(&form));
    }
    // A run whose escapes cost too much to resolve is masked as a whole, and that depends on where
    // it begins.
    if !text.iter().any(|byte| b"\\%&=".contains(byte)) {
        let again = self::masked(secret, [&*masked].into_iter());
        assert_eq!(again, masked, "a second pass masks more");
    }
});

fn holds(text: &[u8], form: &[u8]) -> bool {
    text.windows(form.len()).any(|part| part == form)
}

fn hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

fn masked<'a>(secret: &[u8], chunks: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    static LOG: OnceLock<(Trail, Terminal)> = OnceLock::new();
    let (trail, _) = LOG.get_or_init(|| Trail::for_test(&AuditLog::in_memory().0));
    let chunks = Chunks(chunks.map(Bytes::copy_from_slice).collect());
    let secret = Secret::new(secret.to_vec());
    let Some(mut body) = readers::guarded(chunks, &secret, trail.clone()) else {
        panic!("a secret that is not empty can be masked")
    };
    let mut passed = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while let Poll::Ready(Some(frame)) = Pin::new(&mut body).poll_frame(&mut context) {
        passed.extend(
            frame
                .ok()
                .and_then(|frame| frame.into_data().ok())
                .expect("the body has only data frames"),
        );
    }
    passed
}

struct Chunks(VecDeque<Bytes>);

impl Body for Chunks {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(self.0.pop_front().map(Frame::data).map(Ok))
    }
}
