//! Real messages and mutations of them, as an attacker or a broken client might send.
//!
//! Mutations work piece by piece, so that most results are almost valid JSON.

use std::mem;

use crate::random::Random;

const MESSAGES: [&str; 12] = [
    concat!(
        r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","#,
        r#""params":{"name":"get_item","arguments":{"id":7,"deep":{"a":[1,2,"#,
        r#"{"b":null}]}}}}"#
    ),
    concat!(
        r#"{"jsonrpc":"2.0","id":"a-1","method":"tools/call","#,
        r#""params":{"name":"delete_item","arguments":{},"#,
        r#""_meta":{"io.modelcontextprotocol/protocolVersion":"2026-07-28","#,
        r#""progressToken":0.5}}}"#
    ),
    concat!(
        r#"{"params":{"arguments":{"text":"caf\u00e9 \ud83d\ude00 "#,
        r#"\"quoted\"","n":-1.5e3},"name":"add_note"},"method":"tools/call","#,
        r#""id":3,"jsonrpc":"2.0"}"#
    ),
    concat!(
        r#"{"jsonrpc":"2.0","id":4,"method":"prompts/get","#,
        r#""params":{"name":"summary","arguments":{"name":"x","uri":"y"}}}"#
    ),
    r#"{"jsonrpc":"2.0","id":5,"method":"resources/read","params":{"uri":"db://items/1"}}"#,
    concat!(
        r#"{"jsonrpc":"2.0","id":6,"method":"completion/complete","#,
        r#""params":{"ref":{"type":"ref/prompt","name":"summary"},"#,
        r#""argument":{"name":"a","value":"b"}}}"#
    ),
    concat!(
        r#"{"jsonrpc":"2.0","id":0,"method":"initialize","#,
        r#""params":{"protocolVersion":"2025-11-25","capabilities":{},"#,
        r#""clientInfo":{"name":"c","version":"1"}}}"#
    ),
    concat!(
        r#"{"jsonrpc":"2.0","method":"notifications/cancelled","#,
        r#""params":{"requestId":4,"reason":"no"}}"#
    ),
    r#"{ "jsonrpc" : "2.0", "id" : 9007199254740993, "method" : "tools/list" }"#,
    r#"{"jsonrpc":"2.0","id":"ü😀","result":{"content":[{"type":"text","text":"hé"}]}}"#,
    r#"{"jsonrpc":"2.0","id":-7,"error":{"code":-32000,"message":"failed"}}"#,
    concat!(
        r#"{"jsonrpc":"2.0","id":8,"method":"subscriptions/listen","#,
        r#""params":{"notifications":{"resourceSubscriptions":["db://a","#,
        r#""db://b"]}}}"#
    ),
];

const NAMES: [&str; 9] =
    ["jsonrpc", "id", "method", "params", "name", "uri", "result", "arguments", "x"];
const METHODS: [&str; 5] = ["tools/call", "tools/list", "resources/read", "ping", "tools\\/call"];
const SPACES: [&str; 10] =
    [" ", "\t", "\r\n", "\n", "  ", "\u{a0}", "\u{b}", "\u{c}", "\u{2028}", "\u{feff}"];
