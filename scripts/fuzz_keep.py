#!/usr/bin/env python3
"""Chooses the inputs that are worth keeping in the repository: fuzz_keep.py BINARY FOUND CORPUS N

Asks the fuzz target BINARY what each input of FOUND and CORPUS reaches, and leaves in CORPUS its
seeds and regressions and at most N others: always the one next that reaches most of what none
before it does, the smaller of two. scripts/fuzz.sh --keep calls it.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile


def main(binary: str, found: pathlib.Path, corpus: pathlib.Path, most: int) -> None:
    reached = edges(binary, [found, corpus])
    fixed = [path for path in reached if path.name.startswith(("seed-", "regression-"))]
    covered = set().union(*(reached[path] for path in fixed))
    chosen = []
    while len(chosen) < most:
        gain = {path: len(new - covered) for path, new in reached.items()}
        best = max(gain, key=lambda path: (gain[path], -path.stat().st_size, path.name))
        if gain[best] == 0:
            break
        covered |= reached[best]
        chosen.append(best)
    keep(corpus, fixed, chosen)
    every = set().union(*reached.values())
    files = len(fixed) + len(chosen)
    print(f"{corpus}: {files} files reach {len(covered)} of {len(every)} edges")


def edges(binary: str, folders: list[pathlib.Path]) -> dict[pathlib.Path, set[str]]:
    """What each file reaches, from the notes that libFuzzer takes when it merges.

    Its own choice among them takes much longer: only its first step is asked for.
    """
    files = sorted(path for folder in folders for path in folder.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        notes = pathlib.Path(scratch, "notes")
        notes.write_text("\n".join([str(len(files)), "0", *map(str, files), ""]))
        options = ["-merge_inner=2", "-use_counters=0", f"-merge_control_file={notes}"]
        command = [binary, *options, *folders]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        lines = notes.read_text().splitlines()
    reached: dict[pathlib.Path, set[str]] = {path: set() for path in files}
    for line in lines[2 + len(files) :]:
        kind, index, *numbers = line.split()
        if kind == "FT":
            reached[files[int(index)]].update(numbers)
    return reached


def keep(corpus: pathlib.Path, fixed: list[pathlib.Path], chosen: list[pathlib.Path]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        for path in [*fixed, *chosen]:
            shutil.copy(path, scratch)
        for old in corpus.iterdir():
            old.unlink()
        for path in pathlib.Path(scratch).iterdir():
            shutil.copy(path, corpus)


if __name__ == "__main__":
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    main(sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]), int(sys.argv[4]))
