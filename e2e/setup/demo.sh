#!/bin/bash
# demo.sh
#
# Builds e2e/workspace on a hearth of its own with the Bazel that this machine
# has, twice: first every action runs in a container, then every result comes
# from the cache. Everything is in a temporary directory and goes at the end.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
top=$(realpath "$here/../..")
command -v bazel > /dev/null ||
  { echo "demo: no bazel on this machine; run .ci/install.sh test, or install Bazelisk as bazel" >&2; exit 1; }

scratch=$(mktemp -d)
hearth=
finish() {
  bazel_command shutdown > /dev/null 2>&1 || true
  if [ -n "$hearth" ] && kill "$hearth" 2> /dev/null; then
    wait "$hearth" || true
  fi
  rm -rf "$scratch"
}
bazel_command() { (cd "$scratch/workspace" && bazel "${startup[@]}" "$@"); }

cp -r "$here/../workspace" "$scratch/workspace"
startup=("--output_user_root=$scratch/bazel")
# Debian's Bazel 4 calls itself no_version, and needs help without a network.
if [ "$(cd / && bazel --version)" = "bazel no_version" ]; then
  startup+=("--bazelrc=$("$here/bazel4-offline.sh" "$scratch/offline")")
fi
trap finish EXIT

"$top/bin/hearth" serve --listen 127.0.0.1:0 --console 127.0.0.1:0 --data-dir "$scratch/data" \
  > "$scratch/announced" 2> "$scratch/log" &
hearth=$!
until grep -q '^ *build --jobs' "$scratch/announced"; do
  kill -0 "$hearth" 2> /dev/null || { echo "demo: hearth did not start:" >&2; cat "$scratch/log" >&2; exit 1; }
  sleep 0.1
done
cat "$scratch/announced"
sed -n 's/^ *build /build /p' "$scratch/announced" > "$scratch/workspace/.bazelrc"

# build TITLE: builds everything and shows where the actions ran.
build() {
  echo "== $1: bazel build //..."
  bazel_command build --color=no --curses=no --noshow_progress //... > "$scratch/output" 2>&1 ||
    { cat "$scratch/output" "$scratch/log" >&2; exit 1; }
  grep -E '^INFO: ([0-9]+ process|Elapsed)' "$scratch/output"
}
build "first build, nothing is cached"
bazel_command clean > /dev/null 2>&1
build "second build, after bazel clean"
