#!/usr/bin/env bash
# faults_peers.sh ATOLL PEER: bad peers. Strangers at the ports and a recording played again change nothing; a member that offers what it must
# not is refused or sent away, and the others go on; a worker that sends poison is told so and begins anew; who was revoked is out.
# admission.sh has: plain text, unlisted and wrong keys, expired, used and unknown tokens, other protocol versions, runs and run-wide keys, old
# sessions. A commit with a wrong signature can come from nobody: the link to a worker is CURVE with the outer's own key, and whoever has that
# key has the signing key too (both are in the outer's seed); that a worker checks signatures is test/unit/comms/commit_test.c's.
source "$(dirname "$0")/lib.sh"
test_begin faults_peers "$@"
RAW=$(realpath "$(dirname "$0")/raw_peers.py")
CORPUS=$WORK
make_corpus "$CORPUS/corpus.txt" 60000 1
make_corpus "$CORPUS/held_out.txt" 4000 2

# run_file STEPS MIN_STEP_TIME WORKERS [SYNC]
run_file() {
    cat >"$WORK/run.yaml" <<YAML
name: peers
model: {layers: 2, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}
data: {train: [$CORPUS/corpus.txt], val: [$CORPUS/held_out.txt], tokenizer: bytes}
inner: {lr: 3e-3, warmup_steps: 4, steps: $1, batch_per_worker: 2, threads: 1, min_step_time: $2}
sync: {every_steps: 12, fragment_layers: 1, overlap_steps: 2, keep_local: 0.5${4:+, $4}}
eval: {every_steps: 0, windows: 4}
workers: $3
YAML
}
outer() {
    RUN=$WORK/run OUTER_LOG=$WORK/run/outer/log.jsonl TOKEN=$WORK/run/outer/join.token
    start outer "$@" "$ATOLL" outer "$WORK/run.yaml" --dir "$RUN/outer" --listen 127.0.0.1:0
    OUTER_PID=$PID WORKER_PIDS=()
    wait_for 10 "the join token" test -s "$TOKEN"
    eval "$("$PEER" show "$TOKEN")"
}
worker() { # NUMBER [ENVIRONMENT...]
    start "worker-$1" env "${@:2}" "$ATOLL" worker --join "${JOIN:-$TOKEN}" --dir "$RUN/worker-$1"
    WORKER_PIDS+=("$PID")
}
commits_reach() {
    [ "$(grep -c '"event":"commit"' "$OUTER_LOG")" -ge "$1" ]
}
ends_right() {
    end_of_run 60
    check "the ledger adds up" ledger_adds_up "$OUTER_LOG"
    check "versions grow one by one, and all hold the same states" states_agree "$RUN"
}

# ---- strangers ----

# Scans, idle crowds, slow greetings, garbage and a recording, while two workers train: the state is the undisturbed run's.
strangers() {
    local port heard
    run_file 900 30ms 2
    outer
    mkdir "$WORK/tape"
    start tape python3 "$RAW" record "$WORK/tape" 127.0.0.1 "$control_port" "$bulk_port"
    wait_for 10 "the recorder" test -s "$WORK/tape/ports"
    read -r tape_control tape_bulk <"$WORK/tape/ports"
    "$PEER" forge "$TOKEN" control-port "$tape_control" >"$WORK/half.token"
    "$PEER" forge "$WORK/half.token" bulk-port "$tape_bulk" >"$WORK/tape.token"
    JOIN=$WORK/tape.token worker 0
    worker 1
    wait_for 30 "the first commits" commits_reach 6
    run_command 60 direct "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/direct" --set inner.min_step_time=0ms
    for port in "$control_port" "$bulk_port"; do
        start "idle-$port" python3 "$RAW" idle 127.0.0.1 "$port" 1000
        wait_for 20 "1000 idle connections on port $port" grep -q "open 1000" "$WORK/idle-$port.out"
        start "drip-$port" python3 "$RAW" drip 127.0.0.1 "$port"
        run_command 20 scan python3 "$RAW" scan 127.0.0.1 "$port" 200
        equal "a scan of port $port ends" 0 "$EXIT_CODE"
        (exec 3<>"/dev/tcp/127.0.0.1/$port" && head -c 100000 /dev/urandom >&3) 2>/dev/null || true
    done
    equal "status: both live among 2000 idle connections" "live live" "$(worker_state worker-0) $(worker_state worker-1)"

    heard=$(run_status '"\(.dropped.malformed) \(.dropped.wrong_identity) \(.dropped.wrong_session)"')
    rejected=$(run_status .dropped.rejected_handshakes)
    run_command 30 replay python3 "$RAW" replay "$WORK/tape" 127.0.0.1 "$control_port" "$bulk_port"
    holds "a session's bytes were played again, at both ports" "$(awk '{print ($2 >= 3 && $3 > 5000)}' "$WORK/replay.out") == 1"
    equal "nothing of it was heard" "$heard" "$(run_status '"\(.dropped.malformed) \(.dropped.wrong_identity) \(.dropped.wrong_session)"')"
    holds "its handshakes were rejected" "$(run_status .dropped.rejected_handshakes) > $rejected"
    for port in "$control_port" "$bulk_port"; do
        wait_for 15 "the slow greeting to be cut" grep -q cut "$WORK/drip-$port.out"
        holds "a slow handshake is cut" "$(awk '{print $3}' "$WORK/drip-$port.out") < 12"
    done
    gone "${WORKER_PIDS[0]}" && fail "the run was over before the last stranger: make it longer"
    ends_right
    equal "nobody left before the end" "" "$(events "$OUTER_LOG" leave 'select(.reason != "trained to the end")')"
    equal "the state is the undisturbed run's" "$(final_hash "$WORK/direct/outer/log.jsonl")" "$(final_hash "$OUTER_LOG")"
}

