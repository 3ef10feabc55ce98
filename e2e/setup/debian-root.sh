#!/bin/bash
# debian-root.sh ROOT SUITE PACKAGE...
#
# Makes a Debian root directory at ROOT with these packages, for sid-root.sh and
# systemd-root.sh. Does nothing when ROOT is there and was made from the same list.
# Needs root and debootstrap.
#
# Environment, all optional:
#   DEBIAN_MIRROR    where to get it (the Debian archive that this machine's apt uses)
#   DEBIAN_DOWNLOAD  packages that are downloaded into ROOT and not installed
set -euo pipefail
[ $# -ge 3 ] || { echo "usage: debian-root.sh ROOT SUITE PACKAGE..." >&2; exit 2; }
here=$(dirname "$(realpath "$0")")
root=$1 suite=$2
shift 2

# What the root is made from: when this changes, so must the root.
stamp=$root/etc/hearth-sid-root # as of all, since there was one
wanted="$suite $*${DEBIAN_DOWNLOAD:+ downloaded: $DEBIAN_DOWNLOAD}"
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$wanted" ]; then
  exit 0
fi
[ "$(id -u)" = 0 ] || { echo "debian-root.sh: needs root" >&2; exit 1; }

mirror=${DEBIAN_MIRROR-}
if [ -z "$mirror" ]; then
  # indextargets reads every format of apt's sources. The security archive has no unstable suite.
  # shellcheck disable=SC2016
  mirror=$(apt-get indextargets --format '$(ORIGIN) $(REPO_URI)' |
    awk '$1 == "Debian" && $2 !~ /security/ { print $2; exit }')
fi
[ -n "$mirror" ] || { echo "debian-root.sh: apt names no Debian archive; set DEBIAN_MIRROR" >&2; exit 1; }

# Made under another name and renamed when whole, so that a root that is there
# is complete, and one in use is not changed under its users.
echo "making the Debian $suite root $root (two minutes and more)"
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
"$here/in-sid.sh" "$new" "${apt[@]}" install --no-install-recommends "$@"
if [ -e "$new/usr/share/i18n/locales/en_US" ]; then
  "$here/in-sid.sh" "$new" localedef -i en_US -f ISO-8859-1 en_US.ISO-8859-1
fi
"$here/in-sid.sh" "$new" apt-get clean
if [ -n "${DEBIAN_DOWNLOAD-}" ]; then
  # shellcheck disable=SC2086
  "$here/in-sid.sh" "$new" "${apt[@]}" install --no-install-recommends --download-only $DEBIAN_DOWNLOAD
fi
echo "$wanted" > "$new/etc/hearth-sid-root"

if [ -e "$root" ]; then
  old=$(mktemp -d "$root.old.XXXXXX")
  mv "$root" "$old/root"
  mv "$new" "$root"
  rm -rf "$old"
else
  mv "$new" "$root"
fi
