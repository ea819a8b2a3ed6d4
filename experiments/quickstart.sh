#!/usr/bin/env bash
# The first run: install what is missing (Debian 12), build, make a corpus from the C headers of this machine, train one outer and four
# workers, report, sample. A second run finds everything in place and only trains. KEY=VALUE arguments change the run file:
#   experiments/quickstart.sh sync.every_steps=100
set -euo pipefail
cd "$(dirname "$0")/.."
source test/packages.sh
source experiments/header_text.sh

# A slow BLAS kernel that the environment may force would halve the speed.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

require_packages "${build_packages[@]}" gnuplot-nox
echo "== building"
[ -f build/release/build.ninja ] || cmake --preset release -DBUILD_TESTING=OFF > /dev/null
cmake --build --preset release --target atoll

make_header_text runs/quickstart-text

directory=runs/quickstart
for ((n = 2; ; n++)); do
    [ -e "$directory/run.yaml" ] || break
    directory=runs/quickstart-$n
done
settings=()
for setting in "$@"; do settings+=(--set "$setting"); done
echo "== training: 1 outer and 4 workers, 3 to 4 minutes on 2 cores"
build/release/atoll train experiments/quickstart.yaml --dir "$directory" ${settings[@]+"${settings[@]}"}
echo "== plots"
build/release/atoll report "$directory" -o "$directory/report" | sed -n '/^$/,$p'
echo "== a sample"
build/release/atoll sample "$directory/outer/model" --prompt '#include <' --length 400
