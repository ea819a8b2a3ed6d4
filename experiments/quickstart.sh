#!/usr/bin/env bash
# The first run: install what is missing (Debian 12), build, make a corpus from the C headers of this machine, train one outer and four
# workers, report, sample. A second run finds everything in place and only trains. KEY=VALUE arguments change the run file:
#   experiments/quickstart.sh sync.every_steps=100
set -euo pipefail
cd "$(dirname "$0")/.."
source test/packages.sh

# A slow BLAS kernel that the environment may force would halve the speed.
unset OPENBLAS_CORETYPE OPENBLAS_L2_SIZE

require_packages "${build_packages[@]}" gnuplot-nox
echo "== building"
[ -f build/release/build.ninja ] || cmake --preset release -DBUILD_TESTING=OFF > /dev/null
cmake --build --preset release --target atoll

text=runs/quickstart-text
if [ ! -s "$text/train.txt" ] || [ ! -s "$text/held-out.txt" ]; then
    echo "== making a corpus from the headers in /usr/include"
    mkdir -p "$text"
    # Every 16th header is held out. Plain ASCII lines only, at most 6 MB and 400 kB; the same headers give the same text.
    find -L /usr/include -name '*.h' -type f 2> /dev/null | LC_ALL=C sort > "$text/files"
    collect() { xargs -d '\n' cat -s 2> /dev/null | LC_ALL=C grep -a '^[ -~	]*$' | { head -c "$1"; cat > /dev/null; }; }
    awk 'NR % 16 == 0' "$text/files" | collect 400000 > "$text/held-out.txt"
    awk 'NR % 16 != 0' "$text/files" | collect 6000000 > "$text/train.txt.tmp"
    mv "$text/train.txt.tmp" "$text/train.txt"
fi
size=$(stat -c %s "$text/train.txt")
[ "$size" -ge 500000 ] || { echo "quickstart: only $size bytes of headers under /usr/include; install some -dev packages (libc6-dev)" >&2; exit 1; }

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
