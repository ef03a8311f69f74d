#!/bin/bash
# Installs, removes and purges a Debian package: unshare -m -n install.sh DEB, as root.
#
# In an overlay over this machine's file system, in namespaces of its own for mounts and ports: nothing of it
# reaches the machine, and what the package has changed can be listed. What it leaves must be its user and dpkg's own
# notes; nothing of Mosquitto may change.
set -euo pipefail
deb=$(realpath "$1")
scratch=$(mktemp -d)
log=$scratch/log

fail() {
  echo "FAILED: $*" >&2
  cat "$log" >&2
  exit 1
}

# Status 77: there is something that this machine cannot check.
not_checked() { echo "not checked: $*" && exit 77; }

mount -t tmpfs tmpfs "$scratch"
mkdir "$scratch"/{upper,work,root}
mount -t overlay overlay -o "lowerdir=/,upperdir=$scratch/upper,workdir=$scratch/work" "$scratch/root" ||
  not_checked "installing: there are no overlays here"
root=$scratch/root
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
cp "$deb" "$root/tmp/midge.deb"

inside() {
  chroot "$root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin "$@" >>"$log" 2>&1
}

# Without triggers: that all manual pages are looked through again is none of the package's.
dpkg() { inside dpkg --no-triggers "$@"; }

# With Mosquitto's unit switched on, or off.
switch_mosquitto() {
  local link=$root/etc/systemd/system/multi-user.target.wants/mosquitto.service
  mkdir -p "${link%/*}"
  if [[ $1 == on ]]; then ln -sf /lib/systemd/system/mosquitto.service "$link"; else rm -f "$link"; fi
}

is_enabled() { [[ -L $root/etc/systemd/system/multi-user.target.wants/midge.service ]]; }
has_rival() { [[ -e $root/lib/systemd/system/mosquitto.service ]]; }
has_helper() { [[ -e $root/usr/bin/deb-systemd-helper ]]; }

# Somebody with port 1883, while the command runs.
beside_a_rival() {
  local status=0
  coproc RIVAL { exec python3 -c 'import socket, sys; s = socket.create_server(("", 1883)); print("ready", flush=True); sys.stdin.read()'; }
  read -r -u "${RIVAL[0]}" || fail "no rival"
  "$@" || status=$?
  exec {RIVAL[1]}>&-
  wait "$RIVAL_PID" 2>/dev/null || true
  return $status
}

users() { cat "$root/etc/passwd" "$root/etc/group" | grep -v '^midge:'; }
before=$(users)
! grep -q '^midge:' /etc/passwd || not_checked "installing: midge is installed here"

! has_rival || switch_mosquitto on
dpkg -i /tmp/midge.deb || fail "dpkg -i"
! has_rival || ! is_enabled || fail "it is enabled beside Mosquitto"
! has_rival || grep -q 'midge is not started: mosquitto.service is enabled' "$log" || fail "it does not say so"
for made in "640 root midge /etc/midge/passwords" "750 midge midge /var/lib/midge" "750 midge midge /var/log/midge"; do
  said=$(chroot "$root" stat -c '%a %U %G %n' "${made##* }")
  [[ $said == "$made" ]] || fail "$said, not $made"
done
inside midge -c /etc/midge/midge.conf --test-config || fail "--test-config"
# What a user has made is kept, and its mode with it.
inside midge passwd -b /etc/midge/passwords alice secret || fail "midge passwd"
dpkg -i /tmp/midge.deb || fail "dpkg -i, a second time"
! has_rival || ! is_enabled || fail "it is enabled by an upgrade"
[[ $(stat -c %a "$root/etc/midge/passwords") == 640 && -s $root/etc/midge/passwords ]] || fail "passwords"
dpkg -r midge-broker || fail "dpkg -r"
[[ -s $root/etc/midge/passwords && -e $root/etc/midge/midge.conf ]] || fail "removing took the configuration"
[[ ! -e $root/usr/bin/midge ]] || fail "dpkg -r left the binary"

switch_mosquitto off
dpkg -i /tmp/midge.deb || fail "dpkg -i, after dpkg -r"
dpkg -P midge-broker || fail "dpkg -P"
if has_helper; then
  dpkg -i /tmp/midge.deb || fail "dpkg -i, without Mosquitto"
  is_enabled || fail "it is not enabled though nobody has the port"
  dpkg -r midge-broker && dpkg -i /tmp/midge.deb || fail "dpkg -r and dpkg -i"
  is_enabled || fail "it is not enabled again after it was removed"
  beside_a_rival dpkg -i /tmp/midge.deb || fail "dpkg -i beside a rival"
  is_enabled || fail "an upgrade has switched it off"
  dpkg -r midge-broker && beside_a_rival dpkg -i /tmp/midge.deb || fail "dpkg -r and dpkg -i beside a rival"
  ! is_enabled || fail "it is enabled beside the one that came while it was removed"
  grep -q 'midge is not started: port 1883 is taken' "$log" || fail "it does not say so"
  inside systemctl enable midge && is_enabled || fail "systemctl enable"
  inside systemctl disable midge && dpkg -i /tmp/midge.deb || fail "dpkg -i of one that is switched off"
  ! is_enabled || fail "an upgrade switches it on"
  dpkg -r midge-broker && dpkg -i /tmp/midge.deb || fail "dpkg -r and dpkg -i of one that is switched off"
  ! is_enabled || fail "it is switched off, and enabled after it was removed"
  dpkg -P midge-broker || fail "dpkg -P"
fi
! is_enabled || fail "it is still enabled"

left=$(cd "$scratch/upper" && find . ! -type d ! -path './var/cache/*' ! -path './var/log/*' \
  ! -path './var/lib/dpkg/*' ! -path './run/*' | sort)
known='^./etc/(.pwd.lock|(passwd|group|shadow|gshadow)-?|systemd/system/multi-user.target.wants/mosquitto.service)$'
if strange=$(grep -vE "$known" <<<"$left"); then fail "it leaves: $strange"; fi
[[ $(users) == "$before" ]] || fail "other users have changed"
[[ ! -e $root/var/lib/midge && ! -e $root/var/log/midge && ! -e $root/etc/midge ]] || fail "purged, and still there"
echo "Debian: installed, removed and purged, and nothing else has changed"
has_helper || not_checked "whether it is enabled: there is no deb-systemd-helper"
has_rival || not_checked "beside Mosquitto: it is not installed"
