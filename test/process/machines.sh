#!/usr/bin/env bash
# machines.sh ATOLL PEER: outer and two workers on three "machines": network namespaces with their own addresses, joined by veth pairs,
# each worker's link shaped by tbf in both directions. The workers are started by the pasted line alone.
#
#     namespace outer, 10.77.0.1          namespace w1, 10.77.1.2
#       veth w1-o 10.77.1.1  <---------->  veth w1-w   tbf on both ends
#       veth w2-o 10.77.2.1  <---------->  veth w2-w   (namespace w2, 10.77.2.2)
#
# Needs root, or the right to make namespaces; where that is not allowed the test says so and is reported as skipped.
source "$(dirname "$0")/lib.sh"
test_begin machines "$@"

NS="atoll$$"
at_cleanup() {
    local ns
    for ns in o w1 w2; do ip netns del "$NS$ns" 2>/dev/null; done
}

skip() {
    printf '\n%s\n' "**************************************************************************"
    printf '%s\n' "machines: SKIPPED: $*" "machines: nothing about separate machines was tested here; run it as root on a kernel with" \
        "machines: network namespaces, veth and tbf: test/process/machines.sh ATOLL PEER"
    printf '%s\n\n' "**************************************************************************"
    exit $EXIT_SKIPPED
}

command -v ip >/dev/null && command -v tc >/dev/null || skip "ip and tc are missing (apt-get install iproute2)"
for ns in o w1 w2; do
    ip netns add "$NS$ns" 2>"$WORK/netns.err" && ip netns exec "$NS$ns" true 2>>"$WORK/netns.err" || skip "network namespaces are not allowed: $(cat "$WORK/netns.err")"
done
in_ns() {
    ip netns exec "$NS$1" "${@:2}"
}

in_ns o ip link set lo up
in_ns o ip address add 10.77.0.1/32 dev lo
for k in 1 2; do
    ip -n "${NS}o" link add "w$k-o" type veth peer name "w$k-w" netns "${NS}w$k" 2>"$WORK/veth.err" || skip "no veth: $(cat "$WORK/veth.err")"
    in_ns o ip address add "10.77.$k.1/30" dev "w$k-o"
    in_ns "w$k" ip address add "10.77.$k.2/30" dev "w$k-w"
    in_ns o ip link set "w$k-o" up
    in_ns "w$k" ip link set "w$k-w" up
    in_ns "w$k" ip link set lo up
    in_ns "w$k" ip route add default via "10.77.$k.1"
    # A veth counts segmentation-offload super-packets: without this the interface counters lie.
    in_ns o "$PEER" offloads-off "w$k-o" || say "note: offloads of w$k-o stay on; interface counters are too low"
    in_ns "w$k" "$PEER" offloads-off "w$k-w" || say "note: offloads of w$k-w stay on; interface counters are too low"
done

shape() { # RATE
    local k
    for k in 1 2; do
        in_ns o tc qdisc replace dev "w$k-o" root tbf rate "$1" burst 2kb latency 400ms 2>"$WORK/tbf.err" &&
            in_ns "w$k" tc qdisc replace dev "w$k-w" root tbf rate "$1" burst 2kb latency 400ms 2>>"$WORK/tbf.err" || skip "no tbf: $(cat "$WORK/tbf.err")"
    done
}

make_corpus "$WORK/corpus.txt" 100000 1
make_corpus "$WORK/held_out.txt" 120000 2 # long: see compare_bytes

# Ten times a second, until killed: what `ss` says about the connections to the outer, and the interface's own counters.
#     t0 T / S LOCAL SENT RECEIVED RETRANS (a socket each) / I RX TX / t1 T
sample() { # CONTROL_PORT BULK_PORT INTERFACE
    trap 'exit 0' TERM
    while :; do
        echo "t0 $EPOCHREALTIME"
        ss -tinHO "dport = :$1 or dport = :$2" | awk '{
            sent = received = retrans = 0
            for (i = 6; i <= NF; i++) {
                if (split($i, part, ":") != 2) continue
                if (part[1] == "bytes_sent") sent = part[2]
                if (part[1] == "bytes_received") received = part[2]
                if (part[1] == "bytes_retrans") retrans = part[2]
            }
            print "S", $4, sent, received, retrans
        }'
        awk -v interface="$3:" '$1 == interface { print "I", $2, $10 }' /proc/net/dev
        echo "t1 $EPOCHREALTIME"
        sleep 0.1
    done
}
export -f sample

