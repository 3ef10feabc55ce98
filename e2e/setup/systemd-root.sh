#!/bin/bash
# systemd-root.sh [ROOT]
#
# Makes a Debian 12 root directory at ROOT (default ${XDG_CACHE_HOME:-~/.cache}/hearth/systemd)
# in which try-unit.sh starts systemd: a machine with Bazel 4 and a C++ compiler, and
# without podman, whose packages are there to be installed without a network. About
# three minutes, 1.2 GB. Needs root and debootstrap.
#
# Environment, optional:
#   DEBIAN_MIRROR  where to get it (the Debian archive that this machine's apt uses)
set -euo pipefail
packages=(
  systemd systemd-sysv dbus          # what starts the unit
  bazel-bootstrap g++ libc6-dev zip  # a client, and what it needs to build C++
  procps iproute2                    # to look around
)
export DEBIAN_DOWNLOAD="podman runc iptables netavark"
exec "$(dirname "$(realpath "$0")")/debian-root.sh" \
  "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/systemd}" bookworm "${packages[@]}"
