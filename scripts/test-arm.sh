#!/usr/bin/env bash
# Runs the tests where usize has 32 bits: built for ARMv7 with musl, as for boards, under qemu-arm-static.
#
#   scripts/test-arm.sh                all of them, some minutes once Rust's own library is built
#   scripts/test-arm.sh --test store   options for cargo test, instead of "all"
#
# The tests that start the real program start it under qemu as well, see scripts/board/with-qemu-arm.sh. Where that
# does not go, and the system does not do it by itself, they are left out, and named. What the emulation gets in the way
# of is left out anywhere: `left_out`.
# docs/testing.md has the figures. It installs qemu-user-static (Debian) if it is missing, and what
# scripts/board/toolchain.sh needs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

work=$PWD/target/board
std_flags=(-Zbuild-std)
source scripts/board/toolchain.sh

left_out=(
  # They count the threads of midge, and qemu has one of its own.
  idle_means_idle
  the_program_is_in_it_once_it_serves
  # Real-time signals have other numbers in qemu.
  sigrtmin_opens_the_log_anew_and_reads_nothing
  # It measures milliseconds, of which the emulation takes its own.
  set_tcp_nodelay_false_waits_for_acknowledgements
)

# Overflows are noticed, and panics unwind; but what others wrote is optimized, which takes half the time off.
export CARGO_TARGET_DIR=$PWD/target/arm CARGO_PROFILE_DEV_OPT_LEVEL=1 CARGO_PROFILE_DEV_DEBUG=false
profile=(--config 'profile.dev.package."*".opt-level=2')
# Enough for a look; the long runs are those on 64 bit.
export SEEDS=${SEEDS:-1000} CRASH_SEEDS=${CRASH_SEEDS:-160}
triple=$(triple armv7)

run_tests() {
  local skip=() name
  for name in "${left_out[@]}"; do
    skip+=(--skip "$name")
    echo "left out: $name"
  done
  cross_cargo "$triple" test "${profile[@]}" --no-fail-fast "$@" -- "${skip[@]}"
}

# Those that start the program are none of them.
name_pure_tests() {
  local file name
  tests=(--lib)
  for file in tests/*.rs tests/*/main.rs; do
    name=${file#tests/}
    name=${name%/main.rs}
    name=${name%.rs}
    if grep -qE 'socket\.rs|CARGO_BIN_EXE' "$file"; then
      echo "left out, as it starts the program: $name"
    else
      tests+=(--test "$name")
    fi
  done
}

if [[ ${1:-} == --inside ]]; then
  shift
  run_tests "$@"
  exit
fi

command -v qemu-arm-static >/dev/null || install_debian qemu-user-static
tests=("$@")
((${#tests[@]})) || tests=(--lib --bins --tests)
cross_cargo "$triple" test "${profile[@]}" --no-run "${tests[@]}"
started=$SECONDS
if scripts/board/with-qemu-arm.sh true; then
  scripts/board/with-qemu-arm.sh scripts/test-arm.sh --inside "${tests[@]}"
elif "$CARGO_TARGET_DIR/$triple/debug/midge" --help >/dev/null 2>&1; then
  run_tests "${tests[@]}"
else
  echo "programs for ARM cannot be started here (that takes Linux 6.7 and user namespaces, or qemu in binfmt_misc)"
  (($#)) || name_pure_tests
  CARGO_TARGET_ARMV7_UNKNOWN_LINUX_MUSLEABIHF_RUNNER=qemu-arm-static run_tests "${tests[@]}"
fi
echo "the tests passed on 32 bit in $((SECONDS - started)) s"
