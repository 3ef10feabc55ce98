#!/bin/bash
# Every attempt of a flaky test is the same action, so only time can tell the
# first from the second: an attempt that starts before FAIL_BEFORE waits for
# that moment and fails, so the next one starts after it and passes.
set -eu
now=$(date +%s)
if [ "$now" -lt "${FAIL_BEFORE:-0}" ]; then
  sleep $((FAIL_BEFORE - now))
  echo "this attempt fails"
  exit 1
fi
echo "this attempt passes"
