#!/usr/bin/env bash
# Checks the packages and what they are made of: scripts/check-packages.sh [--quick|--boot] [--install] [--complete]
#
# Packages are made of the binaries in dist/ (scripts/build-board.sh), and for this machine of the one that was
# built last if there is none; what has no binary is named. Nothing of this machine is changed: as root, a Debian
# package is installed, removed and purged in an overlay over its file system. Tools that are missing are named too.
#
#   --quick      in some seconds: only the package for this machine, without lintian, and not installed
#   --boot       and with systemd: it is started in namespaces of its own, and the package installed there
#   --install    install them (Debian)
#   --complete   what is missing is an error
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

tools=(dpkg-deb readelf mandoc shellcheck lintian logrotate systemd-analyze busybox make python3 qemu-arm-static)
packages=(dpkg binutils mandoc shellcheck lintian logrotate systemd busybox make python3 qemu-user-static)
# What --boot and installing want besides. Mosquitto is there to be left alone.
tools+=(mosquitto mosquitto_pub deb-systemd-helper ip pgrep)
packages+=(mosquitto mosquitto-clients init-system-helpers iproute2 procps)
missing=0
step=""
scratch=$(mktemp -d)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

finish() {
  local status=$?
  rm -rf "$scratch"
  ((status == 0)) || printf 'FAILED: %s\n' "$step" >&2
}
trap finish EXIT

usage() {
  sed -n '2,11s/^# \{0,1\}//p' scripts/check-packages.sh
}

has() { command -v "$1" >/dev/null; }

not_checked() {
  echo "not checked: $*"
  missing=$((missing + 1))
}

# A check of tests/packaging: with status 77 it has named what it could not check.
not_all() {
  local status=0
  "$@" || status=$?
  ((status == 77)) || return "$status"
  missing=$((missing + 1))
}

fail() {
  echo "$*" >&2
  exit 1
}

