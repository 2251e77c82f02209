#!/usr/bin/env python3
"""Rules for dependencies: crypto, licences, floors of crates and modules, versions, metadata and
outbound clients; and an alarm for each error and warning in the log.

Works without cargo-deny; deny.toml has the same rules where it can express them. `--self-test`
tries the readers of licences, sources and imports.
"""

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

ALLOWED = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib",
    "Unicode-3.0", "Unicode-DFS-2016", "MPL-2.0",
}
# CC0-1.0, 0BSD, Unlicense and similar ones are not on the list: they pass only in an OR whose other
# side is on it.

# By crate: the exact expression that is excepted, and why. Any other licence of the crate is
# refused.
LICENCE_EXCEPTIONS = {
    "webpki-root-certs": (
        "CDLA-Permissive-2.0",
        "data, not code: the root certificates for platforms that have none",
    ),
    "webpki-roots": (
        "CDLA-Permissive-2.0",
        "data, not code: the root certificates for a PostgreSQL server on another host",
    ),
}
PROVIDER = "aws-lc-rs"
BANNED = {
    "ring": "aws-lc-rs is the one crypto provider",
    "rsa": "the RustCrypto crate has a timing side channel (RUSTSEC-2023-0071)",
    "oxide-auth": "predates OAuth 2.1",
    "openidconnect": "a second JWT stack",
} | {
    name: "aws-lc-rs is the one crypto provider"
    for name in (
        "openssl", "openssl-sys", "native-tls", "boring", "boring-sys", "mbedtls", "graviola", "rustls-graviola",
        "rustls-rustcrypto", "rustls-openssl", "rustls-symcrypt", "rustls-mbedcrypto-provider", "wolfcrypt",
        "ed25519-dalek", "p256", "p384", "k256", "ecdsa",
    )
}
# The published crates, and those of this workspace that each may depend on: only lower floors.
FLOORS = {
    "tower-token-broker": set(),
    "token-broker-outbound": {"tower-token-broker"},
    "token-broker-grpc": {"tower-token-broker", "token-broker-outbound"},
    "token-broker-store": {"tower-token-broker"},
    "token-broker-sql": {"tower-token-broker", "token-broker-store"},
    "token-broker-authority": {"tower-token-broker", "token-broker-outbound", "token-broker-store"},
    "token-broker-upstream": {"tower-token-broker", "token-broker-outbound", "token-broker-store"},
    "token-broker-demo": {
        "tower-token-broker", "token-broker-outbound", "token-broker-store", "token-broker-sql",
        "token-broker-authority", "token-broker-upstream",
    },
    "token-broker": {
        "tower-token-broker", "token-broker-outbound", "token-broker-store", "token-broker-sql",
        "token-broker-authority", "token-broker-upstream",
        "token-broker-demo",
    },
}
# The unpublished crates: they may depend on all others.
ROOF = {"token-broker-benches", "token-broker-examples", "token-broker-tests"}

HTTP_CLIENTS = {
    "reqwest", "ureq", "isahc", "curl", "surf", "awc", "attohttpc", "minreq", "hyper-rustls", "hyper-tls", "wreq",
}
DATABASES = {
    "sqlx", "sqlx-core", "rusqlite", "libsqlite3-sys", "diesel", "postgres", "tokio-postgres", "mysql_async", "redis",
    "fred", "mongodb", "sled", "rocksdb", "redb", "sea-orm",
}
# Crates that the default features of the layers must not bring in.
HEAVY = HTTP_CLIENTS | DATABASES | {
    "axum", "axum-core", "hyper", "hyper-util", "h2", "tonic", "tower-http", "rmcp", "rustls", "tokio-rustls",
}
METADATA = ["description", "license", "repository", "keywords", "categories", "rust_version", "edition"]

# The modules of `tower-token-broker`, from the lowest floor up: each imports only from floors below
# its own.
LAYERS = "tower-token-broker"
MODULE_FLOORS = [
    {"alarm", "folding", "hex"},
    {
        "bad_value", "body", "clock", "header_rules", "inbound", "json", "limits", "media_type",
        "percent", "request_id", "secret", "tasks",
    },
    {"principal"},
    {"refusal"},
    {"cause", "mcp", "revocation", "resource_metadata"},
    {"grpc", "sealing", "upload"},
    {"dialect"},
    {"audit"},
    {"authenticate", "scope_filter"},
    {"exchange"},
    {"stack"},
    # Shells around the others: adapters for axum, the prelude, test utilities, and the parsers
    # exposed for fuzzing.
    {"axum_body", "axum_extract", "prelude", "readers", "test_util"},
]
ADD_FLOOR = "add it to .ci/dependency-rules.py"
# Files of a module that contain only tests.
TEST_FILES = {"tests", "hostile_tests", "schema_tests", "signature_vectors"}

