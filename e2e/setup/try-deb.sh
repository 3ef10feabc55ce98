#!/bin/bash
# try-deb.sh ROOT DEB
#
# Installs the Debian package DEB into what looks like the Debian root ROOT (made by
# sid-root.sh), without a change to it: everything is in memory and goes at the end.
# Checks what dpkg says of it, that hearth runs, that systemd takes its unit, and that
# nothing is left when the package is purged. Needs root and systemd-analyze.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# inside ROOT DEB: in a mount namespace of its own.
inside() {
  local top=/run/hearth-try-deb merged=/run/hearth-try-deb/root
  mkdir -p "$top"
  mount -t tmpfs -o mode=755 tmpfs "$top"
  mkdir "$top/upper" "$top/work" "$merged"
  mount -t overlay -o "lowerdir=$1,upperdir=$top/upper,workdir=$top/work" overlay "$merged"
  cp "$2" "$merged/hearth.deb"
  # The root has no systemd; the units that this one needs are the host's.
  cp -rn /usr/lib/systemd/system/. "$merged/usr/lib/systemd/system/"
  "$here/in-sid.sh" "$merged" sh -euc '
    find / -xdev -path /proc -prune -o -type f -print | sort > /before
    # dpkg of a minimal system leaves documentation out, manual pages among it.
    dpkg --install --path-include="/usr/share/*" /hearth.deb
    dpkg --verify hearth
    echo "== files"
    dpkg --listfiles hearth
    echo "== version"
    hearth version
    hearth config print --config /etc/hearth/hearth.yaml > /config
    grep -E "^(data-dir|execserver) " /config
  '
  echo "== unit"
  systemd-analyze verify --man=no --root="$merged" hearth.service
  systemctl --root="$merged" enable hearth.service
  systemctl --root="$merged" is-enabled hearth.service
  systemctl --root="$merged" disable hearth.service
  "$here/in-sid.sh" "$merged" sh -euc '
    echo "== purge"
    # /var/tmp is that of others who use ROOT meanwhile, too.
    dpkg --purge hearth
    find / -xdev -path /proc -prune -o -type f -print | sort > /after
    grep -vxFf /before /after | grep -vE "^/(after|before|config|hearth.deb)$|^/var/(lib/dpkg|log|cache|tmp)/" || echo "nothing is left"
  '
}

if [ "${1-}" = --inside ]; then
  shift
  inside "$@"
  exit
fi
[ $# = 2 ] || { echo "usage: try-deb.sh ROOT DEB" >&2; exit 2; }
exec unshare --mount --propagation private "$(realpath "$0")" --inside "$(realpath "$1")" "$(realpath "$2")"
