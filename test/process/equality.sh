#!/usr/bin/env bash
# equality.sh ATOLL SEQUENTIAL_REF: the distributed run (real processes, real links) equals the plain sequential reference bit for
# bit: same final state hash. Every combination of codec, overlap, fragments and workers once; one of them twice.
source "$(dirname "$0")/lib.sh"
test_begin equality "$@"
REFERENCE=$PEER
QUIET=1
JOBS=${JOBS:-2}

make_corpus "$WORK/corpus.txt" 40000 1
make_corpus "$WORK/held_out.txt" 4000 2
# 45,760 parameters. H 6: with three fragments sends at 6 12 18, 8 14 20, 10 16 22: each fragment merges twice or more before the
# end, and with overlap 5 the end at 22 finds all three in flight.
cat >"$WORK/run.yaml" <<YAML
name: equality
model: {layers: 4, width: 32, heads: 4, kv_heads: 2, ffn: 64, context: 32}
data: {train: [corpus.txt], val: [held_out.txt], tokenizer: bytes}
inner: {lr: 3e-3, warmup_steps: 4, steps: 22, batch_per_worker: 2, accumulate: 2, threads: 1, seed: 7}
sync: {every_steps: 6, fragment_layers: 2, overlap_steps: 1, keep_local: 0.5, codec_up: e3m0, codec_down: e3m0, error_feedback: true}
outer: {optimizer: nesterov, lr: 0.6, momentum: 0.9}
eval: {every_steps: 0, windows: 4}
workers: 2
YAML

# one NAME SETTING...: runs both, writes "hash hash" or an error to $WORK/NAME.result.
one() {
    local name=$1 wanted found code=0 sets=()
    shift
    for setting in "$@"; do sets+=(--set "$setting"); done
    wanted=$("$REFERENCE" "$WORK/run.yaml" "${sets[@]}" | awk '/^state_hash/ {print $2}')
    timeout 60 "$ATOLL" train "$WORK/run.yaml" --dir "$WORK/$name" "${sets[@]}" >"$WORK/$name.out" 2>"$WORK/$name.log" </dev/null || code=$?
    found=$(final_hash "$WORK/$name/outer/log.jsonl" || true)
    merges=$(events "$WORK/$name/outer/log.jsonl" commit .fragment | sort | uniq -c | awk '{print $1}' | sort -n | head -n 1)
    echo "$code $wanted ${found:-none} ${merges:-0} $*" >"$WORK/$name.result"
    [ "${KEEP:-}" ] || rm -rf "${WORK:?}/$name"
}

n=0
launch() {
    n=$((n + 1))
    one "run-$n" "$@" &
    while [ "$(jobs -pr | wc -l)" -ge "$JOBS" ]; do wait -n || true; done
}
for workers in 4 2 1; do
    for codec in f32 e3m0; do
        for layers in all 2; do
            for overlap in 0 1 5; do
                launch "workers=$workers" "sync.codec_up=$codec" "sync.codec_down=$codec" "sync.fragment_layers=$layers" "sync.overlap_steps=$overlap"
            done
        done
    done
done
launch workers=4 sync.codec_up=e3m0 sync.codec_down=e3m0 sync.fragment_layers=2 sync.overlap_steps=1 # the one that runs twice
wait

declare -A seen
for i in $(seq "$n"); do
    read -r code wanted found merges settings <"$WORK/run-$i.result" || fail "run $i left no result"
    [ "$code" = 0 ] || { mv "$WORK/run-$i.log" "$WORK/run-$i.err"; fail "atoll train with $settings: exit code $code"; }
    [ ${#wanted} = 32 ] || fail "the reference gave no hash with $settings"
    [ "$merges" -ge 3 ] || fail "$settings: a fragment has only $merges commits"
    equal "$settings" "$wanted" "$found"
    seen[$wanted]=1
done
# A hash that does not depend on its input would pass all of the above. Only one pair may agree: the run made twice.
equal "different settings give different hashes" "$((n - 1))" "${#seen[@]}"
test_end
