#!/usr/bin/env bash
# Writes docs/conformance.md: the specification's statements and the tests that prove them.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
CONFORMANCE_WRITE=1 cargo test --quiet --test conformance
