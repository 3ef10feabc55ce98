#!/bin/bash
# gazelle.sh fix|check
#
# fix brings the BUILD.bazel files and the list of modules in MODULE.bazel up to
# date with the Go code; check fails when fix would change one, and changes none.
# Works without a network: which module an import belongs to is told to gazelle
# from go.mod instead of being looked up.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The modules in the form that gazelle reads, a WORKSPACE file, with the names
# that the go_deps extension gives them: example.com/some-mod/v2 is com_example_some_mod_v2.
go list -m -f '{{if not .Main}}{{.Path}}{{end}}' all | awk '
  NF {
    path = $1
    slash = index(path "/", "/")
    count = split(substr(path, 1, slash - 1), host, ".")
    name = ""
    for (i = count; i > 0; i--) name = name host[i] (i > 1 ? "." : "")
    name = tolower(name substr(path, slash))
    gsub(/[^a-z0-9]/, "_", name)
    printf "go_repository(name = \"%s\", importpath = \"%s\")\n", name, path
  }' > "$scratch/WORKSPACE"

# generate DIR: brings the copy of the repository in DIR up to date.
generate() {
  go tool gazelle fix -repo_root "$1" -repo_config "$scratch/WORKSPACE" -external static "$1"
  grep -rhoE --include=BUILD.bazel '"@[a-z0-9_]+//' "$1" | grep -v '"@rules_go//' |
    sed -E 's/"@(.*)\/\//    "\1",/' | LC_ALL=C sort -u > "$scratch/repositories"
  sed -i -e '/^    # The modules that BUILD/,/^    # end/{/^    "/d}' \
    -e "/^    # The modules that BUILD/r $scratch/repositories" "$1/MODULE.bazel"
}

case ${1-} in
fix)
  generate "$PWD"
  ;;
check)
  mkdir "$scratch/have"
  # What git would commit now; a file that is deleted but still in the index is passed over.
  git ls-files -z --cached --others --exclude-standard |
    tar --create --null --files-from=- --ignore-failed-read 2>"$scratch/tar.log" | tar -x -C "$scratch/have"
  cp -r "$scratch/have" "$scratch/want"
  generate "$scratch/want"
  (cd "$scratch" && diff -ruN have want) ||
    { echo "The Bazel files are not those of the Go code: run make fmt." >&2; exit 1; }
  ;;
*)
  echo "usage: gazelle.sh fix|check" >&2
  exit 2
  ;;
esac
