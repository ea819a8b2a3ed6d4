#!/usr/bin/env bash
# restart.sh ATOLL: killed children of `atoll train` are started again and counted again: a worker, the outer, all of them at once; not
# more often than --restarts, and not who was told to leave. `atoll train --resume` goes on where a run was that ended, was left without
# its outer, or lost its launcher; and refuses what would be another run.
# ATOLL_SEED=N repeats the same random times.
source "$(dirname "$0")/lib.sh"
test_begin restart "$@"
random_times
run_of_four restart 600 2 'checkpoint: {every: 500ms}'

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
    equal "$1: the last step" 600 "$(events "$directory/outer/log.jsonl" commit .run_step | sort -n | tail -n 1)"
}

begin_long() { # NAME OPTION...: a run that is under way. Sets directory, run_pid.
    directory=$WORK/$1
    start "$1" "$ATOLL" train "$WORK/run.yaml" --dir "$directory" --json "${@:2}"
    run_pid=$PID
    wait_for 30 "four workers that train" all_train "$directory" 4
    wait_for 30 "rounds" commits_reach "$directory" 6
}

# A worker.
begin_long worker-again --set inner.min_step_time=25ms # beyond the second progress line
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
equal "outer-again: it leads in a new epoch" "2 true" "$(events "$directory/outer/log.jsonl" lead .epoch | jq -s '"\(length) \(.[1] > .[0])"' -r)"
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
equal "told: try again" 75 "$EXIT_CODE"
says "told: how to" "$WORK/told.err" "^to continue this run: atoll train --resume $directory$"
for k in 0 1 2; do
    says "told: worker-$k left with the outer" "$directory/worker-$k/stderr.log" "leaving after step [0-9]+: the outer was told to stop"
done
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
says "resumed: said" "$WORK/resumed.err" "^run restart in $directory: 4 workers, 600 steps, continued$"
equal "resumed: two processes of each" "2 2 2 2 2" "$(for k in outer worker-0 worker-1 worker-2 worker-3; do starts "$directory/$k"; done | xargs)"
tokens=$(jq .runs[0].tokens "$WORK/resumed.out")
run_command 20 complete "$ATOLL" train --resume "$directory" --json
equal "complete: exit code" 0 "$EXIT_CODE"
says "complete: said" "$WORK/complete.err" "has trained all of its 600 steps; --set inner.steps=N with more of them goes on"
check "complete: the same numbers" cmp -s "$WORK/resumed.out" "$WORK/complete.out"
equal "complete: nothing was started" 2 "$(starts "$directory/outer")"
cp "$directory/outer/join.token" "$WORK/before.token"
run_command 90 more "$ATOLL" train --resume "$directory" --set inner.steps=700 --json
equal "more: exit code" 0 "$EXIT_CODE"
equal "more: steps" "700 700 true 700" "$(jq -r '.runs[0] | .steps, .planned_steps, .loss_final, .loss_step' "$WORK/more.out" | xargs)"
equal "more: tokens" "$((tokens + 4 * 100 * 128))" "$(jq .runs[0].tokens "$WORK/more.out")"
check "more: ledger adds up" ledger_adds_up "$directory/outer/log.jsonl"
says "more: the run file remembers" "$directory/run.yaml" "^  steps: 700$"
check "more: the same token, at the same ports" cmp -s "$WORK/before.token" "$directory/outer/join.token"

# An outer that a person started there meanwhile, for workers elsewhere: those of the launcher are here all the same.
start by-hand "$ATOLL" outer "$directory/run.yaml" --dir "$directory/outer" --listen 127.0.0.1:0 --advertise elsewhere.invalid
by_hand_pid=$PID
wait_for 20 "its line" grep -q "^atoll worker --join" "$WORK/by-hand.out"
kill -TERM "$by_hand_pid"
wait_exit "$by_hand_pid" 20 by-hand
run_command 60 back "$ATOLL" train --resume "$directory" --set inner.steps=710 --json
equal "back: exit code" 0 "$EXIT_CODE"

# State that is gone is waited for, and a person hears so; that the run was trained to its end does not hide it.
cp -r "$directory" "$WORK/gone"
rm -r "$WORK"/gone/outer/{commits,outer.json} "$WORK"/gone/worker-*
start gone "$ATOLL" train --resume "$WORK/gone" --quiet
gone_pid=$PID
wait_for 30 "the reason" grep -q "not leading yet" "$WORK/gone.err"
says "gone: why it waits" "$WORK/gone.err" "^outer: not leading yet: [a-z]"
kill -TERM "$gone_pid"
wait_exit "$gone_pid" 60 gone

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
equal "plain: two processes, all steps" "1 600 true" "$(jq -r '.runs[0] | .restarts, .steps, .loss_final' "$WORK/plain.out" | xargs)"
run_command 60 plain-more "$ATOLL" train --resume "$directory" --set inner.steps=650 --json
equal "plain-more: exit code" 0 "$EXIT_CODE"
equal "plain-more: steps" "650 650" "$(jq -r '.runs[0] | .steps, .loss_step' "$WORK/plain-more.out" | xargs)"
test_end
