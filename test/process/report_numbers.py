#!/usr/bin/env python3
"""report_numbers.py REPORT.json DIR...: computes every number of `atoll report --json` again, from the log.jsonl files alone, from the
definitions that `atoll report --schema` prints, and compares. Shares no code with atoll. Exit code 0 when all agree."""
import collections
import datetime
import glob
import json
import math
import os
import sys

TOLERANCE = 1e-9


def records(path):
    """Whole lines only; what is not JSON, or not a record of its kind, is left out and counted."""
    whole, bad = [], 0
    data = open(path, "rb").read()
    for line in data.split(b"\n")[:-1]:
        try:
            record = json.loads(line)
            assert isinstance(record, dict) and record["t_us"] >= 0 and record.get("fragment", 0) >= 0
            whole.append(record)
        except (ValueError, AssertionError, KeyError):
            bad += 1
    return whole, bad


def of(log, event):
    return [r for r in log if r["event"] == event]


def seconds_of(wall):
    return datetime.datetime.fromisoformat(wall.replace("Z", "+00:00")).timestamp()


def processes(log):
    """The log cut at its headers. Every record gets t: seconds on the clock of the first header."""
    cut, newest = [], 0.0
    for r in log:
        if r["event"] == "header":
            origin = seconds_of(r["t_wall"]) - r["t_us"] * 1e-6
            first = origin if not cut else first
            begun = max(origin - first, newest) if cut else 0.0
            cut.append([])
        r["t"] = newest = begun + r["t_us"] * 1e-6
        cut[-1].append(r)
    return cut


def down_until(cut, t):
    """Seconds between the processes that had begun by t."""
    return sum(after[0]["t"] - before[-1]["t"] for before, after in zip(cut, cut[1:]) if after[0]["t"] <= t)


def running(cut, begin, end):
    return end - begin - (down_until(cut, end) - down_until(cut, begin))


def counters(cut):
    """Sums over the processes of the newest of each cumulative number, and (time, wire up, wire down) of each link record and end."""
    sums, line = collections.Counter(), []
    for log in cut:
        newest = {}
        for r in log:
            if r["event"] in ("link", "end"):
                newest.update({k: v for k, v in r.items() if isinstance(v, int)})
                line.append((r["t"], sums["wire_up"] + r["wire_up"], sums["wire_down"] + r["wire_down"]))
        if not of(log, "end"):
            newest["compute_us"] = sum(s["compute_us"] for s in of(log, "step"))
        sums.update(newest)
    return sums, line


def rates(cut, line, column):
    """Peak of the samples of at least 0.9 s (the rest of the run goes with the last one), and mean, in bytes/s."""
    peak, begin = 0.0, line[0]
    for end in line[1:]:
        if running(cut, begin[0], end[0]) < 0.9:
            continue
        if running(cut, end[0], line[-1][0]) < 0.9:
            end = line[-1]
        peak = max(peak, (end[column] - begin[column]) / running(cut, begin[0], end[0]))
        begin = end
        if begin is line[-1]:
            break
    seconds = running(cut, line[0][0], line[-1][0])
    return peak, (line[-1][column] - line[0][column]) / seconds if seconds > 0 else 0.0


def trained(steps):
    """Without those whose step came again, after a restart."""
    kept, lowest = [], math.inf
    for s in reversed(steps):
        if s["step"] < lowest:
            kept.append(s)
            lowest = s["step"]
    return kept[::-1]


