//! The law of gRPC frames and of the MCP messages in them.

use std::hint::black_box;

use bytes::Bytes;
use tower_token_broker::readers::grpc;

/// The largest message, in bytes.
const LIMIT: usize = 1 << 16;

/// Checks the law for these bytes, in chunks of `chunk` bytes.
///
/// The reading does not depend on the chunks, a message that was read is written as it was, and a
/// list that was filtered is not changed by the same filter.
///
/// # Panics
/// If the law does not hold.
pub fn check(bytes: &[u8], chunk: usize) {
    let chunk = chunk.max(1);
    let whole = grpc::frames([bytes], LIMIT);
    assert_eq!(grpc::frames(bytes.chunks(chunk), LIMIT), whole, "the chunks change the reading");
    let written: Vec<Bytes> = whole.messages.iter().map(|message| grpc::framed(message)).collect();
    let again = grpc::frames(written.concat().chunks(chunk), LIMIT);
    assert_eq!(again.messages, whole.messages, "a written message is read differently");
    assert_eq!((again.refused, again.incomplete), (None, false));
    for message in &whole.messages {
        if let Some(json) = grpc::json(message) {
            assert_eq!(grpc::message(json), *message, "there is a second way to write it");
        }
        for method in grpc::methods() {
            black_box(&grpc::request(method, message));
            if let Some(filtered) = grpc::filtered(method, message, is_visible) {
                let twice = grpc::filtered(method, &filtered, is_visible);
                assert_eq!(twice, Some(filtered), "the filter changes what it filtered");
            }
        }
        black_box(&grpc::gunzipped(message, LIMIT));
    }
}

fn is_visible(name: &str) -> bool {
    name.len().is_multiple_of(2)
}