# Code that opens outbound connections. Only `token-broker-outbound` may contain it.
OUTBOUND_CODE = [
    (name, re.compile(rf"\b{name.replace('-', '_')}\s*::")) for name in sorted(HTTP_CLIENTS)
] + [
    ("hyper's client", re.compile(r"\bhyper\s*::\s*client\b|\bhyper\s*::\s*\{[^}]*\bclient\b")),
    ("hyper-util's client", re.compile(r"\bhyper_util\s*::\s*client\b|\bhyper_util\s*::\s*\{[^}]*\bclient\b")),
    ("a socket", re.compile(r"\bTcpStream\s*::\s*connect|\bTcpSocket\s*::")),
]


def is_allowed(expression, allowed=frozenset(ALLOWED)):
    """Whether allowed licences suffice for an SPDX expression. An invalid one is not allowed."""
    # The old form `MIT/Apache-2.0` is an OR.
    words = re.findall(r"\(|\)|/|[^\s()/]+", expression)
    words = ["OR" if word == "/" else word for word in words]

    def take(expected=None):
        if not words or (expected and words[0] != expected):
            raise ValueError(expression)
        return words.pop(0)

    def one():
        if words and words[0] == "(":
            take("(")
            value = either()
            take(")")
            return value
        word = take()
        if not re.fullmatch(r"[A-Za-z0-9.:+-]+", word) or word in {"AND", "OR", "WITH"}:
            raise ValueError(expression)
        if words and words[0] == "WITH":
            take("WITH")
            word = f"{word} WITH {take()}"
        return word in allowed

    def both():
        value = one()
        while words and words[0] == "AND":
            take("AND")
            value = one() and value
        return value

    def either():
        value = both()
        while words and words[0] == "OR":
            take("OR")
            value = both() or value
        return value

    try:
        value = either()
        if words:
            raise ValueError(expression)
    except ValueError:
        return False
    return value


def shipped_code(text):
    """The code of a file without its comments and without the unit tests at its end."""
    text = re.split(r"^#\[cfg\(test\)\]\s*\n(?:#\[.*\]\s*\n)*(?:pub(?:\([a-z]+\))? )?mod \w+ \{", text, maxsplit=1, flags=re.M)[0]
    return re.sub(r"(?m)(?<![:\"])//.*$", "", text)


def use_trees(code):
    """The paths of each `use` in the code, with nested lists expanded."""
    for tree in re.findall(r"\buse\s+([^;]+);", code):
        yield from spread("", re.sub(r"\s+", "", tree))


def spread(before, tree):
    depth, part, parts = 0, "", []
    for character in tree:
        depth += (character == "{") - (character == "}")
        if character == "," and depth == 0:
            parts.append(part)
            part = ""
        else:
            part += character
    for part in filter(None, [*parts, part]):
        brace = part.find("{")
        if brace < 0:
            yield before + part
        else:
            yield from spread(before + part[:brace], part[brace + 1:part.rfind("}")])


def imported_modules(text):
    """The top-level modules that the shipped code of a file imports or names by their full path."""
    code = shipped_code(text)
    # Imports of tests and doc tests do not count.
    code = re.sub(r"#\[cfg\(test\)\]\s*use [^;]+;", "", code)
    paths = [path.removeprefix("::") for path in use_trees(code)]
    named = {path.split("::")[1] for path in paths if path.startswith("crate::")}
    without_use = re.sub(r"\buse\s+[^;]+;", "", code)
    named |= set(re.findall(r"\bcrate::([a-z_]+)::", without_use))
    return {name for name in named if name.islower()}


def upward_imports(module, text, floors):
    floor_of = {name: number for number, floor in enumerate(floors, 1) for name in floor}
    if module not in floor_of:
        yield f"module {module} has no floor: {ADD_FLOOR}"
        return
    for other in sorted(imported_modules(text) - {module}):
        if other not in floor_of:
            yield f"{module} imports crate::{other}, which has no floor"
        elif floor_of[other] >= floor_of[module]:
            yield f"{module} (floor {floor_of[module]}) imports crate::{other} (floor {floor_of[other]})"


def outbound_code(text):
    code = shipped_code(text)
    return [name for name, pattern in OUTBOUND_CODE if pattern.search(code)]


def events_without_alarm(text):
    """Yields the errors and warnings in the log that name no alarm."""
    code = shipped_code(text)
    for event in re.finditer(r"\btracing::(?:error|warn)!\(", code):
        if not re.match(r"\s*alarm = Alarm::\w+\.code\(\),", code[event.end():]):
            yield code[event.end():][:60].split("\n")[0].strip()


