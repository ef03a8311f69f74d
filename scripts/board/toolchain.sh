# Cargo for boards: static binaries with musl, of whatever machine. build-board.sh and test-arm.sh source this, and
# say in $work where tools may be installed.
#
#   cross_cargo TRIPLE build|test OPTION...
#
# Where rustup has the target, that is used. Else the standard library is built from source with Debian's rustc-web,
# as $std_flags say, and linked by zig, which comes from PyPI. So it is for 32 bit in any case, where there is Debian:
# rustup's counts seconds in 32 bits there, and from January 2038 on panics when it is asked for the time.

# 0.16 and later have an allocator of their own in place of musl's, which gives nothing back to the kernel.
zig_version=0.15.2
zigbuild_version=0.24.0
export ZIG_GLOBAL_CACHE_DIR=$work/zig-cache ZIG_LOCAL_CACHE_DIR=$work/zig-cache

triple() {
  case $1 in
    armv7) echo armv7-unknown-linux-musleabihf ;;
    armv6) echo arm-unknown-linux-musleabihf ;;
    aarch64) echo aarch64-unknown-linux-musl ;;
    x86_64) echo x86_64-unknown-linux-musl ;;
    *) return 1 ;;
  esac
}

is_32_bit() {
  [[ $1 == arm* ]]
}

uses_rustup() {
  if is_32_bit "$1" && command -v dpkg >/dev/null; then return 1; fi
  command -v rustup >/dev/null && rustup target list --installed | grep -qx "$1"
}

# Which standard library cross_cargo takes, for a line that says so.
std_library() {
  if ! uses_rustup "$1"; then
    echo "built from source"
  elif is_32_bit "$1"; then
    echo "of rustup, which has no time after 2037"
  else
    echo "of rustup"
  fi
}

cross_cargo() {
  if uses_rustup "$1"; then cargo_of_rustup "$@"; else cargo_with_std "$@"; fi
}

# The host's linker is for the host.
cargo_of_rustup() {
  local triple=$1 verb=$2 upper=${1^^}
  shift 2
  env "CARGO_TARGET_${upper//-/_}_LINKER=rust-lld" cargo "$verb" --locked --target "$triple" "$@"
}

cargo_with_std() {
  local triple=$1 verb=$2 settings=() options=(-C link-self-contained=no) flags
  shift 2
  install_debian_toolchain
  [[ $verb != build ]] || verb=zigbuild
  # musl 1.2 counts seconds in 64 bits; the libc crate has to be told, in one way up to 0.2.183 or so, in another then.
  if is_32_bit "$triple"; then
    settings+=(RUST_LIBC_UNSTABLE_MUSL_V1_2_3=1)
    options+=(--cfg libc_unstable_musl_v1_2)
  fi
  flags=$(encoded "${options[@]}")${CARGO_ENCODED_RUSTFLAGS:+$'\x1f'$CARGO_ENCODED_RUSTFLAGS}
  env "PATH=$work/zig-$zig_version/bin:$PATH" RUSTC=/usr/bin/rustc CARGO=/usr/bin/cargo RUSTC_BOOTSTRAP=1 \
    "CARGO_ENCODED_RUSTFLAGS=$flags" "${settings[@]}" cargo-zigbuild "$verb" --locked "${std_flags[@]}" --target "$triple" "$@"
}

# Flags for rustc as cargo takes them in CARGO_ENCODED_RUSTFLAGS: there may be spaces in them.
encoded() {
  local IFS=$'\x1f'
  echo "$*"
}

install_debian_toolchain() {
  install_debian rustc-web cargo-web rust-web-src python3-venv
  if [[ ! -x $work/zig-$zig_version/bin/cargo-zigbuild ]]; then
    echo "installing ziglang $zig_version and cargo-zigbuild $zigbuild_version (PyPI)"
    python3 -m venv "$work/zig-$zig_version"
    "$work/zig-$zig_version/bin/pip" install -q "ziglang==$zig_version" "cargo-zigbuild==$zigbuild_version"
  fi
}

install_debian() {
  if ! dpkg -s "$@" >/dev/null 2>&1; then
    echo "installing $* (Debian)"
    as_root apt-get update -q >/dev/null
    as_root apt-get install -y -q --no-install-recommends --no-remove "$@" >/dev/null
  fi
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}
