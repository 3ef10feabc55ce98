#!/bin/bash
# install.sh run|test
#
# Installs what `make run` or `make test` needs and this machine lacks, with the
# distribution's package manager. Says so first; without root it prints the
# command to run and fails. Does nothing when nothing is missing.
set -euo pipefail
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

# What to look for, and the package that has it:
# group need apt dnf apk pacman zypper; "-" where the distribution has none.
needs='
run  podman      podman             podman              podman       podman          podman
run  conmon      conmon             conmon              conmon       conmon          conmon
run  netavark    netavark           netavark            netavark     netavark        netavark
run  crun        crun               crun                crun         crun            crun
run  runc        runc               runc                runc         runc            runc
run  iptables    iptables           iptables            iptables     iptables        iptables
run  newuidmap   uidmap             shadow-utils        shadow-uidmap shadow        shadow
test git         git                git                 git          git             git
test gcc         gcc                gcc                 gcc          gcc             gcc
test g++         g++                gcc-c++             g++          gcc             gcc-c++
test libc        libc6-dev          glibc-devel         musl-dev     glibc           glibc-devel
test bazel       bazel-bootstrap    -                   -            bazel           bazel
test chromium   chromium           chromium            chromium     chromium        chromium
test both-runtimes crun             crun                crun         crun            crun
test busybox     busybox-static     busybox             busybox      busybox         busybox-static
test catatonit   catatonit          catatonit           catatonit    catatonit       catatonit
test debootstrap debootstrap        debootstrap         debootstrap  debootstrap     debootstrap
test fish        fish               fish                fish         fish            fish
test fsck.erofs  erofs-utils        erofs-utils         erofs-utils  erofs-utils     erofs-utils
test groff       groff-base         groff-base          groff        groff           groff
test ip          iproute2           iproute             iproute2     iproute2        iproute2
test mount       mount              util-linux          mount        util-linux      util-linux
test openssl     openssl            openssl             openssl      openssl         openssl
test ps          procps             procps-ng           procps       procps-ng       procps
test protoc      protobuf-compiler  protobuf-compiler   protobuf     protobuf        protobuf-devel
test systemd-analyze systemd        systemd             -            systemd         systemd
test unshare     util-linux         util-linux          util-linux   util-linux      util-linux
test xargs       findutils          findutils           findutils    findutils       findutils
test zsh         zsh                zsh                 zsh          zsh             zsh
test zip         zip                zip                 zip          zip             zip
'

# crun refuses hosts where cgroup v1 controllers and a cgroup v2 hierarchy are
# mounted side by side ("hybrid"); runc does not.
hybrid() { grep -q ' /sys/fs/cgroup/unified cgroup2 ' /proc/mounts; }

# have NEED: whether this machine has it.
have() {
  case $1 in
  netavark) [ -x /usr/lib/podman/netavark ] || [ -x /usr/libexec/podman/netavark ] || command -v netavark ;;
  catatonit) [ -x /usr/libexec/podman/catatonit ] || command -v catatonit ;;
  crun) hybrid || command -v crun || command -v runc ;;
  # Ordinary users need it, and so do the tests that are some.
  newuidmap) { [ "$group" = run ] && [ "$(id -u)" = 0 ]; } || command -v newuidmap ;;
  # Where hearth chooses runc, tests see what it says of crun.
  both-runtimes) command -v crun ;;
  runc) ! hybrid || command -v runc ;;
  libc) [ -e /usr/include/stdio.h ] ;;
  # In an image that holds nothing else, only a static one runs.
  busybox) command -v busybox && ! ldd "$(command -v busybox)" ;;
  *) command -v "$1" ;;
  esac > /dev/null 2>&1
}

# manager: the package manager's name and its column in needs.
manager() {
  local column=3 name
  for name in apt-get dnf apk pacman zypper; do
    if command -v "$name" > /dev/null; then
      echo "$name" "$column"
      return
    fi
    column=$((column + 1))
  done
}

group=${1-}
case $group in
run | test) ;;
*) echo "usage: install.sh run|test" >&2; exit 2 ;;
esac
read -r name column < <(manager) || true
missing=() packages=()
while read -r of need rest; do
  # make test needs what make run needs, too.
  if [ -z "$of" ] || { [ "$of" = test ] && [ "$group" = run ]; } || have "$need"; then
    continue
  fi
  missing+=("$need")
  package=$(echo "$of $need $rest" | awk -v column="${column:-3}" '{ print $column }')
  [ "$package" != - ] || { echo "hearth: $need is missing and this distribution has no package of it; install it by hand." >&2; exit 1; }
  packages+=("$package")
done <<< "$needs"
[ ${#missing[@]} -gt 0 ] || exit 0

case ${name-} in
apt-get) command="apt-get update && apt-get install -y --no-install-recommends ${packages[*]}" ;;
dnf) command="dnf install -y ${packages[*]}" ;;
apk) command="apk add ${packages[*]}" ;;
pacman) command="pacman -Sy --noconfirm --needed ${packages[*]}" ;;
zypper) command="zypper --non-interactive install ${packages[*]}" ;;
*) echo "hearth: missing: ${missing[*]}; this system's package manager is not known, install them by hand." >&2; exit 1 ;;
esac
if [ "$(id -u)" != 0 ]; then
  echo "hearth: make $group needs ${missing[*]}. Run this as root, then make $group again:" >&2
  echo "  $command" >&2
  exit 1
fi
echo "hearth: make $group needs ${missing[*]}: installing ${packages[*]} with $name"
DEBIAN_FRONTEND=noninteractive bash -c "$command" > /tmp/hearth-install.$$.log 2>&1 ||
  { tail -n 30 /tmp/hearth-install.$$.log >&2; rm -f /tmp/hearth-install.$$.log; exit 1; }
rm -f /tmp/hearth-install.$$.log
for need in "${missing[@]}"; do
  have "$need" || { echo "hearth: $need is still missing after installing ${packages[*]}" >&2; exit 1; }
done
