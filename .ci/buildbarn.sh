#!/bin/bash
# buildbarn.sh
#
# Builds, into bin/, what tests need of Buildbarn, from its published modules: the
# scheduler of e2e/buildbarn, and the stock bb_storage and bb_scheduler, which the
# configuration in deploy/cluster is for. Buildbarn builds bb_storage with a patch of a
# library, one word in one line, which is done here, too.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p bin
bin=$PWD/bin
scratch=$PWD/.cache/buildbarn # the same each time, for Go's own cache
rm -rf "$scratch"
mkdir -p "$scratch"
cd e2e/buildbarn
go build -o "$bin/buildbarn-scheduler" .
library=google.golang.org/genproto/googleapis/bytestream
cp -r "$(go list -m -f '{{.Dir}}' "$library")" "$scratch/library"
chmod -R u+w "$scratch/library"
sed -i.before 's/^func RegisterByteStreamServer(s \*grpc\.Server,/func RegisterByteStreamServer(s grpc.ServiceRegistrar,/' "$scratch/library/bytestream.pb.go"
if cmp -s "$scratch"/library/bytestream.pb.go{,.before}; then
  echo "buildbarn.sh: the line to patch is not in $library any more" >&2
  exit 1
fi
cp go.mod go.sum "$scratch"
go mod edit -replace="$library=$scratch/library" "$scratch/go.mod"
go build -modfile="$scratch/go.mod" -trimpath -o "$bin/" \
  github.com/buildbarn/bb-storage/cmd/bb_storage github.com/buildbarn/bb-remote-execution/cmd/bb_scheduler
