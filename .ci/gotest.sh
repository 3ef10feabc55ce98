#!/bin/bash
# gotest.sh ARG...
#
# Runs `go test -v ARG...` and prints which tests ran, without the lines that
# say that one began. With CI=true a test that was skipped is a failure: what a
# test needs is installed by `make test`, so nothing has a reason to skip.
set -uo pipefail
log=$(mktemp)
trap 'rm -f "$log"' EXIT
go test -v "$@" 2>&1 | tee "$log" |
  grep --line-buffered -vE '^(=== (RUN|PAUSE|CONT|NAME) |\?   .*\[no test files\]$)'
status=${PIPESTATUS[0]}
if [ "${CI-}" = true ] && grep -E '^ *--- SKIP:' "$log" >&2; then
  echo "Tests were skipped, and CI=true: that is a failure." >&2
  exit 1
fi
exit "$status"
