#!/usr/bin/env bash
# Installs what the checks need if it is missing: on Debian with apt-get, elsewhere it says what to
# install; the clients from PyPI and npm, and Node.js itself, go under target/. Rust has to be there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

clients=tests/clients
venv=target/venv
mqttjs=target/mqttjs

install_packages() {
  local packages=()
  command -v cargo >/dev/null || { echo "Rust is missing: install it with rustup" && exit 1; }
  command -v cc >/dev/null || packages+=(gcc libc6-dev)
  command -v mosquitto_rr >/dev/null || packages+=(mosquitto-clients)
  # Where it is not in the path of ordinary users.
  PATH=$PATH:/usr/sbin command -v mosquitto >/dev/null || packages+=(mosquitto)
  command -v valgrind >/dev/null || packages+=(valgrind)
  command -v mandoc >/dev/null || packages+=(mandoc)
  command -v busybox >/dev/null || packages+=(busybox)
  python3 -c 'import ensurepip, venv' 2>/dev/null || packages+=(python3-venv)
  ((${#packages[@]} == 0)) || apt_install "${packages[@]}"
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

# What was installed last is kept beside it, so that a second run has nothing to do.
install_from_pypi() {
  cmp -s "$clients/requirements.txt" "$venv/requirements.txt" && return
  python3 -m venv --clear "$venv"
  "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$clients/requirements.txt"
  cp "$clients/requirements.txt" "$venv/"
}

install_from_npm() {
  cmp -s "$clients/mqttjs/package-lock.json" "$mqttjs/installed.json" && return
  mkdir -p "$mqttjs"
  cp "$clients"/mqttjs/package*.json "$mqttjs/"
  PATH=$PWD/$venv/bin:$PATH npm ci --prefix "$mqttjs" --ignore-scripts --no-audit --no-fund
  cp "$mqttjs/package-lock.json" "$mqttjs/installed.json"
}

install_packages
install_component fmt rustfmt
install_component clippy clippy
install_from_pypi
install_from_npm
