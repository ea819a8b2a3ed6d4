#!/usr/bin/env bash
# quickstart.sh ATOLL: the two scripts that people start with, in a copy of the tree, as nobody when we are root. Without root they say
# which packages are missing; with root they install just those; with everything there the quickstart runs, and a second time without
# set-up. Stand-ins on PATH: dpkg-query and apt-get (this machine stays as it is), cmake (the binary is there already), id.
source "$(dirname "$0")/lib.sh"
test_begin quickstart "$@"
QUIET=1
SOURCE=$(realpath "$(dirname "$0")/../..")
TREE=$WORK/tree
SHIMS=$WORK/shims
chmod 755 "$WORK"

mkdir -p "$TREE" "$SHIMS" "$WORK/state"
cp -r "$SOURCE"/{experiments,test} "$TREE"
cp "$ATOLL" "$WORK/prebuilt"
as_user=()
if [ "$(id -u)" -eq 0 ]; then
    chown -R nobody "$TREE" "$WORK/state"
    as_user=(setpriv --reuid=nobody --regid=nogroup --clear-groups)
fi
as_user+=(env "PATH=$SHIMS:$PATH" "SHIMS_STATE=$WORK/state" "PREBUILT=$WORK/prebuilt")

shim() { cat >"$SHIMS/$1" && chmod 755 "$SHIMS/$1"; }
shim dpkg-query <<'SHIM'
#!/bin/sh
for name; do :; done
grep -qx "$name" "$SHIMS_STATE/missing" 2>/dev/null && { echo "dpkg-query: no packages found matching $name" >&2; exit 1; }
printf 'install ok installed'
SHIM
shim apt-get <<'SHIM'
#!/bin/sh
echo "$*" >>"$SHIMS_STATE/apt-get"
SHIM
shim cmake <<'SHIM'
#!/bin/sh
echo "$*" >>"$SHIMS_STATE/cmake"
mkdir -p build/release
[ "$1" = --build ] || exec touch build/release/build.ninja
cp -u "$PREBUILT" build/release/atoll
SHIM
shim ctest <<'SHIM'
#!/bin/sh
echo "$*" >>"$SHIMS_STATE/ctest"
echo "1/1 Test #1: process.machines ....... $CTEST_SAYS"
[ "$CTEST_SAYS" != "***Failed" ]
SHIM
missing() { printf '%s\n' "$@" >"$WORK/state/missing"; }

# ---- packages ----
missing libyaml-dev libzmq3-dev
for script in experiments/quickstart.sh test/run.sh; do
    run_command 20 missing "${as_user[@]}" "$TREE/$script"
    equal "$script, no root, packages missing: exit code" 1 "$EXIT_CODE"
    equal "$script: says which" "missing packages: libzmq3-dev libyaml-dev" "$(sed -n 1p "$WORK/missing.err")"
    equal "$script: says how" "install them with: sudo apt-get install libzmq3-dev libyaml-dev" "$(sed -n 2p "$WORK/missing.err")"
    check "$script: and does nothing" test ! -e "$WORK/state/apt-get" -a ! -e "$WORK/state/cmake"
done
missing libcmocka-dev gnuplot-nox python3
run_command 20 missing "${as_user[@]}" "$TREE/test/run.sh"
equal "test/run.sh needs the tests' packages too" "missing packages: libcmocka-dev gnuplot-nox python3" "$(sed -n 1p "$WORK/missing.err")"
run_command 20 missing "${as_user[@]}" "$TREE/experiments/quickstart.sh"
equal "the quickstart needs gnuplot, not the tests' packages" "missing packages: gnuplot-nox" "$(sed -n 1p "$WORK/missing.err")"

# ---- root: exactly what is missing is installed (apt-get stands in; a false cmake ends the script behind it) ----
missing libyaml-dev gnuplot-nox
printf '#!/bin/sh\necho 0\n' | shim id
printf '#!/bin/sh\nexit 9\n' | shim false-cmake
mv "$SHIMS/cmake" "$SHIMS/true-cmake" && mv "$SHIMS/false-cmake" "$SHIMS/cmake"
run_command 20 root "${as_user[@]}" "$TREE/experiments/quickstart.sh"
equal "root: stops where the build fails" 9 "$EXIT_CODE"
equal "root: says what it installs" "== installing libyaml-dev gnuplot-nox" "$(head -n 1 "$WORK/root.out")"
equal "root: apt-get" "update -qq|install -y -qq --no-install-recommends libyaml-dev gnuplot-nox" "$(paste -sd '|' "$WORK/state/apt-get")"
mv "$SHIMS/true-cmake" "$SHIMS/cmake"
rm -f "$SHIMS/id" "$WORK/state/missing" "$WORK/state/apt-get" "$WORK/state/cmake"