def worker_numbers(run, log, bad):
    header, cut, steps = of(log, "header")[0], processes(log), of(log, "step")
    kept, ends = trained(steps), of(cut[-1], "end")
    sums, line = counters(cut)
    plain = header["role"] == "plain"
    count = lambda name: sums[name]
    start = steps[0]["t"] - steps[0]["compute_us"] * 1e-6
    elapsed = running(cut, start, log[-1]["t"])
    reference = 4 * header["parameters"] * len(kept)
    last = [s["loss"] for s in kept if s["loss"] is not None][-20:]
    shares = {"compute_share": "compute_us", "wait_share": "wait_us", "eval_share": "eval_us"}
    shares = {name: count(us) * 1e-6 / elapsed for name, us in shares.items()}
    wire, payload = count("wire_up") + count("wire_down"), count("payload_up") + count("payload_down")
    up, down = rates(cut, line, 1), rates(cut, line, 2)
    return {
        "run": run,
        "node": header["node"],
        "slot": header["slot"],
        "steps": len(kept),
        "repeated_steps": len(steps) - len(kept),
        "tokens": steps[-1]["tokens"],
        "tokens_per_s": len(kept) * header["tokens_per_step"] / running(cut, start, steps[-1]["t"]),
        "train_loss": sum(last) / len(last),
        **{name: count(name) for name in ("payload_up", "payload_down", "wire_up", "wire_down", "control_up", "control_down")},
        "retransmitted_up": count("retransmitted_up"),
        "data_parallel_bytes": reference,
        "ratio_wire": 1 if plain else reference / wire,
        "ratio_payload": 1 if plain else reference / payload,
        "elapsed_s": elapsed,
        "down_s": log[-1]["t"] - start - elapsed,
        **shares,
        "other_share": max(0, 1 - sum(shares.values())),
        "wait_us": count("wait_us"),
        "up_peak_bytes_per_s": up[0],
        "up_mean_bytes_per_s": up[1],
        "down_peak_bytes_per_s": down[0],
        "down_mean_bytes_per_s": down[1],
        "up_cap_bytes_per_s": header["up_bytes_per_s"],
        "down_cap_bytes_per_s": header["down_bytes_per_s"],
        "ended": bool(ends),
        "reason": ends[-1]["reason"] if ends else "",
        "starts": len(cut),
        "bad_lines": bad,
    }


def evaluation(logs, workers):
    """The one that stands for the run; whether it is of the final model: of one that no process was to train further."""
    planned = max(of(log, "header")[-1]["steps"] for log, _ in logs)
    evals = [(e, bool(e.get("final")) and of(cut, "header")[0]["steps"] >= planned)
             for log, _ in workers for cut in processes(log) for e in of(cut, "eval")]
    if not evals:
        return {"loss": None, "bits_per_byte": None, "step": 0}, False
    return max([one for one in evals if one[1]] or evals, key=lambda one: one[0]["step"])


def lost(outers):
    """What the newest ledger of the outer says was dropped, mean over the fragments."""
    for log in outers:
        for cut in reversed(processes(log)):
            if of(cut, "ledger"):
                return sum(r["dropped"] for r in of(cut, "ledger")) / len(cut[0]["fragments"])
    return None


def recoveries(logs):
    return dict(collections.Counter(r["what"] for log in logs for r in of(log, "recover") if r.get("from") != "fresh"))


