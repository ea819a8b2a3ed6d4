#!/usr/bin/env bash
# report.sh ATOLL: log.jsonl alone suffices: every number of `atoll report --json` is computed again from the logs of a real run by
# report_numbers.py, which shares nothing with atoll; a torn last line does not matter, nor do processes that were killed and started
# again; pictures are pictures; no gnuplot is said.
source "$(dirname "$0")/lib.sh"
test_begin report "$@"
HERE=$(realpath "$(dirname "$0")")
QUIET=1

make_corpus "$WORK/corpus.txt" 100000 1
make_corpus "$WORK/held_out.txt" 6000 2
# Capped links, so that the run lasts for several rate samples.
cat >"$WORK/run.yaml" <<YAML
name: report
model: {layers: 2, width: 64, heads: 4, kv_heads: 2, ffn: 128, context: 32}
data: {train: [corpus.txt], val: [held_out.txt]}
inner: {lr: 3e-3, warmup_steps: 4, steps: 90, batch_per_worker: 2, threads: 1}
sync: {every_steps: 5, fragment_layers: 1, overlap_steps: 2}
link: {up: 2Mbit/s}
eval: {every_steps: 30, windows: 8}
workers: 2
YAML
run_command 60 train "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/run" --json
equal "atoll train: exit code" 0 "$EXIT_CODE"
run_command 60 plain "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/plain" --set sync=off --set workers=1 --set inner.steps=30
equal "atoll train with sync off: exit code" 0 "$EXIT_CODE"

recompute() { # TEXT REPORT.json DIR...: compares every number
    local text=$1
    shift
    if python3 "$HERE/report_numbers.py" "$@" >"$WORK/numbers.err" 2>&1; then
        pass "$text"
        say "$text: $(tail -n 1 "$WORK/numbers.err")"
    else
        fail "$text"
    fi
}

run_command 20 first "$ATOLL" report "$WORK/run" "$WORK/plain" --json
equal "report --json: exit code" 0 "$EXIT_CODE"
recompute "numbers from the logs alone" "$WORK/first.out" "$WORK/run" "$WORK/plain"
python3 - "$WORK" <<'PYTHON' || fail "atoll train --json says what atoll report --json says"
import json, sys
train, report = (json.load(open(f"{sys.argv[1]}/{name}.out")) for name in ("train", "first"))
assert train["runs"][0] == report["runs"][0]
PYTHON
run_command 20 hub "$ATOLL" report "$WORK/run/outer" --json
equal "a hub's own directory: its commits tell of the workers' tokens and steps" "$(jq -c '.runs[0] | [.tokens, .steps]' "$WORK/first.out")" \
    "$(jq -c '.runs[0] | [.tokens, .steps]' "$WORK/hub.out")"
"$ATOLL" report --schema >"$WORK/schema.txt"
check "every event and field of the logs is in report --schema" python3 "$HERE/report_schema.py" "$WORK/schema.txt" "$WORK"/{run,plain}/*/log.jsonl

# Killed and started again, then continued with more steps: the logs hold several processes.
start back "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/back" --json --set inner.steps=150 --set checkpoint.every=300ms
back_pid=$PID
wait_for 30 "a checkpoint of worker-1" has_event "$WORK/back/worker-1/log.jsonl" checkpoint
wait_for 30 "bytes of worker-1" has_event "$WORK/back/worker-1/log.jsonl" link
kill -KILL "$(tr -dc 0-9 <"$WORK/back/worker-1/lock")"
restarted() { [ "$(events "$WORK/back/$1/log.jsonl" header .role | wc -l)" = 2 ]; }
wait_for 30 "worker-1 again" restarted worker-1
kill -KILL "$(tr -dc 0-9 <"$WORK/back/outer/lock")"
wait_exit "$back_pid" 90 back
equal "killed and started again: exit code" 0 "$EXIT_CODE"
recompute "numbers over several processes" "$WORK/back.out" "$WORK/back"
equal "restarts" 2 "$(jq -r '.runs[0].restarts' "$WORK/back.out")"
run_command 90 more "$ATOLL" train --resume "$WORK/back" --json --set inner.steps=170
equal "continued: exit code" 0 "$EXIT_CODE"
recompute "numbers of a continued run" "$WORK/more.out" "$WORK/back"
check "every event and field of these logs is in report --schema" python3 "$HERE/report_schema.py" "$WORK/schema.txt" "$WORK"/back/*/log.jsonl
run_command 20 people "$ATOLL" report "$WORK/back"
says "restarts, for people" "$WORK/people.out" "^  restarts +5 \("
says "recoveries, for people" "$WORK/people.out" "^  recoveries +[0-9]+ \(.*restart "
run_command 60 draw-back "$ATOLL" report "$WORK/back" -o "$WORK/out-back"
equal "report -o of restarts: exit code" 0 "$EXIT_CODE"
check "gnuplot had nothing to say of restarts" test ! -s "$WORK/draw-back.err"
for name in 01-back.rates 01-back.waits; do
    equal "$name draws a line at each restart" 5 "$(grep -c '^set arrow from [0-9.]*, graph 0' "$WORK/out-back/$name.gp")"
    check "$name.svg is whole SVG" python3 -c 'import sys, xml.dom.minidom as m; assert m.parse(sys.argv[1]).documentElement.tagName == "svg"' "$WORK/out-back/$name.svg"
done

