#!/usr/bin/env python3
"""Measures the repository: docs, sizes, imports, tests, lines and commits, each next to its target.

Without arguments, prints the table; `!` marks values that are worse than the target. `--details`
also lists the places, `--check` fails if a limit below is exceeded. `--self-test` tries the readers
on small inputs.
"""

import re
import subprocess
import sys
import tomllib
from collections import defaultdict
from pathlib import Path

import rust_source as source
from rust_source import ROOT

rules = source.script("dependency-rules")

# Limits of `--check`. Those of zero are rules of the project.
RULES = {
    "modules without //!": 0,
    "lines over 100 columns": 0,
    "bare #[must_use]": 0,
    "import cycles between crates": 0,
    "import cycles between top-level modules": 0,
    "upward imports": 0,
}
# Limits where this repository is at least as good as the best comparable project. Each is the value
# on the day it was set: lower it when the value falls, raise it only with a reason.
HELD = {
    # Short files are read as a whole. tower-http: 432, rustls: 956, linkerd: 346.
    "file length, p90": 335,
    # A decision should be readable without scrolling. tower-http: 15, rustls and linkerd: 26.
    "function length, p90": 22,
    # Long functions hide branches that no test enters. tower-http: 1.4, rustls: 3.0, linkerd: 3.1.
    "functions over 50 lines, %": 1.1,
    # A panic on untrusted input stops a server. linkerd: 1.0, rustls: 2.1, tower-http: 2.2.
    "unwrap per 1000 code lines": 0,
}

COLUMNS = 100
LONG_FILE, LONG_FUNCTION, DEEP = 600, 50, 5
LONG_TEST_NAME, TEST_NAME_WORDS = 10, 8
SUBJECT, COMMITS = 72, 200
SKIPPED_FOLDERS = {"target", "node_modules", ".git"}
CASE = re.compile(r"^[a-z]\d{3}[a-z]?_")
PAUSED_TEST = re.compile(r"#\[tokio::test\([^)]*start_paused = true[^)]*\)\]\s*async\s+fn\s+\w+")
SLEEP = re.compile(r"(?<![.\w])(?:tokio::)?(?:time::|thread::)?sleep(?:_until)?\(")


class Source:
    """A Rust file and its role."""

    def __init__(self, path):
        self.path = path
        self.name = str(path.relative_to(ROOT))
        self.text = path.read_text(encoding="utf-8")
        self.parts = path.relative_to(ROOT).parts
        self.is_generated = "generated" in self.parts
        self.is_test = False

    def shipped(self):
        return source.without_tests(self.text)


def rust_files():
    found = []
    for path in sorted(ROOT.rglob("*.rs")):
        if not SKIPPED_FOLDERS & set(path.relative_to(ROOT).parts):
            found.append(Source(path))
    by_path = {file.path: file for file in found}
    for file in found:
        file.is_test |= (
            file.parts[0] in ("tests", "benches", "fuzz", "examples")
            or "tests" in file.parts[:-1]
            or re.search(r"^#!\[cfg\(test\)\]", file.text, re.M) is not None
        )
        for name in source.test_modules(file.text):
            mark_tests(by_path, children_folder(file.path), name)
    return found


def children_folder(path):
    """The folder with the modules that a file declares."""
    return path.parent if path.stem in ("mod", "lib", "main") else path.with_suffix("")


def mark_tests(by_path, folder, name):
    for path, file in by_path.items():
        if path == folder / f"{name}.rs" or (folder / name) in path.parents:
            file.is_test = True


def quantile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))] if values else 0


def median(values):
    values = sorted(values)
    middle = len(values) // 2
    if not values:
        return 0
    return values[middle] if len(values) % 2 else (values[middle - 1] + values[middle]) / 2


def share(count, total):
    return round(100 * count / total, 1) if total else 0


def per_thousand(count, lines):
    return round(1000 * count / lines, 1) if lines else 0


def code_lines(text):
    return sum(1 for line in source.code(text).splitlines() if line.strip())


# --- Imports -----------------------------------------------------------------------------------


