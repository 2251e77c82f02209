//! gRPC frames, and the messages of MCP in them.

use bytes::Bytes;

use crate::{
    grpc::{
        frame::{self, Messages},
        framed_mcp, gzip, typed_mcp,
    },
    json::Limits,
    refusal::Reason,
};

/// The frames of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frames {
    /// The messages of the complete frames.
    pub messages: Vec<Bytes>,
    /// The reason why no further frame is read.
    pub refused: Option<Reason>,
    /// Whether bytes are left: an incomplete frame, or a refused one.
    pub incomplete: bool,
}

/// Reads the frames of a stream that arrives in these chunks, with messages of at most `limit`
/// bytes.
pub fn frames<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limit: usize) -> Frames {
    let (mut reader, mut frames) = (Messages::new(limit), Frames::default());
    for chunk in chunks {
        reader.push(chunk);
        while frames.refused.is_none() {
            match reader.next_message() {
                Ok(Some(message)) => frames.messages.push(message.bytes),
                Ok(None) => break,
                Err(error) => frames.refused = Some(error.into()),
            }
        }
    }
    frames.incomplete = reader.is_inside();
    frames
}

/// Returns a message in a frame, not compressed.
pub fn framed(message: &[u8]) -> Bytes {
    frame::framed(message)
}

/// Decompresses a message of at most `limit` bytes; `None` if it is not gzip, or longer.
pub fn gunzipped(message: &[u8], limit: usize) -> Option<Bytes> {
    gzip::decode(message, limit).ok()
}

/// Returns the JSON of a `token_broker.mcp.v1.Frame`; `None` if the message is not one.
pub fn json(message: &[u8]) -> Option<&[u8]> {
    framed_mcp::decode(message).ok()
}

/// Returns a `token_broker.mcp.v1.Frame` with this JSON.
pub fn message(json: &[u8]) -> Vec<u8> {
    framed_mcp::encode(json)
}

/// Returns the methods of `model_context_protocol.Mcp`.
pub fn methods() -> impl Iterator<Item = &'static str> {
    typed_mcp::METHODS.into_iter().map(|method| method.name())
}

/// Reads a message as the request of a method of `model_context_protocol.Mcp`.
///
/// # Errors
/// The reason why it is refused.
pub fn request(method: &str, message: &[u8]) -> Result<(), Reason> {
    let method = typed_mcp::Method::of(method).ok_or(Reason::RpcDenied)?;
    typed_mcp::read(method, message, &Limits::default()).map(drop)
}

/// Returns a response of a method of `model_context_protocol.Mcp` without the entries of its list
/// that are not visible; `None` if the method lists nothing, or the message is not its response.
pub fn filtered(
    method: &str,
    message: &[u8],
    mut is_visible: impl FnMut(&str) -> bool,
) -> Option<Vec<u8>> {
    let listed = typed_mcp::Method::of(method)?.mcp().lists()?;
    let filtered = typed_mcp::filter(listed, message, |entry| is_visible(entry.name));
    Some(filtered.ok()?.into_owned())
}
