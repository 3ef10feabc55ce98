#!/bin/bash
# vuln.sh
#
# Tells which known vulnerabilities the code of the programs can reach, by
# govulncheck and the Go project's database, which it gets from the network.
set -uo pipefail
cd "$(dirname "$0")/.."
log=$(mktemp)
trap 'rm -f "$log"' EXIT
GOFLAGS='' go build -modfile=.ci/tools.mod -o .cache/govulncheck golang.org/x/vuln/cmd/govulncheck || exit 1
.cache/govulncheck "$@" ./cmd/... > "$log" 2>&1
status=$?
cat "$log"
if [ "$status" = 1 ] && grep -qE 'fetching vulnerabilities|creating client' "$log"; then
  echo "vuln: the database of vulnerabilities cannot be reached from here, so nothing was checked." >&2
  echo "vuln: run this where it can be, or name a copy of it: .ci/vuln.sh -db file:///PATH" >&2
fi
exit "$status"
