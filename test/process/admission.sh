#!/usr/bin/env bash
# admission.sh ATOLL PEER SEQUENTIAL_REF: who may not speak is refused with its own message and exit code; garbage, idle connections
# and messages of an old session do no harm. The run that stood all of this ends with the very bytes of the sequential reference.
source "$(dirname "$0")/lib.sh"
test_begin admission "$@"
REFERENCE=$(realpath "$3")

make_corpus "$WORK/corpus.txt" 60000 1
make_corpus "$WORK/held_out.txt" 4000 2
cat >"$WORK/run.yaml" <<YAML
name: admission
model: {layers: 2, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}
data: {train: [corpus.txt], val: [held_out.txt], tokenizer: bytes}
inner: {lr: 3e-3, warmup_steps: 4, steps: 3000, batch_per_worker: 8, threads: 1}
sync: {every_steps: 6, fragment_layers: 1, overlap_steps: 1, keep_local: 0.5}
eval: {every_steps: 0, windows: 4}
workers: 2
YAML
sed 's/^name: .*/name: another/' "$WORK/run.yaml" >"$WORK/another.yaml"

outer() { # NAME RUN_FILE: starts an outer; its token is $WORK/NAME/join.token
    start "$1" "$ATOLL" outer "$2" --dir "$WORK/$1" --listen 127.0.0.1:0
    OUTER_PID=$PID
    wait_for 10 "the join token of $1" test -s "$WORK/$1/join.token"
}
worker() { # DIRECTORY TOKENFILE: the command line
    WORKER=("$ATOLL" worker --join "$2" --dir "$WORK/$1")
}
forge() { # NAME WHAT [VALUE] -> $WORK/NAME.token
    "$PEER" forge "$TOKEN" "${@:2}" >"$WORK/$1.token"
}
more_token() { # NAME OPTION...: another token of the running outer -> $WORK/NAME.token
    "$ATOLL" token create "$WORK/outer" "${@:2}" | grep -o 'atoll1\.[A-Za-z0-9_-]*' | head -n 1 >"$WORK/$1.token"
}
connect() { # PORT: a bare TCP connection, left open; sets FD
    exec {FD}<>"/dev/tcp/127.0.0.1/$1"
}
garbage() { # PORT: bytes that are no ZMTP, and a greeting that breaks off
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        head -c 20000 /dev/urandom >&3
    ) 2>/dev/null || true
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf '\xff\0\0\0\0\0\0\0\x01\x7f\x03\x01CURVE' >&3
        head -c 200 /dev/zero >&3
    ) 2>/dev/null || true
    (
        exec 3<>"/dev/tcp/127.0.0.1/$1"
        printf 'GET / HTTP/1.1\r\nHost: atoll\r\n\r\n' >&3
    ) 2>/dev/null || true
}

outer outer "$WORK/run.yaml"
outer_pid=$OUTER_PID
TOKEN=$WORK/outer/join.token
eval "$("$PEER" show "$TOKEN")"
say "outer at $host:$control_port, $bulk_port"

# Takes 13 s, so it runs beside the rest, at an outer of its own: connections of one key that take each other over.
outer another "$WORK/another.yaml"
another_pid=$OUTER_PID
mkdir -p "$WORK/takeover"
start takeover "$PEER" takeover "$WORK/another/join.token" "$WORK/takeover"
takeover_pid=$PID

# -- at the door -------------------------------------------------------------------------------------------------------------------
for port in "$control_port" "$bulk_port"; do
    for i in 1 2 3; do connect "$port"; done # idle to the end of the test
    garbage "$port"
    refused "plain-text client on port $port" 77 "handshake was refused" "plain-$port" "$PEER" plain 127.0.0.1 "$port"
done
refused "unlisted key" 77 "does not know this worker's key" unlisted "$PEER" unlisted "$TOKEN"

forge unknown secret
worker stranger-1 "$WORK/unknown.token"
refused "worker with a token that this outer never made" 77 "does not know this token" unknown-token "${WORKER[@]}"

forge other-key outer-key
worker stranger-2 "$WORK/other-key.token"
refused "wrong outer key" 77 "another key than the token says" wrong-outer-key "${WORKER[@]}"

echo "atoll1.notatoken" >"$WORK/junk.token"
worker stranger-3 "$WORK/junk.token"
refused "no token at all" 64 "token" junk-token "${WORKER[@]}"

more_token expired --ttl 1s --uses 1
eval "$("$PEER" show "$WORK/expired.token" | sed 's/\([a-z_]*=\)/expired_\1/g')"
past_expiry() { [ "$(date +%s)" -gt "$expired_expires_s" ]; }
wait_for 10 "the token's expiry" past_expiry
worker stranger-4 "$WORK/expired.token"
refused "expired token" 77 "expired" expired-token "${WORKER[@]}"
# A token whose expiry was written anew by its holder is judged by the outer's own list.
"$PEER" forge "$WORK/expired.token" expiry 4000000000 >"$WORK/prolonged.token"
worker stranger-5 "$WORK/prolonged.token"
refused "expired token, prolonged by its holder" 77 "expired" prolonged-token "${WORKER[@]}"

