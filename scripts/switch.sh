#!/usr/bin/env bash
# Changes a fresh Debian with `apt install mosquitto` over to midge as docs/from-mosquitto.md says it, and
# back: with the files of Debian's package, its unit's command lines and the document's own drop-in, as
# root and then as the user mosquitto, in namespaces of its own: the machine's files and ports stay as
# they are. It prints what it does, and exits with 1 at the first thing that is not as the document says.
# It needs root, apt-get and Mosquitto's clients; where one is missing it says so and exits with 0.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

midge=${CARGO_TARGET_DIR:-target}/release/midge
document=$PWD/docs/from-mosquitto.md
scratch=${CARGO_TARGET_DIR:-$PWD/target}/switch

directories=(/etc/mosquitto /var/lib/mosquitto /var/log/mosquitto)

skip() { echo "not tested: $1" && exit 0; }

# Debian's package, unpacked, with what its postinst does to the directories.
prepare() {
  ((EUID == 0)) || skip "only root can start a broker as Debian does"
  local tool
  for tool in apt-get dpkg-deb unshare setpriv python3 mosquitto_pub mosquitto_passwd; do
    PATH=$PATH:/usr/sbin command -v "$tool" >/dev/null || skip "there is no $tool"
  done
  unshare --mount --net --pid --fork true 2>/dev/null || skip "there are no namespaces to be had here"
  [[ -x $midge ]] || { echo "$midge is missing: cargo build --release" && exit 1; }
  mkdir -p "$scratch/deb" "$scratch/bin"
  rm -rf "$scratch/root"
  if ! compgen -G "$scratch/deb/mosquitto_*.deb" >/dev/null; then
    (cd "$scratch/deb" && apt-get download -qq mosquitto 2>/dev/null) || skip "Debian's package cannot be had"
  fi
  dpkg-deb -x "$scratch"/deb/mosquitto_*.deb "$scratch/root"
  mkdir -p "$scratch/root/run" "$scratch/root/etc/systemd/system/mosquitto.service.d"
  cp "$midge" "$scratch/bin/midge"
}

# ---- inside -------------------------------------------------------------------------------------

step() { printf '%s\n' "- $1"; }

fail() {
  printf 'NOT AS THE DOCUMENT SAYS: %s\n' "$1" >&2
  tail -n 20 /var/log/mosquitto/mosquitto.log "$scratch/stderr" >&2 || true
  exit 1
}

expect() { # WHAT EXPECTED ACTUAL
  [[ $2 == "$3" ]] || fail "$1: expected \"$2\", found \"$3\""
}

