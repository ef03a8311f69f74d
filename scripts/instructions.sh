#!/usr/bin/env bash
# Counts the instructions that a message costs and fails where they have grown by more than 5 %:
#
#   scripts/instructions.sh            compares with benches/instructions.txt
#   scripts/instructions.sh --update   writes that file: a change that is worth its price, or gain
#
# benches/instructions.rs says what is counted and why that does not depend on the machine.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

command -v valgrind >/dev/null || { echo "valgrind is missing: please install it" && exit 1; }
unset RUSTFLAGS # the same instructions for everybody
exec cargo bench --quiet --bench instructions -- "$@"
