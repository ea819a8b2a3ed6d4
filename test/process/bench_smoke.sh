#!/usr/bin/env bash
# bench_smoke.sh ATOLL: `atoll bench` end to end on a model so small that its figures say nothing: every field of the JSON is there and sound,
# parts add up to the step, mistakes are answered. Time fails nothing.
source "$(dirname "$0")/lib.sh"
test_begin bench_smoke "$@"
QUIET=1
cd "$WORK"
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
export TMPDIR=$WORK

# ---- help and mistakes ----
run_command 10 help "$ATOLL" bench --help
equal "help: exit code" 0 "$EXIT_CODE"
for part in memory gemm ops step codec outer sync; do says "help explains $part" help.out "^$part +[a-z]"; done
refused "no name" 64 "atoll bench: NAME is missing" none "$ATOLL" bench
refused "misspelled name" 64 "^atoll bench: 'stpe' is no benchmark \(did you mean 'step'\?\)$" stpe "$ATOLL" bench stpe
refused "far from any name" 64 "'velocity' is no benchmark; expected memory, gemm, ops, step, codec, outer, sync or all" far "$ATOLL" bench velocity
refused "unknown size" 64 "huge.*tiny.*small.*large.*smoke.*all" size "$ATOLL" bench step --size huge
refused "no thread" 64 "'0' is not a whole number from 1 to 64" threads "$ATOLL" bench step --threads 0
refused "unknown precision" 64 "'f16'.*f32.*bf16.*both" precision "$ATOLL" bench step --precision f16
refused "bf16 where there is none" 78 "bf16 does not work here: this (CPU has neither AVX512-BF16 nor AMX|build found no oneDNN)" no_bf16 \
    env DNNL_MAX_CPU_ISA=AVX2 "$ATOLL" bench step --size smoke --precision bf16
refused "no round" 64 "'0' is not a whole number from 1 to 99" rounds "$ATOLL" bench step --repeats 0
refused "junk parameters" 64 "--parameters: '12X' is not a number such as 200M" parameters "$ATOLL" bench sync --parameters 12X
refused "parameters of another part" 64 "--parameters is of sync, found with step" others "$ATOLL" bench step --parameters 1M
refused "a key that is none" 78 "sync.codec_upp" key "$ATOLL" bench sync --size smoke --set sync.codec_upp=f32
refused "a place that does not exist" 74 "absent/out.json" place "$ATOLL" bench gemm --size smoke --json absent/out.json
check "and nothing was measured first" test "$(grep -c 'gemm smoke' place.err)" = 0
for name in none stpe far size threads precision rounds parameters others; do
    equal "one line of error: $name" 1 "$(wc -l <$name.err)"
done

# ---- everything, once ----
precision=f32
"$ATOLL" --version | grep -q "^bf16 products: oneDNN" && precision=both
run_command 60 all "$ATOLL" bench all --size smoke --threads 2 --precision $precision --json all.json
equal "all: exit code" 0 "$EXIT_CODE"

# fields TEXT FILTER FIELD...: each object that the filter yields has exactly these fields; there is at least one.
fields() {
    local text=$1 filter=$2 wanted
    shift 2
    wanted=$(printf '%s\n' "$@" | sort | xargs)
    equal "fields of $text" "$wanted" "$(jq -r "[$filter | keys] | unique | .[] | join(\" \")" all.json)"
}
fields "the report" . bench codec complete gemm machine memory ops outer repeats schema size step sync threads warnings
fields "the machine" .machine bf16 blas_config blas_core compiler cores cpu load products t_wall vector_level version
fields "gemm" '.gemm[]' gflops precision products scaling size threads
fields "a product" '.gemm[].products[]' add gflops inputs outputs per_step product rows
fields "memory" '.memory[]' size threads ways
fields "a way" '.memory[].ways[]' activation_bytes activation_share peak_bytes predicted_bytes product_bytes recompute share \
    speed_share state_bytes steps_per_s
