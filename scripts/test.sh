#!/usr/bin/env bash
# Runs every check of the project, and installs what the checks need if it is missing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

export CARGO_TARGET_DIR=$PWD/target # where the load looks for the broker
broker_log=$CARGO_TARGET_DIR/load-broker.log

passed=0
current=""
broker=""

finish() {
  local status=$?
  if [[ -n $broker ]]; then
    kill "$broker" 2>/dev/null || true
    cat "$broker_log"
  fi
  ((status == 0)) || printf '\nFAILED: %s\n' "$current" >&2
}
trap finish EXIT

step() {
  local started=$SECONDS
  current=$1
  shift
  printf '\n=== %s\n' "$current"
  "$@"
  printf '=== %s: passed in %d s\n' "$current" $((SECONDS - started))
  passed=$((passed + 1))
}

check_scripts() {
  local script
  for script in scripts/*.sh scripts/board/*.sh tests/packaging/*.sh .ci/run; do
    bash -n "$script"
  done
}

short_load() {
  local port
  port=$(python3 -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
  target/release/midge -p "$port" --max-queued-messages 0 >"$broker_log" 2>&1 &
  broker=$!
  until (: >/dev/tcp/127.0.0.1/"$port") 2>/dev/null; do
    kill -0 "$broker"
    sleep 0.05
  done
  scripts/load.sh -p "$port" -n 20000 -i "$broker"
  kill "$broker"
  wait "$broker" # it exits with 0 if it stopped in good order
  broker=""
}

step "tools" scripts/tools.sh
step "format" cargo fmt --check
step "clippy" cargo clippy --all-targets -- -D warnings
step "clippy without features" cargo clippy --all-targets --no-default-features -- -D warnings
step "cargo test" cargo test
step "simulation and growth, optimized" \
  env SEEDS=4000 cargo test --release --test simulation --test growth
step "release build" cargo build --release
step "instructions" scripts/instructions.sh
step "scripts" check_scripts
step "packages" scripts/check-packages.sh --quick
step "real clients" scripts/clients.sh --check
step "from Mosquitto to midge" scripts/switch.sh
step "load" short_load

printf '\nsteps: %d passed, 0 failed\n' "$passed"
