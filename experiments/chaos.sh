#!/usr/bin/env bash
# No machine's death costs work: a run in which workers and the outer are killed (SIGKILL) and started again, the same run undisturbed, and
# what the difference is (chaos_report.py: a table with the bound beside each number; exit code 0 only when all hold).
#
#   experiments/chaos.sh                     acceptance: 8 workers, 10 minutes, a kill every 50 s, one kill of the outer; 23 minutes in all
#   experiments/chaos.sh --scale             32 workers, a smaller model, 15 minutes, 60 kills; 31 minutes
#   experiments/chaos.sh --minutes 2 --every 15        a short one
#   experiments/chaos.sh sync.quorum=all     KEY=VALUE changes the run file of both runs
#
#   --minutes M        how long kills go on; 20 s follow for the last one to come back
#   --every S          seconds from one kill of a worker to the next; the worker is chosen by chance
#   --down S           seconds until the killed one is started again (5)
#   --outer-kills N    kills of the outer, spread evenly, half-way between two of workers; it is started again after 1 s
#   --workers N  --seed N (of the kills)  --json FILE (the numbers)
#   --dir D            where the runs go (default: a new runs/chaos-N); an undisturbed run of the same run file that stands there is used again
#   --keep             keep the runs' directories; else only the logs stay
#
# Kills and starts are written to D/chaos/kills.jsonl. ATOLL names the program; without it, build/release/atoll is built.
set -euo pipefail
HERE=$(cd "$(dirname "$0")" && pwd)
export LC_ALL=C
source "$HERE/run_processes.sh"
source "$HERE/header_text.sh"

MINUTES= WORKERS= EVERY= OUTER_KILLS= SEED=1 DOWN=5 DIRECTORY= KEEP= JSON= SCALE=
SETTINGS=()
take_options "minutes workers every outer-kills seed down" "" "" "scale" "$@"
PACE_MS=100
if [ "$SCALE" ]; then
    : "${MINUTES:=15}" "${WORKERS:=32}" "${EVERY:=15}" "${OUTER_KILLS:=0}"
    PACE_MS=250 # 32 of them on two cores
    SETTINGS=(--set model.layers=2 --set inner.batch_per_worker=2 --set sync.fragment_layers=1 --set sync.every_steps=20
        --set inner.min_step_time=${PACE_MS}ms --set checkpoint.every=5s ${SETTINGS[@]+"${SETTINGS[@]}"})
fi
: "${MINUTES:=10}" "${WORKERS:=8}" "${EVERY:=50}" "${OUTER_KILLS:=1}"
TAIL=20
# A tenth more than fit in: who comes back takes up the run's step, so that the run is through with its steps earlier than by the pace alone.
STEPS=$(awk "BEGIN { print int(($MINUTES * 60 * 1.1 + $TAIL) * 1000 / $PACE_MS) }")
SETTINGS=(--set "workers=$WORKERS" --set "inner.steps=$STEPS" ${SETTINGS[@]+"${SETTINGS[@]}"})

need_tools jq python3
find_atoll
make_header_text runs/chaos-text
choose_directory chaos

trap end_processes EXIT
trap 'exit 130' INT TERM

# The same command in the same directory each time.
launch() { # NODE
    local node=$1
    if [ "$node" = outer ]; then
        "$ATOLL" outer "$HERE/chaos.yaml" --dir "$RUN/outer" --listen 127.0.0.1:0 "${SETTINGS[@]}" >> "$RUN/outer.out" 2>> "$RUN/outer.err" < /dev/null &
    else
        "$ATOLL" worker --join "$RUN/outer/join.token" --dir "$RUN/$node" >> "$RUN/$node.out" 2>> "$RUN/$node.err" < /dev/null &
    fi
    PIDS[$node]=$!
}

# A process that has ended by itself is no kill: it is noted as missed, the report counts it as not done, and wait_for_end says how it ended.
kill_node() {
    local code=0
    if ! kill -KILL "${PIDS[$1]}" 2> /dev/null; then note missed "$1"; return 0; fi
    wait "${PIDS[$1]}" 2> /dev/null || code=$? # before anything else: bash says "Killed" when it finds out by itself
    if [ "$code" = 137 ]; then note kill "$1"; else note missed "$1"; fi
    unset "PIDS[$1]"
}

