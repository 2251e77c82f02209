"""Checks the results of a suite run: all scenarios except the exceptions must pass, through the broker."""

import json
import pathlib
import re
import sys

FOLDER, MODE, SCENARIOS = sys.argv[1:4]
exceptions = set()
for line in pathlib.Path(__file__).with_name("exceptions.txt").read_text().splitlines():
    if not line.startswith("#"):
        mode, scenario, _ = line.split(maxsplit=2)
        exceptions |= {scenario} if mode == MODE else set()

failed, passed = {}, {}
scenarios = set()
for file in sorted(pathlib.Path(FOLDER, "results").glob("*/checks.json")):
    scenario = re.fullmatch(r"(?:authorization-)?server-(.+)-\d{4}-\d\d-\d\dT.*", file.parent.name)[1]
    scenarios.add(scenario)
    for check in json.loads(file.read_text()):
        if check["status"] == "SUCCESS":
            passed[scenario] = passed.get(scenario, 0) + 1
        if check["status"] in ("FAILURE", "WARNING"):
            failed.setdefault(scenario, []).append(f"{check['id']}: {check.get('errorMessage')}")

required = {line.strip() for line in open(SCENARIOS, encoding="utf-8") if line.strip()}
records = []
for file in sorted(pathlib.Path(FOLDER, "audit").glob("*.jsonl")):
    records += map(json.loads, file.read_text().splitlines())
results = [record for record in records if record["kind"] == "result"]
wrong = [f"{scenario}, {check}" for scenario in failed.keys() - exceptions for check in failed[scenario]]
wrong += [f"{scenario} is an exception and passes" for scenario in exceptions - failed.keys()]
wrong += [f"{scenario} is required, and no check of it passed" for scenario in required - passed.keys()]
wrong += [] if required else ["the suite requires nothing"]
# The token is that of a user who has signed in, once, and nothing went around the broker.
for kind in ("sign_in", "consent", "code_issued", "token_issued"):
    count = sum(record["kind"] == kind for record in records)
    wrong += [] if count == 1 else [f"{count} records of the kind {kind}"]
if MODE != "authorization":
    clients = {record.get("client") for record in results if record["outcome"] == "completed"}
    wrong += [] if len(results) >= sum(passed.values()) / 2 else [f"only {len(results)} requests reached the broker"]
    wrong += [] if clients == {"conformance"} else [f"requests by {clients}"]
print(f"{MODE}: {sum(passed.values())} checks passed in {len(scenarios)} scenarios, {len(required)} of them required; ", end="")
print(f"{len(results)} requests recorded; exceptions: {len(exceptions)}; wrong: {len(wrong)}")
for one in wrong:
    print(f"  {one}")
sys.exit(1 if wrong else 0)
