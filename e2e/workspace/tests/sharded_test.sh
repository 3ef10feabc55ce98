#!/bin/bash
# Tells Bazel that it knows about shards, and which one it is.
set -eu
touch "$TEST_SHARD_STATUS_FILE"
echo "shard $((TEST_SHARD_INDEX + 1)) of $TEST_TOTAL_SHARDS"
