#!/usr/bin/env bash
# two_workers_tsan.sh ATOLL: one short run of two workers with a binary built with -fsanitize=thread (preset tsan). Any report of
# the sanitizer fails. libzmq and OpenBLAS are not instrumented: tsan.supp leaves out what is only theirs.
source "$(dirname "$0")/lib.sh"
test_begin two_workers_tsan "$@"
if ! grep -q __tsan_init "$ATOLL"; then
    say "$ATOLL is not built with -fsanitize=thread (cmake --preset tsan)"
    exit $EXIT_SKIPPED
fi
make_corpus "$WORK/corpus.txt" 40000 1
make_corpus "$WORK/held_out.txt" 4000 2
cat >"$WORK/run.yaml" <<YAML
name: tsan
model: {layers: 2, width: 32, heads: 2, kv_heads: 2, ffn: 64, context: 32}
data: {train: [corpus.txt], val: [held_out.txt], tokenizer: bytes}
inner: {lr: 2e-3, warmup_steps: 4, steps: 40, batch_per_worker: 2, threads: 1}
sync: {every_steps: 6, fragment_layers: 1, overlap_steps: 2, keep_local: 0.5}
eval: {every_steps: 12, windows: 4}
workers: 2
YAML
supp=$(realpath "$(dirname "$0")/tsan.supp")
export TSAN_OPTIONS="suppressions=$supp log_path=$WORK/report exitcode=66 halt_on_error=0 history_size=4"
export OPENBLAS_NUM_THREADS=1
# setarch -R: the sanitizer of GCC 12 does not know the wider address randomization of recent kernels.
run_command 180 train setarch -R "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/run"
for report in "$WORK"/report.*; do
    [ -s "$report" ] || continue
    head -n 60 "$report"
    fail "ThreadSanitizer reported (above; $(grep -lc WARNING "$WORK"/report.* | wc -l) processes)"
done
pass "no report"
equal "exit code" 0 "$EXIT_CODE"
check "the run ended" has_event "$WORK/run/outer/log.jsonl" end
check "with commits" has_event "$WORK/run/outer/log.jsonl" commit
check "ledger adds up" ledger_adds_up "$WORK/run/outer/log.jsonl"
test_end