class Module:
    """A file of a crate as a node of the import graph."""

    def __init__(self, path, text):
        self.path = path
        self.code = source.code(source.without_tests(text))
        self.children = {}
        self.names = {}
        self.public_names = set()
        self.globs = []
        items = r"\b(?:struct|enum|union|fn|trait|type|const|static|macro_rules!)\s+(\w+)"
        self.items = set(re.findall(items, self.code))


def modules_of(sources):
    """The module tree of {path as a tuple of names: text}; the root is ()."""
    modules = {path: Module(path, text) for path, text in sources.items()}
    for path, module in modules.items():
        if path and path[:-1] in modules:
            modules[path[:-1]].children[path[-1]] = path
    for module in modules.values():
        public = "".join(re.findall(r"\bpub(?:\([^)]*\))?\s+(use\s+[^;]+;)", module.code))
        module.names, module.globs = names_of(module.code)
        module.public_names = set(names_of(public)[0])
    return modules


def names_of(code):
    """The names that the `use` items of a module bring in, with their paths, and its globs."""
    names, globs = {}, []
    # `use_trees` removes spaces: ` as ` becomes a mark.
    for used in rules.use_trees(re.sub(r"\s+as\s+", "@", code)):
        used, _, alias = used.removeprefix("::").partition("@")
        segments = used.split("::")
        if segments[-1] == "*":
            globs.append(segments[:-1])
            continue
        if segments[-1] == "self":
            segments.pop()
        if segments:
            names[alias or segments[-1]] = segments
    return names, globs


def resolve(modules, start, segments, depth=0):
    """The module that defines the item a path names, or None if it is outside the crate."""
    if depth > 12 or not segments:
        return None
    at, rest = modules[start], list(segments)
    if rest[0] == "crate":
        at, rest = modules[()], rest[1:]
    elif rest[0] in ("self", "super"):
        while rest and rest[0] in ("self", "super"):
            if rest.pop(0) == "super":
                if not at.path:
                    return None
                at = modules[at.path[:-1]]
    elif rest[0] not in at.children and rest[0] not in at.names:
        return None
    for position, name in enumerate(rest):
        if name in at.children:
            at = modules[at.children[name]]
            continue
        if name in at.items:
            return at.path
        if name in at.names and at.names[name] != segments:
            further = at.names[name] + rest[position + 1:]
            return resolve(modules, at.path, further, depth + 1) or at.path
        for glob in at.globs:
            target = resolve(modules, at.path, glob, depth + 1)
            if target is None or target == at.path:
                continue
            if name in modules[target].items:
                return target
            if name in modules[target].public_names:
                return resolve(modules, target, ["self", *rest[position:]], depth + 1) or target
        return at.path
    return at.path


def imports(modules):
    """The edges (module, module that it imports from). Re-exports are no edges."""
    edges = set()
    for path, module in modules.items():
        without_reexports = re.sub(r"\bpub(?:\([^)]*\))?\s+use\s+[^;]+;", "", module.code)
        trees = rules.use_trees(re.sub(r"\s+as\s+", "@", without_reexports))
        paths = [used.removeprefix("::").split("::") for used in trees]
        without_use = re.sub(r"\buse\s+[^;]+;", "", without_reexports)
        named = re.findall(r"\b(?:crate|super|self)(?:::\w+)+", without_use)
        paths += [found.split("::") for found in named]
        for segments in paths:
            segments = [name.partition("@")[0] for name in segments if name not in ("*", "")]
            if segments and segments[-1] == "self":
                segments = segments[:-1]
            target = resolve(modules, path, segments)
            if target is not None and target != path:
                edges.add((path, target))
    return edges


def cycles(edges):
    """The strongly connected components with more than one node (Tarjan), each sorted."""
    graph = defaultdict(set)
    for start, end in edges:
        graph[start].add(end)
    index, low, stack, found = {}, {}, [], []

    def visit(node):
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            component = []
            while not component or component[-1] != node:
                component.append(stack.pop())
            if len(component) > 1:
                found.append(sorted(component))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found)