# An outer with few descriptors and a crowd that takes them all: the run goes on, and a worker can come when the crowd has gone.
crowd() {
    run_file 300 40ms 2
    outer bash -c 'ulimit -n 300; exec "$@"' -
    worker 0
    worker 1
    wait_for 30 "the first commits" commits_reach 6
    start idle python3 "$RAW" idle 127.0.0.1 "$control_port" 400
    local idle=$PID
    sleep 3 # the fault itself
    local before
    before=$(grep -c '"event":"commit"' "$OUTER_LOG")
    wait_for 10 "commits amid the crowd" commits_reach $((before + 6))
    pass "the run goes on without a free descriptor"
    kill -KILL "$idle"
    wait "$idle" 2>/dev/null || true
    wait_for 10 "the outer to answer again" run_status .started
    pass "the outer answers when they have gone"
    ends_right
}

# ---- members that lie ----

crooked() {
    local -A found
    local name value
    run_file 600 40ms 1 "codec_up: f32"
    outer
    worker 0
    wait_for 30 "the first commits" commits_reach 9
    "$ATOLL" token create "$RUN" | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1 >"$WORK/peer.token"
    mkdir "$WORK/peer"
    run_command 90 crooked "$PEER" crooked "$WORK/peer.token" "$WORK/peer"
    while read -r name value; do found[$name]=$value; done <"$WORK/crooked.out"
    is() {
        equal "$1" "$2" "${found[$1]:-not said}"
    }
    equal "the peer came to its end" 0 "$EXIT_CODE"
    is offer granted
    is same-offer-again granted
    is counted 1
    is counted-offer-again refused-2
    is counted-tokens-again refused-2
    is base-before-the-counted refused-2
    is base-not-made-yet refused-1
    is old-base refused-1
    is another-incarnation nothing
    is another-slot nothing
    is fragment-out-of-range nothing
    is more-tokens-than-trained nothing
    is tokens-beyond-the-wire nothing
    is old-session nothing
    for name in nan inf huge; do
        is "$name" granted
        is "$name-bytes" refused-5
    done
    for name in one-byte-less hostile-length tokens-skipped; do
        is "$name" refused-3
        is "after-$name" lost
    done
    is wrong-hash granted
    is after-wrong-hash lost
    is good-offer-at-last granted
    is counted-at-last 1
    equal "status: three updates refused" 3 "$(run_status .refused_updates)"
    holds "status: what the wire does not allow was dropped" "$(run_status .dropped.malformed) >= 2"
    equal "status: one message of another session" true "$(run_status '.dropped.wrong_session >= 1')"
    says "the outer says what did not fit" "$WORK/outer.err" "left: it offers contributions that do not fit the run"
    says "and what did not match" "$WORK/outer.err" "left: its payloads do not match their hashes"
    says "and what was not finite" "$WORK/outer.err" "update of fragment 0 refused: it holds values that are not finite"
    says "and what was not granted" "$WORK/outer.err" "chunk outside of its grant, dropped"
    ends_right
}

# It asks 60000 times for all commits and reads none of the answers.
flood() {
    run_file 240 40ms 2
    outer
    worker 0
    worker 1
    wait_for 30 "the first commits" commits_reach 9
    "$ATOLL" token create "$RUN" | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1 >"$WORK/peer.token"
    mkdir "$WORK/peer"
    local before flood
    start flood "$PEER" flood "$WORK/peer.token" "$WORK/peer"
    flood=$PID
    wait_for 30 "the flood to be sent away" grep -q "left: control queue full: it reads nothing" "$WORK/outer.err"
    pass "who reads nothing is sent away"
    before=$(grep -c '"event":"commit"' "$OUTER_LOG")
    wait_for 10 "commits of the others" commits_reach $((before + 6))
    kill -KILL "$flood"
    wait "$flood" 2>/dev/null || true
    ends_right
}