const ESCAPES: [&str; 22] = [
    "\\u0065",
    "\\u006E",
    "\\/",
    "\\n",
    "\\t",
    "\\\\",
    "\\\"",
    "\\u00e9",
    "\\uD83D\\uDE00",
    "\\u0000",
    "\\ud800",
    "\\udc00",
    "\\udc00\\ud800",
    "\\ud800\\u0041",
    "\\ud83d",
    "\\x41",
    "\\u{41}",
    "\\u00",
    "\\U0041",
    "\\'",
    "\\0",
    "\\",
];
const CHARACTERS: [&[u8]; 18] = [
    b"\x00",
    b"\x01",
    b"\n",
    b"\x1f",
    b"\x7f",
    b"\xc3\xa9",
    b"\xf0\x9f\x98\x80",
    b"\xef\xbf\xbf",
    b"\xef\xbb\xbf",
    b"\x80",
    b"\xff",
    b"\xc0\xaf",
    b"\xed\xa0\x80",
    b"\xf4\x90\x80\x80",
    b"\xc3",
    b"\xe2\x82",
    b"\xef\xbf\xbe",
    b"\xe2\x80\xa8",
];
const VALUES: [&str; 44] = [
    "0",
    "-0",
    "1",
    "-1",
    "1.0",
    "1e2",
    "0.1",
    "1E+2",
    "1e999",
    "-1e999",
    "1e-999",
    "9007199254740993",
    "18446744073709551615",
    "18446744073709551616",
    "-9223372036854775809",
    "01",
    "-01",
    "+1",
    "1.",
    ".5",
    "0x1F",
    "1e",
    "--1",
    "Infinity",
    "-Infinity",
    "NaN",
    "1_000",
    "\u{ff11}",
    "null",
    "true",
    "false",
    "True",
    "nul",
    "undefined",
    "'single'",
    "unquoted",
    "\"\"",
    "\"2.0\"",
    "\"get_item\"",
    "\"other\"",
    "{}",
    "[]",
    "{\"name\":\"other\"}",
    "[1,[2]]",
];
const PUNCTUATION: [&str; 10] = ["{", "}", "[", "]", ",", ":", ",,", ";", "\"", "}}"];
const BETWEEN: [&str; 4] = ["/**/", "//\n", "#\n", "/*"];
const BEHIND: [&str; 9] = [" ", "\n", "{}", ",", "\0", "x", "]", "//", "null"];
const DEPTHS: [usize; 8] = [1, 5, 60, 120, 125, 126, 127, 200];

/// Returns a message with up to four mutations. About three of ten remain valid messages.
pub(crate) fn body(random: &mut Random) -> Vec<u8> {
    let mut tokens = tokens(random.pick(&MESSAGES).as_bytes());
    for _ in 0..random.pick(&[0, 1, 1, 1, 2, 2, 3, 4]) {
        change(&mut tokens, random);
    }
    let mut body = tokens.concat();
    match random.below(40) {
        0 => body.truncate(random.below(body.len())),
        1 => body.extend(random.pick(&BEHIND).bytes()),
        2 => body.splice(0..0, *b"\xef\xbb\xbf").for_each(drop),
        3 => {
            let at = random.below(body.len() + 1);
            body.splice(at..at, random.pick(&CHARACTERS).iter().copied()).for_each(drop);
        }
        4 => body = [b"[", &*body, b"]"].concat(),
        5 if random.one_in(4) => {
            body = body.iter().flat_map(|byte| u16::from(*byte).to_le_bytes()).collect()
        }
        6 if random.one_in(4) => {
            body = body.iter().flat_map(|byte| u16::from(*byte).to_be_bytes()).collect()
        }
        _ => {}
    }
    body
}

