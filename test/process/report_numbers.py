#!/usr/bin/env python3
"""report_numbers.py REPORT.json DIR...: computes every number of `atoll report --json` again, from the log.jsonl files alone, from the
definitions that `atoll report --schema` prints, and compares. Shares no code with atoll. Exit code 0 when all agree."""
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


def counters(log):
    """The newest of each cumulative number, and (time, wire up, wire down) of each link record and of the end."""
    newest, line = {}, []
    for r in log:
        if r["event"] in ("link", "end"):
            newest.update({k: v for k, v in r.items() if isinstance(v, int)})
            line.append((r["t_us"], r["wire_up"], r["wire_down"]))
    return newest, line


def rates(line, column):
    """Peak of the samples of at least 0.9 s (the rest of the run goes with the last one), and mean, in bytes/s."""
    peak, begin = 0.0, line[0]
    for end in line[1:]:
        if end[0] - begin[0] < 900000:
            continue
        if line[-1][0] - end[0] < 900000:
            end = line[-1]
        peak = max(peak, (end[column] - begin[column]) / ((end[0] - begin[0]) * 1e-6))
        begin = end
        if begin is line[-1]:
            break
    seconds = (line[-1][0] - line[0][0]) * 1e-6
    return peak, (line[-1][column] - line[0][column]) / seconds if seconds > 0 else 0.0


def worker_numbers(run, log, bad):
    header, steps, ends = of(log, "header")[0], of(log, "step"), of(log, "end")
    newest, line = counters(log)
    plain = header["role"] == "plain"
    count = lambda name: newest.get(name, 0)
    start = steps[0]["t_us"] - steps[0]["compute_us"]
    elapsed = (log[-1]["t_us"] - start) * 1e-6
    compute = ends[-1]["compute_us"] if ends else sum(s["compute_us"] for s in steps)
    reference = 4 * header["parameters"] * len(steps)
    last = [s["loss"] for s in steps if s["loss"] is not None][-20:]
    shares = {"compute_share": compute, "wait_share": count("wait_us"), "eval_share": count("eval_us")}
    shares = {name: us * 1e-6 / elapsed for name, us in shares.items()}
    wire, payload = count("wire_up") + count("wire_down"), count("payload_up") + count("payload_down")
    up, down = rates(line, 1), rates(line, 2)
    return {
        "run": run,
        "node": header["node"],
        "slot": header["slot"],
        "steps": len(steps),
        "tokens": steps[-1]["tokens"],
        "tokens_per_s": len(steps) * header["tokens_per_step"] / ((steps[-1]["t_us"] - start) * 1e-6),
        "train_loss": sum(last) / len(last),
        **{name: count(name) for name in ("payload_up", "payload_down", "wire_up", "wire_down", "control_up", "control_down")},
        "retransmitted_up": count("retransmitted_up"),
        "data_parallel_bytes": reference,
        "ratio_wire": 1 if plain else reference / wire,
        "ratio_payload": 1 if plain else reference / payload,
        "elapsed_s": elapsed,
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
        "starts": len(of(log, "header")),
        "bad_lines": bad,
    }


def run_numbers(directory):
    label = os.path.basename(os.path.realpath(directory))
    logs = [records(path) for path in sorted(glob.glob(f"{directory}/*/log.jsonl"))]
    outers = [log for log, _ in logs if of(log, "header")[0]["role"] == "outer"]
    workers = [(log, bad) for log, bad in logs if of(log, "header")[0]["role"] != "outer"]
    workers.sort(key=lambda one: of(one[0], "header")[0]["slot"])
    table = [worker_numbers(label, log, bad) for log, bad in workers]
    header = of(workers[0][0], "header")[0]
    plain = header["role"] == "plain"
    evals = [r for log, _ in workers for r in of(log, "eval")]
    final = [e for e in evals if e.get("final")] or evals
    held_out = max(final, key=lambda e: e["step"])
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
        "steps": max(s["step"] for log, _ in workers for s in of(log, "step")),
        "planned_steps": header["steps"],
        "every_steps": header.get("every_steps", 0),
        "overlap_steps": header.get("overlap_steps", 0),
        "keep_local": header.get("keep_local"),
        "codec_up": header.get("codec_up", ""),
        "codec_down": header.get("codec_down", ""),
        "error_feedback": header.get("error_feedback", False),
        "seed": header["seed"],
        "loss": held_out["loss"],
        "bits_per_byte": held_out["bits_per_byte"],
        "loss_final": bool(held_out.get("final")),
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
        "refused": sum(len(of(log, "refuse")) for log, _ in logs),
        "bad_lines": sum(bad for _, bad in logs),
        "workers_table": table,
    }, consistent(outers, workers)


def consistent(outers, workers):
    """What one log says twice, and what two logs say of the same thing."""
    for log in outers:
        for r in of(log, "end"):
            assert r["commits"] == len(of(log, "commit"))
    for log, _ in workers:
        newest, _ = counters(log)
        for end in of(log, "end"):
            assert end["compute_us"] == sum(s["compute_us"] for s in of(log, "step")), "compute_us of the end is not the sum of the steps"
            assert end["eval_us"] == sum(e["eval_us"] for e in of(log, "eval")), "eval_us of the end is not the sum of the evaluations"
            assert end["payload_up"] == sum(s["payload_bytes"] for s in of(log, "sync_send")), "payload_up is not the sum of the sends"
            assert end["payload_down"] == sum(c["payload_bytes"] for c in of(log, "commit")), "payload_down is not the sum of the commits"
            assert end["wire_up"] > end["payload_up"] + end["control_up"] or not outers
            assert end["wire_down"] > end["payload_down"] + end["control_down"] or not outers
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
