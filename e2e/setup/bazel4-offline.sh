#!/bin/bash
# bazel4-offline.sh DIR
#
# Lets Debian 12's Bazel 4.2.3 build C++, shell and genrule targets without a
# network: writes an empty or forwarding repository into DIR for each of the
# repositories that its built-in rules load and would otherwise download, and
# DIR/offline.bazelrc, to be named by --bazelrc, which overrides them.
set -euo pipefail
[ $# -eq 1 ] || { echo "usage: bazel4-offline.sh DIR" >&2; exit 2; }
mkdir -p "$1"
dir=$(realpath "$1")
bazelrc=$dir/offline.bazelrc
: > "$bazelrc"

# repository NAME: an empty one, which overrides the real one.
repository() {
  mkdir -p "$dir/$1"
  : > "$dir/$1/WORKSPACE"
  : > "$dir/$1/BUILD"
  echo "common --override_repository=$1=$dir/$1" >> "$bazelrc"
}

# forward REPOSITORY/PACKAGE RULE...: a defs.bzl whose rules are the native ones.
forward() {
  local package=$dir/$1 rule
  shift
  mkdir -p "$package"
  : > "$package/BUILD"
  for rule; do
    printf 'def %s(**kwargs):\n    native.%s(**kwargs)\n\n' "$rule" "$rule"
  done > "$package/defs.bzl"
}

repository rules_cc
forward rules_cc/cc cc_binary cc_import cc_library cc_test cc_toolchain cc_toolchain_suite
repository rules_java
forward rules_java/java java_binary java_import java_library java_plugin java_runtime \
  java_test java_toolchain
repository rules_proto
forward rules_proto/proto proto_lang_toolchain proto_library
# Every test rule depends on the coverage tools, even when nothing is measured.
repository remote_coverage_tools
cat > "$dir/remote_coverage_tools/BUILD" <<'BUILD'
package(default_visibility = ["//visibility:public"])

filegroup(name = "Main")

filegroup(name = "coverage_report_generator")
BUILD
echo "$bazelrc"