install_tools() {
  local i wanted=() root=()
  for i in "${!tools[@]}"; do
    has "${tools[i]}" || wanted+=("${packages[i]}")
  done
  ((${#wanted[@]})) || return 0
  ((EUID == 0)) || root=(sudo)
  "${root[@]}" apt-get update -q
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends --no-remove "${wanted[@]}"
}

# ---- what packages are made of ------------------------------------------------------------------

check_shell() {
  local script
  for script in packaging/debian/{postinst,prerm,postrm} packaging/openwrt/midge/midge.init tests/packaging/openwrt.sh; do
    sh -n "$script"
    ! has busybox || busybox sh -n "$script"
  done
  if has shellcheck; then
    shellcheck packaging/debian/{postinst,prerm,postrm}
    # What rc.common has: local; variables and functions that it reads.
    shellcheck -s dash -e SC1008,SC2034,SC2317,SC3043 packaging/openwrt/midge/midge.init
  else
    not_checked "shell scripts, by shellcheck"
  fi
}

# Whoever asks for the usage gets that, wherever he is, and nothing else: nearly nothing else can run here.
check_usage() {
  local script tool said status bin=$scratch/bin
  mkdir "$bin"
  for tool in bash cat dirname head mktemp rm sed; do ln -s "$(command -v "$tool")" "$bin/"; done
  for script in bench board-test build-board check-packages durability fuzz load package soak; do
    said=$(cd scripts && env -i PATH="$bin" "./$script.sh" -h) || fail "scripts/$script.sh -h fails"
    [[ $said == *"$script.sh"* ]] || fail "scripts/$script.sh -h says: $said"
    status=0
    said=$(cd scripts && env -i PATH="$bin" "./$script.sh" --no-such 2>&1) || status=$?
    [[ $status == 2 && $said == *"$script.sh"* ]] || fail "scripts/$script.sh --no-such: $said, and status $status"
  done
}

# It has no date, as that would soon be a wrong one.
check_manual() {
  local said
  if has mandoc; then
    said=$(mandoc -Tlint -W style docs/midge.1 | grep -v 'missing date, using "": TH$' || true)
    [[ -z $said ]] || fail "$said"
  else
    not_checked "the manual page, by mandoc"
  fi
}

# The programs that it names are not installed here: a copy says that there are some.
check_unit() {
  if ! has systemd-analyze; then
    not_checked "midge.service, by systemd-analyze"
    return
  fi
  local said
  sed 's|^ExecStart=/usr/bin/midge|ExecStart=/bin/true|; /^Documentation=/d' packaging/debian/midge.service \
    >"$scratch/midge.service"
  said=$(systemd-analyze verify "$scratch/midge.service" 2>&1) || fail "$said"
  [[ -z $said ]] || fail "$said"
  if ! systemd-analyze --help | grep -q -e --offline; then
    not_checked "what midge.service leaves open, by systemd-analyze: it is older than systemd 250"
    return
  fi
  # 0 is safe, 10 is not.
  systemd-analyze security --offline=true --threshold=25 "$scratch/midge.service" >"$scratch/security" 2>&1 ||
    fail "$(tail -2 "$scratch/security")"
  tail -1 "$scratch/security"
}

check_logrotate() {
  if has logrotate; then
    logrotate -d -s "$scratch/state" packaging/debian/midge.logrotate >"$scratch/logrotate" 2>&1 ||
      fail "$(cat "$scratch/logrotate")"
    ! grep -i 'error\|overrides' "$scratch/logrotate" || fail "packaging/debian/midge.logrotate"
  else
    not_checked "the logrotate snippet, by logrotate"
  fi
}

check_openwrt() {
  local shell midge=$1
  for shell in sh "busybox sh"; do
    if has "${shell% *}"; then
      $shell tests/packaging/openwrt.sh "$midge"
    else
      not_checked "the init script for OpenWrt, by $shell"
    fi
  done
  [[ -n $midge ]] || not_checked "what OpenWrt's init script makes of its options, by midge: none was built"
  if has make; then check_recipe; else not_checked "the recipe for OpenWrt, by make"; fi
}

# What the recipe installs, with OpenWrt's makefiles replaced by some that do only that. Its scripts/feeds links the
# directory of the Makefile by its last name, which is that of the target then: make package/midge/compile.
check_recipe() {
  local said expected feed tree=$scratch/recipe
  mkdir -p "$tree/dist" "$tree/packaging" "$tree/package/feeds"
  cp -r packaging/openwrt "$tree/packaging/"
  install -m 755 /dev/null "$tree/dist/midge-armv7-full"
  feed=$(sed -n 's|^# *src-link midge /path/to/midge/||p' packaging/openwrt/*/Makefile)
  find "$tree/$feed" -mindepth 1 -name Makefile -printf '%h\0' | xargs -0 ln -s -t "$tree/package/feeds"
  cat >"$tree/rules.mk" <<'END'
INCLUDE_DIR:=$(TOPDIR)
INSTALL_DIR:=install -d -m 755
INSTALL_BIN:=install -m 755
INSTALL_CONF:=install -m 600
END
  cat >"$tree/package.mk" <<'END'
define BuildPackage
all:
	$$(call Build/Compile)
	$$(call Package/$(1)/install,$$(TOPDIR)/root)
	@echo "$(1) $$(PKG_VERSION)" $$(strip $$(Package/$(1)/conffiles))
endef
END
  said=$(make -s -C "$tree/package/feeds/midge" TOPDIR="$tree" CONFIG_arm=y CONFIG_arm_v7=y)
  # conffiles survive an upgrade of the package and of the router.
  expected="midge $version /etc/config/midge /etc/midge/"
  [[ $said == "$expected" ]] || fail "packaging/openwrt/midge/Makefile: $said, not $expected"
  said=$(cd "$tree/root" && find . -type f -printf '%m %P\n' | sort)
  expected=$'600 etc/config/midge\n755 etc/init.d/midge\n755 usr/bin/midge'
  [[ $said == "$expected" ]] || fail "packaging/openwrt/midge/Makefile installs: $said"
}

# ---- packages -----------------------------------------------------------------------------------

# File list and modes; directories are left out.
files_of() {
  dpkg-deb -c "$1" | awk '$1 !~ /^d/ { print $1, $2, substr($6, 2) }'
}

expected_files() {
  sed 's|DOC|/usr/share/doc/midge-broker|' <<'END'
-rw-r--r-- root/root /etc/logrotate.d/midge
-rw-r--r-- root/root /etc/midge/midge.conf
-rw-r--r-- root/root /lib/systemd/system/midge.service
-rwxr-xr-x root/root /usr/bin/midge
-rw-r--r-- root/root DOC/CHANGELOG.md.gz
-rw-r--r-- root/root DOC/changelog.gz
-rw-r--r-- root/root DOC/copyright
-rw-r--r-- root/root DOC/from-mosquitto.md.gz
-rw-r--r-- root/root /usr/share/man/man1/midge.1.gz
END
}

# Architecture, and what readelf says of its binary.
machine_of() {
  case $1 in
    amd64 | *-x86_64) echo "ELF64 Advanced Micro Devices X86-64" ;;
    arm64 | *-aarch64) echo "ELF64 AArch64" ;;
    armhf | *-armv7 | *-armv6) echo "ELF32 ARM" ;;
  esac
}

check_binary() {
  local target=$1 binary=$2 header
  header=$(readelf -h "$binary" | awk -F': *' '/Class:/ { class = $2 } /Machine:/ { print class " " $2 }')
  [[ $header == "$(machine_of "$target")" ]] || fail "$target: its binary is for $header"
  ! readelf -S "$binary" | grep -q '\.symtab' || fail "$target: its binary is not stripped"
  case $target in
    armhf | *-armv6)
      readelf -A "$binary" | grep -q 'Tag_CPU_arch: v6' ||
        fail "$target: its binary is not for ARMv6, and would not run on a Pi Zero"
      ;;
  esac
}

# On the oldest processor that the package is for; the configuration is the one that it installs.
check_start() {
  local target=$1 binary=$2 emulator
  shift 2
  case $target in
    arm64 | *-aarch64) emulator="qemu-aarch64-static" ;;
    armhf | *-armv6) emulator="qemu-arm-static -cpu arm1176" ;;
    *-armv7) emulator="qemu-arm-static -cpu cortex-a7" ;;
    *) return 0 ;;
  esac
  if ! has "${emulator%% *}"; then
    not_checked "$target: whether it starts, by ${emulator%% *}"
    return
  fi
  # shellcheck disable=SC2086
  [[ $($emulator "$binary" --version) == "midge $version" ]] || fail "$target: does not start"
  (($# == 0)) || {
    # Without its user, who is not here.
    sed '/^user /d' "$1" >"$scratch/tested.conf"
    # shellcheck disable=SC2086
    $emulator "$binary" -c "$scratch/tested.conf" --test-config >"$scratch/tested" || fail "$(cat "$scratch/tested")"
  }
}

# The signal of the logrotate snippet is one that the binary has, and does not end of. systemd counts as glibc
# does, from 34; who is static has 35 and above.
check_signal() {
  local signal pid log=$scratch/signal.log
  signal=$(sed -n 's/.*--signal=SIGRTMIN+\([0-9]*\) .*/\1/p' packaging/debian/midge.logrotate)
  "$1" --listener "0 $scratch/signal.sock" --log-dest "file $log" &
  pid=$!
  until [[ -S $scratch/signal.sock ]]; do kill -0 $pid && sleep 0.05; done
  mv "$log" "$log.1"
  kill -$((34 + signal)) $pid
  for _ in {1..100}; do [[ -e $log ]] || sleep 0.05; done
  kill $pid || true
  wait $pid || fail "the signal of midge.logrotate ends it"
  [[ -e $log ]] || fail "the signal of midge.logrotate does not open the log anew"
}

check_debian() {
  local architecture=$1 deb=$2 tree=$scratch/$1 field
  for field in "Package midge-broker" "Version $version" "Architecture $architecture" "Conflicts midge"; do
    [[ $(dpkg-deb -f "$deb" "${field% *}") == "${field#* }" ]] || fail "$deb: $field is not in control"
  done
  diff <(expected_files | LC_ALL=C sort -k 3) <(files_of "$deb" | LC_ALL=C sort -k 3) || fail "$deb: other files"
  dpkg-deb -R "$deb" "$tree"
  (cd "$tree" && md5sum --quiet -c DEBIAN/md5sums)
  check_binary "$architecture" "$tree/usr/bin/midge"
  check_start "$architecture" "$tree/usr/bin/midge" "$tree/etc/midge/midge.conf"
  [[ $architecture != "$here" ]] || check_signal "$tree/usr/bin/midge"
  if [[ -n $is_quick ]]; then
    :
  elif has lintian; then
    # It is static, and says so in one of two ways.
    lintian --allow-root --fail-on error,warning \
      --suppress-tags statically-linked-binary,shared-library-lacks-prerequisites "$deb"
  else
    not_checked "$deb, by lintian"
  fi
}

# All that is unpacked but /etc/config, which every OpenWrt keeps; passwords; that it is enabled.
kept_by_sysupgrade() {
  {
    (cd "$1" && find . -type f ! -path './etc/config/*' -printf '/%P\n')
    echo /etc/midge/
    sed -n 's|^START=|/etc/rc.d/S|p; s|^STOP=|/etc/rc.d/K|p' "$1/etc/init.d/midge" | sed 's/$/midge/'
  } | LC_ALL=C sort
}

check_archive() {
  local archive=$2 tree=$scratch/$1 said expected
  mkdir "$tree"
  tar -C "$tree" -xzf "$archive"
  said=$(tar -tvzf "$archive" | awk '$1 !~ /^d/ { print $1, $2, $6 }')
  expected="-rw-r--r-- 0/0 ./etc/config/midge
-rwxr-xr-x 0/0 ./etc/init.d/midge
-rw-r--r-- 0/0 ./lib/upgrade/keep.d/midge
-rwxr-xr-x 0/0 ./usr/bin/midge"
  [[ $said == "$expected" ]] || fail "$archive: $said"
  diff <(kept_by_sysupgrade "$tree") <(grep -v '^#' "$tree/lib/upgrade/keep.d/midge") ||
    fail "$archive: not all of it survives a sysupgrade"
  check_binary "$1" "$tree/usr/bin/midge"
  check_start "$1" "$tree/usr/bin/midge"
}

# The same twice, whatever the umask and the times of files.
check_reproducible() {
  local first
  first=$(sha256sum <"$1")
  shift
  (umask 077 && "$@" >/dev/null)
  [[ $(sha256sum <"$made") == "$first" ]] || fail "$made: another one each time"
}

# Where there is no git, times are that of CHANGELOG.md; SOURCE_DATE_EPOCH counts before both.
check_times() {
  local no_git=(env -u SOURCE_DATE_EPOCH GIT_DIR="$scratch/none") made tree=$scratch/times
  made=$("${no_git[@]}" scripts/package.sh "$@")
  dpkg-deb -x "$made" "$tree"
  [[ $(stat -c %Y "$tree/usr/bin/midge") == "$(stat -c %Y CHANGELOG.md)" ]] || fail "$made: its times, without git"
  made=$("${no_git[@]}" SOURCE_DATE_EPOCH=1000000000 scripts/package.sh "$@")
  dpkg-deb -x "$made" "$tree"
  [[ $(stat -c %Y "$tree/usr/bin/midge") == 1000000000 ]] || fail "$made: its times are not SOURCE_DATE_EPOCH"
}

check_package() {
  local target=$1 made
  shift
  set -- --into "$scratch/packages" "$@"
  [[ $target != "$here" ]] || check_times "$@" "$target"
  made=$(scripts/package.sh "$@" "$target")
  check_reproducible "$made" scripts/package.sh "$@" "$target"
  case $target in
    openwrt-*) check_archive "$target" "$made" ;;
    *) check_debian "$target" "$made" ;;
  esac
  echo "${made##*/}: good"
  if [[ -z $is_quick && $target == "$here" ]]; then
    try_install "$made"
    if [[ -n $is_booting ]]; then not_all tests/packaging/service.sh "$made"; fi
  fi
}

try_install() {
  if ((EUID == 0)) && unshare -m -n true 2>/dev/null; then
    not_all unshare -m -n tests/packaging/install.sh "$1"
  else
    not_checked "installing $1: it takes root"
  fi
}

# ---- all of it ----------------------------------------------------------------------------------

run() {
  step=$1
  shift
  "$@"
}

is_complete="" is_quick="" is_booting=""
while (($# > 0)); do
  case $1 in
    --quick) is_quick=yes ;;
    --boot) is_booting=yes ;;
    --install) install_tools ;;
    --complete) is_complete=yes ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
  shift
