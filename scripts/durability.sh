#!/usr/bin/env bash
# Measures what durability costs and writes it to docs/durability.md: bytes that reach the device,
# syncs, processor time, memory, time to start. As root, on ext4 on a loop device whose file is in
# memory, so that the file system's own writes count; else in a temporary directory, and the
# kernel's count of what the process wrote is taken.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

usage() {
  cat <<'END'
Usage: durability.sh [--quick] [--print]

  --quick   one short round of everything, in about a minute
  --print   leave docs/durability.md alone
END
}

write=(--write docs/durability.md)
flags=()
while (($# > 0)); do
  case $1 in
    --quick) flags+=(--quick) ;;
    --print) write=() ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$PWD/target}
PATH=$PATH:/usr/sbin:/sbin # where Debian has mosquitto and mkfs
ulimit -n "$(ulimit -Hn)"

scratch=$(mktemp -d)
mounted="" loop="" image=""
clean_up() {
  [[ -z $mounted ]] || umount "$mounted"
  [[ -z $loop ]] || losetup -d "$loop"
  [[ -z $image ]] || rm -f "$image"
  rm -rf "$scratch"
}
trap clean_up EXIT

# On a loop device, if that can be had.
mount_image() {
  ((EUID == 0)) && command -v losetup mkfs.ext4 >/dev/null || return 1
  image=$(mktemp /dev/shm/midge-durability-XXXXXX)
  truncate -s 1G "$image"
  mkfs.ext4 -q -F -E lazy_itable_init=0,lazy_journal_init=0 "$image" || return 1
  loop=$(losetup -f --show "$image") || return 1
  mkdir "$scratch/mnt"
  mount -o noatime "$loop" "$scratch/mnt" || return 1
  mounted=$scratch/mnt
}

size() { stat -c %s "$1/release/midge"; }

command -v mosquitto >/dev/null || { echo "please install mosquitto" && exit 1; }
cargo build --release
CARGO_TARGET_DIR=$CARGO_TARGET_DIR/without cargo build --release --no-default-features --features signals
flags+=(--sizes "$(size "$CARGO_TARGET_DIR"),$(size "$CARGO_TARGET_DIR/without")")
mkdir "$scratch/disk"
flags+=(--disk "$scratch/disk")
if mount_image; then
  flags+=(--directory "$mounted" --device "$(basename "$loop")")
else
  flags+=(--directory "$scratch/disk")
fi
cargo bench --bench durability -- "${flags[@]}" "${write[@]}"
