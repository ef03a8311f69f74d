#!/usr/bin/env bash
# Runs the simulation for hours, each seed once: soak.sh [-t HOURS] [-f FIRST_SEED] [-n SEEDS]
# It ends after that time or that many seeds, whichever comes first, or at a seed that fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

usage() {
  sed -n '2,3s/^# //p' scripts/soak.sh
}

hours=8
first=0
most=1000000000
while getopts t:f:n:h option; do
  case $option in
    t) hours=$OPTARG ;;
    f) first=$OPTARG ;;
    n) most=$OPTARG ;;
    h) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

block=20000
started=$SECONDS
seconds=$(awk -v hours="$hours" 'BEGIN { printf "%d", hours * 3600 }')
end=$((first + most))
at=$first
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Built once: what happens to the tree meanwhile must not change what is counted.
if ! built=$(cargo test --release --test simulation --no-run 2>&1); then
  printf '%s\n' "$built" >&2
  exit 1
fi
program=$(sed -n 's/.*Executable.*(\(.*\)).*/\1/p' <<<"$built")
cp "$program" "$work/simulation"

while ((at < end && SECONDS - started < seconds)); do
  next=$((at + block < end ? at + block : end))
  if ! SEEDS=$at..$next "$work/simulation" --nocapture >"$work/log" 2>&1; then
    cat "$work/log"
    exit 1
  fi
  printf '%d seeds passed (%d to %d), %d s\n' $((next - first)) "$first" $((next - 1)) \
    $((SECONDS - started))
  at=$next
done
