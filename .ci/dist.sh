#!/bin/bash
# dist.sh [DIR]
#
# Builds what is released from the commit that is checked out, into DIR (dist):
#
#   hearth-VERSION-linux-ARCH.tar.gz   both programs, static, manual pages, unit, SBOM
#   hearth_VERSION_ARCH.deb            the same as a Debian package
#   hearth-VERSION-linux-ARCH.cdx.json the modules in them, in CycloneDX's form
#   SHA256SUMS
#
# The version is that of git: the tag of the commit, or what Go makes of its time and
# hash. What is not committed is not built. ARCH is this machine's, or each word of the
# variable ARCHES, such as "amd64 arm64".
set -euo pipefail
top=$(dirname "$(dirname "$(realpath "$0")")")
out=$(realpath -m "${1:-$top/dist}")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

[ -z "$(git -C "$top" status --porcelain)" ] ||
  echo "dist: there are changes that are not committed; they are not built" >&2
git clone --quiet --local --no-hardlinks "$top" "$scratch/src"
cd "$scratch/src"
export CGO_ENABLED=0
tags=$(make --no-print-directory -s print-tags)
tool() { (unset GOARCH && GOFLAGS='' go tool -modfile=.ci/tools.mod "$@"); }

# programs ARCH DIR: what Go makes of the commit, without paths and symbols.
programs() {
  GOARCH=$1 GOFLAGS="-trimpath $tags" go build -buildvcs=true -ldflags='-s -w' -o "$2/hearth" ./cmd/hearth
  GOARCH=$1 GOFLAGS="-trimpath $tags" go build -buildvcs=true -tags=grpcnotrace -ldflags='-s -w' -o "$2/hearth-execserver" ./cmd/execserver
}

# papers DIR: what is the same for all machines, as the programs themselves print it.
papers() {
  GOFLAGS="-trimpath $tags" go run -buildvcs=true ./cmd/hearth manual man "$1/man"
  gzip -9 -n "$1"/man/*.1
  mkdir "$1/completion"
  local shell
  for shell in bash zsh fish; do
    GOFLAGS="-trimpath $tags" go run ./cmd/hearth completion --program /usr/bin/hearth "$shell" > "$1/completion/hearth.$shell"
  done
  cp README.md LICENSE deploy/hearth.service deploy/hearth.yaml "$1"
}

rm -rf "$out"
mkdir -p "$out"
for arch in ${ARCHES:-$(go env GOARCH)}; do
  dir=$scratch/$arch
  mkdir "$dir"
  programs "$arch" "$dir"
  papers "$dir"
  version=$(go version -m "$dir/hearth" | awk '$1 == "mod" { print $3 }')
  version=${version#v}
  name=hearth-$version-linux-$arch
  tool cyclonedx-gomod bin -json -noserial -output "$dir/sbom.cdx.json" "$dir/hearth" 2> "$scratch/sbom.log" ||
    { cat "$scratch/sbom.log" >&2; exit 1; }
  cp "$dir/sbom.cdx.json" "$out/$name.cdx.json"
  cp -r "$dir" "$scratch/$name"
  # The same commit gives the same archive.
  SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
  export SOURCE_DATE_EPOCH
  tar --create --sort=name --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" -C "$scratch" "$name" |
    gzip -9 -n > "$out/$name.tar.gz"
  VERSION=$version ARCH=$arch DIST=$dir tool nfpm package --config deploy/nfpm.yaml --packager deb --target "$out" > "$scratch/deb.log" 2>&1 ||
    { cat "$scratch/deb.log" >&2; exit 1; }
done
(cd "$out" && sha256sum -- * > "$scratch/sums" && mv "$scratch/sums" SHA256SUMS)
ls -l "$out"
