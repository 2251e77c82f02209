//! The requests that a message of a server may respond to, if it cannot be judged.

use std::borrow::Cow;

use super::message::LONGEST_ID;
use crate::json::{JsonError, Kind, Limits, Reader};

/// The most ids that are returned for one text.
const MOST: usize = 64;

/// The requests that a text may respond to, as far as it can be read. It may be truncated,
/// ambiguous, or a batch.
#[derive(Debug, Default)]
pub(crate) struct Addressees<'a> {
    /// Their ids, as they are in the text.
    pub(crate) ids: Vec<&'a str>,
    /// Whether the text responds to a request, or may do so where it cannot be read.
    pub(crate) may_respond: bool,
}

pub(crate) fn addressees<'a>(text: &'a [u8], limits: &Limits) -> Addressees<'a> {
    let mut found = Addressees::default();
    let readable = match std::str::from_utf8(text) {
        Ok(text) => text.as_bytes(),
        Err(error) => text.get(..error.valid_up_to()).unwrap_or_default(),
    };
    // What follows an error cannot be read.
    let is_whole = read_all(readable, limits, &mut found).is_ok() && readable.len() == text.len();
    found.may_respond |= !is_whole;
    found
}

fn read_all<'a>(
    text: &'a [u8],
    limits: &Limits,
    found: &mut Addressees<'a>,
) -> Result<(), JsonError> {
    let mut reader = Reader::new(text, limits)?;
    match reader.kind()? {
        Kind::Array => reader.array(|reader| read_one(reader, found)).map(drop),
        Kind::Object => read_one(&mut reader, found),
        Kind::Null | Kind::Bool | Kind::Number | Kind::String => reader.skip_content().map(drop),
    }?;
    reader.end()
}

fn read_one<'a>(reader: &mut Reader<'a>, found: &mut Addressees<'a>) -> Result<(), JsonError> {
    let (mut id, mut has_outcome, mut has_method) = (None, false, false);
    let read = reader.object_of_content(|reader, name| {
        let kind = reader.kind()?;
        let is_null = kind == Kind::Null;
        match name {
            "result" | "error" => has_outcome |= !is_null,
            "method" => has_method |= !is_null,
            _ => {}
        }
        let value = reader.skip_content()?;
        // K505: it becomes the id of an error of ours.
        if name == "id" && matches!(kind, Kind::String | Kind::Number) && value.len() <= LONGEST_ID
        {
            id = Some(value);
        }
        Ok(())
    });
    found.may_respond |= has_outcome;
    if has_outcome && !has_method && found.ids.len() < MOST {
        found.ids.extend(id);
    }
    read
}

/// Whether two ids are the same for some reader: a text in another spelling, or a number.
pub(crate) fn is_same_id(one: &str, other: &str) -> bool {
    let number = |id: &str| id.parse::<f64>().ok();
    let text = |id: &str| {
        let mut reader = Reader::new(id.as_bytes(), &Limits::default()).ok()?;
        reader.string().ok().map(Cow::into_owned)
    };
    one == other
        || text(one).zip(text(other)).is_some_and(|(one, other)| one == other)
        || number(one).zip(number(other)).is_some_and(|(one, other)| one == other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn responses_are_recognized_as_far_as_they_can_be_read() {
        for (text, expected) in [
            (r#"{"jsonrpc":"2.0","id":7,"result":{}}"#, &["7"][..]),
            (r#"{"jsonrpc":"2.0","id":7,"result":{"content":[{"text":"\ud8"#, &["7"]),
            (r#"{"id":"a","error":{"code":1"#, &["\"a\""]),
            (r#"{"id":7,"result":{"tools":[],"Tools":[]}}"#, &["7"]),
            (r#"[{"id":1,"result":{}},{"id":2,"error":{}},{"method":"x"}]"#, &["1", "2"]),
            (r#"[{"id":1,"result":{}},{"id":2,"res"#, &["1"]),
            (r#"{"id":7,"method":null,"result":{}}"#, &["7"]),
            // Requests and notifications of the server, and text without an id.
            (r#"{"id":7,"method":"roots/list"}"#, &[]),
            (r#"{"id":7,"method":"roots/list","result":{}}"#, &[]),
            (r#"{"method":"notifications/progress","params":{"#, &[]),
            (r#"{"result":{}}"#, &[]),
            (r#"{"id":7,"result":null}"#, &[]),
            (r#"{"result":{"te"#, &[]),
            ("7", &[]),
            ("", &[]),
        ] {
            assert_eq!(addressees(text.as_bytes(), &Limits::default()).ids, expected, "{text}");
        }
        let invalid = b"{\"id\":7,\"result\":{\"text\":\"\xff\"}}";
        assert_eq!(addressees(invalid, &Limits::default()).ids, ["7"]);
        let deep = format!(r#"{{"id":7,"result":{}"#, "[".repeat(100_000));
        assert_eq!(addressees(deep.as_bytes(), &Limits::default()).ids, ["7"]);
    }

    #[test]
    fn what_is_read_without_a_response_does_not_respond() {
        for (text, may_respond) in [
            (r#"[{"method":"notifications/progress","params":{}}]"#, false),
            (r#"{"method":"notifications/progress","params":{}}"#, false),
            (r#"{"id":7,"result":null}"#, false),
            ("7", false),
            ("ping", true),
            (r#"{"method":"x","result":{}}"#, true),
            (r#"[{"method":"x"},{"id":7,"result":{}}]"#, true),
            (r#"[{"method":"x"},{"id""#, true),
            (r#"  {"id":7,"res"#, true),
            ("{\"method\":\"x\"}trailing", true),
        ] {
            let found = addressees(text.as_bytes(), &Limits::default());
            assert_eq!(found.may_respond, may_respond, "{text}");
        }
        assert!(addressees(b"{\"method\":\"\xff\"}", &Limits::default()).may_respond);
    }

    #[test]
    fn k505_an_id_of_an_error_is_short_and_there_are_few() {
        for id in [r#"{"any":"content"}"#, "[1]", "true", "null"] {
            let text = format!(r#"[{{"id":{id},"result":1}}]"#);
            assert!(addressees(text.as_bytes(), &Limits::default()).ids.is_empty(), "K505 {id}");
        }
        let long = format!(r#"{{"id":"{}","result":1}}"#, "x".repeat(LONGEST_ID));
        assert!(addressees(long.as_bytes(), &Limits::default()).ids.is_empty(), "K505");
        let many = format!("[{}]", vec![r#"{"id":1,"result":1}"#; 10_000].join(","));
        assert_eq!(addressees(many.as_bytes(), &Limits::default()).ids.len(), MOST, "K505");
    }

    #[test]
    fn an_id_is_compared_by_its_value() {
        for (one, other) in [("7", "7"), ("7", "7.0"), ("7", "7e0"), (r#""a""#, r#""\u0061""#)] {
            assert!(is_same_id(one, other), "{one} {other}");
        }
        for (one, other) in [("7", "8"), ("7", r#""7""#), (r#""a""#, r#""A""#), ("7", "null")] {
            assert!(!is_same_id(one, other), "{one} {other}");
        }
    }
}