refused "REGISTER of another protocol version" 78 "protocol version.*3.*4|protocol version.*4.*3" register-version "$PEER" register-version "$TOKEN"
refused "HELLO of another protocol version" 78 "protocol version.*3.*4|protocol version.*4.*3" hello-version "$PEER" hello "$TOKEN" "$WORK/worker-0" version
refused "HELLO of another run" 78 "this is run .*worker's directory is of run" hello-run "$PEER" hello "$TOKEN" "$WORK/worker-0" run
refused "HELLO with other run-wide keys" 78 "run-wide keys differ: hash .* here, .* on the worker" hello-keys "$PEER" hello "$TOKEN" "$WORK/worker-0" keys

mkdir -p "$WORK/old"
free_port=$((control_port < 40000 ? 41000 + RANDOM % 9000 : 21000 + RANDOM % 9000))
start old-outer "$PEER" old-outer "$WORK/old" "$free_port" "$((free_port + 1))"
wait_for 5 "the outer of another version" test -s "$WORK/old-outer.out"
worker stranger-6 "$WORK/old-outer.out"
refused "worker at an outer of another protocol version" 78 "protocol version.*4.*3" old-outer-worker "${WORKER[@]}"

# -- sessions: the first bears GOODBYE and a chunk after the second was given ---------------------------------------------------------
run_command 30 old-session "$PEER" old-session "$TOKEN" "$WORK/worker-0"
say "$(tr '\n' ';' <"$WORK/old-session.out")"
equal "messages of an old session are dropped, of the new one heard" 0 "$EXIT_CODE"

# -- a directory of another run -------------------------------------------------------------------------------------------------------
worker stray "$WORK/another/join.token"
start stray "${WORKER[@]}"
stray_pid=$PID
wait_for 10 "registration at the other run" grep -qs '"name"' "$WORK/another/keys/workers.json"
wait_for 10 "the other run's worker to have its certificate" test -s "$WORK/stray/log.jsonl"
cp -r "$WORK/stray" "$WORK/copied" && rm -f "$WORK/copied/lock"
worker copied "$WORK/another/join.token"
refused "a copied worker directory while its owner lives" 77 "another process is live with this worker's key" copied "${WORKER[@]}"
kill -TERM "$stray_pid"
wait_exit "$stray_pid" 10 "the worker of the other run"
worker stray "$TOKEN"
refused "a worker directory of another run" 78 "belongs to run another .*the token is for run admission" stray-again "${WORKER[@]}"

# -- the run itself: one use each, then no more -------------------------------------------------------------------------------------------
more_token single --uses 1
worker worker-0 "$TOKEN" # registered by the peers above: registering again is free
start worker-0 "${WORKER[@]}"
worker_0=$PID
worker worker-1 "$WORK/single.token"
start worker-1 "${WORKER[@]}"
worker_1=$PID
both_train() { has_event "$WORK/worker-0/log.jsonl" step && has_event "$WORK/worker-1/log.jsonl" step; }
wait_for 30 "both workers to train" both_train
worker stranger-8 "$WORK/single.token"
refused "used-up token" 77 "used" used-token "${WORKER[@]}"
worker worker-1 "$WORK/single.token"
refused "a second process on a worker's directory" 75 "lock|another process|pid" second-process "${WORKER[@]}"
for port in "$control_port" "$bulk_port"; do
    garbage "$port"
    connect "$port"
    refused "plain-text client during the run, port $port" 77 "handshake was refused" "plain-again-$port" "$PEER" plain 127.0.0.1 "$port"
done
refused "unlisted key during the run" 77 "does not know this worker's key" unlisted-again "$PEER" unlisted "$TOKEN"
gone "$worker_0" && fail "the run was over before the last intruder: make it longer"

wait_exit "$worker_0" 60 "worker-0"
equal "worker 0 ends normally" 0 "$EXIT_CODE"
wait_exit "$worker_1" 60 "worker-1"
equal "worker 1 ends normally" 0 "$EXIT_CODE"
wait_exit "$outer_pid" 20 "the outer"
equal "the outer ends normally" 0 "$EXIT_CODE"
wait_exit "$takeover_pid" 40 "takeover"
equal "connections of one key took each other over, the other outer stands" 0 "$EXIT_CODE"
kill -TERM "$another_pid"
wait_exit "$another_pid" 10 "the other outer"
equal "the other outer stops normally" 0 "$EXIT_CODE"
check "ledger adds up" ledger_adds_up "$WORK/outer/log.jsonl"
holds "the old session's GOODBYE and chunk were dropped and counted" "$(events "$WORK/outer/log.jsonl" end .foreign_sessions) >= 2"
wanted=$("$REFERENCE" "$WORK/run.yaml" | awk '/^state_hash/ {print $2}')
equal "the run was not harmed: its state is the sequential reference's" "$wanted" "$(final_hash "$WORK/outer/log.jsonl")"
test_end
