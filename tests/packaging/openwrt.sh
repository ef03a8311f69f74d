#!/bin/sh
# What the init script for OpenWrt makes of /etc/config/midge: openwrt.sh [MIDGE]
#
# Runs in any POSIX shell, as OpenWrt's ash. OpenWrt's functions are replaced by some that note what
# they are told; a file of UCI is text that a shell can read, which is how OpenWrt reads it too. With
# a MIDGE, that one must find the flags good that follow from the file that is installed.
set -eu
cd "$(dirname "$0")/../.."
midge=${1:-}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

# ---- OpenWrt's functions -------------------------------------------------------------------------

reset_cb() {
	config_cb() { return 0; }
	option_cb() { return 0; }
	list_cb() { return 0; }
}

config() {
	section=$2
	config_cb "$1" "$2"
}

option() {
	eval "UCI_${section}_$1=\$2"
	option_cb "$1" "$2"
}

list() {
	list_cb "$1" "$2"
}

config_load() {
	. "$scratch/config"
	config_cb "" ""
}

config_get() {
	eval "$1=\${UCI_${2}_$3:-${4:-}}"
}

config_get_bool() {
	config_get "$@"
	eval "case \$$1 in 1 | on | true | yes | enabled) $1=1 ;; *) $1=0 ;; esac"
}

note() { echo "$*" >>"$scratch/notes"; }
procd_open_instance() { note open; }
procd_close_instance() { note close; }
procd_set_param() { note "$@"; }
procd_append_param() { note "$@"; }
procd_send_signal() { note signal "$@"; }
procd_add_reload_trigger() { note trigger "$@"; }
logger() { note logger "$@"; }
user_exists() { [ -e "$scratch/user" ]; }
group_add_next() { echo 32768; }
user_add() { note user_add "$@" && : >"$scratch/user"; }
chown() { note chown "$@"; }
start() { start_service; }

# ---- what is tried -------------------------------------------------------------------------------

# With the file that comes in: the notes of that function are in $notes.
try() {
	cat >"$scratch/config"
	: >"$scratch/notes"
	reset_cb
	unset $(set | sed -n 's/^\(UCI_[A-Za-z0-9_]*\)=.*/\1/p') _ 2>/dev/null || true
	"$1"
	read_notes
}

read_notes() {
	notes=$(cat "$scratch/notes")
}

has() {
	case "
$notes
" in *"
$1
"*) ;;
	*)
		echo "FAILED: $story: \"$1\" is not in:" "$notes"
		failed=1
		;;
	esac
}

lacks() {
	case $notes in *"$1"*)
		echo "FAILED: $story: \"$1\" is in:" "$notes"
		failed=1
		;;
	esac
}

. packaging/openwrt/midge/midge.init
USERS=$scratch/etc/midge/passwords
STORE=$scratch/store

story="what is installed is for the router itself, and not kept"
try start_service <packaging/openwrt/midge/midge.config
has "command /usr/bin/midge"
has "command --persistence=0"
has "command --persistence-location=/tmp/midge"
has "command --max-queued-bytes=131072"
has "command --log-type=error"
has "command --log-type=notice"
has "user midge"
has "respawn 3600 5 0" # threshold, pause, and no number of times after which it is left alone
has "user_add midge  32768 MQTT broker"
lacks "--enabled"
lacks "--listener"
lacks "chown midge:midge"
[ "$(stat -c %a "$USERS")" = 640 ] || { echo "FAILED: $story: $USERS" && failed=1; }
if [ -n "$midge" ]; then
	said=$(sed -n 's/^command \(--.*\)/\1/p' "$scratch/notes" | tr '\n' '\0' |
		xargs -0 "$midge" --test-config) || { echo "FAILED: $story: $said" && failed=1; }
	case $said in *"every client of this machine can connect"*) ;;
	*) echo "FAILED: $story: $said" && failed=1 ;;
	esac
fi

story="lists are flags that stand more than once, with their blanks"
try start_service <<'UCI'
config midge 'main'
	option enabled '1'
	list listener '1883 192.168.1.1'
	list listener '1884'
	option password_file '/etc/midge/passwords'
UCI
has "command --listener=1883 192.168.1.1"
has "command --listener=1884"
has "command --password-file=/etc/midge/passwords"
lacks "user_add"
lacks "chown midge:midge"
option_cb port 1883 # what procd loads later is none of ours
read_notes
lacks "--port"

story="what is kept has a directory of midge's own, in RAM unless another is named"
try start_service <<'UCI'
config midge 'main'
	option enabled '1'
	option persistence '1'
UCI
has "command --persistence=1"
has "command --persistence-location=$scratch/store"
has "chown midge:midge $scratch/store"
try start_service <<UCI
config midge 'main'
	option enabled '1'
	option persistence '1'
	option persistence_location '$scratch/usb/midge'
UCI
has "command --persistence-location=$scratch/usb/midge"
has "chown midge:midge $scratch/usb/midge"
lacks "$scratch/store"

story="what is not enabled is not started"
try start_service <<'UCI'
config midge 'main'
	option port '1883'
UCI
[ -z "$notes" ] || { echo "FAILED: $story: $notes" && failed=1; }

story="other sections are named, and left out"
try start_service <<'UCI'
config midge 'main'
	option enabled '1'
config listener 'lan'
	option port '1884'
	list listener '1885'
UCI
has "logger -t midge -p daemon.err /etc/config/midge: section lan is ignored: all is to stand in main"
lacks "--port"
lacks "--listener"

story="reload signals the one that runs before procd may end it"
try reload_service <<'UCI'
config midge 'main'
	option enabled '1'
UCI
[ "$(head -n 1 "$scratch/notes")" = "signal midge * HUP" ] ||
	{ echo "FAILED: $story: $notes" && failed=1; }
has "open"
has "close"

story="a change of the file reloads"
try service_triggers </dev/null
has "trigger midge"

[ "$failed" = 0 ] && echo "OpenWrt: the init script does what it says"
exit "$failed"
