//! Parsers in other languages: each is a process that receives inputs by the thousand and returns
//! one line for each.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use crate::{
    parsers::{Id, Parsed},
    print_line,
};

/// Format of a line: `-` if refused, otherwise method, name, URI and id. Each is `.` if absent, or
/// `s` and the text in hexadecimal; an id can also be `n` and a number, or `?`.
const PYTHON: &str = r#"
import json, sys
def text(value):
    return "s" + value.encode("utf-8", "surrogatepass").hex() if isinstance(value, str) else "."
def member(value, name):
    return value.get(name) if isinstance(value, dict) else None
def line(body):
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        return "-"
    number = member(message, "id")
    if not isinstance(message, dict) or "id" not in message:
        number = "."
    elif isinstance(number, str):
        number = text(number)
    elif isinstance(number, (int, float)) and not isinstance(number, bool):
        number = "n" + repr(number)
    else:
        number = "?"
    params = member(message, "params")
    found = [member(message, "method"), member(params, "name"), member(params, "uri")]
    return " ".join([*map(text, found), number])
read = sys.stdin.buffer.read
while head := read(4):
    bodies = [read(int.from_bytes(read(4), "big")) for _ in range(int.from_bytes(head, "big"))]
    print(*map(line, bodies), sep="\n", flush=True)
"#;

const NODE: &str = r#"
const fs = require("fs");
const read = (length) => {
    const bytes = Buffer.alloc(length);
    for (let at = 0; at < length; ) {
        let count = 0;
        try {
            count = fs.readSync(0, bytes, at, length - at);
        } catch (error) {
            if (error.code !== "EAGAIN") throw error;
            continue;
        }
        if (count === 0) return null;
        at += count;
    }
    return bytes;
};
const text = (value) =>
    typeof value === "string" ? "s" + Buffer.from(value).toString("hex") : ".";
const member = (value, name) =>
    value !== null &&
    typeof value === "object" &&
    !Array.isArray(value) &&
    Object.hasOwn(value, name)
        ? value[name]
        : undefined;
const line = (body) => {
    let message;
    try {
        const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
        message = JSON.parse(decoder.decode(body));
    } catch {
        return "-";
    }
    const id = member(message, "id");
    let number = "?";
    if (id === undefined) number = ".";
    else if (typeof id === "string") number = text(id);
    else if (typeof id === "number") number = "n" + id;
    const params = member(message, "params");
    const found = [member(message, "method"), member(params, "name"), member(params, "uri")];
    return [...found.map(text), number].join(" ");
};
for (let head; (head = read(4)); ) {
    const lines = [];
    for (let count = head.readUInt32BE(); count > 0; count--) {
        lines.push(line(read(read(4).readUInt32BE())));
    }
    fs.writeSync(1, lines.join("\n") + "\n");
}
"#;

/// A parser process, which ends when its input is closed.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: &'static str,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

/// Starts the parsers that are installed, and prints the names of those that are not.
pub(crate) fn all() -> Vec<Process> {
    let known =
        [("Python's json", "python3", "-c", PYTHON), ("JavaScript's JSON", "node", "-e", NODE)];
    known
        .into_iter()
        .filter_map(|(name, program, flag, source)| Process::start(name, program, [flag, source]))
        .collect()
}

impl Process {
    fn start(name: &'static str, program: &str, arguments: [&str; 2]) -> Option<Self> {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let Ok(mut child) = child else {
            print_line(&format!("NOT RUN: {name}: no {program}"));
            return None;
        };
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { name, child, input, output })
    }

    /// Returns what the parser finds in each input.
    pub(crate) fn read(&mut self, bodies: &[Vec<u8>]) -> Vec<Option<Parsed>> {
        let length = |length: usize| u32::try_from(length).unwrap().to_be_bytes();
        let mut all = length(bodies.len()).to_vec();
        for body in bodies {
            all.extend([&length(body.len())[..], body].concat());
        }
        // The process reads the whole batch before it responds.
        let input = self.input.as_mut().unwrap();
        input.write_all(&all).and_then(|()| input.flush()).unwrap();
        let lines = self.output.by_ref().lines().take(bodies.len());
        lines.map(|line| parsed(&line.unwrap())).collect()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.input.take());
        drop(self.child.wait());
    }
}

fn parsed(line: &str) -> Option<Parsed> {
    if line == "-" {
        return None;
    }
    let mut fields = line.split(' ');
    let mut text = || fields.next().unwrap().strip_prefix('s').map(unhex);
    let (method, name, uri) = (text(), text(), text());
    let id = fields.next().unwrap();
    let id = match id.split_at(1) {
        (".", _) => Id::None,
        ("s", text) => Id::Text(unhex(text)),
        ("n", number) => Id::Number(number.to_owned()),
        _ => Id::Other,
    };
    Some(Parsed { method, name, uri, id })
}

fn unhex(text: &str) -> Vec<u8> {
    text.as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect()
}
