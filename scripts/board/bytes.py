"""What the bytes of a binary are for, by its symbols: bytes.py DOCUMENT TARGET MINIMAL FULL, both unstripped.

All of the document before what was written by hand is written anew.
"""

import collections
import re
import subprocess
import sys
from pathlib import Path

# The first pattern that a function's name has decides. Code that is generic is where it is used.
PARTS = [
    ("sessions, routing, delivery (`broker`)", r"^<?midge::broker|^midge::broker"),
    ("configuration, its table and reports (`config`)", r"midge::config"),
    ("packets (`packet`)", r"midge::packet"),
    ("sockets and the loop (`net`), mio", r"midge::net|\bmio\b"),
    ("the store (`store`, `persistence`), checksums", r"midge::(store|persistence)|crc32"),
    ("passwords and their hashes", r"midge::passwords|sha2|hmac|base64ct|subtle|digest"),
    ("the log, env_logger", r"midge::logging|env_logger|env_filter"),
    ("the sandbox", r"midge::sandbox|landlock|seccompiler"),
    ("start, signals, reload, services (`main`, `steward` ...)", r"midge|signal_hook|getopts|listenfd|socket2"),
    ("text: formatting, numbers, strings", r"core::(fmt|num|str)|alloc::(fmt|str|string)"),
    ("the rest of Rust's library", r"\b(core|alloc|std|hashbrown|rustix|slab|bytes|log|memchr)\b"),
]
C = "C library (musl), the compiler's helpers"
BY_HAND = "## What was taken out\n"


def functions(binary):
    """Sizes and names of all functions."""
    table = subprocess.run(["nm", "-S", "-C", binary], capture_output=True, text=True, check=True)
    # Some addresses have several names.
    sizes = {}
    for line in table.stdout.splitlines():
        fields = line.split(None, 3)
        if len(fields) == 4 and fields[2] in "tTwW":
            sizes[fields[0]] = (int(fields[1], 16), fields[3])
    return sizes.values()


def sections(binary):
    table = subprocess.run(["size", "-A", binary], capture_output=True, text=True, check=True)
    rows = [line.split() for line in table.stdout.splitlines() if line.startswith(".")]
    return {row[0]: int(row[1]) for row in rows}


def part_of(name):
    return next((part for part, pattern in PARTS if re.search(pattern, name)), C)


def main():
    document, target, *binaries = sys.argv[1:]
    sums, largest, all_sections = [], [], []
    for binary in binaries:
        by_part = collections.Counter()
        for size, name in functions(binary):
            by_part[part_of(name)] += size
        sums.append(by_part)
        largest = sorted(functions(binary), reverse=True)[:20]
        all_sections.append(sections(binary))
    lines = ["# Where the bytes are", ""]
    lines += [f"Of the binaries for {target}, without their symbols: `scripts/build-board.sh --bytes {target}`.", ""]
    lines += ["| code | minimal | full |", "|---|---|---|"]
    for part in [name for name, _ in PARTS] + [C]:
        lines += [f"| {part} | {sums[0][part]:,} | {sums[1][part]:,} |"]
    lines += ["", "| section | minimal | full |", "|---|---|---|"]
    names = {".text": "all code", ".rodata": "constants, texts", ".data.rel.ro": "tables of addresses"}
    for section, what in names.items():
        lines += [f"| {section}: {what} | {all_sections[0][section]:,} | {all_sections[1][section]:,} |"]
    lines += ["", "The largest functions of the full one, with what was inlined into them:", ""]
    lines += ["| function | bytes |", "|---|---|"]
    for size, name in largest:
        lines += [f"| `{name if len(name) <= 100 else name[:97] + '...'}` | {size:,} |"]
    _, title, by_hand = Path(document).read_text().partition(BY_HAND)
    Path(document).write_text("\n".join(lines) + "\n\n" + title + by_hand)


main()
