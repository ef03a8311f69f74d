#!/usr/bin/env bash
# Breaks the core in many small ways, one at a time, and tells which of them no test notices:
#
#   scripts/mutants.sh [SHARD]   the SHARD, such as 3/5 (which is the default), of all mutants of
#                                src/packet and src/broker: about 350 of 1,750
#
# check_invariants and what only it calls are left out: the tests look through them, not at them.
# docs/testing.md says what the last run gave. It takes about an hour on two cores. Further options
# go to cargo-mutants: `scripts/mutants.sh 3/5 --iterate` tries only those that were missed before.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

shard=${1:-3/5}
(($# == 0)) || shift
command -v cargo-mutants >/dev/null || cargo install --locked cargo-mutants

# What needs sockets or looks at files is left out: the core's tests are without both.
tests=(--cargo-arg=--lib)
for file in tests/*.rs tests/*/main.rs; do
  name=${file#tests/}
  name=${name%/main.rs}
  name=${name%.rs}
  case $name in
    conformance | flags | hostile | rumqttc | server | tidy) ;;
    *) tests+=("--cargo-arg=--test=$name") ;;
  esac
done

exec cargo mutants --jobs 2 --shard "$shard" --file 'src/packet/**' --file 'src/broker/**' \
  --exclude src/broker/invariants.rs --exclude-re check_invariants --profile mutants \
  --timeout 60 --build-timeout 1200 --baseline skip \
  --sharding round-robin --output target "${tests[@]}" "$@"
