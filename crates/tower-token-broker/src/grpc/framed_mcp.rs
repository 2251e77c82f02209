//! `token_broker.mcp.v1.Frame`: one unchanged JSON-RPC message in a single field.

use super::protobuf::{Reader, WireError, Writer, once};

/// The service that carries MCP unchanged, in frames.
pub const FRAMED_MCP: &str = "token_broker.mcp.v1.Mcp";

/// `bytes json = 1`
const JSON: u32 = 1;

/// A method of the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Call,
    Stream,
    Notify,
}

impl Method {
    pub(crate) fn of(name: &str) -> Option<Self> {
        match name {
            "Call" => Some(Self::Call),
            "Stream" => Some(Self::Stream),
            "Notify" => Some(Self::Notify),
            _ => None,
        }
    }
}

/// Returns the message in a frame, which has exactly this one field.
pub(crate) fn decode(frame: &[u8]) -> Result<&[u8], WireError> {
    let (mut reader, mut json) = (Reader::new(frame), None);
    while let Some(field) = reader.next_field()? {
        match field.number {
            JSON => once(&mut json, field.value.bytes()?)?,
            _ => return Err(WireError::UnknownField),
        }
    }
    json.ok_or(WireError::NoValue)
}

pub(crate) fn encode(json: &[u8]) -> Vec<u8> {
    Writer::default().bytes(JSON, json).finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_has_exactly_one_field() {
        assert_eq!(decode(&encode(b"{}")), Ok(&b"{}"[..]));
        for (what, frame, error) in [
            ("nothing", vec![], WireError::NoValue),
            ("twice", [encode(b"{}"), encode(b"{}")].concat(), WireError::Doubled),
            ("another field", [encode(b"{}"), vec![0x10, 1]].concat(), WireError::UnknownField),
            ("a number", vec![0x08, 1], WireError::UnknownField),
            ("half", vec![0x0a, 2, b'{'], WireError::Truncated),
        ] {
            assert_eq!(decode(&frame), Err(error), "{what}");
        }
    }
}