start_again() {
    [ -z "${PIDS[$1]:-}" ] || return 0
    note start "$1"
    launch "$1"
}

# Lines "second verb node", sorted.
plan() {
    awk -v minutes="$MINUTES" -v workers="$WORKERS" -v every="$EVERY" -v down="$DOWN" -v outer_kills="$OUTER_KILLS" -v seed="$SEED" '
        BEGIN {
            srand(seed)
            kills = int(minutes * 60 / every + 0.001)
            for (i = 0; i < kills; i++) {
                do victim = int(rand() * workers); while (workers > 1 && down_until[victim] > (i + 0.5) * every)
                down_until[victim] = (i + 0.5) * every + down + 10
                printf "%.3f kill worker-%d\n%.3f start worker-%d\n", (i + 0.5) * every, victim, (i + 0.5) * every + down, victim
            }
            for (i = 0; i < outer_kills; i++) {
                at = int((i + 1) / (outer_kills + 1) * kills + 0.5) * every
                printf "%.3f kill outer\n%.3f start outer\n", at, at + 1
            }
        }' | sort -n
}

# one_run NAME: $DIRECTORY/NAME/{outer,worker-K}; with kills when NAME is chaos.
one_run() {
    local k second verb node began
    RUN=$DIRECTORY/$1
    FAULTS=$RUN/kills.jsonl
    [ ! -e "$RUN" ] || { complain "$RUN exists already: choose another --dir"; exit 1; }
    mkdir -p "$RUN"
    PIDS=()
    launch outer
    wait_until 30 "the join token" test -s "$RUN/outer/join.token"
    # The effective run file, every key of it: what was undisturbed must be the same run.
    if [ "$1" = chaos ] && ! diff "$DIRECTORY/calm/outer/run.yaml" "$RUN/outer/run.yaml" >&2; then
        complain "$DIRECTORY/calm is of another run file (< above; > this one): choose another --dir"
        end_processes
        rm -rf "$RUN"
        exit 1
    fi
    for ((k = 0; k < WORKERS; k++)); do launch "worker-$k"; done
    wait_until 120 "the start of the training" has_event "$RUN/outer/log.jsonl" start
    note began outer "\"pace_ms\":$PACE_MS"
    began=$(date +%s.%N)
    if [ "$1" = chaos ]; then
        while read -r second verb node; do
            sleep "$(awk "BEGIN { s = $began + $second - $(date +%s.%N); print (s > 0 ? s : 0) }")"
            if [ "$verb" = kill ]; then kill_node "$node"; else start_again "$node"; fi
        done < <(plan)
    fi
    # Steps may take a little longer than they are paced to; then the final evaluation.
    wait_for_end "$(awk "BEGIN { print int($MINUTES * 60 * 1.2) + $TAIL + 120 }")"
    [ "$KEEP" ] || rm -rf "$RUN"/*/checkpoint "$RUN"/outer/commits "$RUN"/*/model
}

calm_is_there() { has_event "$DIRECTORY/calm/outer/log.jsonl" end; }

took=$(awk "BEGIN { printf \"%.0f\", $MINUTES + 0.5 }")
if calm_is_there; then
    echo "== undisturbed: there already"
else
    echo "== undisturbed: $WORKERS workers, $took minutes"
    one_run calm
fi
WORKER_KILLS=$(plan | grep -c 'kill worker' || true)
OUTER_KILLS=$(plan | grep -c 'kill outer' || true)
echo "== killed: $WORKER_KILLS times a worker, $OUTER_KILLS times the outer, $took minutes"
one_run chaos
echo
python3 "$HERE/chaos_report.py" "$DIRECTORY" --kills "$WORKER_KILLS" --outer-kills "$OUTER_KILLS" --minutes "$MINUTES" ${SCALE:+--scale} ${JSON:+--json "$JSON"}
