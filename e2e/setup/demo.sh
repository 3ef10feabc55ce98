#!/bin/bash
# demo.sh FLAG...
#
# hearth demo with the Bazel that this machine has.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
command -v bazel > /dev/null ||
  { echo "demo: no bazel on this machine; run .ci/install.sh test, or install Bazelisk as bazel" >&2; exit 1; }
startup=()
# Debian's Bazel 4 calls itself no_version, and needs help without a network.
if [ "$(cd / && bazel --version)" = "bazel no_version" ]; then
  offline=$(mktemp -d)
  trap 'rm -rf "$offline"' EXIT
  startup=("--startup=--bazelrc=$("$here/bazel4-offline.sh" "$offline/rc")")
fi
"$here/../../bin/hearth" demo "${startup[@]}" "$@"
