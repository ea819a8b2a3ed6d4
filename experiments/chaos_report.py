#!/usr/bin/env python3
"""chaos_report.py DIR --kills N --outer-kills N --minutes M [--scale] [--json FILE]: what the kills of chaos.sh cost, from the logs alone:
DIR/chaos (killed) against DIR/calm (undisturbed), each {outer,worker-K}/log.jsonl and kills.jsonl. N and M are what was planned. A table with
the bound beside each number; exit code 0 only when all bounds hold. --scale: the bounds of `chaos.sh --scale`; the other numbers are shown
without."""
import argparse
import bisect
import collections
import datetime
import glob
import itertools
import json
import os
import statistics
import sys

CLOSE_MEDIAN_S, CLOSE_WORST_S = 1.0, 2.0
COUNTED_AGAIN_S = 10.0
OUTER_BACK_S = 5.0
GOODPUT = 0.97
LOSS = 1.01
COMMIT_RATE = 0.05


def records(path):
    """Whole lines; a process that was killed may leave half of one."""
    found = []
    for line in open(path, "rb").read().split(b"\n")[:-1]:
        try:
            found.append(json.loads(line))
        except ValueError:
            pass
    for record in found:
        record["t"] = datetime.datetime.fromisoformat(record["t_wall"].replace("Z", "+00:00")).timestamp()
    return found


def of(log, event, **fields):
    return [r for r in log if r["event"] == event and all(r.get(k) == v for k, v in fields.items())]


class Run:
    """faults: the file in `directory` that says what was done to the run."""

    def __init__(self, directory, faults="kills.jsonl"):
        self.outer = records(os.path.join(directory, "outer", "log.jsonl"))
        self.workers = {os.path.basename(os.path.dirname(p)): records(p)
                        for p in sorted(glob.glob(os.path.join(directory, "worker-*", "log.jsonl")))}
        self.kills = records(os.path.join(directory, faults))
        if not self.outer or not of(self.outer, "start"):
            sys.exit(f"chaos_report: {directory}: the training never started")
        self.header = of(self.outer, "header")[0]
        self.slots = {r["node"]: r["slot"] for r in of(self.outer, "join")}
        self.nodes = {slot: node for node, slot in self.slots.items()}
        self.began = of(self.outer, "start")[0]["t"]
        self.ends = of(self.outer, "end")
        self.sent = {}  # (slot, fragment, tokens_to) -> (time, tokens)
        for node, log in self.workers.items():
            for r in of(log, "sync_send"):
                self.sent.setdefault((self.slots[node], r["fragment"], r["tokens_to"]), (r["t"], r["tokens"]))
        self.commits = sorted(of(self.outer, "commit"), key=lambda r: r["t"])
        self.rebuilt = self.rebuild_unlogged()
        self.last_commit = self.commits[-1]["t"] if self.commits else self.began
        self.wall = self.last_commit - self.began
        self.ledger = {(r["slot"], r["fragment"]): r for r in of(self.outer, "ledger")}
        self.fragments = sorted({r["fragment"] for r in self.commits})

    def rebuild_unlogged(self):
        """An outer that was killed between making a commit durable and logging it publishes it at its next start: who is counted in it then stands
        in the workers' logs only."""
        known = {(r["fragment"], r["version"]) for r in self.commits}
        seen = collections.defaultdict(dict)
        for node, log in self.workers.items():
            send = {}
            for r in log:
                if r["event"] == "sync_send":
                    send[r["fragment"]] = r
                elif r["event"] == "commit" and (r["fragment"], r["version"]) not in known:
                    seen[r["fragment"], r["version"]][node] = (r, send.get(r["fragment"]))
        for (fragment, version), told in seen.items():
            counted = [{"slot": self.slots[node], "tokens_from": s["tokens_from"], "tokens_to": s["tokens_to"], "tokens": s["tokens"]}
                       for node, (r, s) in told.items() if r.get("counted") and s]
            first = min((r for r, _ in told.values()), key=lambda r: r["t"])
            self.commits.append({"event": "commit", "fragment": fragment, "version": version, "counted": counted, "t": first["t"],
                                 "state_hash": first["state_hash"], "run_step": first.get("run_step", 0)})
        self.commits.sort(key=lambda r: r["t"])
        return len(seen)

    def commits_after(self, t, fragment=None):
        first = bisect.bisect_right([r["t"] for r in self.commits], t)
        return [r for r in self.commits[first:] if fragment is None or r["fragment"] == fragment]

    def send_time(self, fragment, counted):
        return self.sent.get((counted["slot"], fragment, counted["tokens_to"]), (None, 0))[0]

    def processed(self):
        return sum(r["processed"] for r in self.ledger.values()) / max(1, len(self.fragments))

    def applied(self):
        return sum(r["applied"] for r in self.ledger.values()) / max(1, len(self.fragments))


