#!/usr/bin/env bash
# planted.sh SOURCE-DIR [CC] [search]: each of these bugs, planted one at a time into a copy of the real machines or of the glue, is found by
# the simulator. The number is the seed that found it first: that one and a few more are run, or with `search` all up to 10,000. A change
# that applies nowhere fails, too: then the line that it changed has moved.
set -euo pipefail
source_dir=$1 cc=${2:-cc} mode=${3:-}
more=200
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
flags=(-std=gnu11 -O1 -D_GNU_SOURCE -I"$work" -I"$work/test")
sources=(outer/round outer/recovery outer/ledger outer/members outer/schedule worker/sync_machine worker/follow)
for file in "$source_dir"/test/sim/sim_*.c; do sources+=("test/sim/$(basename "$file" .c)"); done
mkdir -p "$work"/{outer,worker,comms,base,test/sim,objects}
for folder in outer worker comms base test/sim; do cp "$source_dir/$folder"/*.h "$work/$folder/"; done
for stem in "${sources[@]}"; do
    cp "$source_dir/$stem.c" "$work/$stem.c"
    "$cc" "${flags[@]}" -c "$work/$stem.c" -o "$work/objects/$(basename "$stem").o"
done

failures=0 count=0
plant() { # NAME SEED FILE SED-EXPRESSION
    local name=$1 seeds=$2..$(($2 + more)) file=$3 change=$4 object
    [ "$mode" != search ] || seeds=1..10000
    object=$work/objects/$(basename "$file" .c).o
    count=$((count + 1))
    cp "$work/$file" "$work/kept.c"
    cp "$object" "$work/kept.o"
    sed -E "$change" "$work/kept.c" > "$work/$file"
    if cmp -s "$work/kept.c" "$work/$file"; then
        echo "planted: $name: the change applies nowhere" >&2
        failures=$((failures + 1))
        return
    fi
    "$cc" "${flags[@]}" -w -c "$work/$file" -o "$object"
    "$cc" -o "$work/sim" "$work"/objects/*.o
    if ! "$work/sim" --seeds "$seeds" --expect-failure > "$work/found"; then
        echo "planted: $name: NOT FOUND in seeds $seeds" >&2
        failures=$((failures + 1))
    else
        printf '%-40s %s\n' "$name" "$(cat "$work/found")"
    fi
    cp "$work/kept.c" "$work/$file"
    cp "$work/kept.o" "$object"
}

