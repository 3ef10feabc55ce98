#!/bin/bash
# demo.sh [TARGET...]
#
# Builds targets (//...) of e2e/workspace with the Bazel that this machine has, on a
# hearth of its own: first every action runs and its container is started, then in
# the containers that are there, then every result comes from the cache. Then the
# same in warm containers of a hearth that runs each action by podman exec, unpausing
# and pausing around it. Prints how long each took. Everything is in a temporary
# directory and goes at the end.
set -euo pipefail
here=$(dirname "$(realpath "$0")")
top=$(realpath "$here/../..")
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(//...)
command -v bazel > /dev/null ||
  { echo "demo: no bazel on this machine; run .ci/install.sh test, or install Bazelisk as bazel" >&2; exit 1; }

scratch=$(mktemp -d)
hearth=
bazel_command() { (cd "$scratch/workspace" && bazel "${startup[@]}" "$@"); }
stop() {
  [ -n "$hearth" ] || return 0
  local ended=$hearth
  hearth=
  if kill "$ended" 2> /dev/null; then
    wait "$ended" || { echo "demo: hearth ended badly:" >&2; cat "$scratch/log" >&2; return 1; }
  fi
}
finish() {
  bazel_command shutdown > /dev/null 2>&1 || true
  stop || true
  rm -rf "$scratch"
}

cp -r "$here/../workspace" "$scratch/workspace"
startup=("--output_user_root=$scratch/bazel")
# Debian's Bazel 4 calls itself no_version, and needs help without a network.
if [ "$(cd / && bazel --version)" = "bazel no_version" ]; then
  startup+=("--bazelrc=$("$here/bazel4-offline.sh" "$scratch/offline")")
fi
trap finish EXIT

# serve FLAG...: starts a hearth that knows nothing yet, for the builds that follow.
serve() {
  stop
  rm -rf "$scratch/data"
  : > "$scratch/announced" # not what the last one said
  "$top/bin/hearth" serve --listen 127.0.0.1:0 --console 127.0.0.1:0 --data-dir "$scratch/data" "$@" \
    > "$scratch/announced" 2> "$scratch/log" &
  hearth=$!
  until grep -q '^ *build --jobs' "$scratch/announced"; do
    kill -0 "$hearth" 2> /dev/null || { echo "demo: hearth did not start:" >&2; cat "$scratch/log" >&2; exit 1; }
    sleep 0.1
  done
  sed -n 's/^ *build /build /p' "$scratch/announced" > "$scratch/workspace/.bazelrc"
}

# build WHAT FLAG...: builds all from the beginning. Prints a line of the table if
# WHAT is not empty.
build() {
  local what=$1 took ran
  shift
  bazel_command clean > /dev/null 2>&1
  bazel_command build --color=no --curses=no --noshow_progress "$@" "${targets[@]}" > "$scratch/output" 2>&1 ||
    { cat "$scratch/output" "$scratch/log" >&2; exit 1; }
  [ -n "$what" ] || return 0
  took=$(sed -nE 's/^INFO: Elapsed time: ([0-9.]+s).*/\1/p' "$scratch/output")
  ran=$(sed -nE 's/^INFO: ([0-9]+ process.*)\.$/\1/p' "$scratch/output")
  printf '%-44s %8s   %s\n' "$what" "$took" "$ran"
}

again=--noremote_accept_cached
serve
cat "$scratch/announced"
echo "== bazel build ${targets[*]}"
printf '%-44s %8s   %s\n' "" took "what Bazel says of it"
bazel_command info release > /dev/null 2>&1 # Bazel's own server starts
build "cold: containers are started"
build "warm: the same in those containers" "$again"
build "cached: results come from the action cache"
serve --exec-mode podman-exec
build "" "$again"
build "podman exec, unpause and pause per action" "$again"