def folder_cycles(edges):
    """Cycles between the direct children of each module: {module: [components of child names]}.

    A child represents all files below it. Imports of items that `mod.rs` itself defines do not
    count.
    """
    levels = defaultdict(set)
    for start, end in edges:
        common = 0
        while common < min(len(start), len(end)) and start[common] == end[common]:
            common += 1
        if common < len(start) and common < len(end):
            levels[start[:common]].add((start[common], end[common]))
    return {level: found for level, pairs in sorted(levels.items()) if (found := cycles(pairs))}


def module_sources(files, crate):
    """The shipped modules of a crate by their path."""
    folder = ROOT / "crates" / crate / "src"
    sources = {}
    for file in files:
        is_shipped = not file.is_test and not file.is_generated
        if folder in file.path.parents and is_shipped and file.path.stem != "main":
            parts = list(file.path.relative_to(folder).with_suffix("").parts)
            if parts[-1] in ("mod", "lib"):
                parts.pop()
            sources[tuple(parts)] = file.text
    return sources


def crate_edges(manifests):
    """The dependencies between members, including those of tests but not of a crate on itself."""
    edges = set()
    for name, manifest in manifests.items():
        for table in [manifest, *manifest.get("target", {}).values()]:
            for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
                for other in table.get(kind, {}):
                    shared_tests = kind == "dev-dependencies" and other in rules.ROOF
                    if other in manifests and other != name and not shared_tests:
                        edges.add((name, other))
    return edges


def manifests_of_members():
    members = tomllib.loads((ROOT / "Cargo.toml").read_text())["workspace"]["members"]
    found = [tomllib.loads((ROOT / member / "Cargo.toml").read_text()) for member in members]
    return {manifest["package"]["name"]: manifest for manifest in found}


def upward_imports(edges):
    members = {rules.LAYERS: {"manifest_path": str(ROOT / "crates" / rules.LAYERS / "Cargo.toml")}}
    wrong = list(rules.module_floors(members))
    for name, other in sorted(edges):
        if name in rules.FLOORS and other not in rules.FLOORS[name]:
            wrong.append(f"{name} depends on {other}")
    return wrong


# --- Commits -----------------------------------------------------------------------------------


def git(*arguments):
    ran = subprocess.run(
        ["git", *arguments], cwd=ROOT, text=True, capture_output=True, stdin=subprocess.DEVNULL
    )
    if ran.returncode != 0:
        raise OSError(ran.stderr.strip() or "git failed")
    return ran.stdout


def commits():
    """(subjects, number with a body), or the reason why there are none."""
    try:
        if git("rev-parse", "--is-shallow-repository").strip() == "true":
            return "not measured: the clone is shallow"
        try:
            git("rev-parse", "--verify", "--quiet", "main")
            branch = "main"
        except OSError:
            branch = "HEAD"
        log = git("log", branch, "--no-merges", f"-{COMMITS}", "--format=%s%x00%b%x01")
    except (OSError, FileNotFoundError) as error:
        return f"not measured: {error}"
    return split_log(log)


def split_log(log):
    entries = [entry.strip("\n").split("\0") for entry in log.split("\1") if entry.strip("\n")]
    return [subject for subject, _ in entries], sum(bool(body.strip()) for _, body in entries)


# --- The table ---------------------------------------------------------------------------------


class Table:
    def __init__(self):
        self.rows = []

    def add(self, name, value, target=None, anchor="", shown=None, worse=None):
        """Adds a row. A value above `target` is worse, unless `worse` is given.

        `anchor` names the best comparable project and its value.
        """
        if worse is None:
            worse = target is not None and value > target
        self.rows.append((name, value, shown or f"{value:g}", target, anchor, worse))

    def note(self, name, text):
        self.rows.append((name, None, text, None, "", False))

    def show(self):
        widths = [max(len(row[0]) for row in self.rows), max(len(row[2]) for row in self.rows)]
        heading = f"  {'measurement':{widths[0]}}  {'here':{widths[1]}}  {'target':>7}"
        print(f"{heading}  best comparable project")
        for name, _, shown, target, anchor, worse in self.rows:
            goal = "" if target is None else f"{target:g}"
            mark = "!" if worse else " "
            line = f"{mark} {name:{widths[0]}}  {shown:{widths[1]}}  {goal:>7}  {anchor}"
            print(line.rstrip())


