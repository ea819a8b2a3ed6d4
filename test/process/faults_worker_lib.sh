# faults_worker_lib.sh: what faults_worker.sh, faults_worker_stop.sh, faults_worker_disk.sh and faults_outer.sh share; to be sourced behind
# test_begin. A case is a function that side_by_side runs in a shell and a WORK of its own:
#
#     begin 2 inner.steps=200         # an outer: $RUN, $OUTER_PID, $OUTER_LOG, $TOKEN
#     worker 0 ATOLL_FAILPOINT=...    # worker-0, with variables and options of its own: ${WORKER_PIDS[0]}, ${ERR[0]}
#     die 0                           # kill -9, and the outer has heard of it
#     worker 0                        # the same directory again, another process
#     ends_right                      # exit codes, ledger, versions, state hashes, counters
CORPUS=$WORK
make_corpus "$CORPUS/corpus.txt" 60000 1
make_corpus "$CORPUS/held_out.txt" 4000 2
# 25 ms a step, so that machine and load do not matter much: a run of 160 steps takes 4 s. overlap_steps is a number: strict, so that a run
# with the same members always comes to the same state.
cat >"$CORPUS/run.yaml" <<YAML
name: faults
model: {layers: 2, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}
data: {train: [corpus.txt], val: [held_out.txt], tokenizer: bytes}
inner: {lr: 3e-3, warmup_steps: 4, steps: 160, batch_per_worker: 2, threads: 1, min_step_time: 25ms}
sync: {every_steps: 10, fragment_layers: 1, overlap_steps: 2, keep_local: 0.5}
eval: {every_steps: 0, windows: 4}
checkpoint: {every: 300ms}
workers: 2
YAML
LIVES=() ERR=() WORKER_PIDS=()

# The state that the run of that file comes to when nothing happens: $CALM.
calm_run() {
    run_command 60 calm "$ATOLL" train "$CORPUS/run.yaml" --dir "$WORK/calm" --set inner.min_step_time=0ms
    equal "undisturbed: exit code" 0 "$EXIT_CODE"
    CALM=$(final_hash "$WORK/calm/outer/log.jsonl")
    check "undisturbed: it has a state" test ${#CALM} = 32
}

# begin WORKERS KEY=VALUE...: an outer of that run.
begin() {
    local setting options=(--set "workers=$1")
    for setting in "${@:2}"; do options+=(--set "$setting"); done
    RUN=$WORK/run OUTER_LOG=$WORK/run/outer/log.jsonl TOKEN=$WORK/run/outer/join.token
    # shellcheck disable=SC2086 # words of a command
    start outer ${OUTER_ENVIRONMENT:-} "$ATOLL" outer "$CORPUS/run.yaml" --dir "$RUN/outer" --listen 127.0.0.1:0 "${options[@]}"
    OUTER_PID=$PID
    wait_for 10 "the join token" test -s "$TOKEN"
}

# worker K [VARIABLE=VALUE...] [OPTION...]: worker-K, again if it was there before.
worker() {
    local k=$1 variables=()
    shift
    while [[ ${1:-} == [A-Z]*=* ]]; do
        variables+=("$1")
        shift
    done
    LIVES[k]=$((${LIVES[k]:-0} + 1))
    ERR[k]=$WORK/worker-$k.${LIVES[k]}.err
    start "worker-$k.${LIVES[k]}" env "${variables[@]}" "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-$k" "$@"
    WORKER_PIDS[k]=$PID
}

log_of() {
    echo "$RUN/worker-$1/log.jsonl"
}

version() { # FRAGMENT
    run_status ".fragments[$1].version"
}
version_is_above() {
    [ "$(version "$1")" -gt "$2" ]
}

# The slot of worker-K: they register in any order.
slot_of() {
    events "$OUTER_LOG" join "select(.node == \"worker-$1\") | .slot" | head -n 1
}

times_left() { # K: before the end
    events "$OUTER_LOG" leave "select(.node == \"worker-$1\" and .reason != \"trained to the end\")" | wc -l
}
times_joined() { # K
    grep -c "\"event\":\"join\".*\"node\":\"worker-$1\"" "$OUTER_LOG" || true
}
left_more_than() { # K COUNT
    [ "$(times_left "$1")" -gt "$2" ]
}

# counted_more K COUNT: so many commits count worker-K since it joined last.
counted_more() {
    local found
    found=$(jq -cnR --arg node "worker-$1" '
        [inputs | fromjson? | select(.event == "join" or .event == "commit")] as $all
        | ([$all | to_entries[] | select(.value.event == "join" and .value.node == $node)] | last) as $join
        | if $join == null then 0 else
          [$all[$join.key:][] | select(.event == "commit") | select(any(.counted[]; .slot == $join.value.slot))] | length end' "$OUTER_LOG")
    [ "$found" -ge "$2" ]
}
# counts_again K TIMES SECONDS: it has joined TIMES times, and rounds count it since.
counts_again() {
    wait_for "$3" "worker-$1 to join for the ${2}th time" test_joined "$1" "$2"
    wait_for 30 "worker-$1 to be counted again" counted_more "$1" 3
}
test_joined() {
    [ "$(times_joined "$1")" -ge "$2" ]
}

# is_killed K SECONDS [BEFORE]: by its failpoint or by us; the outer has heard of it (it had left BEFORE times).
is_killed() {
    local before=${3:-0}
    wait_exit "${WORKER_PIDS[$1]}" "$2" "worker-$1"
    equal "worker-$1 was killed" 137 "$EXIT_CODE"
    wait_for 10 "the outer to miss worker-$1" left_more_than "$1" "$before"
}
die() { # K
    local before
    before=$(times_left "$1")
    kill -KILL "${WORKER_PIDS[$1]}"
    is_killed "$1" 10 "$before"
}

# counters_agree: what each worker that trained to the end has counted is what the ledger's last records say it processed.
counters_agree() {
    local log slot tokens
    for log in "$RUN"/worker-*/log.jsonl; do
        tokens=$(events "$log" end 'select(.reason == "trained to the end") | .tokens' | tail -n 1)
        slot=$(events "$log" header .slot | tail -n 1)
        [ -z "$tokens" ] || equal "$(basename "$(dirname "$log")") processed what it counted" "$tokens" \
            "$(events "$OUTER_LOG" ledger "select(.slot == $slot)" | jq -rs 'group_by(.fragment) | map(last.processed) | unique | join(" ")')"
    done
}

# What every run must have come to: exit codes, one state, a ledger without a hole. "ends_right calm": the undisturbed run's state.
# DIFFERS=worker-K: its state is meant to differ.
ends_right() {
    local log hash k
    end_of_run 60
    check "ledger adds up" ledger_adds_up "$OUTER_LOG"
    check "versions rise by one; each state that a worker took is the outer's" states_agree "$RUN"
    counters_agree
    hash=$(final_hash "$OUTER_LOG")
    for k in "${!WORKER_PIDS[@]}"; do
        equal "worker-$k ends with the run's state" "$hash" "$(final_hash "$(log_of "$k")")"
    done
    [ "${1:-}" != calm ] || equal "the state is that of the undisturbed run" "$CALM" "$hash"
    equal "the outer saw no other state${DIFFERS:+, but at $DIFFERS}" "" "$(grep -i 'differs' "$WORK/outer.err" | grep -v "worker ${DIFFERS:--}:" || true)"
}
