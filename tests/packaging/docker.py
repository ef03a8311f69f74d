#!/usr/bin/env python3
"""Builds packaging/docker/Dockerfile as far as that goes without Docker, and runs what comes out.

    docker.py [PLATFORM...]     such as amd64, armv7; those whose binary is there if none is named

The file is read for what must hold (no root, no shell, forms that need none), what it copies must be
there and let through by its .dockerignore. The image of this machine is put together in a directory
and run in it, by chroot, as its user: that takes root, and a binary that needs no other file. Status
77 if it was not run.
"""

import fnmatch
import json
import os
import platform
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "packaging/docker/Dockerfile"
KNOWN = {"FROM", "COPY", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}
HERE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "armv7", "armv6l": "armv6"}


def fail(why):
    sys.exit(f"FAILED: {FILE.relative_to(ROOT)}: {why}")


def stages(text):
    """Name of each stage, what it is from, and its instructions."""
    found = {}
    current = None
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        word, _, rest = line.partition(" ")
        if word not in KNOWN:
            fail(f"{word} is none of {sorted(KNOWN)}")
        if word == "FROM":
            base, name = (re.fullmatch(r"(\S+)(?: AS (\S+))?", rest) or fail(line)).groups()
            current = found.setdefault(name or "", {"from": base, "does": []})
        else:
            current["does"].append((word, rest))
    return found


def image(found, name):
    """What that stage has done to it, from scratch."""
    if name == "scratch":
        return []
    if name not in found:
        fail(f"there is no stage {name}")
    return image(found, found[name]["from"]) + found[name]["does"]


def copied(does):
    for word, rest in does:
        if word == "COPY":
            words = [part for part in rest.split() if not part.startswith("--")]
            yield words[0], words[1], re.search(r"--chown=(\d+):(\d+)", rest)


def is_let_through(source):
    allowed = False
    for line in (FILE.parent / "Dockerfile.dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if fnmatch.fnmatch(source, pattern) or pattern == "*":
            allowed = line.startswith("!")
    return allowed


def last(does, word):
    rests = [rest for done, rest in does if done == word]
    return rests[-1] if rests else fail(f"there is no {word}")


def check(does):
    uid, _, gid = last(does, "USER").partition(":")
    if not (uid.isdigit() and gid.isdigit()) or "0" in (uid, gid):
        fail("USER must be two numbers that are not root's: there is no /etc/passwd")
    volume = last(does, "VOLUME")
    owned = [chown.groups() for _, to, chown in copied(does) if to == volume and chown]
    if owned != [(uid, gid)]:
        fail(f"{volume} must belong to the user")
    last(does, "EXPOSE")
    for word in ("ENTRYPOINT", "CMD"):
        if not isinstance(json.loads(last(does, word)), list):
            fail(f"{word} must be a list: there is no shell")
    for source, _, _ in copied(does):
        if not is_let_through(source):
            fail(f"{source} is held back by the .dockerignore")
        if not source.startswith("dist/") and not (ROOT / source).exists():
            fail(f"{source} is not there")


def is_static(binary):
    said = subprocess.run(["readelf", "-l", binary], capture_output=True, text=True, check=True)
    return "INTERP" not in said.stdout


def run(does, directory):
    """Starts it, with another port than the one that somebody may have, and stops it."""
    for source, to, chown in copied(does):
        target = Path(directory + to)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, target)
        if chown:
            os.chown(target, *map(int, chown.groups()))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    entry, arguments = (json.loads(last(does, word)) for word in ("ENTRYPOINT", "CMD"))
    arguments = [port if argument == "1883" else argument for argument in arguments]
    userspec = f"--userspec={last(does, 'USER')}"
    midge = subprocess.Popen(
        ["chroot", userspec, directory, *entry, *arguments], stderr=subprocess.PIPE, text=True
    )
    for _ in range(100):
        if socket.socket().connect_ex(("127.0.0.1", int(port))) == 0 or midge.poll() is not None:
            break
        time.sleep(0.05)
    midge.terminate()
    _, log = midge.communicate(timeout=10)
    if midge.returncode != 0:
        fail(f"it ended with {midge.returncode}: {log}")
    store = last(does, "VOLUME") + "/store"
    if not os.listdir(directory + store):
        fail(f"there is nothing in {store}")
    if "nobody can connect" not in log:
        fail(f"without arguments nobody is to get in: {log}")


def main():
    found = stages(FILE.read_text())
    base = found[""]["from"]
    built = []
    for name in [name.removeprefix("binary-") for name in found if name]:
        does = image(found, base.replace("${TARGETARCH}${TARGETVARIANT}", name))
        does = does + found[""]["does"]
        check(does)
        if all((ROOT / source).exists() for source, _, _ in copied(does)):
            built.append((name, does))
    print(f"Docker: the Dockerfile is good; binaries are there for: {', '.join(name for name, _ in built) or 'none'}")
    missing = set(sys.argv[1:]) - {name for name, _ in built}
    if missing:
        fail(f"there is no binary for {sorted(missing)} (scripts/build-board.sh)")
    here = HERE.get(platform.machine())
    has_run = False
    for name, does in built:
        binary = ROOT / next(copied(does))[0]
        if not is_static(binary):
            fail(f"{binary} is not static")
        if name != here or os.geteuid() != 0:
            continue
        with tempfile.TemporaryDirectory() as directory:
            os.chmod(directory, 0o755)
            run(does, directory)
        print(f"Docker: the image for {name} starts as its user, keeps what it has, and stops")
        has_run = True
    if not has_run:
        print("not checked: whether the image runs: it takes root, and a binary for this machine")
        sys.exit(77)


main()
