#!/usr/bin/env bash
# Measures midge beside Debian's Mosquitto and a null relay, and writes what it found to
# docs/performance.md: table, charts, JSON. Run it on a machine that does nothing else.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

usage() {
  cat <<'END'
Usage: bench.sh [--quick] [--only TEXT] [--rounds N]

  --quick      one short round of everything, in less than two minutes
  --only TEXT  only what has TEXT in its name, or is of this group: messages, state, memory,
               latency, growth. Prints its figures and leaves the documents alone.
  --rounds N   medians of so many rounds (5)
END
}

write=(--write docs)
flags=("$@")
while (($# > 0)); do
  case $1 in
    --quick) shift ;;
    --only | --rounds)
      (($# > 1)) || { usage >&2; exit 2; }
      [[ $1 == --rounds ]] || write=()
      shift 2
      ;;
    -h | --help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
  esac
done

export CARGO_TARGET_DIR=$PWD/target
target=$(uname -m)-unknown-linux-musl

install_mosquitto() {
  local root=()
  command -v mosquitto >/dev/null && return
  command -v apt-get >/dev/null || { echo "please install mosquitto" && exit 1; }
  ((EUID == 0)) || root=(sudo)
  "${root[@]}" apt-get update -q
  "${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qy --no-install-recommends mosquitto
}

# Memory at start is that of a static build, where Rust can make one.
build_static() {
  command -v rustup >/dev/null && rustup target add "$target" && cargo build --release --target "$target"
}

PATH=$PATH:/usr/sbin # where Debian has mosquitto
install_mosquitto
if build_static; then
  export MIDGE_STATIC=$CARGO_TARGET_DIR/$target/release/midge
fi
ulimit -n "$(ulimit -Hn)" # 15,000 idle connections, on both sides
cargo bench --bench load -- "${flags[@]}" "${write[@]}"
