#!/bin/bash
# Leaves a file among the test's undeclared outputs.
set -eu
echo "an undeclared output" > "$TEST_UNDECLARED_OUTPUTS_DIR/note.txt"