# Before the first commit it grants bytes of a whole fragment at version 1. Nothing is made for it, again and again, out of version 0.
greedy() {
    local before spent
    run_file 240 40ms 2
    outer
    mkdir "$WORK/peer"
    start greedy "$PEER" greedy "$TOKEN" "$WORK/peer"
    wait_for 20 "the grant" grep -q granted "$WORK/greedy.out"
    clock_ticks() { awk '{ print $14 + $15 }' "/proc/$OUTER_PID/stat"; }
    before=$(clock_ticks)
    sleep 2 # what is measured
    spent=$(($(clock_ticks) - before))
    holds "the outer rests: ticks of processor time in 2 s" "$spent < 0.15 * 2 * $(getconf CLK_TCK)"
    kill -TERM "$OUTER_PID"
    wait_exit "$OUTER_PID" 20 "the outer"
    equal "and ends normally" 0 "$EXIT_CODE"
}

# poison WHAT FAILPOINT REASON: worker-1 sends it once.
poison() {
    run_file 300 20ms 2 "codec_up: f32"
    outer
    worker 0
    worker 1 "ATOLL_FAILPOINT=$2"
    wait_for 30 "the refusal" grep -q '"event":"refuse"' "$OUTER_LOG"
    equal "status: an update was refused" 1 "$(run_status .refused_updates)"
    equal "status: why" true "$(run_status "[.workers[] | select(.node == \"worker-1\") | .last_error][0] | test(\"$3\")")"
    run_command 20 status "$ATOLL" status "$RUN"
    says "atoll status shows it" "$WORK/status.out" "1 updates refused"
    ends_right
    says "the worker was told" "$WORK/worker-1.err" "the outer refused this worker's fragment [0-2] \($1\): it starts anew from the outer copy"
    equal "the work of that fragment was dropped, of nobody else" "1" \
        "$(events "$OUTER_LOG" ledger 'select(.dropped > 0) | [.slot, .fragment]' | sort -u | wc -l)"
    equal "worker-1 never left before the end" "" "$(events "$OUTER_LOG" leave 'select(.reason != "trained to the end")')"
}
poison_nan() { poison "not finite" "worker.upload.poison=EIO@4" "not finite"; }
poison_huge() { poison "far larger than the others'" "worker.upload.huge=EIO@34" "at most .* counts .outer.reject_norm"; }

# ---- who may not stay ----

revoked() {
    run_file 240 40ms 2
    outer
    worker 0
    worker 1
    wait_for 30 "the first commits" commits_reach 6
    mkdir "$WORK/peer"
    "$ATOLL" token create "$RUN" | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1 >"$WORK/peer.token"
    refused "READY with another tokenizer" 78 "tokenizers differ: hash .* here, .* on the worker" tokenizer "$PEER" ready "$WORK/peer.token" "$WORK/peer" tokenizer
    refused "READY with another state" 78 "initial parameters differ: state hash .* here, .* on the worker" state "$PEER" ready "$WORK/peer.token" "$WORK/peer" state

    "$ATOLL" token create "$RUN" >"$WORK/created.out"
    grep -o 'atoll1\.[A-Za-z0-9_-]*' "$WORK/created.out" | head -n 1 >"$WORK/late.token"
    local id
    id=$("$ATOLL" token list "$RUN" --json | jq -r '.tokens[-1].id')
    run_command 20 token-revoke "$ATOLL" token revoke "$id" "$RUN"
    equal "atoll token revoke: exit code" 0 "$EXIT_CODE"
    refused "a revoked token" 77 "revoked" late "$ATOLL" worker --join "$WORK/late.token" --dir "$WORK/late"

    run_command 20 drain "$ATOLL" drain worker-1 "$RUN" --revoke
    equal "atoll drain --revoke: exit code" 0 "$EXIT_CODE"
    wait_exit "${WORKER_PIDS[1]}" 20 "the revoked worker"
    equal "the revoked worker leaves in order" 0 "$EXIT_CODE"
    says "and says why" "$WORK/worker-1.err" "its key was revoked"
    refused "it cannot come back by its directory" 77 "revoked" back "$ATOLL" worker --dir "$RUN/worker-1"
    refused "nor with the token" 77 "revoked|does not know" back-token "$ATOLL" worker --join "$TOKEN" --dir "$RUN/worker-1"
    WORKER_PIDS=("${WORKER_PIDS[0]}")
    ends_right
}

# shellcheck disable=SC2086 # words
side_by_side ${ATOLL_CASES:-strangers crowd crooked flood greedy poison_nan poison_huge revoked}
test_end