fn change(tokens: &mut Vec<Vec<u8>>, random: &mut Random) {
    let at = random.below(tokens.len() + 1);
    let is_text = |token: &Vec<u8>| token.first() == Some(&b'"');
    let members: Vec<usize> =
        (1..tokens.len()).filter(|at| tokens[*at] == b":").map(|colon| colon - 1).collect();
    let texts: Vec<usize> = (0..tokens.len()).filter(|at| is_text(&tokens[*at])).collect();
    let values: Vec<usize> =
        members.iter().map(|name| name + 2).filter(|at| *at < tokens.len()).collect();
    match random.below(24) {
        0..=4 => tokens.insert(at, random.pick(&SPACES).into()),
        5..=8 if !texts.is_empty() => {
            let text = &mut tokens[random.pick(&texts)];
            escape_one(text, random);
        }
        9..=10 if !texts.is_empty() => {
            let text = &mut tokens[random.pick(&texts)];
            let at = random.below(text.len()).max(1).min(text.len());
            let put = if random.one_in(2) {
                random.pick(&ESCAPES).as_bytes()
            } else {
                random.pick(&CHARACTERS)
            };
            text.splice(at..at, put.iter().copied()).for_each(drop);
        }
        11..=13 if !members.is_empty() => {
            let name = random.pick(&members);
            double(tokens, name, random);
        }
        14..=17 if !values.is_empty() => {
            let value = random.pick(&values);
            tokens[value] = value_of(random);
        }
        18 if !values.is_empty() => {
            let (value, depth) = (random.pick(&values), random.pick(&DEPTHS));
            let (open, close) = random.pick(&[("[", "]"), ("{\"a\":", "}")]);
            let inside = mem::take(&mut tokens[value]);
            // The brackets of an object stay outside, so the result is not a value: another kind of
            // damage.
            tokens[value] =
                [open.repeat(depth).into_bytes(), inside, close.repeat(depth).into_bytes()]
                    .concat();
        }
        19 if !members.is_empty() => {
            let name = random.pick(&members);
            tokens[name] = member_name(random);
        }
        20 if !tokens.is_empty() => drop(tokens.remove(random.below(tokens.len()))),
        21 => tokens.insert(at, random.pick(&PUNCTUATION).into()),
        22 => tokens.insert(at, random.pick(&BETWEEN).into()),
        _ if !tokens.is_empty() => {
            let token = random.below(tokens.len());
            if let Some(byte) = tokens[token].first_mut() {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => {}
    }
}

/// Writes one character of a string as an escape with the same meaning.
fn escape_one(text: &mut Vec<u8>, random: &mut Random) {
    let at = random.below(text.len());
    let byte = text[at];
    if byte.is_ascii_alphanumeric() && at > 0 && !text[at - 1].is_ascii_punctuation() {
        let escape =
            if random.one_in(2) { format!("\\u{byte:04x}") } else { format!("\\u{byte:04X}") };
        text.splice(at..=at, escape.into_bytes()).for_each(drop);
    }
}

/// Repeats a member before or after the original, either identical or slightly changed.
fn double(tokens: &mut Vec<Vec<u8>>, name: usize, random: &mut Random) {
    let mut again = tokens[name].clone();
    match random.below(6) {
        0 => again.make_ascii_uppercase(),
        1 => {
            if let Some(first) = again.get_mut(1) {
                first.make_ascii_uppercase();
            }
        }
        2 => escape_one(&mut again, random),
        3 => again
            .splice(again.len() - 1..again.len() - 1, random.pick(&CHARACTERS).iter().copied())
            .for_each(drop),
        4 => again = member_name(random),
        _ => {}
    }
    let member = [again, b":".to_vec(), value_of(random), b",".to_vec()];
    tokens.splice(name..name, member).for_each(drop);
}

fn member_name(random: &mut Random) -> Vec<u8> {
    let mut name = format!("\"{}\"", random.pick(&NAMES)).into_bytes();
    if random.one_in(3) {
        name.make_ascii_uppercase();
    }
    name
}

fn value_of(random: &mut Random) -> Vec<u8> {
    match random.below(60) {
        0 => format!("\"{}\"", "i".repeat(random.pick(&[1021, 1022, 1023, 5000]))).into_bytes(),
        1 => "9".repeat(random.pick(&[19, 20, 40, 400, 1025, 5000])).into_bytes(),
        2..=9 => format!("\"{}\"", random.pick(&METHODS)).into_bytes(),
        _ => random.pick(&VALUES).into(),
    }
}

/// Splits JSON into strings, literals, numbers, punctuation and whitespace.
fn tokens(text: &[u8]) -> Vec<Vec<u8>> {
    let (mut tokens, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.first() {
        let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
        let length = match first {
            b'"' => {
                let mut ends = 1;
                while rest[ends] != b'"' {
                    ends += if rest[ends] == b'\\' { 2 } else { 1 };
                }
                ends + 1
            }
            byte if is_word(byte) => rest.iter().take_while(|byte| is_word(byte)).count(),
            _ => 1,
        };
        let (token, behind) = rest.split_at(length);
        tokens.push(token.to_vec());
        rest = behind;
    }
    tokens
}
