#!/usr/bin/env bash
# Builds static, stripped binaries for boards: scripts/build-board.sh [--again] [--bytes] [TARGET...]
#
# TARGET: armv7 (Pi 2 and later in 32 bit, most gateways), armv6 (Pi Zero, Pi 1), aarch64, x86_64; without one,
# all four. Each is built in two forms: full (default features) and minimal (--no-default-features). dist/ gets the
# binaries, SHA256SUMS and sizes.md. Exit status 1 if a binary is larger than its budget.
#
# Where rustup has the target (rustup target add ...), that is used: quick, and some 200 kB larger, as its standard
# library can print backtraces. Else the standard library is built from source, without, with Debian's rustc-web, and
# linked by zig, which comes from PyPI; both are installed if they are missing. For ARM of 32 bit that is done wherever
# there is Debian: with rustup's, midge does not start from 2038 on.
#
# Budgets are for the second kind: with rustup's library a binary that is larger is only told of.
#
#   --again   build all a second time, elsewhere, and fail if a byte differs
#   --bytes   write to docs/size.md what the bytes of the last target are for
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
self=scripts/build-board.sh
exec </dev/null

work=$PWD/target/board
again=
bytes=
std_flags=(-Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size)
source scripts/board/toolchain.sh

usage() {
  sed -n '2,/^set/s/^# \{0,1\}//p' "$self"
}

# Bytes that a binary may have; nothing where nobody has set a limit.
budget() {
  case $1 in
    armv7-minimal) echo 600000 ;;
    armv7-full) echo 900000 ;;
  esac
}

# Bytes are dear on 32-bit boards. Thumb-2 says the same as ARM in three quarters of them; ARMv6 has only its
# predecessor, which is slow. Nobody unwinds where panic is abort.
flags_for() {
  local cargo_home=${CARGO_HOME:-$HOME/.cargo} flags=(-C force-unwind-tables=no)
  [[ $1 != armv[67] ]] || flags+=(-C llvm-args=-inline-threshold=100)
  [[ $1 != armv7 ]] || flags+=(-C target-feature=+thumb-mode)
  # Paths of this machine would make each machine's binary another.
  flags+=("--remap-path-prefix=$PWD=midge" "--remap-path-prefix=$cargo_home=cargo")
  flags+=("--remap-path-prefix=$CARGO_TARGET_DIR=target")
  encoded "${flags[@]}"
}

opt_level_for() {
  case $1 in
    armv7 | armv6) echo 2 ;;
    *) echo 3 ;;
  esac
}

# The binary is left in CARGO_TARGET_DIR, and its path in $built.
build() {
  local target=$1 form=$2 triple flags=()
  triple=$(triple "$target")
  [[ $form == full ]] || flags=(--no-default-features)
  echo "=== midge-$target-$form: $triple, with a standard library $(std_library "$triple")"
  CARGO_PROFILE_RELEASE_OPT_LEVEL=$(opt_level_for "$target") CARGO_ENCODED_RUSTFLAGS=$(flags_for "$target") \
    cross_cargo "$triple" build --release "${flags[@]}"
  built=$CARGO_TARGET_DIR/$triple/release/midge
}

build_to_dist() {
  export CARGO_TARGET_DIR=$work/build
  build "$@"
  cp "$built" "dist/midge-$1-$2"
}

build_again() {
  export CARGO_TARGET_DIR=$work/again
  build "$@"
  cmp "$built" "dist/midge-$1-$2"
  echo "midge-$1-$2: the same bytes again"
}

# With its symbols, which are not in dist/.
tell_bytes() {
  local form binaries=()
  export CARGO_TARGET_DIR=$work/build CARGO_PROFILE_RELEASE_STRIP=false
  for form in minimal full; do
    build "$1" "$form"
    cp "$built" "$work/midge-$1-$form.symbols"
    binaries+=("$work/midge-$1-$form.symbols")
  done
  python3 scripts/board/bytes.py docs/size.md "$1" "${binaries[@]}"
}

# Rows of what is in dist/, and whether all are within their budgets.
report() {
  local binary name bytes budget status=0
  printf '| binary | bytes | budget |\n|---|---|---|\n' >dist/sizes.md
  for binary in dist/midge-*-full dist/midge-*-minimal; do
    name=${binary#dist/midge-}
    bytes=$(stat -c %s "$binary")
    budget=$(budget "$name")
    printf '| %s | %s | %s |\n' "midge-$name" "$bytes" "$budget" >>dist/sizes.md
    if [[ -n $budget ]] && ((bytes > budget)); then
      echo "midge-$name has $bytes bytes: $((bytes - budget)) more than its budget of $budget" >&2
      uses_rustup "$(triple "${name%-*}")" || status=1
    fi
  done
  (cd dist && sha256sum midge-*-full midge-*-minimal >SHA256SUMS)
  cat dist/sizes.md
  return $status
}

targets=()
for word in "$@"; do
  case $word in
    -h | --help)
      usage
      exit
      ;;
    --again) again=1 ;;
    --bytes) bytes=1 ;;
    *)
      if ! triple "$word" >/dev/null; then
        usage >&2
        exit 2
      fi
      targets+=("$word")
      ;;
  esac
done
((${#targets[@]})) || targets=(armv7 armv6 aarch64 x86_64)
mkdir -p dist "$work"
for target in "${targets[@]}"; do
  for form in full minimal; do
    build_to_dist "$target" "$form"
    [[ -z $again ]] || build_again "$target" "$form"
  done
done
[[ -z $bytes ]] || tell_bytes "${targets[-1]}"
report