# totals SAMPLES: per sample "t0 t1 sent received retrans rx tx"; sockets that closed keep their last count.
totals() {
    awk '$1 == "t0" { t0 = $2 }
         $1 == "S" { sent[$2] = $3; received[$2] = $4; retrans[$2] = $5 }
         $1 == "I" { rx = $2; tx = $3 }
         $1 == "t1" {
             s = r = x = 0
             for (k in sent) { s += sent[k]; r += received[k]; x += retrans[k] }
             printf "%s %s %d %d %d %d %d\n", t0, $2, s, r, x, rx, tx
         }' "$1"
}

# worst_window TOTALS COLUMN CAP: over all windows of one second (and the few ms until the next sample): "excess rate": by how many
# bytes it was above CAP bytes/s times its length (negative: below), and the largest rate in bytes/s.
worst_window() {
    awk -v column="$2" -v cap="$3" '
        { t0[NR] = $1; t1[NR] = $2; bytes[NR] = $column }
        END {
            worst = -1e18
            for (i = 1; i <= NR; i++) {
                for (j = i; j <= NR && t1[j] - t0[i] < 1.0; j++);
                if (j > NR) break
                excess = bytes[j] - bytes[i] - cap * (t1[j] - t0[i])
                rate = (bytes[j] - bytes[i]) / (t1[j] - t0[i])
                if (excess > worst) worst = excess
                if (rate > fastest) fastest = rate
            }
            printf "%d %d\n", worst, fastest
        }' "$1"
}

# compare_bytes LOG TOTALS: what the program says in its last record against the last sample of ss. The final evaluation takes longer
# than a few samples and nothing but control is on the link meanwhile, so both are final but for some pings.
# Prints "program_up ss_up program_down ss_down", and the larger relative difference.
compare_bytes() {
    events "$1" end '"\(.wire_up) \(.wire_down)"' | tail -n 1 | tr -d '"' | awk '
        FNR == NR { sent = $3; received = $4; next }
        {
            up = ($1 - sent) / (sent + 1); down = ($2 - received) / (received + 1)
            if (up < 0) up = -up
            if (down < 0) down = -down
            print $1, sent, $2, received, (up > down ? up : down)
        }' "$2" -
}

