//! Other JSON parsers: the parts of a message that each of them finds.

use jiter::JsonValue;
use simd_json::prelude::{ValueAsObject as _, ValueAsScalar as _, ValueObjectAccess as _};
use tinyjson::JsonValue as Tiny;

/// The parts of a message that policy decisions depend on, as one parser reads them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Parsed {
    pub(crate) method: Option<Vec<u8>>,
    pub(crate) name: Option<Vec<u8>>,
    pub(crate) uri: Option<Vec<u8>>,
    pub(crate) id: Id,
}

/// An id, as precisely as the parser distinguishes ids.
#[derive(Clone, Debug, Default)]
pub(crate) enum Id {
    #[default]
    None,
    Text(Vec<u8>),
    /// As in the source, or as the parser writes it.
    Number(String),
    Other,
}

/// Numbers are compared as doubles: not every parser keeps more.
impl PartialEq for Id {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::None, Self::None) | (Self::Other, Self::Other) => true,
            (Self::Text(one), Self::Text(other)) => one == other,
            (Self::Number(one), Self::Number(other)) => {
                let number = |text: &str| text.parse::<f64>().unwrap();
                let (one, other) = (number(one), number(other));
                one == other || (one - other).abs() <= one.abs() * 1e-15
            }
            _ => false,
        }
    }
}

/// Parses a body; returns `None` if the parser refuses it.
pub(crate) type Parser = fn(&[u8]) -> Option<Parsed>;

pub(crate) const PARSERS: [(&str, Parser); 5] = [
    ("serde_json", serde_json),
    ("simd-json", simd_json),
    ("jiter", jiter),
    ("json", json),
    ("tinyjson", tinyjson),
];

fn bytes(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

fn serde_json(body: &[u8]) -> Option<Parsed> {
    use serde_json::Value;
    // The lint concerns untrusted JSON in requests; this is a parser to compare ours with.
    #[expect(clippy::disallowed_methods, reason = "compared with our own parser")]
    let message: Value = serde_json::from_slice(body).ok()?;
    let text = |value: Option<&Value>| value.and_then(Value::as_str).map(bytes);
    let params = message.get("params");
    Some(Parsed {
        method: text(message.get("method")),
        name: text(params.and_then(|params| params.get("name"))),
        uri: text(params.and_then(|params| params.get("uri"))),
        id: match message.get("id") {
            None => Id::None,
            Some(Value::String(id)) => Id::Text(bytes(id)),
            Some(Value::Number(id)) => Id::Number(id.to_string()),
            Some(_) => Id::Other,
        },
    })
}

fn simd_json(body: &[u8]) -> Option<Parsed> {
    let mut body = body.to_vec();
    let message = simd_json::to_owned_value(&mut body).ok()?;
    let params = message.get("params");
    let text =
        |value: Option<&simd_json::OwnedValue>| value.and_then(|value| value.as_str()).map(bytes);
    Some(Parsed {
        method: text(message.get("method")),
        name: text(params.and_then(|params| params.get("name"))),
        uri: text(params.and_then(|params| params.get("uri"))),
        id: match message.as_object().and_then(|message| message.get("id")) {
            None => Id::None,
            Some(id) => match id {
                simd_json::OwnedValue::String(id) => Id::Text(bytes(id)),
                simd_json::OwnedValue::Static(
                    simd_json::StaticNode::Bool(_) | simd_json::StaticNode::Null,
                ) => Id::Other,
                simd_json::OwnedValue::Static(id) => Id::Number(id.to_string()),
                simd_json::OwnedValue::Array(_) | simd_json::OwnedValue::Object(_) => Id::Other,
            },
        },
    })
}

fn jiter(body: &[u8]) -> Option<Parsed> {
    let message = JsonValue::parse(body, false).ok()?;
    // It keeps duplicate members; the last one counts, as in most parsers.
    let get = |object: Option<&JsonValue<'_>>, wanted: &str| match object {
        Some(JsonValue::Object(object)) => {
            object.iter().rev().find(|(name, _)| name == wanted).map(|(_, value)| value.to_static())
        }
        _ => None,
    };
    let text = |value: Option<JsonValue<'_>>| match value {
        Some(JsonValue::Str(text)) => Some(bytes(&text)),
        _ => None,
    };
    let params = get(Some(&message), "params");
    Some(Parsed {
        method: text(get(Some(&message), "method")),
        name: text(get(params.as_ref(), "name")),
        uri: text(get(params.as_ref(), "uri")),
        id: match get(Some(&message), "id") {
            None => Id::None,
            Some(JsonValue::Str(id)) => Id::Text(bytes(&id)),
            Some(JsonValue::Int(id)) => Id::Number(id.to_string()),
            Some(JsonValue::Float(id)) => Id::Number(id.to_string()),
            Some(_) => Id::Other,
        },
    })
}

fn json(body: &[u8]) -> Option<Parsed> {
    use json::JsonValue;
    let message = json::parse(std::str::from_utf8(body).ok()?).ok()?;
    let get = |object: &JsonValue, wanted: &str| {
        object.entries().rev().find(|(name, _)| *name == wanted).map(|(_, value)| value.clone())
    };
    let text = |value: Option<JsonValue>| value.and_then(|value| value.as_str().map(bytes));
    let params = get(&message, "params").unwrap_or(JsonValue::Null);
    Some(Parsed {
        method: text(get(&message, "method")),
        name: text(get(&params, "name")),
        uri: text(get(&params, "uri")),
        id: match get(&message, "id") {
            None => Id::None,
            Some(JsonValue::Number(id)) => Id::Number(id.to_string()),
            Some(id) => id.as_str().map_or(Id::Other, |id| Id::Text(bytes(id))),
        },
    })
}

fn tinyjson(body: &[u8]) -> Option<Parsed> {
    let message: Tiny = std::str::from_utf8(body).ok()?.parse().ok()?;
    let get = |object: Option<&Tiny>, wanted: &str| match object {
        Some(Tiny::Object(object)) => object.get(wanted).cloned(),
        _ => None,
    };
    let text = |value: Option<Tiny>| match value {
        Some(Tiny::String(text)) => Some(text.into_bytes()),
        _ => None,
    };
    let params = get(Some(&message), "params");
    Some(Parsed {
        method: text(get(Some(&message), "method")),
        name: text(get(params.as_ref(), "name")),
        uri: text(get(params.as_ref(), "uri")),
        id: match get(Some(&message), "id") {
            None => Id::None,
            Some(Tiny::String(id)) => Id::Text(id.into_bytes()),
            Some(Tiny::Number(id)) => Id::Number(id.to_string()),
            Some(_) => Id::Other,
        },
    })
}
