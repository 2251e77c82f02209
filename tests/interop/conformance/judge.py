"""Checks the results of a suite run: all scenarios except the exceptions must pass, through the broker."""

import json
import pathlib
import re
import sys

FOLDER, MODE, SCENARIOS = sys.argv[1:4]
IS_CLIENT = MODE.startswith("client-")
exceptions = set()
for line in pathlib.Path(__file__).with_name("exceptions.txt").read_text().splitlines():
    if not line.startswith("#"):
        mode, scenario, _ = line.split(maxsplit=2)
        exceptions |= {scenario} if mode == MODE else set()

failed, passed = {}, {}
scenarios = set()
place = pathlib.Path(FOLDER, "results")
for file in sorted(place.glob("**/checks.json")):
    name = str(file.parent.relative_to(place))
    scenario = re.fullmatch(r"(?:(?:authorization-)?server-)?(.+)-\d{4}-\d\d-\d\dT.*", name)[1]
    scenarios.add(scenario)
    for check in json.loads(file.read_text()):
        if check["status"] == "SUCCESS":
            passed[scenario] = passed.get(scenario, 0) + 1
        if check["status"] in ("FAILURE", "WARNING"):
            failed.setdefault(scenario, []).append(f"{check['id']}: {check.get('errorMessage') or check['description']}")

required = {line.strip() for line in open(SCENARIOS, encoding="utf-8") if line.strip()}


def read(folder):
    """Returns the audit records of a folder."""
    files = sorted(folder.glob("*.jsonl"))
    return [json.loads(line) for file in files for line in file.read_text().splitlines()]


def once(records, kinds):
    """Returns what is wrong with records that must be there once."""
    counts = {kind: sum(record["kind"] == kind for record in records) for kind in kinds}
    return [f"{count} records of the kind {kind}" for kind, count in counts.items() if count != 1]


def broker_of(scenario):
    """Returns what is wrong with what the broker did in a client scenario, and its results.

    A scenario in which a client must refuse also passes if it does nothing; so the driver says how it ended."""
    folder = pathlib.Path(FOLDER, "brokers", scenario)
    outcome = folder / "outcome.json"
    if not outcome.exists():
        return ["the driver did not finish"], []
    outcome, records = json.loads(outcome.read_text()), read(folder / "broker" / "audit")
    results = [record for record in records if record["kind"] == "result"]
    if outcome["wrong"]:
        return [outcome["wrong"]], results
    is_refused = outcome["ends"] == "refused"
    is_served = any(result["outcome"] == "completed" for result in results)
    wrong = once(records, ["sign_in"] if is_refused else ["sign_in", "consent", "code_issued", "token_issued"])
    wrong += ["an account is connected"] if is_refused and any(one["kind"] == "connected" for one in records) else []
    wrong += [] if is_served or outcome["ends"] not in ("connected", "through") else ["no request is recorded"]
    return wrong, results


wrong = [f"{scenario}, {check}" for scenario in failed.keys() - exceptions for check in failed[scenario]]
stale = {scenario for scenario in exceptions - failed.keys() if scenario in passed or scenario not in scenarios}
wrong += [f"{scenario} is an exception and passes" for scenario in stale]
wrong += [f"{scenario} is required, and no check of it passed" for scenario in required - passed.keys() - exceptions]
wrong += [] if required else ["the suite requires nothing"]
if IS_CLIENT:
    results = []
    for scenario in sorted(scenarios - exceptions):
        found, of_scenario = broker_of(scenario)
        wrong += [f"{scenario}, {one}" for one in found]
        results += of_scenario
else:
    records = read(pathlib.Path(FOLDER, "audit"))
    results = [record for record in records if record["kind"] == "result"]
    # The token is that of a user who has signed in, once, and nothing went around the broker.
    wrong += once(records, ("sign_in", "consent", "code_issued", "token_issued"))
if MODE != "authorization":
    clients = {record.get("client") for record in results if record["outcome"] == "completed"}
    wrong += [] if clients == {"conformance"} else [f"requests by {clients}"]
if MODE != "authorization" and not IS_CLIENT:
    wrong += [] if len(results) >= sum(passed.values()) / 2 else [f"only {len(results)} requests reached the broker"]
print(f"{MODE}: {sum(passed.values())} checks passed in {len(scenarios)} scenarios, {len(required)} of them required; ", end="")
print(f"{len(results)} requests recorded; exceptions: {len(exceptions)}; wrong: {len(wrong)}")
for one in wrong:
    print(f"  {one}")
sys.exit(1 if wrong else 0)