# scenario NAME TBF CAP CAP_BYTES CHUNK SETTING...: a run over links shaped to TBF with `link` caps CAP, sampled.
scenario() {
    local name=$1 tbf=$2 cap=$3 cap_bytes=$4 chunk=$5 directory=$WORK/$1 outer_pid line host control_port bulk_port expires_s uses run_name k sampler=() worker=()
    shift 5
    shape "$tbf"
    mkdir -p "$directory/w1" "$directory/w2" "$directory/outer"
    start "$name-outer" ip netns exec "${NS}o" "$ATOLL" outer "$directory/run.yaml" --dir "$directory/outer" --listen 10.77.0.1:0 "$@"
    outer_pid=$PID
    wait_for 10 "the line to paste" grep -q "atoll worker --join" "$WORK/$name-outer.out"
    line=$(grep -o "atoll worker --join.*" "$WORK/$name-outer.out" | head -n 1)
    eval "$("$PEER" show "$directory/outer/join.token")"
    equal "$name: the line names the outer's address" 10.77.0.1 "$host"
    for k in 1 2; do
        start "$name-sample-$k" ip netns exec "${NS}w$k" bash -c "sample $control_port $bulk_port w$k-w"
        sampler+=("$PID")
        # The line, as a person pastes it: in some directory, with atoll in the PATH, nothing added.
        start "$name-worker-$k" ip netns exec "${NS}w$k" env PATH="$(dirname "$ATOLL"):$PATH" bash -c "cd $directory/w$k && exec $line"
        worker+=("$PID")
    done
    for k in 1 2; do
        wait_exit "${worker[$((k - 1))]}" 240 "$name-worker-$k"
        equal "$name: worker $k exits normally" 0 "$EXIT_CODE"
    done
    wait_exit "$outer_pid" 20 "$name-outer"
    equal "$name: the outer exits normally" 0 "$EXIT_CODE"
    kill -TERM "${sampler[@]}" 2>/dev/null || true
    wait "${sampler[@]}" 2>/dev/null || true

    local outer_log=$directory/outer/log.jsonl log excess fastest numbers
    check "$name: the run completed" has_event "$outer_log" end
    check "$name: ledger adds up" ledger_adds_up "$outer_log"
    for k in 1 2; do
        log=$(find "$directory/w$k" -name log.jsonl | head -n 1)
        check "$name: worker $k has a log" test -s "$log"
        totals "$WORK/$name-sample-$k.out" >"$WORK/totals"
        read -r excess fastest < <(worst_window "$WORK/totals" 3 "$cap_bytes")
        holds "$name: worker $k up: a 1 s window above cap $cap by at most one chunk; fastest $((fastest * 8 / 1000)) kbit/s" "$excess <= $chunk"
        holds "$name: worker $k up: the link was saturated" "$fastest >= 0.8 * $cap_bytes"
        read -r excess fastest < <(worst_window "$WORK/totals" 4 "$cap_bytes")
        holds "$name: worker $k down: a 1 s window above cap $cap by at most one chunk; fastest $((fastest * 8 / 1000)) kbit/s" "$excess <= $chunk"
        read -r excess fastest < <(worst_window "$WORK/totals" 7 "$cap_bytes")
        say "$name: worker $k on the cable (headers and acks included): up above the cap by at most $excess bytes, fastest $((fastest * 8 / 1000)) kbit/s"
        read -r excess fastest < <(worst_window "$WORK/totals" 6 "$cap_bytes")
        say "$name: worker $k on the cable: down above the cap by at most $excess bytes, fastest $((fastest * 8 / 1000)) kbit/s"
        read -r -a numbers < <(compare_bytes "$log" "$WORK/totals")
        say "$name: worker $k: program up ${numbers[0]} ss ${numbers[1]}, program down ${numbers[2]} ss ${numbers[3]};" \
            "interface $(awk 'NR == 1 { up = $7; down = $6 } END { print "up", $7 - up, "down", $6 - down }' "$WORK/totals");" \
            "retransmitted $(tail -n 1 "$WORK/totals" | cut -d' ' -f5)"
        holds "$name: worker $k: reported wire bytes within 2 % of ss" "${numbers[4]:-1} < 0.02"
    done
    numbers=$(events "$outer_log" round_trip .p99_us | sort -n | tail -n 1)
    say "$name: control round trips: $(events "$outer_log" round_trip '"\(.slot) p50 \(.p50_us) p99 \(.p99_us) max \(.max_us)"' | tail -n 2 | tr '\n' ' ')"
    holds "$name: control round trips, worst p99 under 1 s" "${numbers:-9e9} < 1000000"
}

run_file() { # NAME WIDTH STEPS CAP
    mkdir -p "$WORK/$1"
    cat >"$WORK/$1/run.yaml" <<YAML
name: $1
model: {layers: 4, width: $2, heads: 4, kv_heads: 4, ffn: $((2 * $2)), context: 32}
data: {train: [../corpus.txt], val: [../held_out.txt], tokenizer: bytes}
inner: {lr: 1e-3, warmup_steps: 4, steps: $3, batch_per_worker: 2, threads: 1}
sync: {every_steps: 6, fragment_layers: 2, overlap_steps: 1, keep_local: 0.5, codec_up: f32, codec_down: f32, error_feedback: false}
link: {up: $4, down: $4}
eval: {every_steps: 0, windows: all}
workers: 2
YAML
}

# 10 Mbit/s cables; the program keeps itself to 8. 0.69 M parameters as f32: 2.8 MB each way every 6 steps, so that the links are full.
run_file fast 128 20 8Mbit/s
scenario fast 10mbit 8Mbit/s 1000000 100000
# 0.25 Mbit/s, cable and cap alike. 46 k parameters as f32: 183 kB each way every 6 steps.
run_file slow 32 14 0.25Mbit/s
scenario slow 10mbit 0.25Mbit/s 31250 4096
if [ "${MACHINES_TIGHT:-1}" = 1 ]; then
    run_file tight 32 14 0.25Mbit/s
    scenario tight 250kbit 0.25Mbit/s 31250 4096
fi
test_end
