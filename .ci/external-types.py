#!/usr/bin/env python3
"""Checks that the public APIs of the published crates name only the third-party crates on the list.

Reads rustdoc's JSON, which the stable compiler writes with RUSTC_BOOTSTRAP=1. Its format has no
stable version: the walk relies on few names, and what it does not know is an error. `--self-test`
builds a small crate that names another crate's types in every position, and finds each of them.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from rust_source import ROOT, script

STANDARD = {"std", "core", "alloc"}

# The vocabulary of Tower services, which users of a layer have in their own manifests anyway.
TOWER = "a type or trait of HTTP services, stable since 1.0 or as long as Tower's own"
AXUM = "feature `axum`, which is about nothing else"
GENERATED = "the generated client and server are tonic's"
CONNECTOR = "the connector's stream is the one that hyper-util's client takes"
DEMO = "the demo's report, which only the binary reads"
GATEWAY = "the library of the binary, which only the binary and its tests use"

# By crate: what its public API may name in addition to the standard library and the crates of
# this workspace on the floors below (.ci/dependency-rules.py), in which file (None: in any), and
# why. An entry that nothing needs is an error.
ALLOWED = {
    "tower-token-broker": [
        ("bytes", None, TOWER),
        ("http", None, TOWER),
        ("http_body", None, TOWER),
        ("tower_layer", None, TOWER),
        ("tower_service", None, TOWER),
        ("axum", "src/stack/broker.rs", AXUM),
        ("axum_core", "src/axum_body.rs", AXUM),
        ("axum_core", "src/axum_extract.rs", AXUM),
    ],
    "token-broker-grpc": [
        ("bytes", None, TOWER),
        ("http", None, TOWER),
        ("http_body", None, TOWER),
        ("tower_service", None, TOWER),
        ("futures_core", None, GENERATED),
        ("prost", None, GENERATED),
        ("tonic", None, GENERATED),
    ],
    "token-broker-outbound": [
        ("bytes", None, TOWER),
        ("http", None, TOWER),
        ("http_body", None, TOWER),
        ("tower_service", None, TOWER),
        ("hyper_rustls", "src/connector.rs", CONNECTOR),
        ("hyper_util", "src/connector.rs", CONNECTOR),
        ("hyper", "src/closable_stream.rs", CONNECTOR),
        ("hyper_util", "src/closable_stream.rs", CONNECTOR),
        ("tokio", "src/connector.rs", CONNECTOR),
    ],
    "token-broker-authority": [
        ("bytes", None, TOWER),
        ("http", None, TOWER),
        ("tower_service", None, TOWER),
        ("axum", "src/router.rs", AXUM),
        ("axum", "src/sign_in/router.rs", AXUM),
    ],
    "token-broker-upstream": [
        ("http", None, TOWER),
    ],
    "token-broker-demo": [
        ("serde_core", None, DEMO),
        ("serde_json", None, DEMO),
    ],
    "token-broker": [
        ("http", None, TOWER),
        ("ipnet", "src/configuration/model.rs", GATEWAY),
        ("serde_json", "src/configuration/schema.rs", GATEWAY),
    ],
}


class UnknownFormat(Exception):
    """The JSON is not what this script can read."""


class Crate:
    """The JSON of one crate, with checks that its shape is the expected one."""

    def __init__(self, document):
        expected = {"index": dict, "paths": dict, "external_crates": dict, "format_version": int}
        for key, kind in expected.items():
            if not isinstance(document.get(key), kind):
                raise UnknownFormat(f"no {key} of the expected type")
        self.format_version = document["format_version"]
        self.index, self.paths = document["index"], document["paths"]
        self.root = str(document.get("root"))
        if self.root not in self.index:
            raise UnknownFormat("the root is not in the index")
        crates = document["external_crates"].items()
        self.crates = {int(number): entry["name"] for number, entry in crates}
        self.types = 0

    def crate_of(self, path):
        """The name of the external crate that a path leads to, or None for one of this crate."""
        summary = self.paths.get(str(path["id"]))
        if summary is None:
            item = self.index.get(str(path["id"]))
            if item is None and written(path).startswith("__"):
                # A private type that a macro generated, such as pin-project-lite's `__Origin`.
                return None
            if item is None:
                raise UnknownFormat(f"an id without an entry: {path}")
            return self.crates[item["crate_id"]] if item["crate_id"] else None
        return self.crates[summary["crate_id"]] if summary["crate_id"] else None

    def full_name(self, path):
        summary = self.paths.get(str(path["id"]))
        return "::".join(summary["path"]) if summary else written(path)


def written(path):
    """The path as the source has it."""
    return str(path.get("path") or path.get("name") or "?")


def kind_and_body(item):
    inner = item.get("inner")
    if not isinstance(inner, dict) or len(inner) != 1:
        raise UnknownFormat(f"an item whose `inner` is not one kind: {str(inner)[:80]}")
    return next(iter(inner.items()))


def named_paths(value, crate):
    """All paths to types and traits in a part of an item. Attributes and links do not count."""
    if isinstance(value, list):
        for part in value:
            yield from named_paths(part, crate)
    elif isinstance(value, dict):
        if "resolved_path" in value:
            path = value["resolved_path"]
            if not isinstance(path, dict) or "id" not in path:
                raise UnknownFormat(f"a resolved_path without id: {str(path)[:80]}")
            crate.types += 1
        # A type or trait: an id, the path in the source, and arguments.
        if "id" in value and "args" in value and ("path" in value or "name" in value):
            yield value
        for part in value.values():
            yield from named_paths(part, crate)


def external_names(document):
    """Items of other crates in the public API: {(crate, its item): [(file, item of ours)]}."""
    crate = Crate(document)
    found = {}
    hidden = set()
    for item in crate.index.values():
        kind, body = kind_and_body(item)
        if kind == "impl":
            # `impl<T> Trait for T` of other crates, and auto traits such as `Send`.
            if body["blanket_impl"] is not None or body["is_synthetic"]:
                hidden |= {str(item["id"]), *map(str, body["items"])}
    for number, item in crate.index.items():
        if item["crate_id"] != 0 or number in hidden:
            continue
        kind, body = kind_and_body(item)
        paths = list(named_paths(body, crate))
        if kind == "use":
            target = str(body.get("id"))
            if target in crate.paths or target in crate.index:
                paths.append({"id": body["id"], "path": body["source"]})
            else:
                # Macros and modules of other crates have no entry; the first segment is the crate.
                name = body["source"].removeprefix("::").split("::")[0]
                if name in crate.crates.values():
                    found.setdefault((name, body["source"]), []).append(place(crate, item))
        for path in paths:
            name = crate.crate_of(path)
            # A bound in the `impl Unpin` that pin-project-lite generates; it is not nameable.
            generated = crate.full_name(path).startswith("pin_project_lite::__private::")
            if name is not None and name not in STANDARD and not generated:
                found.setdefault((name, crate.full_name(path)), []).append(place(crate, item))
    if not crate.types:
        raise UnknownFormat("no type was found at all")
    return found


def place(crate, item):
    span = item.get("span") or {}
    file = span.get("filename", "?")
    line = (span.get("begin") or ["?"])[0]
    return file, f"{file}:{line}: {item['name'] or 'impl'}"


def wrong_names(found, allowed):
    """Lines for names that are not allowed, and for entries of the list that are not needed."""
    used = set()
    for (crate, name), places in sorted(found.items()):
        entries = [entry for entry in allowed if entry[0] == crate]
        for file, where in sorted(set(places)):
            fitting = [entry for entry in entries if entry[1] is None or entry[1] in file]
            if not fitting:
                yield f"{where} exposes {name}"
            used.update(fitting)
    for entry in allowed:
        if entry not in used:
            yield f"{entry[0]} is in the list of .ci/external-types.py, but is not exposed"


def document_json(packages, root, target):
    """Runs rustdoc as the gate's step "documentation" does, and returns the packages' JSON."""
    # Set only for rustdoc: dependencies' build scripts depend on RUSTC_BOOTSTRAP, so cargo would
    # rebuild most crates here and again in the next step.
    rustdoc = Path(target) / "rustdoc-with-json"
    rustdoc.parent.mkdir(parents=True, exist_ok=True)
    text = '#!/bin/sh\nRUSTC_BOOTSTRAP=1 exec rustdoc "$@"\n'
    # Written once: cargo would document everything again if its time changed.
    if not rustdoc.exists() or rustdoc.read_text() != text:
        rustdoc.write_text(text)
        rustdoc.chmod(0o755)
    environment = os.environ | {
        "RUSTDOC": str(rustdoc),
        "RUSTDOCFLAGS": "-Z unstable-options --output-format json",
        "CARGO_TARGET_DIR": str(target),
    }
    options = ["--workspace", "--lib", "--no-deps", "--all-features"]
    options.append("--locked" if root == ROOT else "--offline")
    subprocess.run(
        ["cargo", "doc", "--quiet", *options], cwd=root, env=environment, check=True,
        stdin=subprocess.DEVNULL,
    )
    documents = {}
    for name in packages:
        path = Path(target) / "doc" / f"{name.replace('-', '_')}.json"
        if not path.is_file():
            raise SystemExit(f"rustdoc wrote no {path}")
        documents[name] = json.loads(path.read_text(encoding="utf-8"))
    return documents


# Each line names `other` once in a public position, or not at all.
PLANTED = """
pub fn argument(_: other::Argument) {}
pub fn nested(_: &[Option<(u8, other::Nested)>]) {}
pub fn returned() -> other::Returned { loop {} }
pub fn pointer(_: fn(u8) -> other::Pointer) {}
pub fn dynamic(_: Box<dyn other::Dynamic>) {}
pub fn opaque() -> impl other::Opaque { other::Given }
pub fn bound<T: other::Bound>(_: T) {}
pub fn bounded<T>(_: T) where T: other::Where {}
pub fn sum(_: impl Iterator<Item = other::Associated>) {}
pub async fn later() -> other::Later { loop {} }
pub struct Plain { pub field: other::Field, _private: other::Private }
pub struct Tuple(pub other::Tupled, other::Private);
pub enum Choice { One(other::Variant), Two { field: other::Named } }
pub type Alias = other::Aliased;
pub const CONSTANT: Option<other::Constant> = None;
pub static STATIC: Option<other::Static> = None;
pub trait Trait: other::Super { type Out: other::OutBound; fn method(&self, _: other::Method); }
pub struct Mine;
impl other::Implemented for Mine { type Out = u8; }
impl From<other::Converted> for Mine { fn from(_: other::Converted) -> Self { Mine } }
impl Iterator for Mine { type Item = other::Item; 
    fn next(&mut self) -> Option<other::Item> { None } }
