#!/usr/bin/env bash
# dropout.sh ATOLL: one of four workers is killed at a random time: the rounds that waited for it close within 3 s, the run ends
# normally and its ledger adds up. Killed children are started again and counted again, a worker, the outer, or all of them at once, and
# `atoll train --resume` goes on where a killed one was. SIGTERM of a worker: goodbye, exit 0. SIGTERM of `atoll train`: everything stops.
# ATOLL_SEED=N repeats the same random times.
source "$(dirname "$0")/lib.sh"
test_begin dropout "$@"
SEED=${ATOLL_SEED:-$((RANDOM * 32768 + RANDOM))}
RANDOM=$((SEED % 32768))
say "ATOLL_SEED=$SEED repeats these times"

make_corpus "$WORK/corpus.txt" 200000 1
make_corpus "$WORK/held_out.txt" 4000 2
cat >"$WORK/run.yaml" <<YAML
name: dropout
model: {layers: 4, width: 64, heads: 4, kv_heads: 4, ffn: 128, context: 64}
data: {train: [corpus.txt], val: [held_out.txt], tokenizer: bytes}
inner: {lr: 2e-3, warmup_steps: 10, steps: 400, batch_per_worker: 4, threads: 1}
sync: {every_steps: 10, fragment_layers: 2, overlap_steps: 2, keep_local: 0.5}
eval: {every_steps: 0, windows: 4}
workers: 4
YAML

worker_pid() { # DIRECTORY: the pid in its lock file
    tr -dc 0-9 <"$1/lock"
}

all_train() { # RUN_DIR COUNT: that many workers have logged a step
    local log count=0
    for log in "$1"/worker-*/log.jsonl; do has_event "$log" step && count=$((count + 1)); done
    [ "$count" -ge "$2" ]
}


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

# ---- started again ----

starts() { # DIRECTORY: how many processes wrote its log
    events "$1/log.jsonl" header .node | wc -l
}

commits() { # RUN_DIR
    events "$1/outer/log.jsonl" commit .version | wc -l
}

commits_reach() {
    [ "$(commits "$1")" -ge "$2" ]
}

# counted_after OUTER_LOG NODE: commits that count the node, after its newest join.
counted_after() {
    jq -cnR --arg node "$2" '
        [inputs | fromjson?] as $all
        | ([$all | to_entries[] | select(.value.event == "join" and .value.node == $node)] | last) as $join
        | [$all[$join.key:][] | select(.event == "commit") | select(any(.counted[]; .slot == $join.value.slot))] | length' "$1"
}

# ends_well NAME RUN_DIR: what every run must have come to that was mended: exit code 0 in $EXIT_CODE, one state, a ledger without a hole.
ends_well() {
    local directory=$2 hash log
    equal "$1: atoll train ends normally" 0 "$EXIT_CODE"
    check "$1: ledger adds up" ledger_adds_up "$directory/outer/log.jsonl"
    hash=$(final_hash "$directory/outer/log.jsonl")
    for log in "$directory"/worker-*/log.jsonl; do
        equal "$1: $(basename "$(dirname "$log")") ends with the run's state" "$hash" "$(final_hash "$log")"
    done
    equal "$1: the last step" 800 "$(events "$directory/outer/log.jsonl" commit .run_step | sort -n | tail -n 1)"
}

begin_long() { # NAME OPTION...: a run of 800 steps that is under way. Sets directory, run_pid.
    directory=$WORK/$1
    start "$1" "$ATOLL" train "$WORK/run.yaml" --dir "$directory" --set inner.steps=800 --set checkpoint.every=500ms --json "${@:2}"
    run_pid=$PID
    wait_for 30 "four workers that train" all_train "$directory" 4
    wait_for 30 "rounds" commits_reach "$directory" 6
}