# Torn: the last record of each log without its end; then garbage behind whole logs. Neither changes a number.
for log in "$WORK"/run/*/log.jsonl; do
    printf '{"event":"step","t_wall":"2099-01-02T03:04:05.678Z","t_us":99999999999,"step":9999,"loss":1,"tok' >>"$log"
done
run_command 20 torn "$ATOLL" report "$WORK/run" "$WORK/plain" --json
equal "torn last lines: exit code" 0 "$EXIT_CODE"
check "torn last lines change nothing" cmp -s "$WORK/first.out" "$WORK/torn.out"
check "torn last lines are no matter to tell" test ! -s "$WORK/torn.err"
for log in "$WORK"/run/*/log.jsonl; do
    { echo; head -c 3000 /dev/urandom | tr -d '\n'; echo; echo '{"event":"commit","t_us":1,"fragment":-5,"version":1,"counted":[]}'; } >>"$log"
done
run_command 20 garbage "$ATOLL" report "$WORK/run" "$WORK/plain" --json
equal "garbage: exit code" 0 "$EXIT_CODE"
says "garbage is told" "$WORK/garbage.err" "worker-0/log.jsonl: 3 lines could not be used; line [0-9]+: not a JSON object"
numbers() { jq 'del(.. | .bad_lines?)' "$1"; }
check "garbage changes nothing" cmp -s <(numbers "$WORK/first.out") <(numbers "$WORK/garbage.out")
recompute "garbage" "$WORK/garbage.out" "$WORK/run" "$WORK/plain"
# Cut for real: each log loses the second half of its last record, as after a kill.
cp -r "$WORK/plain" "$WORK/cut"
for log in "$WORK"/run/*/log.jsonl; do
    mkdir -p "$WORK/cut-run/$(basename "$(dirname "$log")")"
    grep -an '' "$log" | head -n -3 | cut -d: -f2- | head -c -30 >"$WORK/cut-run/$(basename "$(dirname "$log")")/log.jsonl"
done
run_command 20 cut "$ATOLL" report "$WORK/cut-run" --json
equal "cut logs: exit code" 0 "$EXIT_CODE"
recompute "cut logs" "$WORK/cut.out" "$WORK/cut-run"
equal "cut logs: nobody ended" "false false" "$(jq -r '.runs[0].workers_table[].ended' "$WORK/cut.out" | xargs)"

# Pictures.
run_command 60 draw "$ATOLL" report "$WORK/run" "$WORK/plain" -o "$WORK/out"
equal "report -o: exit code" 0 "$EXIT_CODE"
for name in loss_over_bytes loss_over_tokens 01-run.rates 01-run.waits; do
    check "$name.svg is whole SVG" python3 -c 'import sys, xml.dom.minidom as m; assert m.parse(sys.argv[1]).documentElement.tagName == "svg"' "$WORK/out/$name.svg"
    check "$name.png is PNG of a good size" python3 -c '
import struct, sys
b = open(sys.argv[1], "rb").read()
assert b[:8] == b"\x89PNG\r\n\x1a\n" and b[12:16] == b"IHDR" and b[-8:-4] == b"IEND" and len(b) > 5000
assert struct.unpack(">II", b[16:24]) >= (800, 500)' "$WORK/out/$name.png"
    says "the page shows $name" "$WORK/out/index.html" "<svg"
done
equal "the page holds every figure" "$(find "$WORK/out" -name '*.svg' | wc -l)" "$(grep -c '<svg' "$WORK/out/index.html")"
check "gnuplot had nothing to say" test -z "$(grep -v 'could not be used' "$WORK/draw.err" || true)"
says "axes have units" "$WORK/out/loss_over_bytes.svg" "nats per token"
python3 - "$WORK" <<'PYTHON' || fail "summary.csv and workers.csv hold the numbers of --json"
import csv, json, sys
work = sys.argv[1]
runs = json.load(open(f"{work}/garbage.out"))["runs"]
def same(row, wanted):
    for key, value in row.items():
        found = wanted[key]
        if isinstance(found, str): assert value == found, (key, value, found)
        elif found is None: assert value == "", (key, value)
        else: assert abs(float(value) - float(found)) <= 1e-8 * abs(float(found)), (key, value, found)
tables = [(f"{work}/out/summary.csv", runs), (f"{work}/out/workers.csv", [w for r in runs for w in r["workers_table"]])]
for path, wanted in tables:
    rows = list(csv.DictReader(open(path)))
    assert len(rows) == len(wanted)
    for row, one in zip(rows, wanted): same(row, one)
PYTHON

# Without gnuplot: the message, the CSV files, not 0.
mkdir "$WORK/empty"
run_command 20 no-gnuplot env PATH="$WORK/empty" "$ATOLL" report "$WORK/run" -o "$WORK/out2"
equal "no gnuplot: exit code" 74 "$EXIT_CODE"
says "no gnuplot: message" "$WORK/no-gnuplot.err" "gnuplot is not installed.*apt-get install gnuplot-nox.*the CSV files and scripts are in $WORK/out2"
check "no gnuplot: CSV" test -s "$WORK/out2/01-run.evals.csv" -a -s "$WORK/out2/summary.csv" -a -s "$WORK/out2/index.html"
run_command 20 no-plots env PATH="$WORK/empty" "$ATOLL" report "$WORK/run" -o "$WORK/out3" --no-plots
equal "--no-plots: exit code" 0 "$EXIT_CODE"
check "--no-plots: CSV and scripts" test -s "$WORK/out3/01-run.evals.csv" -a -s "$WORK/out3/loss_over_bytes.gp"
refused "no run there" 74 "no log.jsonl in it, nor one level below" nothing "$ATOLL" report "$WORK/empty"
refused "no directory" 74 "absent: not a directory that can be read" absent "$ATOLL" report "$WORK/absent"
refused "no DIR" 64 "DIR is missing" no-dir "$ATOLL" report
test_end