def self_test():
    events = [
        ('tracing::error!(alarm = Alarm::AuditClosed.code(), cause, "closed");', 0),
        ('tracing::warn!(\n    alarm = Alarm::AuditClosed.code(),\n    "closed"\n);', 0),
        ('tracing::error!("closed");', 1),
        ('tracing::warn!(alarm = "audit.closed", "closed");', 1),
        ('tracing::info!("open");', 0),
    ]
    for text, found in events:
        assert len(list(events_without_alarm(text))) == found, text
    licences = [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("GPL-3.0-only OR MIT", True),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("GPL-3.0-only AND MIT", False),
        ("MIT/Apache-2.0", True),
        ("Apache-2.0 / MIT", True),
        ("GPL-2.0/LGPL-2.1", False),
        # AND binds more tightly than OR, from either side.
        ("MIT OR GPL-2.0 AND LGPL-2.1", True),
        ("GPL-2.0 AND LGPL-2.1 OR MIT", True),
        ("(MIT OR GPL-2.0) AND LGPL-2.1", False),
        ("GPL-2.0 AND (LGPL-2.1 OR MIT)", False),
        ("(MIT OR GPL-2.0) AND ISC", True),
        ("(GPL-2.0 AND MIT) OR LGPL-2.1", False),
        ("((MIT))", True),
        # WITH binds to its licence, and only one pair is on the list.
        ("Apache-2.0 WITH LLVM-exception", True),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", True),
        ("GPL-2.0 WITH Classpath-exception-2.0", False),
        ("MIT WITH LLVM-exception", False),
        # Allowed only in an OR with an allowed one.
        ("Unlicense OR MIT", True),
        ("CC0-1.0 OR MIT-0 OR Apache-2.0", True),
        ("0BSD OR MIT OR Apache-2.0", True),
        ("Unlicense", False),
        ("CC0-1.0", False),
        ("0BSD", False),
        ("MIT AND CC0-1.0", False),
        # The expression of aws-lc-sys, and the same with one part that is not allowed.
        ("ISC AND (Apache-2.0 OR ISC) AND Apache-2.0 AND MIT AND BSD-3-Clause AND (Apache-2.0 OR ISC OR MIT) "
         "AND (Apache-2.0 OR ISC OR MIT-0)", True),
        ("ISC AND (Apache-2.0 OR ISC) AND OpenSSL AND MIT", False),
        # A later version is a different licence; invalid expressions are refused.
        ("Apache-2.0+", False),
        ("mit", False),
        ("MIT or Apache-2.0", False),
        ("MIT OR", False),
        ("OR MIT", False),
        ("MIT Apache-2.0", False),
        ("(MIT", False),
        ("MIT)", False),
        ("MIT WITH", False),
        ("()", False),
        ("", False),
    ]
    for expression, expected in licences:
        assert is_allowed(expression) is expected, expression
    sources = [
        ("let client = reqwest::Client::new();", ["reqwest"]),
        ("use hyper_util::{client::legacy::Client, rt::TokioIo};", ["hyper-util's client"]),
        ("use hyper::client::conn::http1;", ["hyper's client"]),
        ("let socket = TcpStream::connect(to).await?;", ["a socket"]),
        ("use hyper::{body::Incoming, server::conn::http1};", []),
        ("/// Not by reqwest::Client.\nfn nothing() {}", []),
        ("fn shipped() {}\n#[cfg(test)]\nmod tests {\n    use reqwest::Client;\n}", []),
        ("#[cfg(test)]\nmod tests;\nuse reqwest::Client;", ["reqwest"]),
        ('const AT: &str = "https://a.example"; use ureq::get;', ["ureq"]),
    ]
    for text, expected in sources:
        assert outbound_code(text) == expected, text
    floors = [{"json"}, {"principal"}, {"audit"}, {"authenticate", "scope_filter"}]
    modules = [
        ("audit", "use crate::{json::Value, principal::{Scopes, User}};", []),
        ("audit", "fn f() { crate::json::write(); }", []),
        ("json", "use crate::json::strict::Value;", []),
        # Deliberate violations, in each form of an import.
        ("json", "use crate::principal::User;", ["json (floor 1) imports crate::principal (floor 2)"]),
        ("audit", "use crate::{json, authenticate::{jwt::Keys, Verified}};",
         ["audit (floor 3) imports crate::authenticate (floor 4)"]),
        ("scope_filter", "use crate::authenticate::JwtVerifier;",
         ["scope_filter (floor 4) imports crate::authenticate (floor 4)"]),
        ("principal", "fn f() { crate::audit::note(); }", ["principal (floor 2) imports crate::audit (floor 3)"]),
        ("audit", "use crate::stack::Broker;", ["audit imports crate::stack, which has no floor"]),
        ("stack", "", [f"module stack has no floor: {ADD_FLOOR}"]),
        # Tests may import from above; comments import nothing.
        ("json", "fn f() {}\n#[cfg(test)]\nmod tests {\n    use crate::audit::AuditLog;\n}", []),
        ("json", "/// As [`crate::audit::AuditLog`] does.\nfn f() {}", []),
    ]
    for module, text, expected in modules:
        assert list(upward_imports(module, text, floors)) == expected, (module, text)
    print(
        f"self-test: {len(licences)} licences, {len(sources)} sources "
        f"and {len(modules)} imports are read correctly"
    )
    return 0