# A worker.
begin_long worker-again
sleep "0.$((RANDOM % 10))" # the random moment itself
kill -KILL "$(worker_pid "$directory/worker-1")"
wait_exit "$run_pid" 90 worker-again
ends_well worker-again "$directory"
equal "worker-again: two processes" 2 "$(starts "$directory/worker-1")"
equal "worker-again: and one of everyone else" "1 1 1 1" "$(for k in outer worker-0 worker-2 worker-3; do starts "$directory/$k"; done | xargs)"
holds "worker-again: counted again" "$(counted_after "$directory/outer/log.jsonl" worker-1) >= 3"
says "worker-again: said" "$WORK/worker-again.err" "^worker-1 was killed by signal 9$"
says "worker-again: said" "$WORK/worker-again.err" "^worker-1 is started again$"
says "worker-again: a progress line counts it" "$WORK/worker-again.err" "^step .* restarts 1 "
equal "worker-again: in the numbers" "1 1 2" "$(jq -r '.runs[0] | .restarts, .recoveries.restart, (.workers_table[] | select(.node == "worker-1").starts)' "$WORK/worker-again.out" | xargs)"

# The outer, at the same ports; the workers stay.
begin_long outer-again
before=$(commits "$directory")
kill -KILL "$(worker_pid "$directory/outer")"
wait_exit "$run_pid" 90 outer-again
ends_well outer-again "$directory"
equal "outer-again: two processes" 2 "$(starts "$directory/outer")"
equal "outer-again: the workers were not started again" "1 1 1 1" "$(for k in 0 1 2 3; do starts "$directory/worker-$k"; done | xargs)"
equal "outer-again: it leads in a new epoch" "1 2" "$(events "$directory/outer/log.jsonl" lead .epoch | xargs)"
holds "outer-again: versions go on" "$(commits "$directory") > $before + 6"
equal "outer-again: no version twice" "" "$(events "$directory/outer/log.jsonl" commit '[.fragment, .version]' | sort | uniq -d)"
says "outer-again: said" "$WORK/outer-again.err" "^outer is started again$"

# All of them at once, but for the launcher.
begin_long all-again
kill -KILL "$(worker_pid "$directory/outer")" $(for k in 0 1 2 3; do worker_pid "$directory/worker-$k"; echo; done)
wait_exit "$run_pid" 90 all-again
ends_well all-again "$directory"
equal "all-again: in the numbers" 5 "$(jq -r '.runs[0].restarts' "$WORK/all-again.out")"

# Once too often: the run goes on without it.
begin_long too-often --restarts 1
kill -KILL "$(worker_pid "$directory/worker-0")"
two_starts() { [ "$(starts "$directory/worker-0")" = 2 ] && ! gone "$(worker_pid "$directory/worker-0")"; }
wait_for 20 "the second process" two_starts
kill -KILL "$(worker_pid "$directory/worker-0")"
wait_exit "$run_pid" 90 too-often
equal "too-often: atoll train ends normally" 0 "$EXIT_CODE"
says "too-often: said" "$WORK/too-often.err" "^worker-0 was killed by signal 9, and is not started again \(--restarts\)$"
equal "too-often: two processes" 2 "$(starts "$directory/worker-0")"
check "too-often: ledger adds up" ledger_adds_up "$directory/outer/log.jsonl"

# Who is told to leave is not started again; nor is an outer that is told to stop, and the workers do not dial it for ever.
begin_long told
kill -TERM "$(worker_pid "$directory/worker-3")"
wait_for 20 "goodbye" has_event "$directory/outer/log.jsonl" leave
kill -TERM "$(worker_pid "$directory/outer")"
wait_exit "$run_pid" 60 told
equal "told: nobody was started again" "1 1 1 1 1" "$(for k in outer worker-0 worker-1 worker-2 worker-3; do starts "$directory/$k"; done | xargs)"

# No restarts, and the outer dies: nobody leads, so the workers are told to save what they have.
begin_long leaderless --restarts 0
kill -KILL "$(worker_pid "$directory/outer")"
wait_exit "$run_pid" 30 leaderless
equal "leaderless: try again" 75 "$EXIT_CODE"
says "leaderless: how to" "$WORK/leaderless.err" "^to continue this run: atoll train --resume $directory$"
for k in 0 1 2 3; do check "leaderless: worker-$k logged its end" has_event "$directory/worker-$k/log.jsonl" end; done

# ---- --resume ----

