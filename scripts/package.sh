#!/usr/bin/env bash
# Makes packages of the static binaries in dist/: scripts/package.sh [--binary FILE] [--into DIR] [TARGET...]
#
# TARGET: amd64, arm64, armhf (Debian packages; armhf has the ARMv6 binary, so that it runs on a Pi Zero too),
# or openwrt-x86_64, openwrt-aarch64, openwrt-armv7, openwrt-armv6 (archives to unpack on a router). Without one,
# all those whose binary is there. scripts/build-board.sh makes the binaries. --binary takes another one for a
# single target, to try it; if it is not static, the package says what it needs. --has TARGET tells by its status
# whether the binary for it is there.
# Packages go to dist/, or to the DIR of --into.
#
# The same commit and binary make the same package: its times are those of the commit, or SOURCE_DATE_EPOCH;
# where there is no git, as in an archive of the sources, that of CHANGELOG.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
umask 022

name=midge-broker
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
all=(amd64 arm64 armhf openwrt-x86_64 openwrt-aarch64 openwrt-armv7 openwrt-armv6)

usage() {
  sed -n '2,12s/^# \{0,1\}//p' scripts/package.sh
}

binary_of() {
  case $1 in
    amd64 | openwrt-x86_64) echo dist/midge-x86_64-full ;;
    arm64 | openwrt-aarch64) echo dist/midge-aarch64-full ;;
    openwrt-armv7) echo dist/midge-armv7-full ;;
    armhf | openwrt-armv6) echo dist/midge-armv6-full ;;
    *) return 1 ;;
  esac
}

# "put MODE FROM TO": a file of the package.
put() {
  mkdir -p "$(dirname "$stage$3")"
  cp "$2" "$stage$3"
  chmod "$1" "$stage$3"
}

# The same without a file: what comes in is packed.
put_packed() {
  mkdir -p "$(dirname "$stage$1")"
  gzip -9n >"$stage$1"
}

copyright() {
  local license
  license=$(sed -n '5,$p' LICENSE-MIT | sed 's/^$/./; s/^/ /')
  awk -v license="$license" '/^@MIT@$/ { print license; print ""; next } { print }' \
    packaging/debian/copyright
}

changelog() {
  echo "$name ($version) unstable; urgency=medium"
  echo
  echo "  * CHANGELOG.md.gz has what is new."
  echo
  echo " -- $(sed -n 's/^Maintainer: //p' packaging/debian/control)  $(LC_ALL=C date -u -R -d "@$SOURCE_DATE_EPOCH")"
}

# A static binary needs nothing; one that was built for a try on a machine of that kind does.
depends() {
  local needed
  needed=$(readelf -d "$1" 2>/dev/null | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  echo -n "adduser"
  [[ -z $needed ]] || {
    local glibc
    glibc=$(readelf -V "$1" | grep -o 'GLIBC_[0-9.]*' | sort -uV | tail -1)
    echo -n ", libc6 (>= ${glibc#GLIBC_})"
    [[ $needed != *libgcc_s* ]] || echo -n ", libgcc-s1"
  }
}

control() {
  local architecture=$1 binary=$2 size
  # As the policy counts it: files to the next 1,024 bytes, and 1 for a directory.
  size=$(find "$stage" -type f -printf '%s\n' -o -printf '1\n' | awk '{ n += int(($1 + 1023) / 1024) } END { print n }')
  sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$architecture/; s/@SIZE@/$size/" \
    -e "s/@DEPENDS@/$(depends "$binary")/" packaging/debian/control
}

debian() {
  local architecture=$1 binary=$2 deb=$into/${name}_${version}_$1.deb doc=/usr/share/doc/$name script
  put 755 "$binary" /usr/bin/midge
  put 644 packaging/debian/midge.conf /etc/midge/midge.conf
  put 644 packaging/debian/midge.logrotate /etc/logrotate.d/midge
  put 644 packaging/debian/midge.service /lib/systemd/system/midge.service
  put_packed /usr/share/man/man1/midge.1.gz <docs/midge.1
  put_packed $doc/CHANGELOG.md.gz <CHANGELOG.md
  put_packed $doc/from-mosquitto.md.gz <docs/from-mosquitto.md
  changelog | put_packed $doc/changelog.gz
  copyright >"$stage$doc/copyright"
  (cd "$stage" && find usr lib -type f -print0 | LC_ALL=C sort -z | xargs -0 md5sum) >"$scratch/md5sums"
  control "$architecture" "$binary" >"$scratch/control"
  mkdir "$stage/DEBIAN"
  mv "$scratch/control" "$scratch/md5sums" "$stage/DEBIAN/"
  printf '/etc/%s\n' logrotate.d/midge midge/midge.conf >"$stage/DEBIAN/conffiles"
  for script in postinst prerm postrm; do
    put 755 packaging/debian/$script /DEBIAN/$script
  done
  settle
  dpkg-deb --root-owner-group -Zxz --build "$stage" "$deb" >/dev/null
  echo "$deb"
}

openwrt() {
  local archive=$into/midge_${version}_$1.tar.gz
  put 755 "$2" /usr/bin/midge
  put 755 packaging/openwrt/midge/midge.init /etc/init.d/midge
  put 644 packaging/openwrt/midge/midge.config /etc/config/midge
  put 644 packaging/openwrt/midge.keep /lib/upgrade/keep.d/midge
  settle
  tar -C "$stage" --format=ustar --sort=name --owner=0 --group=0 --numeric-owner \
    --mtime="@$SOURCE_DATE_EPOCH" -cf - . | gzip -9n >"$archive"
  echo "$archive"
}

# Modes and times that do not depend on who packs.
settle() {
  find "$stage" -type d -exec chmod 755 {} +
  find "$stage" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}

package() {
  local target=$1 binary=$2
  stage=$scratch/stage
  rm -rf "$stage"
  mkdir "$stage"
  case $target in
    openwrt-*) openwrt "$target" "$binary" ;;
    *) debian "$target" "$binary" ;;
  esac
}

binary=""
into=dist
targets=()
while (($# > 0)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --has) [[ -e $(binary_of "${2:-}") ]] && exit 0 || exit 1 ;;
    --binary | --into)
      (($# > 1)) || { usage >&2; exit 2; }
      if [[ $1 == --into ]]; then into=$2; else binary=$2; fi
      shift
      ;;
    *)
      binary_of "$1" >/dev/null || { usage >&2; exit 2; }
      targets+=("$1")
      ;;
  esac
  shift
done
if [[ -n $binary ]] && ((${#targets[@]} != 1)); then
  echo "--binary is for a single TARGET" >&2
  exit 2
fi
if ((${#targets[@]} == 0)); then
  for target in "${all[@]}"; do
    [[ ! -e $(binary_of "$target") ]] || targets+=("$target")
  done
  ((${#targets[@]})) || { echo "there are no binaries in dist/: scripts/build-board.sh makes them" >&2 && exit 1; }
fi
for tool in dpkg-deb readelf; do
  command -v "$tool" >/dev/null || { echo "please install $tool (Debian: dpkg, binutils)" >&2 && exit 1; }
done
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || stat -c %Y CHANGELOG.md)}
export SOURCE_DATE_EPOCH
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
mkdir -p "$into"
for target in "${targets[@]}"; do
  from=${binary:-$(binary_of "$target")}
  [[ -e $from ]] || { echo "$from is not there: scripts/build-board.sh makes it" >&2 && exit 1; }
  package "$target" "$from"
done
