#!/bin/bash
# fuzz.sh [SECONDS]
#
# Runs every fuzz target of the repository for SECONDS (20), two at a time, each
# beginning with its seeds and with what earlier runs on this machine found.
# FuzzExecute, in which every input takes a whole server, has three times that. An
# input that fails is written to the target's testdata/fuzz, to be committed with
# what mends it: from then on every `go test` runs it.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-20}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT

# The packages are found by their text, since listing the targets of all would
# compile all tests; the targets are then listed by the compiler, and counted.
git ls-files -z --cached --others --exclude-standard '*_test.go' |
  xargs -0 grep -lE '^func Fuzz' | xargs -n 1 dirname | sort -u > "$logs/packages"
git ls-files -z --cached --others --exclude-standard '*_test.go' |
  xargs -0 grep -hoE '^func Fuzz' | wc -l > "$logs/written"
while read -r package; do
  # What fuzzing looks into is compiled once here, and not by each target.
  go test -c -fuzz='^Fuzz' -o /dev/null "./$package"
  go test -list '^Fuzz' "./$package" | awk -v package="$package" '/^Fuzz/ { print package, $1 }'
done < "$logs/packages" > "$logs/targets"
if [ "$(wc -l < "$logs/targets")" != "$(cat "$logs/written")" ]; then
  echo "fuzz.sh: $(cat "$logs/written") targets are written, but go lists these:" >&2
  cat "$logs/targets" >&2
  exit 1
fi

# fuzz PACKAGE TARGET: runs one target. Unless told otherwise, go spends up to a
# minute on making each new input small, which is all the time there is.
fuzz() {
  local time=$seconds
  if [ "$2" = FuzzExecute ]; then time=$((3 * seconds)); fi
  go test -run='^$' -fuzz="^$2\$" -fuzztime="${time}s" -fuzzminimizetime=10x -parallel=1 "./$1"
}

# lost_race LOG: whether go called the end of its own time a failure, and nothing
# else: https://go.dev/issue/75804, mended in Go 1.27. No input failed then.
lost_race() {
  [ "$(grep -A1 -- '^--- FAIL' "$1" | tail -n +2)" = '    context deadline exceeded' ] &&
    ! grep -qE 'Failing input|panic|hung|DATA RACE' "$1"
}

# run PACKAGE TARGET: fuzzes one target, and prints a line, or all if it fails.
run() {
  local log=$logs/${1//\//-}.$2 try
  for try in 1 2 3; do
    if fuzz "$1" "$2" > "$log" 2>&1; then
      echo "ok    $1 $2: $(grep -oE 'execs: [0-9]+' "$log" | tail -n 1)"
      return 0
    fi
    if [ "$try" = 3 ] || ! lost_race "$log"; then break; fi
    echo "again $1 $2: go lost the race of https://go.dev/issue/75804" >&2
  done
  { echo "FAIL  $1 $2"; cat "$log"; } >&2
  return 1
}
export -f fuzz lost_race run
export logs seconds
xargs -P 2 -L 1 bash -c 'run "$0" "$1"' < "$logs/targets"
