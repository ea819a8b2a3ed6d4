#!/usr/bin/env python3
"""What slow_links.sh measures, from the logs alone:

    slow_links_report.py off STEPS LOG...                         seconds of a step with sync off, mean of the last STEPS of each log
    slow_links_report.py steady LAST EVERY LOG...                 exit code 0 when the EVERY steps up to LAST took as long as those before
    slow_links_report.py cell DIR CELL real|paced LAST EVERY OFF LATE     the line of a cell: the EVERY steps up to step LAST, of OFF seconds with
                                                                  sync off; none when late paced steps may have changed the utilization by LATE
    slow_links_report.py table CELLS.jsonl [--every H] [--json FILE]      all of them; exit code 0 when the bound holds
"""
import argparse
import json
import os
import statistics
import sys

from chaos_report import Run, hash_errors, of, records

BOUND = 0.98
STEADY = 0.03  # rounds that differ by less are alike
BOUND_CELL = "e3m0/overlap/fragments/1"
CODECS = ["e3m0", "int4", "int8", "bf16", "f32"]
BITS_DATA_PARALLEL = 16


def seconds_per_step(steps):
    return (steps[-1]["t"] - steps[0]["t"]) / (steps[-1]["step"] - steps[0]["step"])


def off(count, paths):
    return statistics.mean(seconds_per_step(of(records(path), "step")[-count - 1:]) for path in paths)


def is_steady(last, every, paths):
    for path in paths:
        t = {r["step"]: r["t"] for r in of(records(path), "step")}
        if abs((t[last] - t[last - every]) / (t[last - every] - t[last - 2 * every]) - 1) > STEADY:
            return False
    return True


def cell(directory, name, step, last, every, off_s, late_allowed):
    """One line of cells.jsonl. Raises ValueError when the run is no measure."""
    open(os.path.join(directory, "none.jsonl"), "w", encoding="utf-8").close()
    run = Run(directory, "none.jsonl")
    wrong, compared = hash_errors(run)
    lost = of(run.outer, "leave")
    if wrong or lost:
        raise ValueError((wrong + [f"{r['node']} was lost: {r['reason']}" for r in lost])[0])
    steps, waits, late, sent = [], [], [], []
    for log in run.workers.values():
        inside = [r for r in of(log, "step") if last - every <= r["step"] <= last]
        begin, end = inside[0]["t"], inside[-1]["t"]
        steps.append(seconds_per_step(inside))
        late.append(sum(max(0, r["compute_us"] / 1e6 - off_s) for r in inside[1:]) / (end - begin))
        links = [r for r in of(log, "link") if begin - 1 <= r["t"] <= end + 1]  # one a second
        if not links:
            raise ValueError(f"{end - begin:.1f} s are too short for a measure")
        seconds = max(1, links[-1]["t"] - links[0]["t"])
        waits.append(min(1, (links[-1]["wait_us"] - links[0]["wait_us"]) / 1e6 / seconds))
        # What TCP sent again counts once: with the shaper on the worker's own interface most of it never left the machine.
        moved = [(r["wire_up"] - r.get("retransmitted_up", 0), r["wire_down"]) for r in (links[0], links[-1])]
        sent.append([8 * (after - before) / seconds for before, after in zip(*moved)])
    step_s = statistics.mean(steps)
    if step == "paced" and max(late) * off_s / step_s > late_allowed:
        raise ValueError(f"paced steps were late for {100 * max(late):.1f} % of the time: fewer --at-once")
    return {"cell": name, "step": step, "utilization": off_s / step_s, "off_s": off_s, "step_s": step_s, "wait": statistics.mean(waits),
            "late": max(late), "steps": every, "up_bits_per_s": statistics.mean(up for up, _ in sent),
            "down_bits_per_s": statistics.mean(down for _, down in sent), "parameters": run.header["parameters"],
            "fragments": len(run.header["fragments"]), "commits": len(run.commits), "hashes": compared,
            "payload_bytes": sum(f["payload_up_bytes"] for f in run.header["fragments"])}


def percent(value):
    return "" if value is None else f"{100 * value:.1f} %" if value >= 0.01 else f"{100 * value:.2g} %"


NAMES = {"overlap/fragments": "overlap, fragments", "overlap/whole": "overlap, whole", "wait/fragments": "no overlap, fragments",
         "wait/whole": "no overlap, whole"}