def cargo(*arguments):
    return subprocess.run(
        ["cargo", *arguments], cwd=ROOT, check=True, text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ).stdout


def tree(*arguments):
    """Names and versions of the packages that are built.

    `cargo metadata` also lists packages that only a `weak?/feature` could enable.
    """
    command = ["tree", "--locked", "--prefix", "none", "--format", "{p}", *arguments]
    lines = cargo(*command).splitlines()
    found = {(line.split()[0], line.split()[1].removeprefix("v")) for line in lines if line.strip()}
    if not found:
        raise SystemExit(f"cargo tree {' '.join(arguments)} lists nothing")
    return found


def crypto_and_licences(resolved, features):
    for package in resolved:
        name, licence = package["name"], package["license"] or "none"
        if name in BANNED:
            find = f"cargo tree --workspace --all-features -i {name}"
            yield f"{name} {package['version']} is in the tree: {BANNED[name]} ({find})"
        excepted = LICENCE_EXCEPTIONS.get(name, (None,))[0] == licence
        if package["source"] and not excepted and not is_allowed(licence):
            yield f"{name} {package['version']}: licence {licence!r} is not on the list"
    providers = [package for package in resolved if package["name"] == PROVIDER]
    if len(providers) != 1:
        yield f"{PROVIDER} is in the tree {len(providers)} times: it must be there once"
    # With two backends enabled, jsonwebtoken would choose an arbitrary one, or panic.
    for package in resolved:
        if package["name"] == "jsonwebtoken" and "rust_crypto" in features[package["id"]]:
            yield "jsonwebtoken has its second backend (rust_crypto) enabled"


def floors(members):
    for name in sorted(set(FLOORS) - set(members)):
        yield f"{name} has a floor and is not in the workspace"
    for name, package in members.items():
        published = package["publish"] != []
        if name not in FLOORS and name not in ROOF:
            yield f"{name} has no floor: {ADD_FLOOR}"
            continue
        if published != (name in FLOORS):
            yield f"{name}: only benches, examples and tests have `publish = false`"
        may = FLOORS.get(name, set(members))
        for dependency in package["dependencies"]:
            other = dependency["name"]
            if other not in members or other == name:
                continue
            # Shared test code: `cargo publish` drops a dev-dependency that has only a path.
            if other in ROOF and dependency["kind"] == "dev" and dependency["req"] == "*":
                continue
            # Includes dev-dependencies: a crate whose tests need an upper floor cannot be published
            # before that floor.
            if other not in may:
                yield f"{name} depends on {other}, which is not on a lower floor"
            if name in FLOORS and other in ROOF:
                yield f"{name} depends on {other}, which is not published"
            if name in FLOORS and dependency["kind"] != "dev" and dependency["req"] == "*":
                yield f"{name} depends on {other} without a version: it cannot be published"


def light_ground():
    for name, version in sorted(tree("-p", "tower-token-broker", "--edges", "normal")):
        if name in HEAVY:
            yield f"the default features of tower-token-broker bring in {name} {version}"


def metadata_for_publication(members):
    for name in FLOORS:
        package = members.get(name)
        if not package:
            continue
        for field in METADATA:
            if not package.get(field):
                yield f"{name} has no {field}: it cannot be published"
        for field, most in (("keywords", 5), ("categories", 5)):
            if len(package[field]) > most:
                yield f"{name} has {len(package[field])} {field}: the registry accepts {most}"
        for keyword in package["keywords"]:
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_+-]{0,19}", keyword):
                yield f"{name}: the registry does not accept the keyword {keyword!r}"
        readme = package["readme"]
        if readme and not (Path(package["manifest_path"]).parent / readme).is_file():
            yield f"{name}: its readme {readme} does not exist"
    for licence in ("LICENSE-MIT", "LICENSE-APACHE"):
        if not (ROOT / licence).is_file():
            yield f"{licence} does not exist"


