#!/bin/bash
# try-unit.sh ROOT DEB WORKSPACE
#
# What an administrator does, on a machine for itself: starts systemd in what looks like
# the Debian root ROOT (made by systemd-root.sh), installs the Debian package DEB, starts
# its unit, builds WORKSPACE with Bazel on it, restarts the unit, builds some of it again, and
# stops it. Prints each command and how long it took, what systemd says of the unit, and what
# is left. The machine has no network but its own loopback; nothing in ROOT changes.
# Needs root, and about 1 GB below $TMPDIR.
set -euo pipefail
here=$(dirname "$(realpath "$0")")

# hierarchies: the cgroup hierarchies of this host, as lines TARGET TYPE OPTIONS.
hierarchies() { findmnt -rn -t cgroup,cgroup2 -o TARGET,FSTYPE,FS-OPTIONS; }

# boot ROOT: becomes systemd, in namespaces of its own and in a cgroup that it takes for
# the root of all.
boot() {
  local root=$1 target type options dev
  mount --make-rprivate /
  mount --bind "$root" "$root"
  mount --rbind "$root-disk/hearth" "$root/var/lib/hearth"
  mount --rbind "$root-disk/containers" "$root/var/lib/containers"
  mount -t proc proc "$root/proc"
  mount -t sysfs sysfs "$root/sys"
  mount -t tmpfs -o mode=755 tmpfs "$root/run"
  mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
  mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
  while read -r target type options; do
    mkdir -p "$root$target"
    [ "$type" = cgroup2 ] || options=$(tr , '\n' <<< "$options" | grep -vxE 'rw|xattr|release_agent=.*' | paste -sd,)
    [ "$type" = cgroup ] || options=rw
    [[ $options != name=* ]] || options=none,$options
    mount -t "$type" -o "$options" "$type" "$root$target"
  done < <(hierarchies)
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for dev in null zero full random urandom tty fuse loop-control; do
    [ -e "/dev/$dev" ] || continue
    : > "$root/dev/$dev"
    mount --bind "/dev/$dev" "$root/dev/$dev"
  done
  mkdir "$root/dev/pts" "$root/dev/shm"
  mount -t devpts -o newinstance,ptmxmode=0666 devpts "$root/dev/pts"
  mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  cd "$root"
  pivot_root . mnt
  umount -l /mnt
  exec env -i container=hearth-test /lib/systemd/systemd
}

if [ "${1-}" = --boot ]; then
  boot "$2"
