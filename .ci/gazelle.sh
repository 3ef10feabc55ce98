#!/bin/bash
# gazelle.sh fix|check
#
# fix brings the BUILD.bazel files and the list of modules in MODULE.bazel up to
# date with the Go code; check fails when fix would change one, or buildifier
# finds fault with one, and changes none.
# Works without a network: which module an import belongs to is told to gazelle
# from go.mod instead of being looked up.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# named: reads module paths, prints each with the name that the go_deps extension
# gives it before it: com_example_some_mod_v2 example.com/some-mod/v2.
named() {
  awk 'NF {
    path = $1
    slash = index(path "/", "/")
    count = split(substr(path, 1, slash - 1), host, ".")
    name = ""
    for (i = count; i > 0; i--) name = name host[i] (i > 1 ? "." : "")
    name = tolower(name substr(path, slash))
    gsub(/[^a-z0-9]/, "_", name)
    print name, path
  }'
}

# The modules in the form that gazelle reads, a WORKSPACE file.
go list -m -f '{{if not .Main}}{{.Path}}{{end}}' all | named |
  sed -E 's/(.*) (.*)/go_repository(name = "\1", importpath = "\2")/' > "$scratch/WORKSPACE"

# buildifier DIR FLAG...: on all files of Bazel in DIR, the repository or a copy of it.
buildifier() {
  local name files=()
  go build -o "$scratch/buildifier" github.com/bazelbuild/buildtools/buildifier/cmd
  while read -rd '' name; do
    [ ! -e "$1/$name" ] || files+=("$1/$name")
  done < <(git ls-files -z --cached --others --exclude-standard '*.bazel' '*.bzl')
  "$scratch/buildifier" "${@:2}" "${files[@]}"
}

# generate DIR: brings the copy of the repository in DIR up to date.
generate() {
  go tool gazelle fix -repo_root "$1" -repo_config "$scratch/WORKSPACE" -external static "$1"
  {
    grep -rhoE --include=BUILD.bazel '"@[a-z0-9_]+//' "$1" | grep -v '"@rules_go//' | tr -d '"@/'
    # Bazel wants those of go.mod's tools as well; gazelle is a module of Bazel's itself.
    go list -f '{{.Module.Path}}' tool | grep -v /bazel-gazelle | named | cut -d ' ' -f 1
  } | LC_ALL=C sort -u | sed 's/.*/    "&",/' > "$scratch/repositories"
  sed -i -e '/^    # The modules that BUILD/,/^    # end/{/^    "/d}' \
    -e "/^    # The modules that BUILD/r $scratch/repositories" "$1/MODULE.bazel"
}

case ${1-} in
fix)
  generate "$PWD"
  buildifier "$PWD" -mode=fix
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
  # The tests' workspace is built by Bazel 4 too, which has these rules built in.
  buildifier "$scratch/have" -mode=check -lint=warn \
    -warnings=-native-cc-library,-native-cc-binary,-native-cc-test,-native-sh-test
  ;;
*)
  echo "usage: gazelle.sh fix|check" >&2
  exit 2
  ;;
esac
