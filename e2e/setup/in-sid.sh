#!/bin/bash
# in-sid.sh ROOT COMMAND [ARG...]
#
# Runs COMMAND inside the Debian root directory ROOT (made by sid-root.sh), in
# a mount namespace of its own and with the host's network, so that a server
# on 127.0.0.1 is reached from both sides. /tmp, $TMPDIR and /run are empty there.
# Every mount ends with the command. Needs root.
#
# Environment, all optional:
#   SID_BIND   words SRC or SRC:DST, bound into the root; DST is SRC's own
#              absolute path unless given, and is made when missing
#   SID_CWD    the directory in which COMMAND starts, inside the root (/)
#   SID_ENV    words NAME=VALUE added to an otherwise clean environment
#   SID_PIDNS  not empty: a pid namespace too, so that whatever COMMAND leaves
#              running (a Bazel server, a daemon of a test) ends with it
set -euo pipefail

enter() {
  local root=$1 bind src dst
  shift
  # pivot_root instead of chroot: the kernel refuses user namespaces to a
  # process in a chroot, and podman and Bazel's sandbox need them. pivot_root
  # wants a mount point, so the root is first bound onto itself.
  mount --bind "$root" "$root"
  mount -t proc proc "$root/proc"
  mount --rbind /dev "$root/dev"
  mount --rbind /sys "$root/sys"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  for dst in /tmp ${TMPDIR-}; do # so that no mount point is left
    mkdir -p "$root$dst"
    mount -t tmpfs -o mode=1777 tmpfs "$root$dst"
  done
  for bind in /etc/resolv.conf /etc/hosts ${SID_BIND-}; do
    src=$(realpath "${bind%%:*}")
    dst=${bind#*:}
    [ "$dst" != "$bind" ] || dst=$(realpath -s "$bind")
    if [ -d "$src" ]; then
      mkdir -p "$root$dst"
    else
      mkdir -p "$(dirname "$root$dst")"
      [ -e "$root$dst" ] || : > "$root$dst"
    fi
    mount --rbind "$src" "$root$dst"
  done
  cd "$root"
  # The old root lands on /mnt of the new one and goes at once; what it held
  # open lives on until this shell is replaced by the command.
  pivot_root . mnt
  umount -l /mnt
  # shellcheck disable=SC2086
  exec /usr/bin/env -i HOME=/root USER=root LOGNAME=root LANG=C.UTF-8 TERM=dumb \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin ${SID_ENV-} \
    /bin/sh -c 'cd "$1" && shift && exec "$@"' in-sid "${SID_CWD:-/}" "$@"
}

if [ "${1-}" = --entered ]; then
  shift
  enter "$@"
fi
[ $# -ge 2 ] || { echo "usage: in-sid.sh ROOT COMMAND [ARG...]" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "in-sid.sh: needs root" >&2; exit 1; }
root=$(realpath "$1")
shift
[ -x "$root/bin/sh" ] || { echo "in-sid.sh: $root is not a Debian root; make it with e2e/setup/sid-root.sh" >&2; exit 1; }
namespaces=(--mount --propagation private)
[ -z "${SID_PIDNS-}" ] || namespaces+=(--pid --fork --kill-child)
exec unshare "${namespaces[@]}" "$(realpath "$0")" --entered "$root" "$@"
