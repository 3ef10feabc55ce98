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
here=$(dirname "$(realpath "$0")")
root=${1:-${XDG_CACHE_HOME:-$HOME/.cache}/hearth/sid}
suite=${SID_SUITE:-sid}
packages=(
  bazel-bootstrap g++ libc6-dev zip unzip # the client and what it needs to build C++
  locales                                 # Bazel reads file names in UTF-8 only with a Latin-1 locale
  podman crun conmon netavark nftables    # a newer podman than Debian 12's
  buildbox                                # recc, trexe and casdownload, clients of another kind
  busybox-static procps iproute2          # an image from nothing, and to look around
)

# What the root is made from: when this changes, so must the root.
stamp=$root/etc/hearth-sid-root
wanted="$suite ${packages[*]}"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi
[ "$(id -u)" = 0 ] || { echo "sid-root.sh: needs root" >&2; exit 1; }

mirror=${SID_MIRROR-}
if [ -z "$mirror" ]; then
  # indextargets reads every format of apt's sources. The security archive has no unstable suite.
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' |
    awk '$1 == "Debian" && $2 !~ /security/ { print $2; exit }')
fi
[ -n "$mirror" ] || { echo "sid-root.sh: apt names no Debian archive; set SID_MIRROR" >&2; exit 1; }

# Made under another name and renamed when whole, so that a root that is there
# is complete, and one in use is not changed under its users.
echo "making the Debian $suite root $root (about two minutes)"
mkdir -p "$(dirname "$root")"
new=$(mktemp -d "$root.new.XXXXXX")
trap 'rm -rf "$new"' EXIT
chmod 755 "$new"
debootstrap --variant=minbase "$suite" "$new" "$mirror" > "$new.log" 2>&1 || { tail -n 20 "$new.log" >&2; exit 1; }
rm -f "$new.log"
# No service starts in there, and a crash of the machine in the middle only
# costs the root: no package needs to reach the disk at once.
printf '#!/bin/sh\nexit 101\n' > "$new/usr/sbin/policy-rc.d"
chmod 755 "$new/usr/sbin/policy-rc.d"
echo force-unsafe-io > "$new/etc/dpkg/dpkg.cfg.d/hearth"
# A mirror that is a stored copy may have an expired Release file.
apt=(env DEBIAN_FRONTEND=noninteractive apt-get -y -q -o Acquire::Check-Valid-Until=false)
"$here/in-sid.sh" "$new" "${apt[@]}" update
"$here/in-sid.sh" "$new" "${apt[@]}" install --no-install-recommends "${packages[@]}"
"$here/in-sid.sh" "$new" localedef -i en_US -f ISO-8859-1 en_US.ISO-8859-1
"$here/in-sid.sh" "$new" apt-get clean
echo "$wanted" > "$new/etc/hearth-sid-root"

if [ -e "$root" ]; then
  old=$(mktemp -d "$root.old.XXXXXX")
  mv "$root" "$old/root"
  mv "$new" "$root"
  rm -rf "$old"
else
  mv "$new" "$root"
fi