fi
[ $# = 3 ] || [ "${1-}" = --inside ] || { echo "usage: try-unit.sh ROOT DEB WORKSPACE" >&2; exit 2; }
[ "$(id -u)" = 0 ] || { echo "try-unit.sh: needs root" >&2; exit 1; }
if [ "$1" != --inside ]; then # what is mounted goes with it, whatever happens
  exec unshare --mount --propagation private "$(realpath "$0")" --inside "$@"
fi
shift
scratch=$(mktemp -d) name=hearth-try-unit-$$ machine='' root=''

# leave_cgroups: this shell goes back to where it was.
leave_cgroups() {
  local target type options
  while read -r target type options; do
    [ -d "$target/$name" ] || continue
    echo $$ > "$target/cgroup.procs"
    find "$target/$name" -depth -type d -exec rmdir {} +
  done < <(hierarchies)
}

cleanup() {
  if [ -n "$machine" ]; then
    kill -KILL "$machine" 2> /dev/null || true # and all in its pid namespace
    wait "$machine" 2> /dev/null || true
  fi
  leave_cgroups
  [ -z "$root" ] || umount "$root"
  rm -rf --one-file-system "$scratch"
}
trap cleanup EXIT

# inside COMMAND...: runs it on the machine.
inside() {
  nsenter --target "$init" --all --root --wd env -i HOME=/root LC_ALL=C.UTF-8 \
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
}

# command COMMAND...: what the administrator types.
command() {
  local begun=$EPOCHREALTIME
  echo "\$ $*"
  inside "$@" > "$scratch/log" 2>&1 || { cat "$scratch/log"; inside journalctl --no-pager -u hearth | tail -n 50; exit 1; }
  awk -v a="$begun" -v b="$EPOCHREALTIME" 'BEGIN { printf "took %.1f s\n", b - a }'
}

# The root: what is written goes to $scratch, and what overlays cannot lie on an overlay
# for to a file system that is none.
mkdir -p "$scratch"/{upper,work,root,root-disk/hearth,root-disk/containers}
mount -t overlay -o "lowerdir=$(realpath "$1"),upperdir=$scratch/upper,workdir=$scratch/work" overlay "$scratch/root"
root=$scratch/root
mkdir -p "$root/var/lib/hearth" "$root/var/lib/containers"
rm -f "$root/usr/sbin/policy-rc.d" # services do start here
cp "$2" "$root/root/hearth.deb"
cp -r "$3" "$root/root/workspace"
"$here/bazel4-offline.sh" "$root/root/offline" > /dev/null
sed -i "s#$root##g" "$root/root/offline/offline.bazelrc"

while read -r target type options; do
  mkdir "$target/$name"
  for file in cpuset.cpus cpuset.mems; do # of version 1, without which nothing can go in
    [ ! -e "$target/$file" ] || cat "$target/$file" > "$target/$name/$file"
  done
  echo $$ > "$target/$name/cgroup.procs"
done < <(hierarchies)
setpriv --pdeathsig KILL unshare --mount --pid --cgroup --uts --ipc --net --fork --kill-child "$0" --boot "$root" < /dev/null > "$scratch/boot" 2>&1 &
machine=$!
begun=$SECONDS init=''
until [ -n "$init" ] && [[ $(inside systemctl is-system-running 2>> "$scratch/boot") =~ ^(running|degraded)$ ]]; do
  [ $((SECONDS - begun)) -lt 120 ] && kill -0 "$machine" || { tail -n 20 "$scratch/boot" >&2; echo "try-unit.sh: systemd does not start" >&2; exit 1; }
  sleep 0.2
  init=$(pgrep --parent "$machine" || true)
done
echo "== systemd"
inside systemctl --version | head -n 1
inside systemctl list-units --failed --no-legend --no-pager
echo "== unit"
build=(bazel --bazelrc=/root/offline/offline.bazelrc --host_jvm_args=-Xmx1g build --color=no --curses=no
  --remote_executor=grpc://127.0.0.1:8980 --remote_default_exec_properties=recycle-runner=true)
in_workspace() { command env --chdir=/root/workspace "${build[@]}" "$@"; grep -E '^INFO: [0-9]+ process' "$scratch/log"; }
command env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends /root/hearth.deb runc iptables netavark
command systemctl start hearth
in_workspace //genrules/... //cc/...
inside systemctl is-active hearth
inside systemd-analyze verify --man=no hearth.service
inside systemd-analyze security --no-pager hearth.service | tail -n 1
command systemctl restart hearth
inside env --chdir=/root/workspace bazel clean 2> /dev/null
in_workspace --noremote_accept_cached //genrules/...
echo "containers: $(inside podman ps --quiet --all | wc -l)"
command systemctl stop hearth
inside systemctl is-active hearth || true
echo "== left"
inside podman ps --all --format '{{.ID}} {{.Status}}'
inside grep -E '/var/lib/hearth/|/run/hearth' /proc/self/mountinfo || true
inside pgrep --list-full hearth || true
inside systemctl list-units --failed --no-legend --no-pager
inside find /sys/fs/cgroup -name 'hearth.service*' -o -name 'libpod-*'
echo "== journal"
inside journalctl --no-pager --output=cat -u hearth -p warning
inside journalctl --no-pager --output=cat -u hearth --grep='level=(WARN|ERROR)' || true
inside journalctl --no-pager --output=cat -u hearth --grep='listening on|draining|[Ss]topped'
echo "== off"
inside systemctl poweroff
wait "$machine" || true # by a signal, as a machine is switched off
machine=''
