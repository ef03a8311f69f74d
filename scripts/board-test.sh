#!/usr/bin/env bash
# Runs midge on emulated boards (QEMU) and drives it from outside with real clients:
#
#   scripts/board-test.sh [--cuts N] [--write] [armv7|armv6 ...]
#
# armv7 is a board with 40 MB, of which the kernel leaves 22: every QoS, retained messages, 500 clients,
# 20,000 messages for a client that is away, N power cuts (20). armv6 is a Pi A+: a smoke test. Without a
# name: both. What is resident is printed, and written to docs/boards.md with --write. Exit status 1 if a
# story fails or a budget is exceeded.
#
# It builds the binaries (build-board.sh), fetches kernels and QEMU from Debian into target/board, and
# installs Mosquitto's clients if they are missing (tools.sh).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
self=scripts/board-test.sh
exec </dev/null

usage() {
  sed -n '2,/^set/s/^# \{0,1\}//p' "$self"
}

parts=target/board
cuts=20
write=()
boards=()
while (($#)); do
  case $1 in
    --cuts) cuts=$2 && shift ;;
    --write) write=(--write docs/boards.md --commit "$(git describe --always --dirty)") ;;
    -h | --help)
      usage
      exit
      ;;
    armv7 | armv6) boards+=("$1") ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift
done
((${#boards[@]})) || boards=(armv7 armv6)

scripts/tools.sh
scripts/build-board.sh "${boards[@]}"
status=0
for board in "${boards[@]}"; do
  scripts/board/fetch.sh "$board" "$parts"
  target/venv/bin/python scripts/board/stories.py "$board" --parts "$parts" --binaries dist \
    --work "$parts/work-$board" --cuts "$cuts" "${write[@]}" || status=1
done
exit $status
