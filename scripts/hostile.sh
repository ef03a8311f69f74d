#!/usr/bin/env bash
# Runs the test of hostile clients with the optimized program and writes docs/hostile.md anew: the
# tables as they are tested, and what was measured. Takes further flags of cargo.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

MIDGE_HOSTILE_PAGE=$(date -u +%F) cargo test --release --test hostile "$@" -- --nocapture
git --no-pager diff --stat -- docs/hostile.md
