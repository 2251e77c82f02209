#!/usr/bin/env python3
"""Finds words in the prose of this repository for which the conventions name a better one.

Prose is: comments and docs in Rust, messages in string literals (`#[error]`, tracing events,
`expect`, reasons of lints), Markdown and comments in scripts and manifests, all without code.
Prints `file:line: word -> suggestion`; exits with 1 if there are hits. Arguments limit the search
to files whose path begins with one of them; `--count` prints the number per word and file.
Exceptions, each with a reason, are in .ci/words.toml. `--self-test` tries the readers.
"""

import re
import sys
import tomllib
from collections import Counter
from pathlib import Path

import rust_source as source
from rust_source import ROOT

# Words that are nearly always wrong here. Words that are as often right are left to reviews.
WORDS = [
    (r"whoever|whomever", "callers that …, a client that …"),
    (r"nobody", "no one, no + noun"),
    (r"somebody", "another caller, someone"),
    (r"anew|once more", "again, re-"),
    (r"(?:go|goes|went|going) on", "continue, is forwarded"),
    (r"(?:come|comes|came) again", "is retried"),
    (r"foreign", "untrusted (input), other (party)"),
    (r"shall", "must"),
    (r"answers?|answered|answering", "response, respond"),
    (r"stands?(?! for| in for)|stood", "is, holds, remains valid"),
    (r"behind(?!(?: \S+){1,3} (?:prox(?:y|ies)|balancer|gateway|broker|feature|flag|resource)\b)",
     "after, below, in"),
    (r"besides?", "next to, in addition to"),
    (r"(?<!let\s)(?<!leave\s)alone", "only"),
    (r"(?:ask|asks|asked|asking) for", "request"),
    (r"says?|said|tells?|told", "report, render, return, state"),
    (r"(?:give|gives|given|gave) back", "return, release"),
    (r"(?:take|takes|taken|took) off", "remove"),
    (r"recipes?", "config"),
    (r"doors?|ways? out|(?:the|our|ours?) house|rooms?", "state, outbound client, project, module"),
    (r"at hand", "available"),
]
PATTERNS = [
    # A comment's words may be on two lines.
    (re.compile(rf"\b(?:{pattern})\b".replace(" ", r"\s+"), re.I), better)
    for pattern, better in WORDS
]
# The first words of a doc comment.
OPENING = re.compile(r"(?:What|Whatever|Who|Whose|Whom)\b")
OPENING_BETTER = "a noun phrase, or a verb in the third person"

MESSAGE = re.compile(
    r"""\#\[error\(\s*$
      | \b(?:trace|debug|info|warn|error)!\((?:(?!\)\s*;).)*$
      | \.expect(?:_err)?\(\s*$
      | \breason\s*=\s*$""",
    re.S | re.X,
)
SKIPPED_FOLDERS = {"target", "node_modules", ".git", "generated", "corpus", "__pycache__"}
SCRIPTS = {".py", ".sh", ".mjs", ".toml"}
# Replaces code, so that words before and after it do not join.
NO_PROSE = "\0"


def wipe(text):
    return re.sub(r"[^\n]", NO_PROSE, text)


def without(pattern, text):
    return re.sub(pattern, lambda match: wipe(match.group()), text, flags=re.S | re.M)


def without_code(text):
    """Markdown without code blocks, inline code, addresses and comments; offsets stay the same."""
    text = without(r"^[ \t]*(```+|~~~+).*?^[ \t]*\1[^\n]*$", text)
    text = without(r"(?<!`)(`+)(?!`)(?:(?!\n[ \t]*\n).)+?(?<!`)\1(?!`)", text)
    text = without(r"\]\([^)\n]*\)|\]\[[^\]\n]*\]|^\[[^\]\n]+\]: .*?$|<!--.*?-->", text)
    return without(r"https?://\S+", text)


def rust_prose(text):
    """The comments and messages of a Rust file; all else is wiped. Offsets stay the same."""
    parts, at = [], 0
    masked = source.code(text)
    for kind, start, end in source.tokens(text):
        kept = text[start:end]
        if kind in ("comment", "block"):
            kept = re.sub(r"^[ \t]*/[/*][/!*]?|\*/$", lambda match: " " * len(match.group()), kept)
        elif kind not in ("string", "raw") or not MESSAGE.search(masked[max(0, start - 400):start]):
            kept = wipe(kept)
        between = text[at:start]
        # Between two comment lines there is only space.
        parts += [between if not between.strip() else wipe(between), kept]
        at = end
    return without_code("".join([*parts, wipe(text[at:])]))


def script_prose(text):
    """The lines of a script or manifest that are comments."""
    lines = [
        re.sub(r"^\s*(?:#|//)", lambda match: " " * len(match.group()), line)
        if re.match(r"\s*(?:#|//)\s", line) else wipe(line)
        for line in text.split("\n")
    ]
    return without_code("\n".join(lines))


def openings(text):
    """Doc comments that open with a question: (offset, word)."""
    before = None
    for match in re.finditer(r"^[ \t]*(//[/!])?[ \t]*(.*)$", text, re.M):
        if match[1] and match[1] != before and (opening := OPENING.match(match[2])):
            yield match.start(2), opening.group()
        before = match[1]


