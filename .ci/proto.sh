#!/bin/bash
# proto.sh fix|check
#
# fix writes the Go code of every .proto file with protoc and the plugins that
# go.mod pins; check fails when fix would change it, and changes nothing.
# Which protoc was used, a comment in the generated files, does not count.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v protoc > /dev/null ||
  { echo "proto.sh: protoc is missing; Debian's package is protobuf-compiler" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir "$scratch/bin" "$scratch/generated"
go build -o "$scratch/bin/" google.golang.org/protobuf/cmd/protoc-gen-go \
  google.golang.org/grpc/cmd/protoc-gen-go-grpc
git ls-files -z '*.proto' | PATH="$scratch/bin:$PATH" xargs -0 protoc \
  --go_out="$scratch/generated" --go_opt=paths=source_relative \
  --go-grpc_out="$scratch/generated" --go-grpc_opt=paths=source_relative
status=0
while read -r file; do
  if diff -u -I '^// .*protoc  *v[0-9.]*$' "$file" "$scratch/generated/$file" > "$scratch/diff" 2>&1; then
    continue
  fi
  case ${1-} in
  fix) cp "$scratch/generated/$file" "$file" ;;
  check) cat "$scratch/diff"; status=1 ;;
  *) echo "usage: proto.sh fix|check" >&2; exit 2 ;;
  esac
done < <(cd "$scratch/generated" && find . -name '*.go' -printf '%P\n')
[ "$status" = 0 ] || echo "The generated Go code is not that of the .proto files: run make proto." >&2
exit "$status"
