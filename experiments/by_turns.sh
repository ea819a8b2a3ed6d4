# The same workers with sync and without it, on the same cores, by turns: what sync_cost.sh and many_workers.sh share. Sourced behind
# run_processes.sh; they set RUN_FILE, WORKERS, SETTINGS (--set KEY=VALUE ...), TURNS and SECONDS_EACH.
#
# All sets of processes are there all the time, and all but one are stopped (SIGSTOP), so that what else the machine does hits each alike, and none
# has to warm up again. A slice is short, for a worker takes an outer that it has not heard for 10 s for gone; steps go on over many of them, and
# are timed by a clock that stands still while their set does:
#
#     off     ####        ####        ####          ####               WORKERS x `atoll train` with sync: off
#     h30         ####        ####        ####          ####           an outer and WORKERS workers, every 30 steps
#     h100            ####        ####        ####          ####
#             |-------------- turn 1 -------------| |---- turn 2 ...
#
# A set is a directory: $DIRECTORY/SET/{outer,worker-K}. Slices go to $DIRECTORY/slices.jsonl, for by_turns_report.py.

SLICE=4 # seconds
SETS=() # that wait for their turn
declare -A TRAINERS=() # SET/NODE -> pid of what trains, or leads
cores_of() { :; }      # K: the cores of worker K; the scripts say it

trainers() { # SET [NODE]
    local node
    for node in "${!TRAINERS[@]}"; do
        [[ $node != "$1"/${2:-*} ]] || echo "${TRAINERS[$node]}"
    done
}
wake() { kill -CONT $(trainers "$1"); }
halt() { kill -STOP $(trainers "$1"); }
end_all() {
    [ "${#TRAINERS[@]}" = 0 ] || kill -KILL "${TRAINERS[@]}" 2> /dev/null || true
    end_processes
}

lock_of() { tr -dc 0-9 < "$DIRECTORY/$1/lock"; } 2> /dev/null
is_locked() { [ -n "$(lock_of "$1")" ]; }
has_steps() { [ "$(grep -cs '"event":"step"' "$DIRECTORY/$1/log.jsonl")" -ge "$2" ]; }

start_off() {
    local k own=()
    for k in "${!SETTINGS[@]}"; do
        case ${SETTINGS[$k]} in --set | sync.* | outer.*) ;; *) own+=(--set "${SETTINGS[$k]}") ;; esac
    done
    for ((k = 0; k < WORKERS; k++)); do
        RUN=$DIRECTORY/off/worker-$k
        mkdir -p "$RUN"
        taskset -c "$(cores_of "$k")" "$ATOLL" train "$RUN_FILE" --dir "$RUN" --quiet --restarts 0 ${own[@]+"${own[@]}"} --set sync=off \
            --set workers=1 > "$RUN.out" 2> "$RUN.err" < /dev/null &
        PIDS[off/worker-$k]=$!
    done
    for ((k = 0; k < WORKERS; k++)); do
        RUN=$DIRECTORY/off/worker-$k
        wait_until 60 "its trainer" is_locked "off/worker-$k/worker-0"
        TRAINERS[off/worker-$k]=$(lock_of "off/worker-$k/worker-0")
        wait_until 600 "its first steps" has_steps "off/worker-$k/worker-0" 3
    done
    halt off
    SETS=(off)
}

# first_round SET: wait for it. Those that wait for their turn hear from their outer meanwhile.
first_round() {
    local set until=$((SECONDS + 1800)) next=$((SECONDS + SLICE))
    until has_event "$DIRECTORY/$1/outer/log.jsonl" commit; do
        [ "$SECONDS" -lt "$until" ] || { complain "waited in vain for the first round; see $DIRECTORY/$1"; exit 1; }
        sleep 0.1
        [ "$SECONDS" -ge "$next" ] || continue
        for set in "${SETS[@]:1}"; do
            wake "$set"
            sleep 0.5
            halt "$set"
        done
        next=$((SECONDS + SLICE))
    done
}