def outages(run):
    """From the kill of the outer to its next commit."""
    found = []
    for kill in of(run.kills, "kill", node="outer"):
        after = run.commits_after(kill["t"])
        found.append((kill["t"], after[0]["t"] if after else run.last_commit))
    return found


def closes(run):
    """Per kill of a worker and fragment: seconds from the later of (the kill, the last survivor's contribution that counts) to the commit of the
    round that was open or due; None: it never came."""
    found, down = [], outages(run)
    for kill in run.kills:
        if kill["event"] != "kill" or kill["node"] == "outer":
            continue
        for fragment in run.fragments:
            after = run.commits_after(kill["t"], fragment)
            if not after:
                found.append(None)
                continue
            if any(begin < after[0]["t"] and kill["t"] < end for begin, end in down):
                continue
            sends = [run.send_time(fragment, c) for c in after[0]["counted"] if run.nodes[c["slot"]] != kill["node"]]
            found.append(after[0]["t"] - max([kill["t"]] + [t for t in sends if t is not None]))
    return found


def undisturbed_closes(run):
    found = []
    for commit in run.commits:
        sends = [run.send_time(commit["fragment"], c) for c in commit["counted"]]
        sends = [t for t in sends if t is not None]
        if sends:
            found.append(commit["t"] - max(sends))
    return found


def counted_again(run):
    """Per start of a killed worker: seconds to the first commit that counts what it sent after it; None: never."""
    found = []
    for start in run.kills:
        if start["event"] != "start" or start["node"] == "outer":
            continue
        slot = run.slots[start["node"]]
        found.append(next((commit["t"] - start["t"] for commit in run.commits_after(start["t"]) for c in commit["counted"]
                           if c["slot"] == slot and (run.send_time(commit["fragment"], c) or 0) >= start["t"]), None))
    return found


def outer_back(run):
    return [next((c["t"] - start["t"] for c in run.commits_after(start["t"])), None)
            for start in of(run.kills, "start", node="outer")]


def ledger_errors(run):
    errors = []
    applied = collections.Counter()
    lines = collections.defaultdict(list)
    for commit in run.commits:
        for c in commit["counted"]:
            applied[c["slot"], commit["fragment"]] += c["tokens"]
            lines[c["slot"], commit["fragment"]].append((c["tokens_from"], c["tokens_to"]))
    for (slot, fragment), r in run.ledger.items():
        where = f"slot {slot}, fragment {fragment}"
        if r["processed"] != r["applied"] + r["in_flight"] + r["unsent"] + r["dropped"]:
            errors.append(f"{where}: processed {r['processed']} is not applied + in flight + unsent + dropped")
        if min(r[k] for k in ("processed", "applied", "in_flight", "unsent", "dropped")) < 0:
            errors.append(f"{where}: a negative number")
        if r["applied"] != applied[slot, fragment]:
            errors.append(f"{where}: applied {r['applied']}, in commits {applied[slot, fragment]}")
    for key, intervals in lines.items():
        intervals.sort()
        for before, after in zip(intervals, intervals[1:]):
            if after[0] < before[1]:
                errors.append(f"slot {key[0]}, fragment {key[1]}: {before} and {after} are counted twice in part")
    if not run.ledger:
        errors.append("no ledger in the outer's log")
    return errors