def measure(table):
    details = defaultdict(list)
    files = [file for file in rust_files() if not file.is_generated]
    shipped = [file for file in files if file.parts[0] == "crates" and not file.is_test]

    # Attributes and plain comments may precede the module's doc.
    opening = re.compile(r"(?:\s|#!\[[^\n]*\]\n|//[^!\n][^\n]*\n)*//!")
    without_doc = [file.name for file in files if not opening.match(file.text)]
    details["modules without //!"] = without_doc
    table.add("modules without //!", len(without_doc), 0, "tower-http 54 %")

    texts = {file.name: file.shipped() for file in shipped}
    lines = sum(code_lines(text) for text in texts.values())
    docs = sum(len(re.findall(r"^\s*//[/!]", text, re.M)) for text in texts.values())
    table.add("code lines, shipped", lines)
    table.add("doc lines per code line", round(docs / lines, 2), anchor="tower-http 0.45")
    rfcs = sum(len(re.findall(r"\bRFC\s?\d{3,}", comments_of(text))) for text in texts.values())
    named = per_thousand(rfcs, lines)
    table.add("RFC mentions per 1000 code lines", named, 8, "rustls 10.4", worse=named < 8)

    lengths = {name: len(text.rstrip().splitlines()) for name, text in texts.items()}
    long_files = [f"{name}: {length}" for name, length in lengths.items() if length > LONG_FILE]
    details["files over 600 lines"] = long_files
    table.add("file length, median", median(lengths.values()), 200, "linkerd 121")
    table.add("file length, p90", quantile(lengths.values(), 0.9), 320, "linkerd 346")
    table.add("file length, max", max(lengths.values()), anchor="tower-http 876")
    table.add("files over 600 lines", len(long_files), 1, "linkerd 4")

    functions = [
        (f"{file}:{line}: {name}", size, depth)
        for file, text in texts.items() for name, size, depth, line in source.functions(text)
    ]
    sizes = [size for _, size, _ in functions]
    long = [f"{name}, {size} lines" for name, size, _ in functions if size > LONG_FUNCTION]
    deep = [f"{name}, {depth} levels" for name, _, depth in functions if depth > DEEP]
    details["functions over 50 lines, %"] = long
    details["functions nested over 5 levels, %"] = deep
    table.add("function length, median", median(sizes), 6, "tower-http, rustls, linkerd 6")
    table.add("function length, p90", quantile(sizes, 0.9), 20, "tower-http 15")
    table.add("function length, max", max(sizes), anchor="tower-http 152")
    table.add("functions over 50 lines, %", share(len(long), len(sizes)), 1.1, "tower-http 1.4")
    table.add("functions nested over 5 levels, %", share(len(deep), len(sizes)), 0.6, "rustls 0.6")

    masked = {name: source.code(text) for name, text in texts.items()}
    for name, pattern, target, anchor in [
        ("unwrap", r"\.unwrap(?:_err)?\(\)", 0, "linkerd 1.0"),
        ("expect", r"\.expect(?:_err)?\(|\bunreachable!\s*[({\[]", 1, "rustls 0.4"),
        ("panic!", r"\b(?:panic|todo|unimplemented)!\s*[({\[]", 0, ""),
    ]:
        row = f"{name} per 1000 code lines"
        details[row] = located(masked, pattern)
        table.add(row, per_thousand(len(details[row]), lines), target, anchor)

    # Benches measure time, and examples run until they are stopped.
    tests = {
        file.name: source.code(file.text) if file.is_test else tests_of(file.text)
        for file in files if file.parts[0] not in ("benches", "examples")
    }
    waiting = {name: without_paused_tests(text) for name, text in tests.items()}
    sleeps = located(waiting, SLEEP.pattern)
    details["sleeps in tests"] = sleeps
    table.add("sleeps in tests", len(sleeps), 0, "rustls 2")
    names = [name for file in files for name in source.test_names(file.text)]
    words = [len(CASE.sub("", name).split("_")) for name in names]
    pairs = zip(names, words, strict=True)
    long_names = [name for name, number in pairs if number > LONG_TEST_NAME]
    details["test names over 10 words"] = sorted(long_names, key=len)
    table.add("tests", len(names))
    table.add("test names: words, median", median(words), TEST_NAME_WORDS, "linkerd 4")
    table.add("test names: words, p90", quantile(words, 0.9), LONG_TEST_NAME)
    table.add("test names: words, max", max(words))
    table.add("test names over 10 words", len(long_names), 0)

    wide, wide_comments = [], 0
    total = 0
    for file in files:
        for number, line in enumerate(file.text.splitlines(), 1):
            total += 1
            if len(line) > COLUMNS:
                wide.append(f"{file.name}:{number}: {len(line)}")
                wide_comments += line.lstrip().startswith("//")
    details["lines over 100 columns"] = wide
    shown = f"{len(wide)} of {total}"
    table.add("lines over 100 columns", len(wide), 0, "linkerd 0.1 %", shown=shown)
    table.add("  of which comments", wide_comments, 0)
    bare = located({file.name: source.code(file.text) for file in files}, r"#\[must_use\]")
    details["bare #[must_use]"] = bare
    table.add("bare #[must_use]", len(bare), 0, "rustls 2")

    manifests = manifests_of_members()
    between_crates = crate_edges(manifests)
    crate_cycles = [" <-> ".join(cycle) for cycle in cycles(between_crates)]
    details["import cycles between crates"] = crate_cycles
    table.add("import cycles between crates", len(crate_cycles), 0)
    top, inside = [], []
    for crate in sorted(name for name in manifests if (ROOT / "crates" / name / "src").is_dir()):
        edges = imports(modules_of(module_sources(files, crate)))
        for level, found in folder_cycles(edges).items():
            place = "::".join([crate, *level])
            shown = [f"{place}: {' <-> '.join(component)}" for component in found]
            if not level and crate == rules.LAYERS:
                top += shown
            else:
                inside += shown
    details["import cycles between top-level modules"] = top
    details["import cycles inside modules"] = inside
    table.add("import cycles between top-level modules", len(top), 0, "linkerd 0 (crates)")
    table.add("import cycles inside modules", len(inside), 0)
    upward = upward_imports(between_crates)
    details["upward imports"] = upward
    table.add("upward imports", len(upward), 0)

    history = commits()
    if isinstance(history, str):
        table.note("commits", history)
    else:
        subjects, bodies = history
        long_subjects = [subject for subject in subjects if len(subject) > SUBJECT]
        details["commit subjects over 72"] = long_subjects
        table.add("commits measured", len(subjects))
        table.add("commit subjects over 72", len(long_subjects), 0, "rustls 0")
        middle = median([len(subject) for subject in subjects])
        table.add("commit subjects, median length", middle, 60, "rustls 44")
        body_share = share(bodies, len(subjects))
        table.add("commits with a body, %", body_share, 96, "linkerd 96", worse=body_share < 96)
    return details


