"""Checks on what the server received: the version that was agreed on in each request after `initialize`, in a session
of the server's own, with the upstream's token, and no denied call."""

import hashlib
import json
import os
import sys

VERSION, LOG, STATES_IT = sys.argv[1], sys.argv[2], sys.argv[3] == "stated"


def entry_names(entries):
    return [entry["name"] for entry in entries if entry["method"] == "tools/call"]


with open(LOG, encoding="utf-8") as log:
    seen = [json.loads(line) for line in log]
first, *later = [entry for entry in seen if entry["method"] or entry["http"] != "POST"]
failures = 0
for what, holds, found in [
    ("the first message is initialize", first["method"] == "initialize", first),
    ("later ones state the agreed version", {entry["mcp-protocol-version"] for entry in later} == {VERSION}, later),
    ("and it was requested" if STATES_IT else "and another was requested", (first["requested"] == VERSION) == STATES_IT, first),
    ("they are in one session", len({entry["mcp-session-id"] for entry in later}) == 1 and later[0]["mcp-session-id"], later),
    ("the allowed call came once, and the denied one did not", entry_names(later) == ["get_item"], later),
    (
        "each has the upstream's token",
        {entry["token"] for entry in seen} == {hashlib.sha256(os.environ["UPSTREAM_TOKEN"].encode()).hexdigest()},
        seen,
    ),
]:
    failures += not holds
    print(f"  {'ok  ' if holds else 'FAIL'} {what} {'' if holds else found}")
sys.exit(failures != 0)
