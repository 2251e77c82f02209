#!/usr/bin/env python3
"""The rules that dependencies obey: crypto, licences, floors. For those without cargo-deny; deny.toml says the same."""

import json
import re
import subprocess
import sys

ALLOWED = {
    "MIT", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "ISC", "Zlib",
    "Unicode-3.0", "Unicode-DFS-2016", "MPL-2.0",
}
# Named one by one, with the reason.
LICENCE_EXCEPTIONS = {
    "webpki-root-certs": "CDLA-Permissive-2.0 is for its data: the root certificates; used where the platform has none",
}
BANNED = {
    "ring": "aws-lc-rs is the one crypto provider",
    "rsa": "the RustCrypto crate has a timing side channel (RUSTSEC-2023-0071)",
    "oxide-auth": "predates OAuth 2.1",
    "openidconnect": "a second JWT stack",
    "openssl-sys": "aws-lc-rs is the one crypto provider",
}
# Ours, and which of ours each may stand on.
FLOORS = {
    "tower-token-broker": set(),
    "token-broker-outbound": {"tower-token-broker"},
    "token-broker-authority": {"tower-token-broker", "token-broker-outbound"},
    "token-broker-upstream": {"tower-token-broker", "token-broker-outbound"},
    "token-broker": {"tower-token-broker", "token-broker-outbound", "token-broker-authority", "token-broker-upstream"},
}
# What the layers must not bring along in their default features.
HEAVY = {
    "axum", "axum-core", "hyper", "hyper-util", "reqwest", "tonic", "sqlx", "tower-http", "rmcp", "rusqlite", "h2", "rustls",
}
METADATA = ["description", "license", "repository", "keywords", "categories"]


def tokens(expression):
    return re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))


def is_allowed(expression, allowed=ALLOWED):
    """Whether an SPDX expression can be met by allowed licences alone."""
    words = tokens(expression)

    def one():
        word = words.pop(0)
        if word == "(":
            value = either()
            assert words.pop(0) == ")"
            return value
        if words and words[0] == "WITH":
            words.pop(0)
            word = f"{word} WITH {words.pop(0)}"
        return word in allowed

    def both():
        value = one()
        while words and words[0] == "AND":
            words.pop(0)
            value = one() and value
        return value

    def either():
        value = both()
        while words and words[0] == "OR":
            words.pop(0)
            value = both() or value
        return value

    value = either()
    assert not words, expression
    return value


def self_test():
    for expression, allowed in [
        ("MIT", True),
        ("GPL-3.0-only", False),
        ("MIT OR GPL-3.0-only", True),
        ("MIT AND GPL-3.0-only", False),
        ("MIT/Apache-2.0", True),
        ("(MIT OR GPL-2.0) AND ISC", True),
        ("(GPL-2.0 AND MIT) OR LGPL-2.1", False),
        ("Apache-2.0 WITH LLVM-exception OR GPL-2.0", True),
        ("Unlicense OR MIT", True),
        ("Unlicense", False),
    ]:
        assert is_allowed(expression) is allowed, expression
    print("self-test: 10 expressions read as they should be")


def main():
    host = re.search(r"host: (\S+)", subprocess.check_output(["rustc", "-vV"], text=True)).group(1)
    metadata = json.loads(subprocess.check_output(
        ["cargo", "metadata", "--format-version", "1", "--all-features", "--filter-platform", host], text=True))
    packages = {package["id"]: package for package in metadata["packages"]}
    nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
    ours = {packages[member]["name"]: member for member in metadata["workspace_members"]}
    wrong = []

    # `cargo metadata` lists optional dependencies that nothing switches on; `cargo tree` lists what is built.
    built = subprocess.check_output(
        ["cargo", "tree", "--workspace", "--all-features", "-e", "normal,build,dev", "--prefix", "none", "--format", "{p}"],
        text=True)
    used = {tuple(line.split()[:2]) for line in built.splitlines() if line.strip()}
    resolved = [p for p in packages.values() if (p["name"], "v" + p["version"]) in used]
    for package in resolved:
        name = package["name"]
        if name in BANNED:
            wrong.append(f"{name} {package['version']} is in the tree: {BANNED[name]}")
        if package["source"] and name not in LICENCE_EXCEPTIONS and not is_allowed(package["license"] or "none"):
            wrong.append(f"{name}: licence {package['license']!r} is not on the list")

    for name, may in FLOORS.items():
        direct = {
            packages[dependency["pkg"]]["name"]
            for dependency in nodes[ours[name]]["deps"]
            if any(kind["kind"] != "dev" for kind in dependency["dep_kinds"])
        }
        for other in (direct & set(ours)) - may:
            wrong.append(f"{name} stands on {other}: no arrow runs back up")
        package = packages[ours[name]]
        for field in METADATA:
            if not package.get(field):
                wrong.append(f"{name} has no {field}: it can't be published")

    tree = subprocess.check_output(
        ["cargo", "tree", "-p", "tower-token-broker", "-e", "normal", "--prefix", "none", "--format", "{p}"], text=True)
    for name in {line.split()[0] for line in tree.splitlines() if line.strip()} & HEAVY:
        wrong.append(f"tower-token-broker brings {name} in its default features")

    crypto = {package["name"] for package in resolved} & {"aws-lc-rs", "ring", "openssl", "boring"}
    if crypto != {"aws-lc-rs"}:
        wrong.append(f"crypto providers: {crypto}")

    sources = subprocess.run(
        ["grep", "-rln", "--include=*.rs", "-E", r"\breqwest::", "crates"], capture_output=True, text=True).stdout.split()
    for source in sources:
        if not source.startswith("crates/token-broker-outbound/"):
            wrong.append(f"{source} names reqwest: token-broker-outbound is the way out")

    for line in wrong:
        print(f"WRONG: {line}")
    print(f"{len(resolved)} packages looked at, {len(wrong)} wrong")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(self_test() if "--self-test" in sys.argv else main())
