#!/usr/bin/env python3
"""by_turns_report.py DIR [--rate R] [--wait W] [--outer-cpu C] [--json FILE]: what by_turns.sh found, from the logs alone: DIR/slices.jsonl says
when which set of processes ran, DIR/SET/{outer,worker-K}/log.jsonl what they did. A table with the bound beside each number; exit code 0 only
when all bounds hold. Bounds: R tokens/s as a share of those with sync off, W exposed wait as a share of the time, C cores that the outer uses."""
import argparse
import bisect
import glob
import json
import os
import re
import statistics

from chaos_report import Run, Table, of, records


class Set:
    def __init__(self, directory, name, slices):
        self.name = name
        self.directory = os.path.join(directory, name)
        self.slices = slices
        self.ends = [s["to"] for s in slices]
        self.passed = [0.0]  # seconds that this set ran before slice i
        for s in slices:
            self.passed.append(self.passed[-1] + s["to"] - s["from"])
        self.turns = sorted({s["turn"] for s in slices})
        pattern = "worker-*/worker-0/log.jsonl" if name == "off" else "worker-*/log.jsonl"
        self.logs = [records(path) for path in sorted(glob.glob(os.path.join(self.directory, pattern)))]
        self.steps = [of(log, "step") for log in self.logs]

    def clock(self, t):
        """Seconds that this set ran until t, since its first slice."""
        i = bisect.bisect_left(self.ends, t)
        return self.passed[i] + (max(0.0, t - self.slices[i]["from"]) if i < len(self.slices) else 0.0)

    def span(self, turn=None):
        mine = [s for s in self.slices if turn in (None, s["turn"])]
        return mine[0]["from"], mine[-1]["to"] + 0.05  # what was written at the very end of a slice

    def inside(self, log, turn=None):
        begin, end = self.span(turn)
        return [r for r in log if begin <= r["t"] <= end]

    def rate(self, turn=None):
        """Tokens/s of all workers together, in one turn or in all; None when one of them has less than two steps there."""
        rate = 0
        for steps in self.steps:
            inside = self.inside(steps, turn)
            if len(inside) < 2:
                return None
            rate += (inside[-1]["tokens"] - inside[0]["tokens"]) / (self.clock(inside[-1]["t"]) - self.clock(inside[0]["t"]))
        return rate

    def steps_per_worker(self):
        return statistics.mean(len(self.inside(steps)) for steps in self.steps)

    def wait(self):
        """Share of the time in which a worker stood still for the network, at most: a wait that went on while the process was stopped comes out in
        one second's record, and no more of it counts than the set's clock says."""
        waited = seconds = 0
        for log in self.logs:
            links = self.inside(of(log, "link"))
            for before, after in zip(links, links[1:]):
                passed = self.clock(after["t"]) - self.clock(before["t"])
                waited, seconds = waited + min((after["wait_us"] - before["wait_us"]) / 1e6, passed), seconds + passed
        return waited / seconds if seconds else 0

    def outer_cpu(self):
        """Cores in use, of each turn."""
        turns = [[s for s in self.slices if s["turn"] == turn] for turn in self.turns]
        return [sum(s["outer_cpu_s"] for s in slices) / sum(s["to"] - s["from"] for s in slices) for slices in turns]


def spread(values, form):
    return f"{form.format(min(values))} .. {form.format(max(values))}"


def add_set(table, on, off, bounds):
    run = Run(on.directory, "ended.jsonl")
    pairs = [(a, b) for a, b in ((on.rate(turn), off.rate(turn)) for turn in on.turns) if a and b]
    shares = [a / b for a, b in pairs]
    every = run.header["every_steps"]
    if not shares:
        table.add(f"every {every} steps: tokens/s", None, "too few steps", f">= {bounds.rate:g}", False)
        return
    median = statistics.median(shares)
    table.add(f"every {every} steps: tokens/s, of those without, median of {len(shares)}", median, f"{median:.4f}",
              bounds.rate and f">= {bounds.rate:g}", not bounds.rate or median >= bounds.rate)
    table.add("  lowest and highest", shares, spread(shares, "{:.4f}"))
    table.add("  of all turns together", on.rate() / off.rate(), f"{on.rate() / off.rate():.4f}")
    table.add("  tokens/s, median", statistics.median(a for a, _ in pairs), f"{statistics.median(a for a, _ in pairs):.1f}")
    wait = on.wait()
    table.add("  exposed wait", wait, f"{100 * wait:.3f} %", bounds.wait and f"<= {100 * bounds.wait:g} %",
              not bounds.wait or wait <= bounds.wait)
    cpu = on.outer_cpu()
    table.add("  cores that the outer uses, median", statistics.median(cpu), f"{100 * statistics.median(cpu):.2f} %",
              bounds.outer_cpu and f"<= {100 * bounds.outer_cpu:g} %", not bounds.outer_cpu or statistics.median(cpu) <= bounds.outer_cpu)
    table.add("    highest", max(cpu), f"{100 * max(cpu):.2f} %")
    rounds = on.steps_per_worker() / every
    table.add("  rounds of all fragments that this covers", rounds, f"{rounds:.2f}", ">= 1", rounds >= 1)
    lost = [f"{r['node']}: {r['reason']}" for r in of(run.outer, "leave") if r["t"] < on.slices[-1]["to"]]
    table.add("  workers that were lost meanwhile", len(lost), str(len(lost)), "0", not lost, lost)
    table.add_state(run, f", every {every}")


def main():
    parser = argparse.ArgumentParser(description="what by_turns.sh found")
    parser.add_argument("directory")
    parser.add_argument("--rate", type=float)
    parser.add_argument("--wait", type=float)
    parser.add_argument("--outer-cpu", type=float)
    parser.add_argument("--json")
    values = parser.parse_args()
    slices = [json.loads(line) for line in open(os.path.join(values.directory, "slices.jsonl"), encoding="utf-8")]
    names = sorted({s["set"] for s in slices}, key=lambda name: (name != "off", int(re.sub(r"\D", "", name) or 0)))
    sets = {name: Set(values.directory, name, [s for s in slices if s["set"] == name]) for name in names}
    off = sets.pop("off")
    header = of(off.logs[0], "header")[0]
    table = Table()
    rates = [rate for rate in (off.rate(turn) for turn in off.turns) if rate]
    if rates:
        table.add("sync off: tokens/s, median", statistics.median(rates), f"{statistics.median(rates):.1f}")
        table.add("  lowest and highest", rates, spread(rates, "{:.1f}"))
        step_s = header["tokens_per_step"] * len(off.logs) / statistics.median(rates)
        table.add("  a step, of the median", step_s, f"{1e3 * step_s:.1f} ms")
    for on in sets.values():
        add_set(table, on, off, values)
    print(f"{len(off.logs)} workers, {header['parameters']} parameters, {header['tokens_per_step']} tokens a step; {header['build']['cpu']}, "
          f"{header['build']['cores']} cores; {len(off.turns)} turns of {off.passed[-1] / len(off.turns):.0f} s of each set")
    table.finish(values.json)


if __name__ == "__main__":
    main()
