#!/usr/bin/env python3
"""report_schema.py SCHEMA LOG...: every event and field in real logs is in the table that `atoll report --schema` prints."""
import json
import re
import sys

WRITERS = {"workers": ["worker"], "the outer": ["outer"], "every node": ["worker", "outer"]}
KINDS = {"count": int, "integer": int, "real": (int, float, type(None)), "bool": bool, "text": str, "list": list}


def read_table(text):
    table = {}
    for head in re.finditer(r"^(\w+): .* \(written by ([a-z ]+)\)\n((?:    .*\n)*)", text.split("--json:")[0], re.M):
        rows = dict(line.split()[:2] for line in head[3].splitlines())
        for writer in WRITERS[head[2]]:
            table[writer, head[1]] = rows
    return table


def main():
    table, wrong, role = read_table(open(sys.argv[1]).read()), set(), "worker"
    assert len(table) > 15, "the table was not understood"
    for path in sys.argv[2:]:
        for line in open(path):
            record = json.loads(line)
            event = record.pop("event")
            record.pop("t_us"), record.pop("t_wall")
            record.update({f"build.{name}": value for name, value in record.pop("build", {}).items()})
            if event == "header":
                role = "outer" if record["role"] == "outer" else "worker"
            rows = table.get((role, event))
            if rows is None:
                wrong.add(f"{role}: {event}")
                continue
            wrong.update(f"{role}: {event}.{name}" for name, value in record.items() if not isinstance(value, KINDS.get(rows.get(name), ())))
    print(*sorted(wrong), sep="\n")
    sys.exit(1 if wrong else 0)


main()
