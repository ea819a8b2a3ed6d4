#!/usr/bin/env bash
# Fuzzes with clang's libFuzzer (Debian: clang, libclang-rt-14-dev; the ordinary tests need neither).
#
#   test/fuzz/run.sh [SECONDS [TARGET...]]   each target in turn (default 600 s, all), from the corpus and what earlier
#                                            runs found. New inputs go to build/fuzz/found/TARGET, what breaks the
#                                            code to build/fuzz/broken/TARGET. One line per target at the end of it
#   test/fuzz/run.sh keep [TARGET...]        copies what adds lines of coverage into test/fuzz/corpus/TARGET
set -euo pipefail
cd "$(dirname "$0")/../.."
source test/packages.sh
require_packages "${build_packages[@]}" libcmocka-dev clang libclang-rt-14-dev
cmake --preset fuzz -DBUILD_TESTING=ON > /dev/null
cmake --build --preset fuzz -- --quiet

corpus=test/fuzz/corpus found=build/fuzz/found broken=build/fuzz/broken
mode=${1:-600}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || for source in test/fuzz/*_fuzz.c; do
    name=$(basename "$source" _fuzz.c)
    targets+=("$name")
done

status=0
for target in "${targets[@]}"; do
    mkdir -p "$found/$target" "$broken/$target" "$corpus/$target"
    if [ "$mode" = keep ]; then
        # Lines, not how often each ran: a tenth of the files.
        build/fuzz/fuzz_"$target" -merge=1 -use_counters=0 "$corpus/$target" "$found/$target" 2>&1 | tail -1
        continue
    fi
    log=build/fuzz/$target.log
    build/fuzz/fuzz_"$target" -max_total_time="$mode" -max_len=4096 -timeout=20 -print_final_stats=1 \
        -artifact_prefix="$broken/$target/" "$found/$target" "$corpus/$target" > "$log" 2>&1 || status=1
    printf '%-14s %12s executions, %s, %s inputs, %s broken\n' "$target" \
        "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")" "$(grep -o 'cov: [0-9]*' "$log" | tail -1)" \
        "$(find "$found/$target" -type f | wc -l)" "$(find "$broken/$target" -type f | wc -l)"
done
exit $status
