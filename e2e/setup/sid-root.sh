#!/bin/bash
# sid-root.sh [ROOT]
#
# Makes a Debian unstable root directory with Bazel 7, a C++ compiler, buildbox's
# clients and podman 5.8 at ROOT (default ${XDG_CACHE_HOME:-~/.cache}/hearth/sid),
# for the tests that in-sid.sh runs there. Does nothing when ROOT is there and was made
# from the same package list. About two minutes, 2 GB. Needs root and debootstrap.
#
# Environment, all optional:
#   SID_SUITE   the suite (sid)
#   SID_MIRROR  where to get it (the Debian archive that this machine's apt uses)
set -euo pipefail
packages=(
  bazel-bootstrap g++ libc6-dev zip unzip # the client and what it needs to build C++
  locales                                 # Bazel reads file names in UTF-8 only with a Latin-1 locale
  podman crun conmon netavark nftables    # a newer podman than Debian 12's
  buildbox                                # recc, trexe and casdownload, clients of another kind
  busybox-static procps iproute2          # an image from nothing, and to look around
)
DEBIAN_MIRROR=${SID_MIRROR-} exec "$(dirname "$(realpath "$0")")/debian-root.sh" \
  "${1:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/sid}" "${SID_SUITE:-sid}" "${packages[@]}"
