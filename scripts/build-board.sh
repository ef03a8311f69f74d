#!/usr/bin/env bash
# Builds static, stripped binaries for boards: scripts/build-board.sh [TARGET...]
#
# TARGET: armv7 (Pi 2 and later in 32 bit, most gateways), armv6 (Pi Zero, Pi 1), aarch64, x86_64; without one,
# all four. Each is built twice: full (default features) and minimal (--no-default-features). dist/ gets the
# binaries, SHA256SUMS and sizes.md. Exit status 1 if a binary is larger than its budget.
#
# Where rustup has the target (rustup target add ...), that is used. Else the standard library is built from source
# with Debian's rustc-web, and linked by zig, which comes from PyPI; both are installed if they are missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

work=$PWD/target/board
export CARGO_TARGET_DIR=$work/build
export ZIG_GLOBAL_CACHE_DIR=$work/zig-cache ZIG_LOCAL_CACHE_DIR=$work/zig-cache
zig_version=0.17.0
zigbuild_version=0.24.0

usage() {
  sed -n '2,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"
}

triple() {
  case $1 in
    armv7) echo armv7-unknown-linux-musleabihf ;;
    armv6) echo arm-unknown-linux-musleabihf ;;
    aarch64) echo aarch64-unknown-linux-musl ;;
    x86_64) echo x86_64-unknown-linux-musl ;;
    *) return 1 ;;
  esac
}

# Bytes that a binary may have; nothing where nobody has set a limit.
budget() {
  case $1 in
    armv7-minimal) echo 600000 ;;
    armv7-full) echo 900000 ;;
  esac
}

# Paths of this machine would make each machine's binary another.
remapped() {
  local cargo_home=${CARGO_HOME:-$HOME/.cargo}
  echo "--remap-path-prefix=$PWD=midge --remap-path-prefix=$cargo_home=cargo"
}

has_rustup_target() {
  command -v rustup >/dev/null && rustup target list --installed | grep -qx "$1"
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

install_debian_toolchain() {
  local packages=(rustc-web cargo-web rust-web-src python3-venv)
  if ! dpkg -s "${packages[@]}" >/dev/null 2>&1; then
    echo "installing ${packages[*]} (Debian)"
    as_root apt-get install -y -q --no-install-recommends --no-remove "${packages[@]}" >/dev/null
  fi
  if [[ ! -x $work/zig/bin/cargo-zigbuild ]]; then
    echo "installing ziglang $zig_version and cargo-zigbuild $zigbuild_version (PyPI)"
    python3 -m venv "$work/zig"
    "$work/zig/bin/pip" install -q "ziglang==$zig_version" "cargo-zigbuild==$zigbuild_version"
  fi
}

build_with_rustup() {
  local triple=$1
  shift
  RUSTFLAGS="$(remapped)" cargo build --locked --release --target "$triple" "$@"
}

build_with_std() {
  local triple=$1
  shift
  install_debian_toolchain
  PATH=$work/zig/bin:$PATH RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTC_BOOTSTRAP=1 \
    RUSTFLAGS="-C link-self-contained=no $(remapped)" \
    cargo-zigbuild zigbuild --locked -Zbuild-std=std,panic_abort --release --target "$triple" "$@"
}

build() {
  local target=$1 form=$2 triple flags=()
  triple=$(triple "$target")
  [[ $form == full ]] || flags=(--no-default-features)
  if has_rustup_target "$triple"; then
    echo "=== midge-$target-$form: $triple, with rustup's standard library"
    build_with_rustup "$triple" "${flags[@]}"
  else
    echo "=== midge-$target-$form: $triple, with a standard library built from source"
    build_with_std "$triple" "${flags[@]}"
  fi
  cp "$CARGO_TARGET_DIR/$triple/release/midge" "dist/midge-$target-$form"
}

# Rows of what is in dist/, and whether all are within their budgets.
report() {
  local binary name bytes budget status=0
  printf '| binary | bytes | budget |\n|---|---|---|\n' >dist/sizes.md
  for binary in dist/midge-*; do
    name=${binary#dist/midge-}
    bytes=$(stat -c %s "$binary")
    budget=$(budget "$name")
    printf '| %s | %s | %s |\n' "midge-$name" "$bytes" "$budget" >>dist/sizes.md
    if [[ -n $budget ]] && ((bytes > budget)); then
      echo "midge-$name has $bytes bytes: $((bytes - budget)) more than its budget of $budget" >&2
      status=1
    fi
  done
  (cd dist && sha256sum midge-* >SHA256SUMS)
  cat dist/sizes.md
  return $status
}

case ${1:-} in
  -h | --help)
    usage
    exit 0
    ;;
esac
targets=("$@")
((${#targets[@]})) || targets=(armv7 armv6 aarch64 x86_64)
for target in "${targets[@]}"; do
  triple "$target" >/dev/null || { usage >&2 && exit 2; }
done
mkdir -p dist "$work"
for target in "${targets[@]}"; do
  build "$target" full
  build "$target" minimal
done
report
