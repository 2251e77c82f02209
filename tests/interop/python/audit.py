"""Each record of an audit file against its published schema, by a validator that is not ours."""

import json
import sys
from collections import Counter

from jsonschema import Draft202012Validator

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
Draft202012Validator.check_schema(schema)
validator = Draft202012Validator(schema)

# The file is in use: behind the last line break a record may be on its way.
with open(sys.argv[2], encoding="ascii") as file:
    records = [json.loads(line) for line in file if line.endswith("\n")]
for record in records:
    validator.validate(record)
    # Seen false: a member that the schema does not know.
    if validator.is_valid(record | {"arguments": {}}):
        sys.exit(f"the schema is open: {record}")
kinds = Counter(record["kind"] for record in records)
if not {"start", "intent", "result"} <= kinds.keys():
    sys.exit(f"too little was recorded to show anything: {kinds}")
print(f"{len(records)} records are valid: {dict(kinds)}")
