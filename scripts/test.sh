#!/usr/bin/env bash
# Runs every check of the project, and installs what the checks need if it is missing: on Debian
# with apt-get, elsewhere it says what to install. Rust itself has to be there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

PAHO=2.1.0
export CARGO_TARGET_DIR=$PWD/target # where the client tests look for the broker
venv=$CARGO_TARGET_DIR/venv
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

install_tools() {
  local packages=()
  command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup" && exit 1; }
  command -v cc >/dev/null || packages+=(gcc libc6-dev)
  command -v mosquitto_rr >/dev/null || packages+=(mosquitto-clients)
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
  ((${#packages[@]} == 0)) || apt_install "${packages[@]}"
  install_component fmt rustfmt
  install_component clippy clippy
  install_paho
}

apt_install() {
  local root=()
  command -v apt-get >/dev/null || { echo "please install: $*" && exit 1; }
  ((EUID == 0)) || root=(sudo)
  "${root[@]}" apt-get update -q
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends "$@"
}

install_component() {
  cargo "$1" --version && return
  command -v rustup >/dev/null || { echo "please install Rust's component $2" && exit 1; }
  rustup component add "$2"
}

install_paho() {
  local version='from importlib.metadata import version; print("paho-mqtt", version("paho-mqtt"))'
  [[ $("$venv/bin/python" -c "$version" 2>/dev/null) != "paho-mqtt $PAHO" ]] || return 0
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check "paho-mqtt==$PAHO"
}

check_scripts() {
  local script
  for script in scripts/*.sh .ci/run; do
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

step "tools" install_tools
step "format" cargo fmt --check
step "clippy" cargo clippy --all-targets -- -D warnings
step "clippy without features" cargo clippy --all-targets --no-default-features -- -D warnings
step "cargo test" cargo test
step "simulation, optimized" cargo test --release --test simulation
step "release build" cargo build --release
step "scripts" check_scripts
step "real clients" "$venv/bin/python" -m unittest discover -s tests/clients
step "load" short_load

printf '\nsteps: %d passed, 0 failed\n' "$passed"
