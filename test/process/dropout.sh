#!/usr/bin/env bash
# dropout.sh ATOLL: one of four workers is killed at a random time: the rounds that waited for it close within 3 s, the run ends
# normally and its ledger adds up (restart.sh: it is started again). SIGTERM of a worker: goodbye, exit 0. SIGTERM of `atoll train`:
# everything stops. ATOLL_SEED=N repeats the same random times.
source "$(dirname "$0")/lib.sh"
test_begin dropout "$@"
random_times
run_of_four dropout 400 4

# rounds_close OUTER_LOG KILL_TIME: every commit that was open at the kill closed within 3 s of it; so did, from its opening, every
# later one. Prints how many were open, and the longest.
rounds_close() {
    events "$1" commit "$WALL"'{closed: wall, took: ((.close_us - .open_us) / 1e6), fragment, version}' | jq -s --argjson kill "$2" '
        map(. + {opened: (.closed - .took)}) | map(select(.closed >= $kill))
        | {waited: map(select(.opened <= $kill)) | length,
           late: ((map(select(.opened <= $kill) | .closed - $kill) + map(select(.opened > $kill) | .took)) | max // 0),
           after: length}'
}

# killed NAME SECONDS HOW: a run in which one worker dies SECONDS after all train. HOW: random = as it comes; held = it is
# stopped first, so that the others are surely waiting for it.
killed() {
    local name=$1 seconds=$2 how=$3 directory run_pid victim kill_time result slot
    directory=$WORK/$name
    start "$name" "$ATOLL" train "$WORK/run.yaml" --dir "$directory" --restarts 0
    run_pid=$PID
    wait_for 30 "four workers that train" all_train "$directory" 4
    victim=$(worker_pid "$directory/worker-$((RANDOM % 4))" 2>/dev/null || worker_pid "$directory/worker-1")
    sleep "$seconds" # the random moment itself, not a wait for something
    if [ "$how" = held ]; then
        kill -STOP "$victim"
        sleep 0.6 # far below the limit for silence; the others reach their next send and wait
    fi
    gone "$run_pid" && fail "$name: the run ended before the kill: make it longer"
    kill_time=$(date +%s.%N)
    kill -KILL "$victim"
    wait_exit "$run_pid" 90 "$name"
    equal "$name: atoll train ends normally" 0 "$EXIT_CODE"
    result=$(rounds_close "$directory/outer/log.jsonl" "$kill_time")
    say "$name: $(jq -c . <<<"$result")"
    [ "$how" = held ] && holds "$name: a round was waiting for the killed worker" "$(jq .waited <<<"$result") >= 1"
    holds "$name: commits go on after the kill" "$(jq .after <<<"$result") >= 3"
    holds "$name: rounds that waited close within 3 s" "$(jq .late <<<"$result") < 3"
    check "$name: ledger adds up" ledger_adds_up "$directory/outer/log.jsonl"
    slot=$(events "$directory/outer/log.jsonl" leave .slot | head -n 1)
    check "$name: the outer logged who left" test -n "$slot"
    equal "$name: the end is logged" 1 "$(events "$directory/outer/log.jsonl" end .reason | wc -l)"
    rm -rf "$directory"
}

random_seconds() {
    echo "$((RANDOM % $1)).$((RANDOM % 10))"
}
killed kill-held "$(random_seconds 2)" held
killed kill-random-1 "$(random_seconds 3)" random
killed kill-random-2 "0.$((RANDOM % 10))" random

# Before the start: the launcher starts it again, since a run begins with all of its workers.
directory=$WORK/kill-early
start kill-early "$ATOLL" train "$WORK/run.yaml" --dir "$directory" --set inner.steps=60
run_pid=$PID
wait_for 20 "a worker's lock" test -s "$directory/worker-2/lock"
kill -KILL "$(worker_pid "$directory/worker-2")"
wait_exit "$run_pid" 60 kill-early
equal "kill-early: atoll train ends normally" 0 "$EXIT_CODE"
check "kill-early: ledger adds up" ledger_adds_up "$directory/outer/log.jsonl"
says "kill-early: it was started again" "$WORK/kill-early.err" "^worker-2 is started again$"

# In the final evaluation: the next worker that has the text does it.
make_corpus "$WORK/long_held_out.txt" 1200000 3
directory=$WORK/kill-evaluator
start kill-evaluator "$ATOLL" train "$WORK/run.yaml" --dir "$directory" --restarts 0 --set inner.steps=60 \
    --set "data.val=[$WORK/long_held_out.txt]" --set eval.windows=all
run_pid=$PID
wait_for 40 "the final evaluation" grep -q "final evaluation" "$directory/outer/stderr.log"
first=$(events "$directory/outer/log.jsonl" join 'select(.slot == 0) | .node' | head -n 1 | tr -d '"')
kill -KILL "$(worker_pid "$directory/$first")"
wait_exit "$run_pid" 90 kill-evaluator
equal "kill-evaluator: atoll train ends normally" 0 "$EXIT_CODE"
check "kill-evaluator: the final model is evaluated all the same" \
    jq -se 'map(select(.event == "end"))[0].eval_loss != null' "$directory/outer/log.jsonl"

# SIGTERM of a worker: it says goodbye and exits 0, the others go on to the end.
directory=$WORK/goodbye
# With overlap 6 of 10 steps and three fragments, a record is nearly always in flight: leaving has to see to it.
start outer "$ATOLL" outer "$WORK/run.yaml" --dir "$directory/outer" --listen 127.0.0.1:0 --set sync.overlap_steps=6
outer_pid=$PID
wait_for 10 "the join token" test -s "$directory/outer/join.token"
worker_pids=()
for k in 0 1 2 3; do
    start "worker-$k" "$ATOLL" worker --join "$directory/outer/join.token" --dir "$directory/worker-$k" --data "$WORK/corpus.txt"
    worker_pids+=("$PID")
done
wait_for 30 "four workers that train" all_train "$directory" 4
wait_for 10 "a send of the worker" has_event "$directory/worker-2/log.jsonl" sync_send
asked=$(date +%s.%N)
kill -TERM "${worker_pids[2]}"
wait_exit "${worker_pids[2]}" 30 "the worker that was asked to leave"
equal "SIGTERM of a worker: exit code" 0 "$EXIT_CODE"
holds "SIGTERM of a worker: it is gone soon, the others do not wait for long" "$(elapsed "$asked") < 3"
wait_for 5 "leave in the outer's log" has_event "$directory/outer/log.jsonl" leave
reason=$(events "$directory/outer/log.jsonl" leave .reason | head -n 1)
check "SIGTERM of a worker: it said goodbye ($reason)" grep -qvE "link lost|no answer|queue" <<<"$reason"
for k in 0 1 3; do
    wait_exit "${worker_pids[$k]}" 90 "worker-$k"
    equal "the other workers end normally" 0 "$EXIT_CODE"
done
wait_exit "$outer_pid" 15 "the outer"
equal "the outer ends normally" 0 "$EXIT_CODE"
check "goodbye: ledger adds up" ledger_adds_up "$directory/outer/log.jsonl"

# SIGTERM of `atoll train`: it and all of its children stop.
start train "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/train"
train_pid=$PID
wait_for 30 "four workers that train" all_train "$WORK/train" 4
mapfile -t processes < <(own_processes)
equal "atoll train, one outer and four workers are there" 6 "${#processes[@]}"
kill -TERM "$train_pid"
wait_exit "$train_pid" 20 "atoll train"
equal "SIGTERM of atoll train: exit code" 0 "$EXIT_CODE"
equal "SIGTERM of atoll train: no child is left" "" "$(own_processes)"
check "SIGTERM of atoll train: the outer logged its end" has_event "$WORK/train/outer/log.jsonl" end
for log in "$WORK"/train/worker-*/log.jsonl; do check "and so did $(basename "$(dirname "$log")")" has_event "$log" end; done
test_end
