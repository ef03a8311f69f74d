#!/usr/bin/env bash
# Runs the simulation for hours, each seed once: soak.sh [-t HOURS] [-f FIRST_SEED] [-n SEEDS]
# It ends after that time or that many seeds, whichever comes first, or at a seed that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

hours=8
first=0
most=1000000000
while getopts t:f:n: option; do
  case $option in
    t) hours=$OPTARG ;;
    f) first=$OPTARG ;;
    n) most=$OPTARG ;;
    *) sed -n '2,3s/^# //p' "$0" >&2 && exit 2 ;;
  esac
done

block=20000
started=$SECONDS
seconds=$(awk -v hours="$hours" 'BEGIN { printf "%d", hours * 3600 }')
end=$((first + most))
at=$first
log=$(mktemp)
trap 'rm -f "$log"' EXIT

cargo test --release --test simulation --no-run
while ((at < end && SECONDS - started < seconds)); do
  next=$((at + block < end ? at + block : end))
  if ! SEEDS=$at..$next cargo test -q --release --test simulation -- --nocapture >"$log" 2>&1; then
    cat "$log"
    exit 1
  fi
  printf '%d seeds passed (%d to %d), %d s\n' $((next - first)) "$first" $((next - 1)) \
    $((SECONDS - started))
  at=$next
done
