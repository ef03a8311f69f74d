#!/usr/bin/env bash
# Fetches what an emulated board needs into a folder, and installs nothing: fetch.sh armv7|armv6 FOLDER
#
# FOLDER/host gets QEMU with its libraries (where the machine has it already: nothing),
# FOLDER/ARCH the board's kernel, its modules and busybox; all from Debian, checked by apt as ever.
set -euo pipefail
exec </dev/null

board=$1
folder=$(realpath -m "$2")
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

case $board in
  armv7) arch=armhf flavour=armmp ;;
  armv6) arch=armel flavour=rpi ;;
  *)
    echo "fetch.sh: no board is called $board; armv7 and armv6 are there" >&2
    exit 2
    ;;
esac

# Another architecture on this machine's own apt would have a say in what is installed on it.
own_apt() {
  local root=$folder/apt-$arch
  mkdir -p "$root"/{lists/partial,cache/archives/partial,dpkg}
  : >"$root/dpkg/status"
  echo "deb [signed-by=$keyring] http://deb.debian.org/debian bookworm main" >"$root/sources.list"
  apt=(-q -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o Dir::State="$root"
    -o Dir::State::status="$root/dpkg/status" -o Dir::State::lists="$root/lists"
    -o Dir::Cache="$root/cache" -o Dir::Etc::sourcelist="$root/sources.list"
    -o Dir::Etc::sourceparts=/dev/null -o Acquire::Languages=none -o APT::Sandbox::User=root)
  apt-get "${apt[@]}" update
}

# Packages, unpacked into a folder.
unpack() {
  local into=$1 package
  shift
  mkdir -p "$into"
  for package in "$@"; do
    dpkg-deb -x "$package" "$into"
    rm "$package"
  done
}

fetch_board() {
  local kernel
  [[ ! -e $folder/$arch/complete ]] || return 0
  own_apt
  kernel=$(apt-cache "${apt[@]}" depends "linux-image-$flavour" | awk '/Depends: linux-image-/ { print $2; exit }')
  rm -rf "${folder:?}/$arch"
  mkdir -p "$folder/$arch"
  (cd "$folder/$arch" && apt-get "${apt[@]}" download "$kernel" busybox-static && unpack . ./*.deb)
  touch "$folder/$arch/complete"
}

# What would be installed, dependencies included, without installing it.
simulate_qemu() {
  apt-get install -s -q --no-install-recommends qemu-system-arm
}

# A machine that has never asked knows of no packages.
update_apt() {
  if ((EUID == 0)); then apt-get update -q; else sudo apt-get update -q; fi
}

fetch_host() {
  local packages=() simulated
  [[ ! -e $folder/host/complete ]] || return 0
  mkdir -p "$folder/host"
  if ! command -v qemu-system-arm >/dev/null; then
    simulate_qemu >/dev/null 2>&1 || update_apt
    simulated=$(simulate_qemu)
    mapfile -t packages < <(awk '/^Inst/ { print $2 }' <<<"$simulated")
    (cd "$folder/host" && apt-get -q -o APT::Sandbox::User=root download "${packages[@]}" && unpack . ./*.deb)
  fi
  touch "$folder/host/complete"
}

fetch_board
fetch_host