# That run, and then with more steps.
run_command 90 resumed "$ATOLL" train --resume "$directory" --json
ends_well resumed "$directory"
says "resumed: said" "$WORK/resumed.err" "^run dropout in $directory: 4 workers, 800 steps, continued$"
equal "resumed: two processes of each" "2 2 2 2 2" "$(for k in outer worker-0 worker-1 worker-2 worker-3; do starts "$directory/$k"; done | xargs)"
tokens=$(jq .runs[0].tokens "$WORK/resumed.out")
run_command 20 complete "$ATOLL" train --resume "$directory" --json
equal "complete: exit code" 0 "$EXIT_CODE"
says "complete: said" "$WORK/complete.err" "has trained all of its 800 steps; --set inner.steps=N with more of them goes on"
check "complete: the same numbers" cmp -s "$WORK/resumed.out" "$WORK/complete.out"
equal "complete: nothing was started" 2 "$(starts "$directory/outer")"
run_command 90 more "$ATOLL" train --resume "$directory" --set inner.steps=900 --json
equal "more: exit code" 0 "$EXIT_CODE"
equal "more: steps" "900 900 true 900" "$(jq -r '.runs[0] | .steps, .planned_steps, .loss_final, .loss_step' "$WORK/more.out" | xargs)"
equal "more: tokens" "$((tokens + 4 * 100 * 256))" "$(jq .runs[0].tokens "$WORK/more.out")"
check "more: ledger adds up" ledger_adds_up "$directory/outer/log.jsonl"
says "more: the run file remembers" "$directory/run.yaml" "^  steps: 900$"

# What would be another run, and what is none.
cp "$directory/run.yaml" "$WORK/before.yaml"
refused "another learning rate" 78 "inner.lr is 0.002 in this run and cannot become 0.003: a run is continued with other inner.steps" lr "$ATOLL" train --resume "$directory" --set inner.lr=3e-3
refused "another number of workers" 78 "workers is 4 in this run and cannot become 5" five "$ATOLL" train --resume "$directory" --workers 5
refused "without sync" 78 "workers is 4 in this run and cannot become 1|sync is on in this run and cannot become off" off "$ATOLL" train --resume "$directory" --set sync=off --set workers=1
check "a refused --resume changes nothing" cmp -s "$WORK/before.yaml" "$directory/run.yaml"
refused "no run there" 74 "absent: no run.yaml in it; --resume takes the directory of an earlier .atoll train." absent "$ATOLL" train --resume "$WORK/absent"
refused "an outer's own directory" 74 "outer/outer is missing: .* goes on with .atoll outer" hub "$ATOLL" train --resume "$directory/outer"
refused "run file and --resume" 64 "--resume $directory: a run is continued with its own run file, $directory/run.yaml" both "$ATOLL" train --resume "$directory" "$WORK/run.yaml"
refused "--dir and --resume" 64 "--dir and --resume: a run is continued in its own directory" dir "$ATOLL" train --resume "$directory" --dir "$WORK/other"
refused "neither" 64 "RUN.yaml is missing: the run file of a new run; or --resume D" neither "$ATOLL" train

# The launcher itself is killed: its children save what they have and leave; --resume at once waits for them.
begin_long launcher
refused "a live run" 75 "launcher is in use by process $run_pid" live "$ATOLL" train --resume "$directory"
kill -KILL "$run_pid"
run_command 90 launcher-again "$ATOLL" train --resume "$directory" --json
ends_well launcher-again "$directory"

# sync: off likewise.
directory=$WORK/plain
start plain "$ATOLL" train "$WORK/run.yaml" --dir "$directory" --set sync=off --set workers=1 --set checkpoint.every=200ms --json
run_pid=$PID
wait_for 20 "a checkpoint" has_event "$directory/worker-0/log.jsonl" checkpoint
kill -KILL "$(worker_pid "$directory/worker-0")"
wait_exit "$run_pid" 60 plain
equal "plain: exit code" 0 "$EXIT_CODE"
equal "plain: two processes, all steps" "1 400 true" "$(jq -r '.runs[0] | .restarts, .steps, .loss_final' "$WORK/plain.out" | xargs)"
run_command 60 plain-more "$ATOLL" train --resume "$directory" --set inner.steps=450 --json
equal "plain-more: exit code" 0 "$EXIT_CODE"
equal "plain-more: steps" "450 450" "$(jq -r '.runs[0] | .steps, .loss_step' "$WORK/plain-more.out" | xargs)"

# ---- told to stop ----

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
