#!/bin/bash
# The Debian package with systemd: service.sh DEB, as root.
#
# systemd runs as process 1 in namespaces of its own, over this machine's file system in an overlay: installs the
# package there, and midge as its service. It must be ready when it serves, keep what it has through a restart,
# read its files again, open its log anew for logrotate, be started again if it hangs, and stay switched off.
# Takes half a minute. Status 77 if that cannot be had here.
set -euo pipefail
here=$(realpath "$0")

# ---- 3: as a service of that systemd ------------------------------------------------------------

try() {
  local story=$1
  shift
  if "$@" >>/srv/midge/log 2>&1; then
    echo "$story"
  else
    { echo "FAILED: $story" && tail -30 /srv/midge/log && journalctl -u midge --no-pager | tail -20; }
    exit 1
  fi
}

is_active() { systemctl is-active --quiet midge; }
is_off() { ! is_active && ! systemctl is-enabled --quiet midge; }
pid() { systemctl show -P MainPID midge; }
install_package() { dpkg --no-triggers -i /srv/midge/midge.deb; }
publish() { mosquitto_pub -t a/b -m kept -r -q 1; }
is_kept() { [[ $(mosquitto_sub -t a/b -W 5 -C 1) == kept ]]; }
restart() { systemctl restart midge; }
is_unprivileged() {
  ! grep -E '^Cap(Prm|Eff|Bnd):.*[1-9a-f]' "/proc/$(pid)/status" && grep 'NoNewPrivs:.*1' "/proc/$(pid)/status"
}
reload() { local before && before=$(pid) && systemctl reload midge && sleep 0.5 && is_active && [[ $(pid) == "$before" ]]; }
log_to_a_file() {
  sed -i '/^#log_dest/ { s/^#//; n; d }' /etc/midge/midge.conf && restart && [[ -s /var/log/midge/midge.log ]] &&
    ! grep -Ev '^[0-9-]+T[0-9:]+Z: ' /var/log/midge/midge.log
}
rotate() {
  logrotate -f /etc/logrotate.d/midge && sleep 0.5 && publish &&
    [[ -s /var/log/midge/midge.log.1 ]] && grep 'New client' /var/log/midge/midge.log
}
hang() {
  mkdir -p /etc/systemd/system/midge.service.d
  printf '[Service]\nWatchdogSec=2\nRestartSec=1\n' >/etc/systemd/system/midge.service.d/soon.conf
  systemctl daemon-reload
  restart
  sleep 4
  [[ $(systemctl show -P NRestarts midge) == 0 ]] || return 1
  kill -STOP "$(pid)"
  sleep 8
  [[ $(systemctl show -P NRestarts midge) == 1 ]] && is_active
}
stop() { systemctl stop midge && install_package && ! is_active && systemctl start midge; }
replace() { dpkg --no-triggers -r midge-broker && ! is_active && install_package && is_active && systemctl is-enabled midge; }
switch_off() { systemctl disable --now midge && install_package && is_off; }
remove() { systemctl enable --now midge && dpkg --no-triggers -r midge-broker && ! is_active && ! pgrep -x midge; }
purge() {
  dpkg --no-triggers -P midge-broker && [[ ! -e /var/lib/midge ]] && ! systemctl list-unit-files | grep -q midge
}

inside() {
  try "the package is installed" install_package
  try "midge serves as soon as systemd says so" is_active
  try "a message is retained" publish
  try "it is there after a restart" eval "restart && is_kept"
  try "midge has no privileges, and gets none" is_unprivileged
  try "reload goes on with the same process" reload
  try "the log can be a file" log_to_a_file
  try "logrotate takes it away, and another is begun" rotate
  try "one that hangs is started again, one that does not is left alone" hang
  try "what is stopped stays so through an upgrade" stop
  try "one that is removed and installed again serves again" replace
  try "what is switched off stays so through an upgrade" switch_off
  try "removing it stops it" remove
  try "purging it leaves nothing" purge
}

# ---- 2: process 1 of new namespaces -------------------------------------------------------------

boot() {
  local root=$1/root out=$1/out device
  mount -t tmpfs tmpfs "$1/layers"
  mkdir "$1/layers"/{upper,work}
  mount -t overlay overlay -o "lowerdir=/,upperdir=$1/layers/upper,workdir=$1/layers/work" "$root"
  mount -t proc proc "$root/proc"
  mount -t sysfs -o ro sysfs "$root/sys"
  mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
  mount -t tmpfs tmpfs "$root/run"
  mount -t tmpfs -o mode=755 tmpfs "$root/dev"
  for device in null zero full random urandom tty; do
    touch "$root/dev/$device"
    mount --bind "/dev/$device" "$root/dev/$device"
  done
  mkdir "$root"/dev/{shm,pts,mqueue} "$root/srv/midge"
  mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
  ln -s pts/ptmx "$root/dev/ptmx"
  ln -s /proc/self/fd "$root/dev/fd"
  mount --bind "$out" "$root/srv/midge"
  # Neither the machine's own services nor what keeps them from being started.
  rm -f "$root"/etc/systemd/system/*.wants/* "$root/usr/sbin/policy-rc.d"
  cp "$here" "$root/root/service.sh"
  cat >"$root/etc/systemd/system/try.target" <<'END'
[Unit]
Requires=basic.target
After=basic.target
Wants=try.service
END
  cat >"$root/etc/systemd/system/try.service" <<'END'
[Service]
Type=oneshot
ExecStart=/root/service.sh --inside
StandardOutput=append:/srv/midge/said
StandardError=append:/srv/midge/said
ExecStopPost=/bin/systemctl poweroff --force --force
END
  ip link set lo up
  exec chroot "$root" env -i container=other PATH=/usr/sbin:/usr/bin:/sbin:/bin \
    /lib/systemd/systemd --system --unit=try.target --log-target=console --show-status=false \
    </dev/null >"$out/console" 2>&1
}

# ---- 1: here ------------------------------------------------------------------------------------

# systemd takes the control group that it finds itself in for the whole machine's.
cgroup=/sys/fs/cgroup
[[ ! -d $cgroup/unified ]] || cgroup=$cgroup/unified
cgroup=$cgroup/midge-service-test

clean_up() {
  cat "$scratch/out/said" 2>/dev/null || true
  find "$cgroup" -depth -type d -exec rmdir {} + 2>/dev/null || true
  rm -rf "$scratch"
}

not_checked() { echo "not checked: the service: $*" && exit 77; }

main() {
  local tool
  for tool in unshare ip mosquitto_pub logrotate pgrep; do
    command -v "$tool" >/dev/null || not_checked "there is no $tool"
  done
  [[ -x /lib/systemd/systemd ]] || not_checked "there is no systemd"
  ((EUID == 0)) && mkdir "$cgroup" 2>/dev/null || not_checked "it takes root, and control groups"
  scratch=$(mktemp -d)
  trap clean_up EXIT
  mkdir "$scratch"/{root,out,layers}
  cp "$1" "$scratch/out/midge.deb"
  # The shell that is to be process 1 joins the group first, so that its namespace begins there.
  # shellcheck disable=SC2016
  timeout 180 bash -c 'echo $$ >"$1/cgroup.procs" && shift && exec "$@"' - "$cgroup" \
    unshare --mount --pid --fork --net --uts --ipc --cgroup --kill-child "$here" --boot "$scratch" \
    >/dev/null || true
  grep -q 'leaves nothing' "$scratch/out/said" || { echo "FAILED: the service" && exit 1; }
}

case $1 in
  --inside) inside ;;
  --boot) boot "$2" ;;
  *) main "$1" ;;
esac