def comments_of(text):
    """The comments of a file, docs included."""
    kinds = ("comment", "block")
    return "\n".join(text[start:end] for kind, start, end in source.tokens(text) if kind in kinds)


def tests_of(text):
    """The code of a file's test items; everything else is blank."""
    spans = source.test_spans(text)
    masked = source.code(text)
    parts, at = [], 0
    for start, end in spans:
        parts += [source.blank(masked[at:start]), masked[start:end]]
        at = end
    return "".join([*parts, source.blank(masked[at:])])


def without_paused_tests(masked):
    """The code without tests on a paused clock, whose sleeps take no time."""
    for match in reversed(list(PAUSED_TEST.finditer(masked))):
        end = source.end_of_item(masked, match.end())
        masked = masked[:match.start()] + source.blank(masked[match.start():end]) + masked[end:]
    return masked


def located(texts, pattern):
    pattern = re.compile(pattern)
    found = []
    for name, text in texts.items():
        for match in pattern.finditer(text):
            found.append(f"{name}:{text.count(chr(10), 0, match.start()) + 1}")
    return found


def check(table, details):
    """One text for each limit that is exceeded, with the places."""
    values = {name: value for name, value, *_ in table.rows}
    for name, limit in (RULES | HELD).items():
        if name not in values:
            yield f"{name} was not measured"
        elif values[name] > limit:
            exceeded = f"{name}: {values[name]:g}, and the limit is {limit:g}"
            yield "\n  ".join([exceeded, *details[name][:20]])


