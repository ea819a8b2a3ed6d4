#!/usr/bin/env python3
"""saturated_report.py DIR [--json FILE]: what saturated.sh found, from the logs alone: DIR/{outer,worker-K}/log.jsonl and faults.jsonl. A table
with the bound beside each number; exit code 0 only when all bounds hold."""
import argparse
import re

from chaos_report import Run, Table, of

FULL = 0.90
BACK_S = 10.0


def bits_per_s(text):
    """As tc says it: 10mbit, 250kbit."""
    number, unit = re.fullmatch(r"([\d.]+)(|k|m|g)bit", text.lower()).groups()
    return float(number) * {"": 1, "k": 1e3, "m": 1e6, "g": 1e9}[unit]


class Saturated(Run):
    def __init__(self, directory):
        super().__init__(directory, "faults.jsonl")
        self.full, self.cut, self.heal, self.stop = (of(self.kills, event)[0] for event in ("full", "cut", "heal", "stop"))
        self.victim = self.cut["node"]
        self.slot = self.slots[self.victim]
        self.rate = bits_per_s(self.full["rate"])

    def used(self, direction, begin, end):
        """Share of the rate that went through each worker's interface from the first to the last sample in [begin, end]."""
        shares = {}
        for node in self.workers:
            samples = [r for r in of(self.kills, "bytes", node=node) if begin <= r["t"] <= end]
            first, last = samples[0], samples[-1]
            shares[node] = 8 * (last[direction] - first[direction]) / (last["t"] - first["t"]) / self.rate
        return shares

    def lost(self, begin, end):
        return [r for r in of(self.outer, "leave") if begin <= r["t"] < end]

    def counts(self, since, sent_since=0):
        """The first commit after `since` that counts the victim, by what it sent after `sent_since`."""
        return next((r for r in self.commits_after(since) for c in r["counted"]
                     if c["slot"] == self.slot and (self.send_time(r["fragment"], c) or 0) >= sent_since), None)

    def commits_per_s(self, begin, end):
        return sum(begin <= r["t"] < end for r in self.commits) / (end - begin)


def told(leaves):
    return [f"{r['node']}: {r['reason']}" for r in leaves]


def add_full(table, run):
    begin, end = run.full["t"], run.cut["t"]
    up, down = run.used("up", begin, end), run.used("down", begin, end)
    for name, shares in (("up", up), ("down", down)):
        table.add(f"link {name}, used of it: lowest of {len(shares)}", round(min(shares.values()), 4), f"{100 * min(shares.values()):.1f} %")
    busier = min(max(up[node], down[node]) for node in up)
    table.add("  the fuller direction, lowest", round(busier, 4), f"{100 * busier:.1f} %", f">= {100 * FULL:g} %", busier >= FULL)
    leaves = run.lost(begin, end)
    table.add("workers declared dead meanwhile", len(leaves), str(len(leaves)), "0", not leaves, told(leaves))
    table.add("  commits", run.commits_per_s(begin, end), f"{run.commits_per_s(begin, end):.2f} /s")
    trips = [r for r in of(run.outer, "round_trip") if r["slot"] != run.slot]
    if trips:  # of the whole run: what is cut off is no measure of a full link
        table.add("  control round trip, worst p99", max(r["p99_us"] for r in trips) / 1e6, f"{max(r['p99_us'] for r in trips) / 1e3:.0f} ms")
        table.add("  control round trip, worst", max(r["max_us"] for r in trips) / 1e6, f"{max(r['max_us'] for r in trips) / 1e3:.0f} ms")


def add_partition(table, run):
    cut, heal, stop = run.cut["t"], run.heal["t"], run.stop["t"]
    missed = [r for r in run.lost(cut, stop) if r["node"] == run.victim]
    others = [r for r in run.lost(cut, stop) if r["node"] != run.victim]
    table.seconds(f"{run.victim} cut off: missed after", [missed[0]["t"] - cut if missed and missed[0]["t"] < heal else None], max, heal - cut, True)
    again = [r for r in missed if r["t"] >= heal]
    table.add("others declared dead since", len(others), str(len(others)), "0", not others, told(others))
    table.add("it, once more after the heal", len(again), str(len(again)), "0", not again, told(again))
    table.add("  commits without it", run.commits_per_s(cut, heal), f"{run.commits_per_s(cut, heal):.2f} /s")
    joins = [r for r in of(run.outer, "join", node=run.victim) if r["t"] >= heal]
    joined = joins[-1]["t"] if joins else None
    counted = run.counts(joined) if joined else None
    fresh = run.counts(joined, heal) if joined else None
    table.seconds("heal to member again", [joined and joined - heal], max, BACK_S, True)
    table.seconds("heal to counted again", [counted and counted["t"] - heal], max, BACK_S, True)
    table.seconds("  by what it sent after the heal", [fresh and fresh["t"] - heal], max, BACK_S, False)
    fetched = sum(r["bytes"] for r in of(run.outer, "recover", what="snapshot", slot=run.slot) if r["t"] >= heal and (not joined or r["t"] <= joined))
    table.add("  whole fragments fetched to come back", fetched, f"{fetched / 1e6:.2f} MB")
    table.add("  the link needs for that", 8 * fetched / run.rate, f"{8 * fetched / run.rate:.2f} s")


def main():
    parser = argparse.ArgumentParser(description="what saturated.sh found")
    parser.add_argument("directory")
    parser.add_argument("--json")
    values = parser.parse_args()
    run = Saturated(values.directory)
    table = Table()
    add_full(table, run)
    add_partition(table, run)
    table.add_state(run)
    print(f"{len(run.workers)} workers behind {run.full['rate']}, full for {run.cut['t'] - run.full['t']:.0f} s, {run.victim} cut off for "
          f"{run.heal['t'] - run.cut['t']:.0f} s; {run.header['parameters']} parameters, {len(run.commits)} commits")
    table.finish(values.json)


if __name__ == "__main__":
    main()