def versions_in_root(members):
    root = tomllib.loads((ROOT / "Cargo.toml").read_text())
    for name, value in root["workspace"]["dependencies"].items():
        version = value if isinstance(value, str) else value.get("version")
        if not version or "*" in version:
            yield f"Cargo.toml: {name} has no version"
        if isinstance(value, dict) and "git" in value:
            yield f"Cargo.toml: {name} comes from git: it cannot be published"
    for package in members.values():
        manifest = tomllib.loads(Path(package["manifest_path"]).read_text())
        tables = [manifest, *manifest.get("target", {}).values()]
        for table in tables:
            for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
                for name, value in table.get(kind, {}).items():
                    fields = value if isinstance(value, dict) else {}
                    # A crate that enables its own features for tests depends on itself, by path and
                    # without a version; a dev-dependency on shared test code has only a path.
                    itself = (
                        name == package["name"]
                        and fields.get("path") == "."
                        and "version" not in fields
                    )
                    roof = name in ROOF and kind == "dev-dependencies" and set(fields) == {"path"}
                    if not itself and not roof and fields.get("workspace") is not True:
                        where = "versions belong into the root's [workspace.dependencies]"
                        yield f"{package['name']}: {kind} has its own version of {name}: {where}"


def outbound_clients(members):
    for name, package in members.items():
        # The demo acts as the client and both upstreams.
        if name not in FLOORS or name in ("token-broker-outbound", "token-broker-demo"):
            continue
        for dependency in package["dependencies"]:
            if dependency["kind"] is None and dependency["name"] in HTTP_CLIENTS:
                yield f"{name} depends on {dependency['name']}: use token-broker-outbound"
        sources = Path(package["manifest_path"]).parent / "src"
        for source in sorted(sources.rglob("*.rs")):
            inside = source.relative_to(sources)
            # Tests have their own clients.
            if "tests" in inside.with_suffix("").parts:
                continue
            for client in outbound_code(source.read_text()):
                yield f"{source.relative_to(ROOT)} names {client}: use token-broker-outbound"


def alarms(members):
    for name, package in members.items():
        if name not in FLOORS:
            continue
        sources = Path(package["manifest_path"]).parent / "src"
        for source in sorted(sources.rglob("*.rs")):
            if TEST_FILES & set(source.relative_to(sources).with_suffix("").parts):
                continue
            for event in events_without_alarm(source.read_text()):
                yield f"{source.relative_to(ROOT)}: an error or warning without an `Alarm`: {event}"


def module_floors(members):
    sources = Path(members[LAYERS]["manifest_path"]).parent / "src"
    for source in sorted(sources.rglob("*.rs")):
        inside = source.relative_to(sources).with_suffix("")
        if inside.parts[0] == "lib" or TEST_FILES & set(inside.parts):
            continue
        for wrong in upward_imports(inside.parts[0], source.read_text(), MODULE_FLOORS):
            yield f"{source.relative_to(ROOT)}: {wrong}"
    existing = {path.relative_to(sources).with_suffix("").parts[0] for path in sources.rglob("*.rs")}
    for name in sorted(set().union(*MODULE_FLOORS) - existing):
        yield f"{name} has a floor and is not a module of {LAYERS}"


def main():
    host = re.search(r"^host: (\S+)$", subprocess.check_output(["rustc", "-vV"], text=True), re.M).group(1)
    metadata = json.loads(
        cargo("metadata", "--locked", "--format-version", "1", "--all-features", "--filter-platform", host))
    packages = {package["id"]: package for package in metadata["packages"]}
    features = {node["id"]: node["features"] for node in metadata["resolve"]["nodes"]}
    members = {packages[member]["name"]: packages[member] for member in metadata["workspace_members"]}
    built = tree("--workspace", "--all-features", "--edges", "normal,build,dev")
    resolved = [package for package in packages.values() if (package["name"], package["version"]) in built]
    missing = built - {(package["name"], package["version"]) for package in resolved}

    wrong = [
        f"{name} {version} is built, but cargo metadata does not list it"
        for name, version in sorted(missing)
    ]
    wrong += crypto_and_licences(resolved, features)
    wrong += floors(members)
    wrong += light_ground()
    wrong += metadata_for_publication(members)
    wrong += versions_in_root(members)
    wrong += outbound_clients(members)
    wrong += module_floors(members)
    wrong += alarms(members)
    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{len(resolved)} packages checked, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(self_test() if sys.argv[1:] == ["--self-test"] else main())