def hash_errors(run):
    errors = []
    wanted = {}
    versions = collections.defaultdict(set)
    for r in run.commits:
        if r["version"] in versions[r["fragment"]]:
            errors.append(f"fragment {r['fragment']}: version {r['version']} was made twice")
        versions[r["fragment"]].add(r["version"])
        wanted[r["fragment"], r["version"]] = r["state_hash"]
    for fragment, seen in versions.items():
        missing = set(range(1, max(seen) + 1)) - seen
        if missing:
            errors.append(f"fragment {fragment}: nobody logged version(s) {sorted(missing)}")
    compared = 0
    for node, log in run.workers.items():
        for r in of(log, "commit"):
            compared += 1
            if wanted.get((r["fragment"], r["version"])) != r["state_hash"]:
                errors.append(f"{node}: fragment {r['fragment']}, version {r['version']}: another state hash than the outer's")
        for r in of(log, "recover", what="state hash"):
            errors.append(f"{node}: fragment {r['fragment']}, version {r['version']}: wrong state hash, fetched again")
    final = run.ends[-1]["state_hash"] if run.ends else None
    for node, log in run.workers.items():
        ends = [r for r in of(log, "end") if r.get("state_hash")]
        if ends and ends[-1]["state_hash"] != final:
            errors.append(f"{node}: ends with another state than the outer")
    return errors, compared


def exits(run):
    ended = of(run.kills, "ended")
    bad = [f"{r['node']} ended with {r['exit_code']}" for r in ended if r["exit_code"] != 0]
    if len(ended) != len(run.workers) + 1:
        bad.append(f"only {len(ended)} of {len(run.workers) + 1} processes ended")
    return bad


def commit_rate(run):
    times = [r["t"] for r in run.commits]
    return (len(times) - 1) / (times[-1] - times[0]) if len(times) > 1 else 0


def lost_steps(run):
    """Per restart: inner steps that died with the process, and seconds from the start to the first new step."""
    lost, first = [], []
    for start in run.kills:
        log = run.workers.get(start["node"], [])
        if start["event"] != "start" or not log:
            continue
        before = [r for r in of(log, "step") if r["t"] < start["t"]]
        back = [r for r in of(log, "recover", what="restart") if r["t"] >= start["t"]]
        steps = [r for r in of(log, "step") if r["t"] >= start["t"]]
        if before and back:
            lost.append(before[-1]["step"] - back[0]["step"])
        if steps:
            first.append(steps[0]["t"] - start["t"])
    return lost, first


def trained(run):
    """Inner steps of all workers by their own logs, and how these differ from the tokens that the ledger calls processed. A process that is killed
    takes with it at most one step's line, so that is all that a kill may explain."""
    steps, missing, errors = 0, 0, []
    for node, log in run.workers.items():
        done = len(of(log, "step"))
        steps += done
        tokens = done * of(log, "header")[0]["tokens_per_step"]
        slack = len(of(run.kills, "kill", node=node)) * of(log, "header")[0]["tokens_per_step"]
        for fragment in run.fragments:
            processed = run.ledger.get((run.slots[node], fragment), {}).get("processed", 0)
            missing = max(missing, processed - tokens)
            if not tokens <= processed <= tokens + slack:
                errors.append(f"{node}, fragment {fragment}: {done} steps are {tokens} tokens, the ledger says {processed}")
    return steps, missing, errors


def skipped(run):
    """Steps of the run clock that workers did not train, as shares of all their steps: (skipped by inner.pace, passed while they were away)."""
    pace = away = 0
    for log in run.workers.values():
        step, back = 0, False
        for r in log:
            if r["event"] == "recover" and r.get("what") == "restart":
                back = True  # until it sends again, it takes up where the others are
            elif r["event"] == "sync_send":
                back = False
            elif r["event"] == "step":
                gap = max(0, r["step"] - step - 1)
                pace, away = pace + (0 if back else gap), away + (gap if back else 0)
                step = max(step, r["step"])
    every = max(1, run.header["steps"] * len(run.workers))
    return pace / every, away / every


def checkpoints(run):
    found = [r for log in run.workers.values() for r in of(log, "checkpoint")]
    return found