def self_test():
    tree = {
        (): "pub mod a; pub mod b; pub mod c;",
        ("a",): "pub use self::x::X; mod x; mod y;",
        ("a", "x"): "use super::Y; pub struct X;",
        ("a", "y"): "use super::x::X; pub struct Y;",
        ("b",): "use crate::a::X; pub struct B;",
        ("c",): "fn f() { crate::b::B; }",
    }
    # `super::Y` is not re-exported here, so it counts as an item of `a`.
    expected = {(("b",), ("a", "x")), (("c",), ("b",)), (("a", "y"), ("a", "x"))}
    assert imports(modules_of(tree)) >= expected
    assert folder_cycles(imports(modules_of(tree))) == {}
    # Deliberate cycles: in a folder through a re-export, through a glob, and between modules.
    ring = tree | {("a",): "pub use self::{x::X, y::Y};"}
    assert folder_cycles(imports(modules_of(ring))) == {("a",): [["x", "y"]]}
    ring = tree | {("a",): "pub use x::*; use y::*;"}
    assert folder_cycles(imports(modules_of(ring))) == {("a",): [["x", "y"]]}
    ring = tree | {("a", "x"): "fn f() { super::super::c::g() } pub struct X;"}
    assert folder_cycles(imports(modules_of(ring))) == {(): [["a", "b", "c"]]}
    # Imports in tests do not count.
    tested = "pub struct X;\n#[cfg(test)]\nmod tests {\n    use crate::c::C;\n}\n"
    ring = tree | {("a", "x"): tested}
    assert folder_cycles(imports(modules_of(ring))) == {}
    assert cycles({("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")}) == [["b", "c"]]
    manifests = {
        "a": {"dependencies": {"b": {}}, "dev-dependencies": {"a": {}, "token-broker-tests": {}}},
        "b": {"target": {"cfg(unix)": {"dependencies": {"a": {}}}}},
        "token-broker-tests": {"dependencies": {"a": {}}},
    }
    assert cycles(crate_edges(manifests)) == [["a", "b"]]
    assert split_log("One\0\n\1\nTwo\0why\n\1\n") == (["One", "Two"], 1)
    assert [median([3, 1, 2]), median([1, 2])] == [2, 1.5]
    assert [quantile(range(1, 11), 0.9), share(1, 3)] == [10, 33.3]
    assert CASE.sub("", "b026_one_fact") == "one_fact" and CASE.sub("", "bare_fact") == "bare_fact"
    assert located({"f": "a\nx.unwrap()"}, r"\.unwrap\(\)") == ["f:2"]
    sleeping = "fn a() { sleep(1) }\n#[cfg(test)]\nmod t { fn b() { sleep(2) } }"
    assert tests_of(sleeping).count("sleep(") == 1
    paused = "#[tokio::test(start_paused = true)]\nasync fn a() { sleep(1) }\n"
    paused += "async fn b() { sleep(2) }"
    assert without_paused_tests(paused).count("sleep(") == 1
    table = Table()
    for name in RULES | HELD:
        table.add(name, 0)
    assert list(check(table, defaultdict(list))) == []
    for name, limit in (RULES | HELD).items():
        broken = Table()
        broken.rows = [row for row in table.rows if row[0] != name]
        broken.add(name, limit + 1)
        found = list(check(broken, defaultdict(list)))
        assert len(found) == 1 and found[0].startswith(name), found
    assert len(list(check(Table(), defaultdict(list)))) == len(RULES | HELD)
    print("self-test: imports, commits, numbers and limits are read correctly")
    return 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if arguments not in ([], ["--check"], ["--details"]):
        print(__doc__)
        return 2
    table = Table()
    details = measure(table)
    table.show()
    if arguments == ["--details"]:
        for name, places in details.items():
            if places:
                print("\n  ".join([f"\n{name}", *places]))
    if arguments != ["--check"]:
        return 0
    wrong = list(check(table, details))
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