# ---- everything is there: the whole road, a few steps of it ----
command -v gnuplot >/dev/null || fail "gnuplot is missing (apt-get install gnuplot-nox)"
few=(inner.steps=20 inner.warmup_steps=2 inner.batch_per_worker=1 sync.every_steps=5 sync.overlap_steps=1 eval.every_steps=10 eval.windows=8)
run_command 120 first "${as_user[@]}" "$TREE/experiments/quickstart.sh" "${few[@]}"
[ "$EXIT_CODE" = 0 ] || tail -n 20 "$WORK/first.out"
equal "the quickstart: exit code" 0 "$EXIT_CODE"
run=$TREE/runs/quickstart
says "it makes a corpus" "$WORK/first.out" "^== making a corpus"
says "held-out loss" "$WORK/first.out" "held-out loss +[0-9.]+ nats per token, [0-9.]+ bits per byte \(step 20, final model\)"
says "payload against data-parallel" "$WORK/first.out" "payload .* than bf16 data-parallel"
says "wire against data-parallel" "$WORK/first.out" "wire .* than bf16 data-parallel"
says "four workers" "$WORK/first.out" "4 workers, 20 of 20 steps"
equal "the sample is the last thing said" "#include <" "$(sed -n '/^== a sample/,$p' "$WORK/first.out" | sed -n 2p | head -c 10)"
for file in report/loss_over_bytes.png report/index.html outer/model/model.safetensors worker-3/log.jsonl; do
    check "there is $file" test -s "$run/$file"
done
before=$(cd "$TREE/runs/quickstart-text" && stat -c '%n %Y %Z %i %s' -- *)
run_command 120 second "${as_user[@]}" "$TREE/experiments/quickstart.sh" "${few[@]}"
equal "a second run: exit code" 0 "$EXIT_CODE"
check "a second run: no corpus again" test -z "$(grep 'making a corpus' "$WORK/second.out")"
equal "a second run: the text is untouched" "$before" "$(cd "$TREE/runs/quickstart-text" && stat -c '%n %Y %Z %i %s' -- *)"
equal "a second run: configures nothing" "--preset release -DBUILD_TESTING=OFF" "$(grep -v '^--build' "$WORK/state/cmake")"
check "a second run: installs nothing" test ! -e "$WORK/state/apt-get"
check "a second run: its own directory" test -s "$TREE/runs/quickstart-2/report/loss_over_bytes.png"
check "and the first one's is untouched" test ! -e "$TREE/runs/quickstart-3"
# The corpus is whole when it is there: a first run that was stopped in its making does not count.
rm "$TREE/runs/quickstart-text/train.txt"
run_command 120 third "${as_user[@]}" "$TREE/experiments/quickstart.sh" inner.stepz=20
equal "a wrong setting: exit code" 78 "$EXIT_CODE"
says "a wrong setting: said" "$WORK/third.err" "inner.stepz.*did you mean 'steps'"
says "a corpus that is not whole is made again" "$WORK/third.out" "^== making a corpus"
equal "the same headers give the same text" "$(cut -d' ' -f1,5 <<<"$before")" "$(cd "$TREE/runs/quickstart-text" && stat -c '%n %s' -- *)"

# ---- test/run.sh in the same tree: tests are switched on again, a failure is one, what was skipped is said ----
rm "$WORK/state/cmake"
run_command 20 passed "${as_user[@]}" CTEST_SAYS=Passed "$TREE/test/run.sh"
equal "test/run.sh: exit code" 0 "$EXIT_CODE"
equal "test/run.sh: tests are configured" "release asan tsan" "$(sed -n 's/^--preset \([a-z]*\) -DBUILD_TESTING=ON$/\1/p' "$WORK/state/cmake" | xargs)"
equal "test/run.sh: no tests are no success" 3 "$(grep -c -- '--no-tests=error' "$WORK/state/ctest")"
equal "test/run.sh: its last word" "nothing was skipped" "$(tail -n 1 "$WORK/passed.out")"
run_command 20 skipped "${as_user[@]}" CTEST_SAYS='***Skipped' "$TREE/test/run.sh"
says "test/run.sh: skipped tests are said loudly" "$WORK/skipped.out" "^NOT EVERYTHING RAN"
run_command 20 failed "${as_user[@]}" CTEST_SAYS='***Failed' "$TREE/test/run.sh"
check "test/run.sh: a failed test fails it" test "$EXIT_CODE" -ne 0
test_end
