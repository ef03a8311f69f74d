#!/usr/bin/env bash
# Fuzzes midge: scripts/fuzz.sh [SECONDS | --keep] [TARGET...]
#
# Runs the targets of fuzz/ (decode, broker, flags, config, passwords, acl, proxy, or those named) at the same time, one process
# each, for SECONDS (60 by default), and says at the end what they did. New inputs go to
# fuzz/found/TARGET, where the next run begins; the corpus in fuzz/corpus is only read. An input
# that crashes, hangs or eats memory goes to fuzz/artifacts/TARGET, and the exit status is 1.
# With --keep nothing is run: the corpus becomes the few inputs that reach most of what was found.
# It needs nightly Rust, cargo-fuzz and a C++ compiler, and installs the first two if rustup is
# there. docs/testing.md tells the rest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null
unset CARGO_TARGET_DIR # cargo-fuzz has its own, fuzz/target
# What AddressSanitizer keeps of freed memory should not look like growth.
export ASAN_OPTIONS=quarantine_size_mb=16

usage() {
  sed -n '2,11s/^# \{0,1\}//p' scripts/fuzz.sh
}

[[ ${1:-} != -h && ${1:-} != --help ]] || { usage; exit 0; }
seconds=60
if [[ ${1:-} =~ ^[0-9]+$ || ${1:-} == --keep ]]; then
  seconds=$1
  shift
fi
targets=("$@")
((${#targets[@]})) || targets=(decode broker flags config passwords acl proxy)
for target in "${targets[@]}"; do
  [[ -f fuzz/fuzz_targets/$target.rs ]] || { usage >&2; exit 2; }
done

install_tools() {
  command -v rustup >/dev/null || { echo "please install rustup: fuzzing needs nightly Rust" && exit 1; }
  command -v c++ >/dev/null || { echo "please install a C++ compiler (Debian: g++)" && exit 1; }
  rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
  cargo fuzz --version >/dev/null 2>&1 || cargo install cargo-fuzz --locked
}

# Longer inputs are slower, and reach nothing that shorter ones do not.
max_len() {
  case $1 in
    broker) echo 512 ;;
    *) echo 1024 ;;
  esac
}

# Inputs of each target that the repository keeps, besides seeds and regressions.
kept() {
  case $1 in
    broker) echo 80 ;;
    decode) echo 55 ;;
    *) echo 30 ;;
  esac
}

pids=()
trap '((${#pids[@]} == 0)) || kill "${pids[@]}" 2>/dev/null || true' EXIT

# Where a target is built. midge has no unsafe code: without AddressSanitizer and the tracing of
# comparisons most get five to ten times as far; decode, which is quick, has both.
target_dir() {
  case $1 in
    decode) echo fuzz/target ;;
    *) echo fuzz/target/plain ;;
  esac
}

build() {
  local options=(--target-dir "$(target_dir "$1")")
  [[ $1 == decode ]] || options+=(--sanitizer none --no-trace-compares)
  cargo +nightly fuzz build "${options[@]}" "$1"
}

install_tools
for target in "${targets[@]}"; do
  build "$target"
done
triple=$(rustc +nightly -vV | sed -n 's/^host: //p')
binary() {
  echo "$(target_dir "$1")/$triple/release/$1"
}

if [[ $seconds == --keep ]]; then
  for target in "${targets[@]}"; do
    mkdir -p "fuzz/found/$target"
    scripts/fuzz_keep.py "$(binary "$target")" "fuzz/found/$target" "fuzz/corpus/$target" \
      "$(kept "$target")"
  done
  exit
fi

for target in "${targets[@]}"; do
  mkdir -p "fuzz/found/$target" "fuzz/artifacts/$target"
  options=(-max_total_time="$seconds" -max_len="$(max_len "$target")" -timeout=10
    -rss_limit_mb=1024 -dict=fuzz/mqtt.dict -artifact_prefix="fuzz/artifacts/$target/"
    -print_final_stats=1)
  nice -n 10 "$(binary "$target")" "${options[@]}" \
    "fuzz/found/$target" "fuzz/corpus/$target" >"fuzz/found/$target.log" 2>&1 &
  pids+=($!)
  echo "$target: fuzz/found/$target.log"
done

failed=0
for index in "${!targets[@]}"; do
  target=${targets[index]}
  status=0
  wait "${pids[index]}" || status=$?
  printf '\n=== %s\n' "$target"
  grep -E 'cov: ' "fuzz/found/$target.log" | tail -n 1 || true
  grep -E '^(Done|stat::|==|SUMMARY|.*panicked at)' "fuzz/found/$target.log" || true
  ((status == 0)) || { failed=1 && tail -n 5 "fuzz/found/$target.log"; }
done
pids=()
exit "$failed"