# The fresh machine: Debian's directories in place of those of this machine, and its own loopback.
enter() {
  local directory
  for directory in "${directories[@]}" /run; do
    mount --bind "$scratch/root$directory" "$directory"
  done
  mount --bind "$scratch/bin" /usr/local/bin
  for file in passwd group; do
    cp "/etc/$file" "$scratch/root/etc/$file"
  done
  grep -q ^mosquitto: /etc/group || echo "mosquitto:x:990:" >>"$scratch/root/etc/group"
  grep -q ^mosquitto: /etc/passwd ||
    echo "mosquitto:x:990:$(group):mosquitto:/var/lib/mosquitto:/usr/sbin/nologin" >>"$scratch/root/etc/passwd"
  for file in passwd group; do
    mount --bind "$scratch/root/etc/$file" "/etc/$file"
  done
  chown mosquitto /var/lib/mosquitto /var/log/mosquitto
  python3 - <<'END'
import fcntl, socket, struct
UP, SIOCSIFFLAGS = 0x49, 0x8914
fcntl.ioctl(socket.socket(), SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", UP))
END
}

group() { sed -n 's/^mosquitto:[^:]*:\([0-9]*\):.*/\1/p' "$scratch/root/etc/group"; }

# The first block of that language behind that heading of the document.
block() { # LANGUAGE HEADING
  awk -v language="\`\`\`$1" -v heading="## $2" '
    $0 == heading { there = 1; next }
    /^## / { there = 0 }
    there && $0 == language { inside = 1; next }
    inside && /^```/ { exit }
    inside' "$document"
}

# The values of a setting of the service, as systemd adds them up: an empty one forgets those before.
service() { # NAME
  local value values=()
  while IFS= read -r value; do
    if [[ -z $value ]]; then values=(); else values+=("$value"); fi
  done < <(sed -n "s/^$1=//p" "$unit" "${drop_ins[@]}")
  ((${#values[@]} == 0)) || printf '%s\n' "${values[@]}"
}

unit=/lib/systemd/system/mosquitto.service
drop_ins=()
main_pid=""

# What `systemctl start mosquitto` does.
start() {
  local line type
  rm -f "$scratch/notified" /run/notify
  while IFS= read -r line; do
    $line
  done < <(service ExecStartPre)
  type=$(service Type | tail -n 1)
  local environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin)
  [[ $type == notify ]] && listen_for_notices && environment+=(NOTIFY_SOCKET=/run/notify)
  line=$(service ExecStart)
  # shellcheck disable=SC2086 # its words are those of the unit
  (cd / && exec env -i "${environment[@]}" $line) 2>>"$scratch/stderr" &
  main_pid=$!
  [[ $type != notify ]] || until_true "READY=1 from $line" grep -qs READY=1 "$scratch/notified"
  until_true "port 1883 to be open after $line" is_open
}

# systemd's end of Type=notify.
listen_for_notices() {
  python3 - "$scratch/notified" <<'END' &
import os, socket, sys
end = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
end.bind("/run/notify")
os.chmod("/run/notify", 0o777)
with open(sys.argv[1], "w", buffering=1) as notices:
    while True:
        notices.write(end.recv(4096).decode() + "\n")
END
  until_true "a socket for notices" test -S /run/notify
}

is_open() {
  kill -0 "$main_pid" 2>/dev/null || fail "the broker has ended"
  (: >/dev/tcp/127.0.0.1/1883) 2>/dev/null
}

# What `systemctl stop mosquitto` does.
stop() {
  local status=0
  kill "$main_pid"
  wait "$main_pid" || status=$?
  expect "the exit status of a stop" 0 "$status"
}

# What `systemctl reload mosquitto` does, and logrotate by it.
reload() {
  local line
  line=$(service ExecReload)
  ${line/\$MAINPID/$main_pid}
}

until_true() { # WHAT COMMAND...
  local what=$1
  shift
  for _ in {1..100}; do
    "$@" && return
    sleep 0.05
  done
  fail "in vain for 5 s: $what"
}

logs() { until_true "\"$1\" in the log" grep -qs -- "$1" /var/log/mosquitto/mosquitto.log; }

sub() { mosquitto_sub -W 2 -C 1 "$@" 2>/dev/null || true; }

mosquitto_first() {
  if [[ ! -x /usr/sbin/mosquitto ]]; then
    step "(Mosquitto itself is not installed: midge starts on an empty directory)"
    return
  fi
  step "Mosquitto serves as Debian's unit starts it, keeps a retained message, and stops"
  start
  mosquitto_pub -t home/door -m shut -r -q 1
  carry_over
  stop
  [[ -s /var/lib/mosquitto/mosquitto.db ]] || fail "Mosquitto has kept nothing"
  theirs=$(sha256sum /var/lib/mosquitto/mosquitto.db)
}
theirs=""

# The document's own commands; they need not take ten seconds here.
carry_over() {
  step "What it retains is carried over to midge, by the document's commands"
  carry=$(block sh "What Mosquitto has kept")
  [[ $carry == *--retained-only* ]] || fail "its commands to carry retained messages over are not found"
  bash -eu -c "${carry//-W 10/-W 1}" >>"$scratch/stderr" 2>&1 || fail "carrying over: exit status $?"
}

change_over() {
  step "midge says what becomes of the configuration: $(block sh "Change over on Debian")"
  bash -eu -c "$(block sh "Change over on Debian")" >"$scratch/tested" || fail "$(cat "$scratch/tested")"
  grep -q "The configuration is good" "$scratch/tested" || fail "$(cat "$scratch/tested")"
  step "The drop-in of the document takes the place of the unit's command line"
  local drop_in=/run/systemd/system/mosquitto.service.d/override.conf
  mkdir -p "${drop_in%/*}"
  block ini "Change over on Debian" >"$drop_in"
  drop_ins=("$drop_in")
  expect "ExecStart" "/usr/local/bin/midge -c /etc/mosquitto/mosquitto.conf" "$(service ExecStart)"
  if command -v systemd-analyze >/dev/null; then
    step "systemd-analyze verify finds nothing wrong with it"
    cp "$unit" /run/systemd/system/
    said=$(SYSTEMD_UNIT_PATH=/run/systemd/system: systemd-analyze verify mosquitto.service 2>&1) ||
      fail "systemd-analyze: $said"
    [[ $said != *mosquitto* ]] || fail "systemd-analyze: $said"
  fi
  rm -f /var/log/mosquitto/mosquitto.log
  start
}

serves_as_mosquitto() {
  step "midge is the user mosquitto, with its log and its pid file, in its sandbox"
  expect "its user" "$(id -u mosquitto)" "$(awk '/^Uid:/ {print $2}' "/proc/$main_pid/status")"
  expect "its groups" "$(id -G mosquitto)" "$(awk '/^Groups:/ {$1 = ""; print substr($0, 2)}' "/proc/$main_pid/status")"
  expect "its pid file" "$main_pid" "$(cat /run/mosquitto/mosquitto.pid)"
  logs "Running as mosquitto"
  logs "Sandboxed from now on"
  expect "no new privileges" 1 "$(awk '/^NoNewPrivs:/ {print $2}' "/proc/$main_pid/status")"
  if [[ -n $theirs ]]; then
    logs "mosquitto.db is Mosquitto's"
    expect "the retained message that was carried over" shut "$(sub -t home/door)"
  fi
}

keeps() {
  step "What is published is received, and what is retained survives a restart"
  sub -t home/window -q 1 >"$scratch/received" &
  local reader=$!
  until_true "the message" published_until_received
  wait "$reader"
  expect "what was received" open "$(cat "$scratch/received")"
  mosquitto_pub -t home/lamp -m on -r -q 2
  stop
  [[ ! -e /run/mosquitto/mosquitto.pid ]] || fail "the pid file is still there"
  start
  expect "what was retained" on "$(sub -t home/lamp)"
}

published_until_received() {
  mosquitto_pub -t home/window -m open -q 1
  [[ -s $scratch/received ]]
}

has_users() {
  step "A password file and an ACL file in conf.d, as the document has them"
  bash -eu -c "$(block sh "Passwords and rights")" || fail "the commands of the document failed"
  stop
  start
  logs "from a listener, a user name and its password\|a user name and its password"
  refused "nobody gets in without a name" -t home/lamp -m off
  refused "a wrong password is refused" -u alice -P guess -t home/lamp -m off
  mosquitto_pub -u alice -P secret -t home/lamp -m off -r -q 1 || fail "alice does not get in"
  mosquitto_pub -u alice -P secret -t work/lamp -m on -r -q 1 || true
  expect "what alice may write" off "$(sub -u alice -P secret -t home/lamp)"
  expect "what alice may not write" "" "$(sub -u alice -P secret -t work/lamp)"
}

refused() {
  ! mosquitto_pub "${@:2}" 2>/dev/null || fail "$1"
}

reloads() {
  step "The unit's ExecReload reads them again: mosquitto_passwd has added a user meanwhile"
  mosquitto_passwd -b /etc/mosquitto/passwd bob hello
  reload
  logs "SIGHUP: what was read again is good"
  mosquitto_pub -u bob -P hello -t home/lamp -m off || fail "bob does not get in"
  step "logrotate's reload: the log is moved away, and midge told"
  mv /var/log/mosquitto/mosquitto.log /var/log/mosquitto/mosquitto.log.1
  reload
  if grep -q "does not open its log again yet" "$document"; then
    step "(it goes on in the file that was moved away, as the document says)"
    mv /var/log/mosquitto/mosquitto.log.1 /var/log/mosquitto/mosquitto.log
  else
    until_true "a new log" test -e /var/log/mosquitto/mosquitto.log
  fi
  mosquitto_pub -u bob -P hello -t home/lamp -m off || fail "bob does not get in any more"
}

goes_back() {
  step "midge stops; to go back, the drop-in goes"
  stop
  drop_ins=()
  [[ -n $theirs ]] || return 0
  expect "Mosquitto's database" "$theirs" "$(sha256sum /var/lib/mosquitto/mosquitto.db)"
  start
  expect "what Mosquitto had kept" shut "$(sub -u alice -P secret -t home/door)"
  stop
}

if [[ ${1:-} != inside ]]; then
  prepare
  # Something to mount on; what is in it is not looked at.
  made=()
  for directory in "${directories[@]}"; do
    [[ -d $directory ]] || { mkdir "$directory" && made+=("$directory"); }
  done
  status=0
  unshare --mount --net --pid --fork --kill-child --mount-proc bash scripts/switch.sh inside || status=$?
  ((${#made[@]} == 0)) || rmdir "${made[@]}"
  exit "$status"
fi
unit=$scratch/root$unit
: >"$scratch/stderr"
enter
mosquitto_first
change_over
serves_as_mosquitto
keeps
has_users
reloads
goes_back
echo "It is all as $(basename "$document") says."
