#!/bin/bash
# bazel7-offline.sh DIR
#
# Lets Debian unstable's Bazel 7 resolve and build C++, shell and genrule
# targets without a network or a module registry: writes a module into DIR for
# each of those that its built-in module depends on and Debian does not
# package, and DIR/offline.bazelrc, to be named by --bazelrc, which overrides them.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: bazel7-offline.sh DIR" >&2; exit 2; }
mkdir -p "$1/registry"
dir=$(realpath "$1")
bazelrc=$dir/offline.bazelrc
# An empty registry instead of the central one: a module that is missing is
# then an error at once instead of a wait for the network.
echo '{}' > "$dir/registry/bazel_registry.json"
cat > "$bazelrc" <<BAZELRC
common --enable_bzlmod --noenable_workspace
common --lockfile_mode=off
common --registry=file://$dir/registry
BAZELRC

for module in apple_support buildozer protobuf zlib; do
  mkdir -p "$dir/$module"
  echo "module(name = \"$module\")" > "$dir/$module/MODULE.bazel"
  : > "$dir/$module/BUILD.bazel"
  echo "common --override_module=$module=$dir/$module" >> "$bazelrc"
done

# Bazel's own module asks this extension for a repository that it never reads here.
cat > "$dir/buildozer/buildozer_binary.bzl" <<'BZL'
def _empty_impl(ctx):
    ctx.file("BUILD.bazel")

_empty = repository_rule(implementation = _empty_impl)

def _buildozer_binary_impl(_ctx):
    _empty(name = "buildozer_binary")

buildozer_binary = module_extension(implementation = _buildozer_binary_impl)
BZL
echo "$bazelrc"
