#!/usr/bin/env bash
# Installs what is missing (Debian 12), builds, runs every test: release (all), asan + ubsan (all but the process tests), tsan (one
# two-worker run). Ends with what was skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
source test/packages.sh
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE
require_packages "${build_packages[@]}" "${test_packages[@]}"

results=$(mktemp)
trap 'rm -f "$results"' EXIT

# run PRESET TARGETS -- CTEST-ARGUMENTS
run() {
    local preset=$1 targets=()
    shift
    while [ "$1" != -- ]; do targets+=("$1"); shift; done
    shift
    echo "== $preset"
    cmake --preset "$preset" -DBUILD_TESTING=ON > /dev/null # the quickstart switches it off
    cmake --build --preset "$preset" --target "${targets[@]}" -- --quiet
    ctest --preset "$preset" --no-tests=error "$@" | tee -a "$results"
}

run release all -- -j 3 # most process tests wait
run asan all -- -j 2 -LE process
run tsan atoll -- -R process.two_workers_tsan

echo
if grep -E '\*\*\*Skipped|Did not run' "$results"; then
    echo "NOT EVERYTHING RAN: see the lines above for what was skipped and the tests' output for why"
else
    echo "nothing was skipped"
fi