# start_on H: the set hH, until its first round is over.
start_on() {
    local k set=h$1
    RUN=$DIRECTORY/$set
    mkdir -p "$RUN"
    # What the outer may use is what the workers have: all their cores.
    taskset -c "$(for ((k = 0; k < WORKERS; k++)); do cores_of "$k"; done | paste -sd ,)" "$ATOLL" outer "$RUN_FILE" --dir "$RUN/outer" \
        --listen 127.0.0.1:0 --stop-workers ${SETTINGS[@]+"${SETTINGS[@]}"} --set "workers=$WORKERS" --set "sync.every_steps=$1" \
        > "$RUN/outer.out" 2> "$RUN/outer.err" < /dev/null &
    TRAINERS[$set/outer]=$! PIDS[$set/outer]=$!
    wait_until 30 "the join token" test -s "$RUN/outer/join.token"
    for ((k = 0; k < WORKERS; k++)); do
        taskset -c "$(cores_of "$k")" "$ATOLL" worker --join "$RUN/outer/join.token" --dir "$RUN/worker-$k" > "$RUN/worker-$k.out" \
            2> "$RUN/worker-$k.err" < /dev/null &
        TRAINERS[$set/worker-$k]=$! PIDS[$set/worker-$k]=$!
    done
    first_round "$set"
    halt "$set"
    SETS+=("$set")
}

cpu_ticks() { awk '{ sub(/.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; } # user and system, of all threads

# slice SET TURN SECONDS
slice() {
    local from to before=0 after=0
    [ "$1" = off ] || before=$(cpu_ticks "${TRAINERS[$1/outer]}")
    from=$(date +%s.%N)
    wake "$1"
    sleep "$3"
    halt "$1"
    to=$(date +%s.%N)
    [ "$1" = off ] || after=$(cpu_ticks "${TRAINERS[$1/outer]}")
    awk "BEGIN { printf \"{\\\"set\\\":\\\"$1\\\",\\\"turn\\\":$2,\\\"from\\\":%.3f,\\\"to\\\":%.3f,\\\"outer_cpu_s\\\":%.2f}\\n\", $from, $to,
        ($after - $before) / $(getconf CLK_TCK) }" >> "$DIRECTORY/slices.jsonl"
}

# by_turns H...: all of it.
by_turns() {
    local turn seconds set h
    [ ! -e "$DIRECTORY/slices.jsonl" ] || { complain "$DIRECTORY holds a run already: choose another --dir"; exit 1; }
    echo "== $WORKERS workers: sync off, warming up"
    start_off
    for h; do
        echo "== sync every $h steps: until its first round is over"
        start_on "$h"
    done
    echo "== $TURNS turns of ${#SETS[@]} x $SECONDS_EACH s"
    for ((turn = 1; turn <= TURNS; turn++)); do
        for seconds in $(awk "BEGIN { for (left = $SECONDS_EACH; left > 0.001; left -= $SLICE) print (left < $SLICE ? left : $SLICE) }"); do
            for set in "${SETS[@]}"; do slice "$set" "$turn" "$seconds"; done
        done
    done
    end_sets "${SETS[@]}"
    [ "$KEEP" ] || rm -rf "$DIRECTORY"/*/*/checkpoint "$DIRECTORY"/*/*/commits "$DIRECTORY"/*/*/model "$DIRECTORY"/off/*/*/checkpoint \
        "$DIRECTORY"/off/*/*/model
}

# Told to stop, all end as any run does: the ledger and all hashes are there.
end_sets() {
    local set
    for set; do wake "$set"; done
    sleep 1
    for set; do
        if [ "$set" = off ]; then kill -TERM $(trainers off); else kill -TERM "${TRAINERS[$set/outer]}"; fi
    done
    for set; do
        RUN=$DIRECTORY/$set FAULTS=$DIRECTORY/$set/ended.jsonl
        wait_for_end 120 "$set/*"
    done
}
