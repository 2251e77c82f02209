#!/usr/bin/env python3
"""Reads Rust sources for the other scripts of this folder: comments, strings, tests and functions.

Not a parser: it knows comments, literals and balanced braces, which is enough for counting.
`--self-test` tries it on small inputs.
"""

import importlib.util
import re
import sys
from functools import lru_cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

TOKEN = re.compile(
    r"""
      (?P<comment> //[^\n]* )
    | (?P<block> /\*.*?\*/ )
    | (?P<raw> \b(?:b|c)?r(?P<hashes>\#*)".*?"(?P=hashes) )
    | (?P<string> (?:\b(?:b|c))?"(?:\\.|[^"\\])*" )
    | (?P<char> (?:\bb)?'(?:\\(?:u\{[^}]*\}|x..|.)|[^\\'\n])' )
    """,
    re.S | re.X,
)
# An attribute with balanced brackets, up to two levels deep.
ATTRIBUTE = r"#\[(?:[^\[\]]|\[(?:[^\[\]]|\[[^\[\]]*\])*\])*\]"
TEST_ONLY = re.compile(rf"#\[cfg\(test\)\]\s*(?:{ATTRIBUTE}\s*)*")
FUNCTION = re.compile(r"\bfn\s+(\w+)")
TEST_FUNCTION = re.compile(
    rf"#\[(?:tokio::)?test\b[^\]]*\]\s*(?:{ATTRIBUTE}\s*)*(?:pub\s+)?(?:async\s+)?fn\s+(\w+)"
)


def script(name):
    """Loads another script of this folder, whose name may have a hyphen."""
    path = Path(__file__).resolve().parent / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name.replace("-", "_"), path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def blank(text):
    """The same number of lines, filled with spaces."""
    return re.sub(r"[^\n]", " ", text)


@lru_cache(maxsize=None)
def tokens(text):
    """The comments and literals of a source: (kind, start, end), in order."""
    found = []
    for match in TOKEN.finditer(text):
        kind = match.lastgroup if match.lastgroup != "hashes" else "raw"
        found.append((kind, match.start(), match.end()))
    return found


@lru_cache(maxsize=None)
def code(text):
    """The source with comments and the contents of literals blanked out. Offsets stay the same."""
    parts, at = [], 0
    for kind, start, end in tokens(text):
        parts.append(text[at:start])
        inside = blank(text[start:end])
        if kind in ("string", "raw", "char"):
            inside = '"' + inside[1:-1] + '"'
        parts.append(inside)
        at = end
    return "".join([*parts, text[at:]])


def closing(masked, opening):
    """The offset after the brace that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(masked, opening):
        depth += 1 if match.group() == "{" else -1
        if depth == 0:
            return match.end()
    return len(masked)


def end_of_item(masked, start):
    """The offset after the item that starts at `start`: after its block, or its semicolon."""
    round_depth = 0
    for match in re.compile(r"[{;()\[\]]").finditer(masked, start):
        character = match.group()
        if character in "([":
            round_depth += 1
        elif character in ")]":
            round_depth -= 1
        elif round_depth == 0 and character == ";":
            return match.end()
        elif round_depth == 0:
            end = closing(masked, match.start())
            # `use a::{b, c};` ends after its list.
            if masked.startswith("use", start) or re.match(r"pub\S*\s+use\b", masked[start:]):
                return masked.find(";", end) + 1 or len(masked)
            return end
    return len(masked)


@lru_cache(maxsize=None)
def test_spans(text):
    """The start and end of each item with `#[cfg(test)]`."""
    masked = code(text)
    if re.search(r"^#!\[cfg\(test\)\]", masked, re.M):
        return [(0, len(text))]
    spans = []
    for match in TEST_ONLY.finditer(masked):
        if not spans or match.start() >= spans[-1][1]:
            spans.append((match.start(), end_of_item(masked, match.end())))
    return spans


def without_tests(text):
    """The source with `#[cfg(test)]` items blanked out."""
    parts, at = [], 0
    for start, end in test_spans(text):
        parts += [text[at:start], blank(text[start:end])]
        at = end
    return "".join([*parts, text[at:]])


def test_modules(text):
    """The names of the files that a source declares as `#[cfg(test)] mod name;`."""
    masked = code(text)
    declared = rf"#\[cfg\(test\)\]\s*(?:{ATTRIBUTE}\s*)*(?:pub(?:\([a-z]+\))?\s+)?mod\s+(\w+)\s*;"
    return set(re.findall(declared, masked))


def functions(text):
    """The functions with a body: (name, lines from `fn` to `}`, depth of nesting, line number)."""
    masked = code(text)
    for match in FUNCTION.finditer(masked):
        end = end_of_item(masked, match.end())
        if masked[end - 1:end] != "}":
            continue
        opening = opening_of_body(masked, match.end(), end)
        body = masked[opening:end]
        depth = deepest = 0
        for brace in re.findall(r"[{}]", body):
            depth += 1 if brace == "{" else -1
            deepest = max(deepest, depth)
        lines = masked.count("\n", match.start(), end) + 1
        yield match.group(1), lines, deepest, masked.count("\n", 0, match.start()) + 1


def opening_of_body(masked, start, end):
    round_depth = 0
    for match in re.compile(r"[{()\[\]]").finditer(masked, start, end):
        character = match.group()
        if character in "([":
            round_depth += 1
        elif character in ")]":
            round_depth -= 1
        elif round_depth == 0:
            return match.start()
    return end


def test_names(text):
    return TEST_FUNCTION.findall(code(text))


def self_test():
    text = '''//! Doc.
const A: &str = "// no comment {"; // a "comment"
const B: char = '"'; /* block { */
fn long<'a>(x: &'a [u8; 3]) -> &'a str {
    if x.is_empty() {
        return r#"raw " {"#;
    }
    "}"
}
fn short() -> u8 { 1 }
trait T { fn declared(); fn given() {} }
#[cfg(test)]
use std::{a, b};
#[cfg(test)]
mod listed;
#[cfg(test)]
#[expect(dead_code, reason = "[]")]
mod tests {
    #[test]
    fn one_fact_holds() { x.unwrap() }
    #[tokio::test(start_paused = true)]
    #[ignore]
    async fn another() {}
}
fn last() {}
'''
    masked = code(text)
    assert len(masked) == len(text) and masked.count("\n") == text.count("\n")
    assert "comment" not in masked and "raw" not in masked
    assert masked.count("{") == masked.count("}")
    kinds = " ".join(kind for kind, _, _ in tokens(text))
    assert kinds == "comment string comment char block raw string string", kinds
    shipped = without_tests(text)
    assert "unwrap" not in shipped and "std::" not in shipped and "fn last" in shipped
    measured = {name: (lines, depth) for name, lines, depth, _ in functions(shipped)}
    expected = {"long": (6, 2), "short": (1, 1), "given": (1, 1), "last": (1, 1)}
    assert measured == expected, measured
    assert test_modules(text) == {"listed"}
    assert test_names(text) == ["one_fact_holds", "another"], test_names(text)
    assert without_tests("#![cfg(test)]\nfn a() {}\n").strip() == ""
    print("self-test: comments, strings, tests and functions are read correctly")
    return 0


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else __doc__)