done

# What is here already, the one built last first; nothing is built for this.
midge=$(find "${CARGO_TARGET_DIR:-target}"/{release,debug} -maxdepth 1 -name midge -printf '%T@ %p\n' 2>/dev/null |
  sort -rn | head -1 | cut -d' ' -f2 || true)
run "shell scripts" check_shell
run "usage of scripts" check_usage
run "manual page" check_manual
run "systemd's unit" check_unit
run "logrotate snippet" check_logrotate
run "OpenWrt" check_openwrt "$midge"
run "Docker" not_all tests/packaging/docker.py
if has dpkg-deb && has readelf; then
  here=$(dpkg --print-architecture)
  targets=(amd64 arm64 armhf openwrt-x86_64 openwrt-aarch64 openwrt-armv7 openwrt-armv6)
  [[ -z $is_quick ]] || targets=("$here")
  for target in "${targets[@]}"; do
    if scripts/package.sh --has "$target"; then
      run "$target" check_package "$target"
    elif [[ $target == "$here" && -n $midge ]]; then
      cp "$midge" "$scratch/midge"
      strip "$scratch/midge"
      run "$target" check_package "$target" --binary "$scratch/midge"
    else
      not_checked "$target: scripts/build-board.sh has made no binary for it"
    fi
  done
else
  not_checked "packages, by dpkg-deb and readelf"
fi
echo "packages: what could be checked is good; not checked: $missing"
step="complete"
[[ -z $is_complete ]] || ((missing == 0))