class Table:
    """A row per number, with the bound beside it where there is one."""

    def __init__(self):
        self.rows = []

    def add(self, name, value, text, bound=None, holds=True, why=()):
        self.rows.append({"name": name, "value": value, "text": text, "bound": bound, "holds": bool(holds), "why": list(why)})

    def seconds(self, name, values, pick, bound, bounded):
        """None among the values is what never came; that holds no bound, also where a number has none."""
        never = sum(v is None for v in values)
        known = [v for v in values if v is not None]
        if never:
            self.add(name, None, f"never ({never} of {len(values)})", f"<= {bound:g} s" if bounded else "ever", False)
        elif known:
            value = pick(known)
            self.add(f"{name} ({len(known)})", round(value, 3), f"{value:.2f} s", f"<= {bound:g} s" if bounded else None,
                     not bounded or value <= bound)

    def print(self):
        width = max(len(r["name"]) for r in self.rows) + 2
        for r in self.rows:
            verdict = "" if r["bound"] is None else "ok" if r["holds"] else "FAILED"
            print(f"{r['name']:<{width}}{r['text']:>18}  {r['bound'] or '':<18}{verdict}".rstrip())
            for line in r["why"][:5]:
                print(f"    {line}")
            if len(r["why"]) > 5:
                print(f"    ... and {len(r['why']) - 5} more")

    def add_state(self, run, which=""):
        """What must hold of any run, whatever was done to it."""
        wrong = ledger_errors(run)
        self.add(f"ledger{which}", not wrong, "exact" if not wrong else "WRONG", "exact", not wrong, wrong)
        wrong, compared = hash_errors(run)
        self.add(f"state hashes{which}", compared, f"{compared} agree" if not wrong else "WRONG", "all", not wrong, wrong)
        wrong = exits(run)
        self.add(f"all processes end normally{which}", not wrong, "yes" if not wrong else "NO", "yes", not wrong, wrong)

    def finish(self, json_path):
        """Print it, write it where asked, and exit: 0 when all bounds hold."""
        self.print()
        holds = all(r["holds"] for r in self.rows)
        if json_path:
            with open(json_path, "w", encoding="utf-8") as file:
                json.dump({"holds": holds, "rows": self.rows}, file, indent=2)
                file.write("\n")
        sys.exit(0 if holds else 1)


def add_plan(table, chaos, calm, planned):
    """A kill counts that was done while the run still made commits."""
    kills = [k for k in of(chaos.kills, "kill") if k["t"] < chaos.last_commit]
    outer = of(kills, "kill", node="outer")
    for name, done, wanted in (("kills of workers", len(kills) - len(outer), planned.kills), ("kills of the outer", len(outer), planned.outer_kills)):
        table.add(name, done, str(done), f"{wanted} planned", done == wanted)
    for name, run in (("run goes on", chaos), ("run goes on, undisturbed", calm)):
        table.add(name, round(run.wall, 3), f"{run.wall:.0f} s", f">= {60 * planned.minutes:g} s", run.wall >= 60 * planned.minutes)


