#!/bin/bash
# Reads a data file through its runfiles and writes where tests may write.
set -eu
grep -q 'data of the test' "$TEST_SRCDIR/$TEST_WORKSPACE/tests/data.txt"
echo scratch > "$TEST_TMPDIR/scratch"
echo "the passing test ran"
