"""Checks the results of a suite run: all scenarios except the exceptions must pass, through the stack."""

import json
import pathlib
import re
import sys

RESULTS, REVISION, SCENARIOS, AUDIT = sys.argv[1:5]
exceptions = set()
for line in pathlib.Path(__file__).with_name("exceptions.txt").read_text().splitlines():
    if not line.startswith("#"):
        revision, scenario, _ = line.split(maxsplit=2)
        exceptions |= {scenario} if revision == REVISION else set()

failed, passed = {}, 0
scenarios = set()
for file in sorted(pathlib.Path(RESULTS).glob("*/checks.json")):
    scenario = re.fullmatch(r"server-(.+)-\d{4}-\d\d-\d\dT.*", file.parent.name)[1]
    scenarios.add(scenario)
    for check in json.loads(file.read_text()):
        passed += check["status"] == "SUCCESS"
        if check["status"] in ("FAILURE", "WARNING"):
            failed.setdefault(scenario, []).append(f"{check['id']}: {check.get('errorMessage')}")

required = {line.strip() for line in open(SCENARIOS, encoding="utf-8") if line.strip()}
results = [record for record in map(json.loads, open(AUDIT, encoding="utf-8")) if record["kind"] == "result"]
wrong = [f"{scenario}, {check}" for scenario in failed.keys() - exceptions for check in failed[scenario]]
wrong += [f"{scenario} is an exception and passes" for scenario in exceptions - failed.keys()]
wrong += [f"{scenario} is required and did not run" for scenario in required - scenarios]
wrong += [] if required else ["the suite requires nothing"]
wrong += [] if len(results) >= passed / 2 else [f"only {len(results)} requests went through the stack"]
print(f"{REVISION}: {passed} checks passed in {len(scenarios)} scenarios, {len(required)} of them required; ", end="")
print(f"{len(results)} requests through the stack; exceptions: {len(exceptions)}; wrong: {len(wrong)}")
for one in wrong:
    print(f"  {one}")
sys.exit(1 if wrong else 0)