fields "ops" '.ops[]' ops size threads
fields "a pass" '.ops[].ops[]' columns limit limit_rate op rate rows share unit
fields "a step" '.step[]' clock_share flops_per_step gflops ms parameters parts parts_sum_share precision product_gflops scaling_share share size \
    speedup threads tokens_per_s tokens_per_step
fields "a part" '.step[].parts[]' alone_ms gflops ms part share_of_products share_of_step
fields "codec" '.codec[]' codecs parameters size threads
fields "a codec" '.codec[].codecs[]' bytes_per_parameter codec formula_bytes_per_parameter operations
fields "an operation" '.codec[].codecs[].operations[]' gb_per_s limit limit_gb_per_s operation share
fields "outer" '.outer[]' nesterov parameters size state_hash
fields "an outer operation" '.outer[] | .nesterov[], .state_hash' gb_per_s limit limit_gb_per_s share threads
fields "sync" '.sync[]' bare_gb_per_s chunk_bytes codec_down codec_up down_bytes fragments gb_per_s node outer outer_bound_bytes \
    outer_peak_bytes parameters seconds size state_hash_ns up_bytes worker workers
fields "a node" '.sync[] | .worker, .outer, .node' bare_ns beyond_ns cpu_ns
equal "the report is whole" "true all smoke 2 7" "$(jq -r '[.complete, .bench, .size, .threads, .repeats] | join(" ")' all.json)"
equal "every summary is in order and above zero" true \
    "$(jq 'del(.sync[][].beyond_ns?) | [.. | objects | select(has("median")) | .min > 0 and .min <= .median and .median <= .max] | all and length > 100' all.json)"
equal "threads of gemm, step, outer" "1 2 1 2 1 2" \
    "$(jq -r '[.gemm[0].threads[], .step[0, 1].threads, .outer[0].nesterov[].threads] | join(" ")' all.json)"
parts=13 gate= # what bf16 has beside f32: our AVX-512 products do the gate themselves
[ "$(jq -r .machine.products all.json)" != "f32 (AVX-512)" ] || parts=12 gate=" mlp gate"
equal "all parts of a step" $parts "$(jq '.step[0].parts | length' all.json)"
equal "all products, forward and backward" "dW dX forward" "$(jq -r '[.gemm[0].products[].product] | unique | join(" ")' all.json)"
equal "all ways to recompute" "none attention block" "$(jq -r '[.memory[0].ways[].recompute] | join(" ")' all.json)"
equal "all passes" 10 "$(jq '.ops[0].ops | length' all.json)"
equal "all codecs" "f32 bf16 int8 int4 e3m0" "$(jq -r '[.codec[0].codecs[].codec] | join(" ")' all.json)"
equal "bytes per parameter are the formula's" true "$(jq '[.codec[0].codecs[] | .bytes_per_parameter == .formula_bytes_per_parameter] | all' all.json)"
# 2 layers of 4 x 32 x 32 + 3 x 32 x 64 + 2 x 32 + 2 x 16, the embedding, the last norm; 4 bytes each; 3 workers and an outer
equal "bytes of a sync" "28896 2 115584 115584 3 f32" \
    "$(jq -r '.sync[0] | [.parameters, .fragments, .up_bytes, .down_bytes, .workers, .codec_up] | join(" ")' all.json)"