def hits(name, text):
    """(line number, word, suggestion) for each word of a file that has a better one."""
    if name.endswith(".rs"):
        prose = rust_prose(text)
    elif name.endswith(".md"):
        prose = without_code(text)
    else:
        prose = script_prose(text)
    found = [
        (match.start(), " ".join(match.group().split()), better)
        for pattern, better in PATTERNS for match in pattern.finditer(prose)
    ]
    if name.endswith(".rs"):
        found += [(offset, word, OPENING_BETTER) for offset, word in openings(text)]
    for offset, word, better in sorted(found):
        yield text.count("\n", 0, offset) + 1, word, better


def is_excepted(name, line, word, exceptions):
    """Marks the exceptions that apply as used, and returns whether there is one."""
    fitting = [
        entry for entry in exceptions
        if Path(name).match(entry["file"])
        and entry.get("word", word).lower() == word.lower()
        and entry.get("text", "") in line
    ]
    for entry in fitting:
        entry["used"] = True
    return bool(fitting)


def exceptions():
    entries = tomllib.loads((ROOT / ".ci/words.toml").read_text(encoding="utf-8"))["except"]
    for entry in entries:
        if not {"file", "reason"} <= set(entry) or set(entry) - {"file", "reason", "word", "text"}:
            raise SystemExit(f".ci/words.toml: needs file and reason; word, text optional: {entry}")
    return entries


def files():
    for path in sorted(ROOT.rglob("*")):
        name = path.relative_to(ROOT)
        if SKIPPED_FOLDERS & set(name.parts) or not path.is_file():
            continue
        if path.suffix in {".rs", ".md"} | SCRIPTS or path.name == "run" or name.parts[0] == ".ci":
            # This script and its exceptions consist of the words.
            if name.name not in ("words.py", "words.toml"):
                yield path, str(name)


def self_test():
    rust = '''//! What opens a doc.
//! A second line, What does not.
/// Whoever calls `answer()` goes
/// on.
/// ```
/// let answer = "answered";
/// ```
fn answer() { // it stands here
    let answer = "nobody";
    warn!(name = %answer, "somebody came");
    thing.expect("shall be").other("shall not");
}
#[error("a foreign {0}")]
#[expect(lint, reason = "once more")]
/* anew */
// once
fn more() {}
/// A letter that stands for another behind a reverse proxy, and is let alone.
'''
    found = [(line, word) for line, word, _ in hits("a.rs", rust)]
    assert found == [
        (1, "What"), (3, "Whoever"), (3, "goes on"), (8, "stands"), (10, "somebody"),
        (11, "shall"), (13, "foreign"), (14, "once more"), (15, "anew"),
    ], found
    markdown = "The answer\n```sh\nanswer\n```\n`answer` [x](answer.md) says\n\n    nobody\n"
    found = [(line, word) for line, word, _ in hits("a.md", markdown)]
    assert found == [(1, "answer"), (5, "says"), (7, "nobody")], found
    assert [line for line, _, _ in hits("run", "# anew\necho anew # anew\n")] == [1]
    for pattern, (written, _) in zip(PATTERNS, WORDS, strict=True):
        assert pattern[0].pattern, written
    for word in "tells house rooms doors behind besides alone recipe".split():
        text = f"the {word} of it\n"
        assert [found for _, found, _ in hits("a.md", text)], word
    assert not list(hits("a.md", "An outstanding household, answerable for restrooms, indoors.\n"))
    entries = [{"file": "docs/*.md", "word": "stands", "text": "a tree", "reason": "r"}]
    assert is_excepted("docs/a.md", "a tree stands", "Stands", entries) and entries[0]["used"]
    others = [
        ("a.md", "a tree", "stands"),
        ("docs/a.md", "a", "stands"),
        ("docs/a.md", "a tree", "stand"),
    ]
    for other in others:
        assert not is_excepted(*other, entries)
    print("self-test: words are found in prose and not in code")
    return 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    count = "--count" in arguments
    prefixes = tuple(argument for argument in arguments if argument != "--count")
    excepted, found, by_word, by_file = exceptions(), 0, Counter(), Counter()
    for path, name in files():
        if prefixes and not name.startswith(prefixes):
            continue
        text = path.read_text(encoding="utf-8")
        lines = text.split("\n")
        for line, word, better in hits(name, text):
            if is_excepted(name, lines[line - 1], word, excepted):
                continue
            found += 1
            by_word[word.lower()] += 1
            by_file[name] += 1
            if not count:
                print(f"{name}:{line}: {word} -> {better}")
    if count:
        for counter in (by_word, by_file):
            print(*(f"{number:5} {key}" for key, number in counter.most_common()), "", sep="\n")
    unused = [] if prefixes else [entry for entry in excepted if "used" not in entry]
    for entry in unused:
        print(f".ci/words.toml: unused exception: {entry}")
    print(f"{found} words that have a better one")
    return 1 if found or unused else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