def report(chaos, calm, planned):
    scale = planned.scale
    table = Table()
    add_plan(table, chaos, calm, planned)
    late = closes(chaos)
    table.seconds("round at a kill closes, median", late, statistics.median, CLOSE_MEDIAN_S, not scale)
    table.seconds("round at a kill closes, worst", late, max, CLOSE_WORST_S, not scale)
    table.seconds("  undisturbed: median", undisturbed_closes(calm), statistics.median, 0, False)
    table.seconds("  undisturbed: worst", undisturbed_closes(calm), max, 0, False)
    table.seconds("restart to counted again, worst", counted_again(chaos), max, COUNTED_AGAIN_S, not scale)
    table.seconds("restart of the outer to a commit", outer_back(chaos), max, OUTER_BACK_S, not scale)
    share = chaos.applied() / chaos.wall / (calm.processed() / calm.wall) if calm.wall and chaos.wall and calm.processed() else 0
    table.add("goodput", round(share, 4), f"{100 * share:.2f} %", None if scale else f">= {100 * GOODPUT:g} %", scale or share >= GOODPUT)
    change = commit_rate(chaos) / commit_rate(calm) - 1 if commit_rate(calm) else 1
    table.add("commit rate against undisturbed", round(change, 4), f"{100 * change:+.1f} %", f"within {100 * COMMIT_RATE:g} %" if scale else None,
              not scale or abs(change) <= COMMIT_RATE)
    for name, run in (("", chaos), (", undisturbed", calm)):
        table.add_state(run, name)
        steps, missing, wrong = trained(run)
        text = "WRONG" if wrong else f"{steps} exact" if not missing else f"{steps}, {missing} tokens more"
        bound = "exact" if not of(run.kills, "kill") else "1 step a kill"
        table.add(f"steps in workers' logs, processed{name}", steps, text, bound, not wrong, wrong)
    for name, run in (("", chaos), (", undisturbed", calm)):
        pace, away = skipped(run)
        table.add(f"clock steps skipped by pace{name}", round(pace, 4), f"{100 * pace:.2f} %")
        table.add(f"clock steps passed while away{name}", round(away, 4), f"{100 * away:.2f} %")
    losses = [run.ends[-1].get("eval_loss") if run.ends else None for run in (chaos, calm)]
    if None in losses:
        table.add("final held-out loss", None, "missing", "within 1 %", False)
    else:
        table.add("final held-out loss", losses[0], f"{losses[0]:.4f}", None if scale else f"<= {LOSS * losses[1]:.4f}",
                  scale or losses[0] <= LOSS * losses[1])
        table.add("  undisturbed", losses[1], f"{losses[1]:.4f}")
    lost, first = lost_steps(chaos)
    if lost:
        table.add("inner steps lost per kill, mean", statistics.mean(lost), f"{statistics.mean(lost):.1f}")
    table.seconds("restart to its first step, worst", first, max, 0, False)
    saved = checkpoints(chaos)
    if saved:
        table.add("training stands still for a checkpoint", statistics.mean(r["stall_us"] for r in saved) / 1e3,
                  f"{statistics.mean(r['stall_us'] for r in saved) / 1e3:.2f} ms")
        table.add("writing it takes, beside training", statistics.mean(r["write_us"] for r in saved) / 1e3,
                  f"{statistics.mean(r['write_us'] for r in saved) / 1e3:.0f} ms")
    steps = sorted(r["compute_us"] for log in calm.workers.values() for r in of(log, "step"))
    table.add("an inner step's own time, median", steps[len(steps) // 2] / 1e3, f"{steps[len(steps) // 2] / 1e3:.1f} ms")
    if chaos.rebuilt:
        table.add("commits that only workers logged", chaos.rebuilt, str(chaos.rebuilt))
    return table


def run_file(directory, name):
    """What the outer really ran: every key."""
    with open(os.path.join(directory, name, "outer", "run.yaml"), encoding="utf-8") as file:
        return file.read().splitlines()


def main():
    parser = argparse.ArgumentParser(description="what the kills of chaos.sh cost")
    parser.add_argument("directory")
    parser.add_argument("--kills", type=int, required=True)
    parser.add_argument("--outer-kills", type=int, required=True)
    parser.add_argument("--minutes", type=float, required=True)
    parser.add_argument("--scale", action="store_true")
    parser.add_argument("--json")
    values = parser.parse_args()
    chaos, calm = Run(os.path.join(values.directory, "chaos")), Run(os.path.join(values.directory, "calm"))
    both = itertools.zip_longest(run_file(values.directory, "chaos"), run_file(values.directory, "calm"))
    for number, (killed, undisturbed) in enumerate(both, 1):
        if killed != undisturbed:
            sys.exit(f"chaos_report: outer/run.yaml:{number} is '{killed}' in the killed run, '{undisturbed}' in the undisturbed one")
    table = report(chaos, calm, values)
    print(f"{len(chaos.workers)} workers, {len(chaos.commits)} commits; {len(calm.commits)} undisturbed")
    table.finish(values.json)


if __name__ == "__main__":
    main()
