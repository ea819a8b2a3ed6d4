#!/usr/bin/env bash
# costs.sh ATOLL: experiments/sync_cost.sh and many_workers.sh in short, in a copy of the tree: processes that are stopped and go on by turns are
# not lost, whatever is measured is there, the ledger and the hashes are right, and an experiment that is ended leaves nothing behind. How
# fast it was is not judged.
source "$(dirname "$0")/lib.sh"
test_begin costs "$@"
cp -r "$(dirname "$0")/../../experiments" "$WORK"
mkdir -p "$WORK/runs/cost-text"
make_corpus "$WORK/runs/cost-text/train.txt" 510000 1
make_corpus "$WORK/runs/cost-text/held-out.txt" 4000 2
QUICK=(--turns 2 --seconds 0.4 model.layers=2 model.width=64 model.heads=2 model.ffn=128 model.context=64 inner.batch_per_worker=2)

row() { # FILE PATTERN FILTER
    jq -r --arg name "$2" ".rows[] | select(.name | test(\$name)) | $3" "$1"
}

# judge NAME SETS: what the experiment's table says besides speed.
judge() {
    local json=$WORK/$1.json
    [ "$EXIT_CODE" -le 1 ] || fail "$1 ends with $EXIT_CODE: $(tail -n 1 "$WORK/$1.err")"
    cat "$WORK/$1.out"
    equal "$1: a share of tokens/s for each schedule" "$2" "$(row "$json" "of those without" 'select(.value > 0) | .value' | wc -l)"
    equal "$1: exposed wait and the outer's cores as well" "$2 $2" \
        "$(row "$json" "exposed wait" .value | grep -c '^[0-9]') $(row "$json" "cores that the outer uses" .value | grep -c '^[0-9]')"
    equal "$1: nobody was lost by being stopped" "$(yes true | head -n "$2")" "$(row "$json" "were lost" .holds)"
    equal "$1: ledger, hashes and ends are right" "$(yes true | head -n $((3 * $2)))" "$(row "$json" "^(ledger|state|all proc)" .holds)"
}

run_command 120 sync_cost env ATOLL="$ATOLL" "$WORK/experiments/sync_cost.sh" --every "5 8" --json "$WORK/sync_cost.json" "${QUICK[@]}"
if grep -q "cores are needed" "$WORK/sync_cost.err"; then
    say "sync_cost: $(tail -n 1 "$WORK/sync_cost.err")"
else
    judge sync_cost 2
fi
run_command 120 many_workers env ATOLL="$ATOLL" "$WORK/experiments/many_workers.sh" --workers 5 --every 6 \
    --json "$WORK/many_workers.json" "${QUICK[@]}"
judge many_workers 1

start ended env ATOLL="$ATOLL" "$WORK/experiments/many_workers.sh" --workers 3 --dir "$WORK/ended" "${QUICK[@]}"
wait_for 60 "its first slice" test -s "$WORK/ended/slices.jsonl"
kill -TERM "$PID"
wait_exit "$PID" 30 "the experiment"
equal "no process is left, stopped ones neither" "" "$(own_processes)"
test_end
