#!/bin/sh
# cgroups.sh v1|v2 COMMAND [ARG...]
#
# Runs COMMAND with only cgroup v1, or only cgroup v2, at /sys/fs/cgroup. For
# mount namespaces of one's own only. With OWN_STORE set, podman's store is an
# empty one in memory. Stays to reap what COMMAND leaves, in case that this is
# the first process of a PID namespace.
set -eu
case $1 in
v1) ! mountpoint -q /sys/fs/cgroup/unified || umount /sys/fs/cgroup/unified ;;
v2) mount -t cgroup2 none /sys/fs/cgroup ;;
esac
shift
if [ -n "${OWN_STORE-}" ]; then
  mkdir -p /var/lib/containers
  mount -t tmpfs none /var/lib/containers
fi
status=0
"$@" || status=$?
exit $status
