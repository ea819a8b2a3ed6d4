#!/usr/bin/env bash
# proxy.sh ATOLL PROXY: the fault proxy of the process tests does what it says (proxy_peers.py measures, this judges), and a run through
# slow and sliced lines ends with the very state of the run without them.
source "$(dirname "$0")/lib.sh"
test_begin proxy "$@"
PROXY=$(realpath "$2")

# ---- the proxy by itself ----
run_command 120 peers python3 "$(dirname "$0")/proxy_peers.py" "$PROXY" "$WORK"
declare -A found
while read -r name value; do found[$name]=$value; done <"$WORK/peers.out"
equal "proxy_peers.py ends normally" 0 "$EXIT_CODE"

is() { # NAME VALUE
    equal "$1 is $2" "$2" "${found[$1]:-nothing}"
}
within() { # NAME LOW HIGH
    holds "$1" "$2 <= ${found[$1]:-1e9} && ${found[$1]:-1e9} <= $3"
}

for port in control bulk; do
    for way in up down; do
        is "plain_${port}_${way}_same" True
        say "without faults, $port $way: ${found[plain_${port}_${way}_mb_per_s]} MB/s"
    done
done
is plain_counted True
is half_closed_outer closed
is half_closed_worker answer
is half_closed_end closed
is workers_reset reset

within no_latency_ms 0 5
within latency_up_ms 40 50
within latency_later_connection_ms 40 50
within latency_other_way_ms 0 5
within latency_other_port_ms 0 5
within latency_of_500_kb_ms 40 80
is latency_end closed
within latency_end_ms 40 80
within jitter_min_ms 20 30
within jitter_max_ms 50 100
is before_the_reset first
is the_reset reset
is jitter_order_kept True
is heal_lets_go "?"
within heal_lets_go_ms 0 100

for rate in 31250 1000000 20000000; do within "rate_$rate" 0.9 1.1; done
within rate_queue 1000 4096
is rate_set_late_same True
within rate_31250_cpu_ms 0 200 # of 2 s: it sleeps between its writes
within rate_other_way_mb_per_s 40 1e5
is slice_median 100
within slice_took_ms 190 1000
within slice_other_way_median 1000 10000

within flips 900 1100
is flips_counted "${found[flips]:-}"
is flips_of_one_bit True
is flips_of_all_bits 8
is flips_other_way 0
is flips_same_seed_same_places True
is flips_other_seed_same_places False

is drop_outer silence
is drop_counted 4
is drop_off_outer found
is blackhole_outer silence
is blackhole_worker down
is blackhole_later_connection_held True
is blackhole_healed up
is blackhole_healed_later later
is blackhole_hides_the_end silence
is blackhole_waiting 1
within blackhole_cpu_ms 0 50
is blackhole_healed_end closed
is blackhole_given_up_never_seen True
is stall_outer x
within stall_ms 250 400
within unread_bytes 1000000 9000000 # ours, and what the kernel keeps for a peer that does not read: up to 6 MB

is reset_answer "ok 1"
is reset_worker reset
is reset_outer reset
is reset_spares_the_other alive
is reset_again_answer "error: no such connection is open"
is reset_up_outer reset
is reset_up_worker silence
is reset_up_worker_later silence
within reset_up_cpu_ms 0 50
is close_worker closed
is close_outer closed
within close_cpu_ms 0 50
is refuse_bulk reset
is refuse_spares_control True
is refuse_counted 1
is hold_outer_sees_none True
is hold_worker silence
is hold_off held
is one_connection silence
is one_connection_spares_others True
is understood nothing
is target_answer ok
is target_outer moved
is no_outer reset
is target_spares_the_open "as before"

is stopped_outer silence
is continued_outer x
is killed_outer reset
is killed_worker reset
is restarted_same_ports True
is restarted_carries again
is second_in_directory 74
is "done" 1

# ---- a run ----
make_corpus "$WORK/corpus.txt" 60000 1
make_corpus "$WORK/held_out.txt" 4000 2
# A number as overlap_steps: each merge is at its step, however long the line took, so that the state may not depend on the line.
cat >"$WORK/run.yaml" <<YAML
name: proxy
model: {layers: 4, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}
data: {train: [corpus.txt], val: [held_out.txt], tokenizer: bytes}
inner: {lr: 3e-3, warmup_steps: 4, steps: 300, batch_per_worker: 2, threads: 1}
sync: {every_steps: 20, fragment_layers: 2, overlap_steps: 2, keep_local: 0.5}
eval: {every_steps: 0, windows: 4}
workers: 2
YAML
run_command 60 direct "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/direct"
equal "without proxy: exit code" 0 "$EXIT_CODE"
wanted=$(final_hash "$WORK/direct/outer/log.jsonl")

began=$(date +%s.%N)
PROXY_FAULTS="latency 40"
start_run_through_proxy bad "$WORK/run.yaml" 2
for k in 0 1; do proxy "bad-proxy-$k" slice 1000; done
wait_for 30 "worker-1 to be live" worker_state_is worker-1 live
equal "a name that the outer does not know" unknown "$(worker_state worker-7)"
wait_for_version 2
check "both ports carry" test "$(proxy_stat bad-proxy-0 '[.control, .bulk | .up, .down | .forwarded] | min')" -gt 0
equal "proxy token: the same as join.token" "$(cat "$WORK/bad-proxy-0/join.token")" \
    "$("$PROXY" token "$WORK/bad-proxy-0" "$RUN/outer/join.token")"
equal "proxy follow: where it is already" ok "$("$PROXY" follow "$WORK/bad-proxy-0" "$RUN/outer/join.token")"
end_of_run 120
say "300 steps through 40 ms and slices of 1000 bytes: $(elapsed "$began") s; worker-0: $(proxy_stat bad-proxy-0 \
    '"\(.connections) connections, bulk \(.bulk.up.forwarded) bytes up, \(.bulk.down.forwarded) down"')"
rounds=$(events "$RUN/outer/log.jsonl" round_trip .p50_us | sort -n | head -n 1)
holds "control round trips take the line's 80 ms" "${rounds:-0} >= 80000"
check "ledger adds up" ledger_adds_up "$RUN/outer/log.jsonl"
check "the run without proxy has a state" test ${#wanted} = 32
equal "the same state as without proxy" "$wanted" "$(final_hash "$RUN/outer/log.jsonl")"
equal "the outer answers no more" unknown "$(worker_state worker-0)"
test_end