impl Mine { pub fn method(&self) -> Result<(), other::Error> { Ok(()) } }
pub use other::Reexported;
pub mod inner { pub use other::module; pub fn deep(_: other::Deep) {} }
mod private { pub struct Unseen(pub other::Private); pub struct Seen(pub other::Shown); }
pub use private::Seen;
fn hidden(_: other::Private) {}
pub(crate) fn shared(_: other::Private) {}
impl Mine { fn own(&self, _: other::Private) {} }
/// Links to [`other::Private`] are no API.
pub fn linked() {}
"""
STRUCTS = (
    "Argument Nested Returned Pointer Associated Later Field Private Tupled Variant Named Aliased "
    "Constant Static Method Converted Item Error Reexported Deep Shown Given"
).split()
OTHER = """
impl Opaque for Given {}
pub trait Implemented { type Out; }
pub mod module {}
pub trait Blanket {}
impl<T> Blanket for T {}
"""
TRAITS = "Dynamic Opaque Bound Where Super OutBound".split()


def self_test():
    other = "".join(f"pub struct {name};\n" for name in STRUCTS)
    other += "".join(f"pub trait {name} {{}}\n" for name in TRAITS)
    other += OTHER
    manifest = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2024"\n[dependencies]\n{}\n'
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        workspace = '[workspace]\nresolver = "3"\nmembers = ["ours"]\nexclude = ["other"]\n'
        (root / "Cargo.toml").write_text(workspace)
        needs_other = 'other = { path = "../other" }'
        for name, text, needs in (("other", other, ""), ("ours", PLANTED, needs_other)):
            (root / name / "src").mkdir(parents=True)
            (root / name / "Cargo.toml").write_text(manifest.format(name, needs))
            (root / name / "src/lib.rs").write_text("#![allow(unused)]\n" + text)
        document = document_json(["ours"], root, root / "target")["ours"]
    found = external_names(document)
    names = {name.removeprefix("other::") for crate, name in found if crate == "other"}
    expected = (set(STRUCTS) - {"Private", "Given"}) | set(TRAITS) | {"Implemented", "module"}
    assert names == expected, sorted(names ^ expected)
    assert {crate for crate, _ in found} == {"other"}, found.keys()
    assert list(wrong_names(found, [("other", None, "")])) == []
    assert len(list(wrong_names(found, []))) >= len(expected)
    assert len(list(wrong_names(found, [("other", "elsewhere.rs", "")]))) > len(expected)
    assert len(list(wrong_names({}, [("other", None, "")]))) == 1
    # Documents of an unknown shape must be errors.
    shapeless = {number: item | {"inner": {}} for number, item in document["index"].items()}
    renamed = json.dumps(document).replace('"resolved_path"', '"path_to_type"')
    for name, broken in (
        ("no index", document | {"index": None}),
        ("an unknown root", document | {"root": "none"}),
        ("items of no kind", document | {"index": shapeless}),
        ("types by another name", json.loads(renamed)),
        ("ids that lead nowhere", document | {"paths": {}}),
    ):
        try:
            external_names(broken)
        except (UnknownFormat, KeyError):
            continue
        raise AssertionError(f"a document with {name} passes")
    version = document["format_version"]
    print(f"self-test: {len(expected)} planted names are found (rustdoc JSON {version})")
    return 0


def main():
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--self-test", action="store_true")
    arguments.add_argument("--list", action="store_true", help="print all that the APIs name")
    arguments = arguments.parse_args()
    if arguments.self_test:
        return self_test()
    floors = script("dependency-rules").FLOORS
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
    wrong, names = [], 0
    for crate, document in document_json(sorted(floors), ROOT, target).items():
        try:
            found = external_names(document)
        except (UnknownFormat, KeyError, TypeError) as error:
            version = document.get("format_version")
            wrong.append(f"{crate}: cannot read rustdoc JSON {version}: {error!r}")
            continue
        ours = {other.replace("-", "_") for other in floors[crate]}
        found = {name: places for name, places in found.items() if name[0] not in ours}
        names += len(found)
        if arguments.list:
            print(crate)
            for (other, name), places in sorted(found.items()):
                print(f"  {other}: {name} ({len(places)}): {places[0][1]}")
        wrong += [f"{crate}: {line}" for line in wrong_names(found, ALLOWED.get(crate, []))]
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{len(floors)} crates expose {names} third-party items, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