def run_numbers(directory):
    label = os.path.basename(os.path.realpath(directory))
    logs = [records(path) for path in sorted(glob.glob(f"{directory}/*/log.jsonl"))]
    outers = [log for log, _ in logs if of(log, "header")[0]["role"] == "outer"]
    workers = [(log, bad) for log, bad in logs if of(log, "header")[0]["role"] != "outer"]
    workers.sort(key=lambda one: of(one[0], "header")[0]["slot"])
    table = [worker_numbers(label, log, bad) for log, bad in workers]
    headers = of(workers[0][0], "header")
    header, planned_steps = headers[0], headers[-1]["steps"]
    plain = header["role"] == "plain"
    steps = max(s["step"] for log, _ in workers for s in of(log, "step"))
    held_out, final = evaluation(logs, workers)
    ends = [e for log in outers for e in of(processes(log)[-1], "end") if e["eval_loss"] is not None]
    if not final and ends:
        held_out, final = {"loss": ends[0]["eval_loss"], "bits_per_byte": ends[0]["bits_per_byte"], "step": steps}, True
    total = lambda *names: sum(w[name] for w in table for name in names)
    mean = lambda *names: total(*names) // len(table)
    wire, payload, reference = total("wire_up", "wire_down"), total("payload_up", "payload_down"), total("data_parallel_bytes")
    return {
        "run": label,
        "name": header["name"],
        "plain": plain,
        "parameters": header["parameters"],
        "fragments": len(header["fragments"]),
        "workers": len(table),
        "steps": steps,
        "planned_steps": planned_steps,
        "every_steps": header.get("every_steps", 0),
        "overlap_steps": header.get("overlap_steps", 0),
        "keep_local": header.get("keep_local"),
        "codec_up": header.get("codec_up", ""),
        "codec_down": header.get("codec_down", ""),
        "error_feedback": header.get("error_feedback", False),
        "seed": header["seed"],
        "loss": held_out["loss"],
        "bits_per_byte": held_out["bits_per_byte"],
        "loss_final": final,
        "loss_step": held_out["step"],
        "tokens": total("tokens"),
        "tokens_per_s": total("tokens_per_s"),
        "payload_bytes": mean("payload_up", "payload_down"),
        "wire_bytes": mean("wire_up", "wire_down"),
        "control_bytes": mean("control_up", "control_down"),
        "data_parallel_bytes": mean("data_parallel_bytes"),
        "ratio_wire": 1 if plain else reference / wire,
        "ratio_payload": 1 if plain else reference / payload,
        "wait_share": total("wait_us") * 1e-6 / total("elapsed_s"),
        "commits": sum(len(of(log, "commit")) for log in outers),
        "restarts": sum(len(of(log, "header")) - 1 for log, _ in logs),
        "tokens_lost": lost(outers),
        "recoveries": recoveries([log for log, _ in logs]),
        "refused_updates": sum(r["what"] == "contribution" and r["reason"] in ("not finite", "too large") for log in outers for r in of(log, "refuse")),
        "refused": sum(len(of(log, "refuse")) for log, _ in logs),
        "bad_lines": sum(bad for _, bad in logs),
        "workers_table": table,
    }, consistent(outers, workers)


def consistent(outers, workers):
    """What one log says twice, and what two logs say of the same thing."""
    for log in outers:
        for r in of(log, "end"):
            versions = {(c["fragment"], c["version"]) for c in log[:log.index(r)] if c["event"] == "commit"}
            # A kill between a commit on disk and its line in the log loses the line.
            assert r["commits"] == len(versions) or (len(of(log, "header")) > 1 and r["commits"] > len(versions))
    smooth = not any(recoveries([log]) for log in outers + [log for log, _ in workers])
    for log, _ in workers:
        for cut in processes(log):
            for end in of(cut, "end"):
                assert end["compute_us"] == sum(s["compute_us"] for s in of(cut, "step")), "compute_us of the end is not the sum of the steps"
                assert end["eval_us"] == sum(e["eval_us"] for e in of(cut, "eval")), "eval_us of the end is not the sum of the evaluations"
                assert end["wire_up"] > end["payload_up"] + end["control_up"] or not outers
                assert end["wire_down"] > end["payload_down"] + end["control_down"] or not outers
                if smooth: # else something was sent again, or came whole
                    assert end["payload_up"] == sum(s["payload_bytes"] for s in of(cut, "sync_send")), "payload_up is not the sum of the sends"
                    assert end["payload_down"] == sum(c["payload_bytes"] for c in of(cut, "commit")), "payload_down is not the sum of the commits"
    return True


def compare(place, wanted, found, count=0):
    if isinstance(wanted, dict):
        assert set(wanted) == set(found), f"{place}: fields {set(wanted) ^ set(found)}"
        return sum(compare(f"{place}.{key}", wanted[key], found[key]) for key in wanted)
    if isinstance(wanted, list):
        assert len(wanted) == len(found), f"{place}: {len(found)} entries, wanted {len(wanted)}"
        return sum(compare(f"{place}[{i}]", one, other) for i, (one, other) in enumerate(zip(wanted, found)))
    if isinstance(wanted, float):
        assert math.isclose(wanted, found, rel_tol=TOLERANCE, abs_tol=1e-12), f"{place}: {found}, wanted {wanted}"
    else:
        assert wanted == found, f"{place}: {found}, wanted {wanted}"
    return 1


def main():
    report = json.load(open(sys.argv[1]))
    wanted = {"runs": [run_numbers(directory)[0] for directory in sys.argv[2:]]}
    print(f"{compare('report', wanted, report)} values computed again and equal")


main()