equal "nothing is left of it" 0 "$(find . -maxdepth 1 -name 'atoll-bench.*' | wc -l)"
# 2 layers of 4 x 32 x 32 + 3 x 32 x 64 parameters, a head of 256 x 32; 128 tokens: 6 x 28672 x 128 + 12 x 2 x 32 x 32 x 128 / 2
equal "operations of a step" 23592960 "$(jq '.step[0].flops_per_step' all.json)"
equal "parts add up to the step" true "$(jq '[.step[].parts_sum_share.median | . > 0.9 and . < 1.05] | all' all.json)"
equal "scaling is of two threads" "number null" "$(jq -r '[.step[1].scaling_share, .step[0].scaling_share | type] | join(" ")' all.json)"
if [ $precision = both ]; then
    equal "f32, then bf16" "f32 bf16 f32 1 f32 2 bf16 1 bf16 2" \
        "$(jq -r '[.gemm[].precision, (.step[] | .precision, .threads)] | join(" ")' all.json)"
    equal "more parts" "rounding to bf16$gate" \
        "$(jq -r '[.step[2].parts[].part] - [.step[0].parts[].part] | join(" ")' all.json)"
    equal "speedup is bf16's tokens/s over f32's on as many threads" "null null true true" \
        "$(jq -r '.step | [.[0, 1].speedup, (.[2].speedup * .[0].tokens_per_s.median / .[2].tokens_per_s.median,
            .[3].speedup * .[1].tokens_per_s.median / .[3].tokens_per_s.median | . > 0.999 and . < 1.001)] | map(tostring) | join(" ")' all.json)"
fi

# ---- the table says the same ----
says "table: machine" all.out "^machine +[^ ].*cores, load [0-9.]+$"
says "table: BLAS" all.out "^BLAS +core [A-Za-z0-9]+, OpenBLAS"
for heading in "gemm smoke, f32:" "ops smoke, 1 thread:" "step smoke, f32, 1 thread:" "step smoke, f32, 2 threads:" "codec smoke, 1 thread:" "outer smoke:" "sync smoke:"; do
    says "table: $heading" all.out "^$heading"
done
tokens=$(jq '.step[0].tokens_per_s.median | round' all.json)
says "table: the same tokens/s" all.out "^  tokens/s +$tokens \("

# ---- JSON alone; warnings ----
run_command 20 stdout env OPENBLAS_CORETYPE=Haswell "$ATOLL" bench outer --size smoke --repeats 3 --threads 1 --json -
equal "--json -: nothing but JSON" "outer true" "$(jq -r '[.bench, .complete] | join(" ")' stdout.out)"
equal "one part, one thread count" "false 1" "$(jq -r '[has("gemm"), (.outer[0].nesterov | length)] | join(" ")' stdout.out)"
equal "warnings: BLAS is steered, too few rounds" 2 \
    "$(jq '[.warnings[] | select(test("OPENBLAS_CORETYPE=Haswell is set|medians of 3 rounds"))] | length' stdout.out)"

# ---- a sync of any size, any codec ----
run_command 60 given "$ATOLL" bench sync --parameters 300k --workers 2 --codec e3m0 --set sync.fragment_layers=all --repeats 1 --json -
equal "given parameters" "given 1 2 e3m0 true true" "$(jq -r '.sync[0] | [.size, .fragments, .workers, .codec_down,
    ((.parameters - 3e5 | fabs) < 6e3), ((.up_bytes / .parameters * 8 | . > 4.06 and . < 4.1))] | join(" ")' given.out)"

run_command 60 balanced "$ATOLL" bench sync --size smoke --set sync.fragment_layers=1 --set sync.balance=bytes --repeats 1 --json -
equal "balanced fragments: all nodes cut alike" "0 3 115584" \
    "$EXIT_CODE $(jq -r '.sync[0] | [.fragments, .up_bytes] | join(" ")' balanced.out)"

# ---- shares: there, and in order; how fast a busy machine is fails nothing ----
bent=$(jq -r '[.ops[].ops[] | {name: .op, share}] + [.step[] | {name: "step", share}]
    + [.codec[].codecs[] | .codec as $c | .operations[] | {name: "\($c) \(.operation)", share}]
    + [.outer[] | .nesterov[], .state_hash | {name: "outer, limit \(.limit)", share}]
    | map(select((0 < .share.min and .share.min <= .share.median and .share.median <= .share.max) | not) | "\(.name) \(.share)") | join("; ")' all.json)
equal "shares in order" "" "$bent"
test_end
