#!/usr/bin/env bash
# outer_memory.sh ATOLL SYNTHETIC [WORKERS CODEC LAYERS FRAGMENT_LAYERS WIDTH FFN VOCAB]: what an outer needs with workers that do not train
# (synthetic.c), two rounds open at a time: its peak resident memory, from the first round to the exported model, is what `atoll check` says,
# within 10 %. Without arguments: 32 workers, e3m0, 100 MB of f32 parameters in 4 fragments; there it is also below 3 blocks of parameters (outer
# copy, momentum, residual) + one round's encoded payloads + 2 fragments + 96 MB. By hand, the terms of outer/outer_memory.c in other proportions
# (ROUNDS=10 fills the commits that are kept):
#
#     8 f32 6 6 256 640 2048        20 MB in 2 fragments
#     16 int8 10 2 320 896 7168     60 MB in 6 fragments
#     4 int4 14 2 512 1408 9856    200 MB in 8 fragments
#     64 e3m0 6 3 128 320 1024       5 MB in 3 fragments: mostly links
#     16 f32 6 3 128 320 1024        5 MB in 3 fragments: mostly contributions
#     4 e3m0 6 3 128 320 1024        5 MB in 3 fragments: mostly the program
source "$(dirname "$0")/lib.sh"
test_begin outer_memory "$1"
SYNTHETIC=$(realpath "$2")
shift 2
by_hand=$#
[ $# -gt 0 ] || set -- 32 e3m0 12 4 384 896 14848
cat >"$WORK/run.yaml" <<YAML
name: memory
model: {layers: $3, width: $5, heads: $(($5 / 64)), ffn: $6, context: 256, vocab: $7}
inner: {steps: 100000}
sync: {every_steps: $3, fragment_layers: $4, overlap_steps: 2, codec_up: $2, codec_down: $2}
workers: $1
YAML
"$ATOLL" check "$WORK/run.yaml" --json >"$WORK/check.json"

# The kernel's own peak of a child, kB, once it has ended.
start outer python3 -c '
import os, sys
pid = os.spawnvp(os.P_NOWAIT, sys.argv[2], sys.argv[2:])
_, status, usage = os.wait4(pid, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))' "$WORK/peak" "$ATOLL" outer "$WORK/run.yaml" --dir "$WORK/outer" --listen 127.0.0.1:0
outer_pid=$PID
wait_for 20 "the join token" test -s "$WORK/outer/join.token"
run_command 300 synthetic "$SYNTHETIC" "$WORK/run.yaml" "$WORK/outer/join.token" "$WORK" "${ROUNDS:-3}"
equal "all rounds were committed, with all workers in each" 0 "$EXIT_CODE"
wait_exit "$outer_pid" 60 "the outer"
equal "the outer ends normally" 0 "$EXIT_CODE"
check "ledger adds up" ledger_adds_up "$WORK/outer/log.jsonl"

peak=$(awk '{ printf "%.1f", $1 * 1024 / 1e6 }' "$WORK/peak")
said=$(jq '.outer_memory.peak_bytes / 1e6 * 10 | round / 10' "$WORK/check.json")
limit=$(jq '([.fragments[].parameters] | 4 * (3 * add + 2 * max) / 1e6) + ([.fragments[].payload_up_bytes] | max) * .workers / 1e6 + 96 | round' "$WORK/check.json")
say "peak $peak MB, atoll check says $said MB, the limit is $limit MB"
[ "$by_hand" -gt 0 ] || holds "the peak is below the limit" "$peak <= $limit"
holds "and what atoll check says, within 10 %" "$peak >= 0.9 * $said && $peak <= 1.1 * $said"
test_end