def table(path, every, json_path):
    lines = [json.loads(line) for line in open(path, encoding="utf-8")]
    cells = {(r["cell"], r["step"]): r for r in lines if "cell" in r}
    rates = sorted({name.split("/")[-1] for name, step in cells if step == "paced"}, key=float)
    rows, need = [], None
    for codec in CODECS:
        for way, text in NAMES.items():
            found = {rate: cells.get((f"{codec}/{way}/{rate}", "paced")) for rate in rates}
            if any(found.values()):
                rows.append((f"{codec}, {text}", [found[rate] and found[rate]["utilization"] for rate in rates]))
    if rows:
        a_cell = next(r for (_, step), r in cells.items() if step == "paced")
        need = BITS_DATA_PARALLEL * a_cell["parameters"] / a_cell["off_s"]
        print(f"Utilization (tokens/s, as a share of those with sync off): {a_cell['parameters'] / 1e6:.1f} M parameters, a round every {every} steps "
              f"of {a_cell['off_s']:.3f} s, two workers; the steps are paced\n")
        print("| Mbit/s, up and down, of each worker | " + " | ".join(rates) + " |")
        print("|---" * (len(rates) + 1) + "|")
        for name, values in rows:
            print(f"| {name} | " + " | ".join(percent(value) for value in values) + " |")
        print(f"| *computed:* data-parallel, bf16 gradients each step: at most (it needs {need / 1e6:.0f} Mbit/s) | " +
              " | ".join(percent(min(1, 1e6 * float(rate) / need)) for rate in rates) + " |")
    real = [r for (_, step), r in cells.items() if step == "real"]
    if real:
        print("\nWith real training, one core per worker, alone on the machine\n")
        print("| cell | utilization | paced | exposed wait | a step: with sync off, with sync |")
        print("|---|---|---|---|---|")
        for r in real:
            paced = cells.get((r["cell"], "paced"))
            codec, overlap, layout, rate = r["cell"].split("/")
            print(f"| {codec}, {NAMES[f'{overlap}/{layout}']}, {rate} Mbit/s | {percent(r['utilization'])} | "
                  f"{percent(paced and paced['utilization'])} | {percent(r['wait'])} | {r['off_s']:.3f} s, {r['step_s']:.3f} s |")
    bound = cells.get((BOUND_CELL, "real"))
    holds = bound is not None and bound["utilization"] >= BOUND
    print(f"\n{BOUND_CELL}, real training: {'not measured' if bound is None else format(bound['utilization'], '.4f')}  >= {BOUND:g}  "
          f"{'ok' if holds else 'FAILED'}")
    if json_path:
        with open(json_path, "w", encoding="utf-8") as file:
            json.dump({"holds": holds, "bound": BOUND, "bound_cell": BOUND_CELL, "every_steps": every, "data_parallel_bits_per_s": need,
                       "cells": list(cells.values())}, file, indent=2)
            file.write("\n")
    return holds


def main():
    parser = argparse.ArgumentParser(description="what slow_links.sh measures")
    actions = parser.add_subparsers(dest="action", required=True)
    action = actions.add_parser("off")
    action.add_argument("steps", type=int)
    action.add_argument("logs", nargs="+")
    action = actions.add_parser("steady")
    action.add_argument("last", type=int)
    action.add_argument("every", type=int)
    action.add_argument("logs", nargs="+")
    action = actions.add_parser("cell")
    for name, kind in (("directory", str), ("name", str), ("step", str), ("last", int), ("every", int), ("off", float), ("late", float)):
        action.add_argument(name, type=kind)
    action = actions.add_parser("table")
    action.add_argument("cells")
    action.add_argument("--every", type=int, default=100)
    action.add_argument("--json")
    values = parser.parse_args()
    if values.action == "off":
        print(f"{off(values.steps, values.logs):.6f}")
    elif values.action == "steady":
        sys.exit(0 if is_steady(values.last, values.every, values.logs) else 1)
    elif values.action == "cell":
        try:
            print(json.dumps(cell(values.directory, values.name, values.step, values.last, values.every, values.off, values.late)))
        except ValueError as error:
            sys.exit(f"slow_links_report: {values.name}: {error}")
    else:
        sys.exit(0 if table(values.cells, values.every, values.json) else 1)


if __name__ == "__main__":
    main()
