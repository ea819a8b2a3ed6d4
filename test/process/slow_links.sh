#!/usr/bin/env bash
# slow_links.sh ATOLL: experiments/slow_links.sh in short, in a copy of the tree: paced cells side by side and one with real training, what was
# measured is not measured again, and an experiment that is ended leaves neither processes nor namespaces behind. The shares themselves are not
# judged, but one: a link that takes longer than the steps leaves less of the machines than a fast one.
#
# Needs root, or the right to make namespaces; where that is not allowed the test says so and is reported as skipped.
source "$(dirname "$0")/lib.sh"
test_begin slow_links "$@"
cp -r "$(dirname "$0")/../../experiments" "$WORK"
mkdir -p "$WORK/runs/cost-text"
make_corpus "$WORK/runs/cost-text/train.txt" 510000 1
make_corpus "$WORK/runs/cost-text/held-out.txt" 4000 2
CELLS=$WORK/cells/cells.jsonl
slow_links() { # NAME OPTION...
    run_command 120 "$1" env ATOLL="$ATOLL" "$WORK/experiments/slow_links.sh" --dir "$WORK/cells" --every 5 --step 0.3 --late 1 --codecs f32 \
        --ways wait/whole --rates "2 100" --real f32/overlap/fragments/100 model.layers=2 model.width=64 model.heads=2 model.ffn=128 \
        model.context=64 inner.batch_per_worker=1 inner.min_step_time=200ms "${@:2}"
    if [ "$EXIT_CODE" = "$EXIT_SKIPPED" ]; then
        say "SKIPPED: $(tail -n 1 "$WORK/$1.err")"
        exit $EXIT_SKIPPED
    fi
}
cell() { jq -r --arg cell "$1" --arg step "$2" "select(.cell == \$cell and .step == \$step) | $3" "$CELLS"; } # CELL STEP FILTER
namespaces() { ip netns list | grep -o "^atoll-$PID-[^ ]*" || true; }

slow_links all --json "$WORK/all.json"
cat "$WORK/all.out"
equal "the bound was not measured, and that is said" 1 "$EXIT_CODE"
says "  in words" "$WORK/all.out" "not measured .* FAILED$"
equal "no namespace is left" "" "$(namespaces)"
slow=$(cell f32/wait/whole/2 paced .utilization) fast=$(cell f32/wait/whole/100 paced .utilization)
holds "both paced cells are there, and the slow link costs" "0 < $slow && $slow < 0.5 && $slow < $fast"
holds "what waits is what is missing" "$(cell f32/wait/whole/2 paced .wait) > 0.7 * (1 - $slow)"
used=$(cell f32/wait/whole/2 paced .up_bits_per_s)
holds "the link was in use, and carried no more than its rate" "$used > 200000 && $used < 2200000"
holds "real training has sync off before and after" "$(cell f32/overlap/fragments/100 real '.off_before_s * .off_after_s * .utilization') > 0"
equal "the JSON holds them all" 3 "$(jq '.cells | length' "$WORK/all.json")"
lines=$(wc -l <"$CELLS")
slow_links again
equal "what was measured is not measured again" "$lines" "$(wc -l <"$CELLS")"

start ended env ATOLL="$ATOLL" "$WORK/experiments/slow_links.sh" --dir "$WORK/cells" --step 0.3 --only paced --rates 0.25
wait_for 60 "a cell at work" test -s "$WORK/cells/run-1/worker-1/log.jsonl"
kill -TERM "$PID"
wait_exit "$PID" 30 "the experiment"
equal "no process is left" "" "$(own_processes)"
equal "no namespace is left" "" "$(namespaces)"
test_end
