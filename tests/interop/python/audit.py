"""Checks each record of an audit file against the published schema, with an independent validator."""

import json
import sys
from collections import Counter

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)

# The file is in use: a record after the last line break may be incomplete.
with open(sys.argv[2], encoding="ascii") as file:
    records = [json.loads(line) for line in file if line.endswith("\n")]
for record in records:
    validator.validate(record)
    # The check itself must fail: a member that is not in the schema.
    if validator.is_valid(record | {"arguments": {}}):
        sys.exit(f"the schema is open: {record}")
kinds = Counter(record["kind"] for record in records)
if not {"start", "intent", "result"} <= kinds.keys():
    sys.exit(f"too little was recorded to show anything: {kinds}")
print(f"{len(records)} records are valid: {dict(kinds)}")
