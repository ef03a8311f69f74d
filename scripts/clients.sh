#!/usr/bin/env bash
# Runs clients that nobody here wrote against midge, through every story that each can tell, and
# writes docs/clients.md. With --check it writes nothing and fails if that file is stale.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

export CARGO_TARGET_DIR=$PWD/target # where the tests look for the broker
scripts/tools.sh
cargo build --release
target/venv/bin/python tests/clients/matrix.py "$@"
