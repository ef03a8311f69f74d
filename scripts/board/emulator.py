"""An emulated board: QEMU, a kernel of Debian's, busybox, and midge started with flags.

What the board prints goes to a file; lines that begin with `BOARD` are from its `init`.
"""

import gzip
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
BOOT_SECONDS = 180  # 10 on a quiet machine
DISK_BYTES = 64 << 20


@dataclass(frozen=True)
class Kind:
    """What boards of one kind have in common."""

    arch: str  # Debian's
    machine: list[str]
    network: str
    append: str
    modules: list[str]  # in the order in which they are loaded


KINDS = {
    # 40 MB, of which the kernel leaves 21.9 MB. With less than -m 64 it is not unpacked. Files to trace it by take
    # 6 MB more of Debian's, and no kernel for a board of that size has them.
    "armv7": Kind(
        arch="armhf",
        machine=["-M", "virt,highmem=off", "-cpu", "cortex-a7", "-m", "64"],
        network="virtio-net-device",
        append="console=ttyAMA0 cma=0 mem=40M initcall_blacklist=tracer_init_tracefs",
        modules=[
            "net/core/failover",
            "drivers/net/net_failover",
            "drivers/net/virtio_net",
            "drivers/virtio/virtio_mmio",
            "drivers/block/virtio_blk",
            "crypto/crc32c_generic",
            "lib/crc16",
            "fs/mbcache",
            "fs/jbd2/jbd2",
            "fs/ext4/ext4",
        ],
    ),
    # A Pi A+, with a network adapter on its USB port.
    "armv6": Kind(
        arch="armel",
        machine=["-M", "raspi1ap", "-dtb", "{dtb}"],
        network="usb-net",
        append="console=ttyAMA0 initcall_blacklist=bcm2835_pm_driver_init,bcm2835_power_driver_init",
        modules=[
            "drivers/net/mii",
            "drivers/net/usb/usbnet",
            "drivers/net/usb/cdc_ether",
            "drivers/net/usb/rndis_host",
        ],
    ),
}


@dataclass
class Board:
    """One board with one binary; it may be started, and lose its power, many times."""

    kind: Kind
    parts: Path  # what fetch.sh fetched
    work: Path  # for its initramfs, its disk, and what it prints
    binary: Path
    flags: list[str]
    disk: bool = False
    port: int = 0
    process: subprocess.Popen | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.work.mkdir(parents=True, exist_ok=True)
        # What an earlier run has left is no part of this story.
        if self.disk:
            self._make_disk()

    def start(self) -> float:
        """Switches it on, and waits until midge answers; gives the seconds that took."""
        self.port = self.port or free_port()
        self._initramfs()
        since = time.monotonic()
        with open(self.work / "console", "wb") as console:
            self.process = subprocess.Popen(
                self._command(), stdin=subprocess.DEVNULL, stdout=console, stderr=console, env=self._env()
            )
        while not answers(self.port):
            if self.process.poll() is not None or time.monotonic() - since > BOOT_SECONDS:
                raise RuntimeError(f"the board does not answer:\n{self.console()[-4000:]}")
            time.sleep(0.1)
        return time.monotonic() - since

    def cut_power(self) -> None:
        """As hard as it can be: nothing on the board knows."""
        if self.process is not None:
            os.kill(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def console(self) -> str:
        return (self.work / "console").read_text(errors="replace")

    def memory(self) -> int:
        """The kB of midge that are resident, as of a moment from now (smaps_rollup)."""
        seen = len(self._reports())
        until = time.monotonic() + BOOT_SECONDS
        while len(reports := self._reports()) < seen + 2:
            self.check()
            if time.monotonic() > until:
                raise RuntimeError(f"the board reports no memory:\n{self.console()[-4000:]}")
            time.sleep(0.2)
        return reports[-1]

    def peak(self) -> int:
        """The most kB that have been resident at any time (VmHWM), as of a moment from now."""
        self.memory()
        return int(re.findall(r"BOARD memory \d+ (\d+)\s", self.console())[-1])

    def free(self) -> str:
        """What the board had before midge was started, in its words."""
        return re.search(r"BOARD up, memory free: (.*)", self.console())[1].strip()

    def check(self) -> None:
        """Fails if midge, or the board, has come to an end."""
        text = self.console()
        for trouble in ("BOARD midge ended", "Out of memory", "Kernel panic", "BOARD no "):
            if trouble in text:
                raise RuntimeError(f"{trouble}:\n{text[-4000:]}")
        if self.process is None or self.process.poll() is not None:
            raise RuntimeError(f"the board is off:\n{text[-4000:]}")

    def _reports(self) -> list[int]:
        return [int(rss) for rss in re.findall(r"BOARD memory (\d+) \d+\s", self.console())]

    def _root(self) -> Path:
        return self.parts / self.kind.arch

    def _kernel(self) -> Path:
        return next((self._root() / "boot").glob("vmlinuz-*"))

    def _disk(self) -> Path:
        return self.work / "disk.img"

    def _make_disk(self) -> None:
        with open(self._disk(), "wb") as image:
            image.truncate(DISK_BYTES)
        mkfs = shutil.which("mkfs.ext4", path=os.environ["PATH"] + ":/usr/sbin:/sbin")
        subprocess.run([mkfs, "-q", "-F", self._disk()], check=True)

    def _initramfs(self) -> None:
        root = self.work / "root"
        shutil.rmtree(root, ignore_errors=True)
        for directory in ("bin", "dev", "proc", "sys", "tmp", "data", "modules"):
            (root / directory).mkdir(parents=True)
        shutil.copy(self._root() / "bin/busybox", root / "bin/busybox")
        shutil.copy(HERE / "init", root / "init")
        shutil.copy(self.binary, root / "midge")
        command = shlex.join(["/midge", *self.flags])
        (root / "midge.sh").write_text(f"#!/bin/sh\nexec {command}\n")
        kernel_modules = next((self._root() / "lib/modules").iterdir()) / "kernel"
        for module in self.kind.modules:
            shutil.copy(kernel_modules / f"{module}.ko", root / "modules")
        order = " ".join(Path(module).name for module in self.kind.modules)
        (root / "modules/order").write_text(order)
        for name in ("init", "midge", "midge.sh", "bin/busybox"):
            (root / name).chmod(0o755)
        (self.work / "initrd.gz").write_bytes(gzip.compress(archive(root), 1))

    def _command(self) -> list[str]:
        dtb = next(self._root().rglob("bcm2835-rpi-a-plus.dtb"), "")
        machine = [word.format(dtb=dtb) for word in self.kind.machine]
        command = ["qemu-system-arm", *self._share(), *machine, "-nographic", "-no-reboot"]
        command += ["-monitor", "none", "-serial", "stdio", "-kernel", str(self._kernel())]
        command += ["-initrd", str(self.work / "initrd.gz")]
        command += ["-append", f"{self.kind.append} quiet panic=-1 rdinit=/init"]
        forward = f"hostfwd=tcp:127.0.0.1:{self.port}-:1883"
        command += ["-netdev", f"user,id=n0,restrict=on,{forward}"]
        command += ["-device", f"{self.kind.network},netdev=n0"]
        if self.disk:
            command += ["-drive", f"file={self._disk()},format=raw,if=none,id=d0"]
            command += ["-device", "virtio-blk-device,drive=d0"]
        return command

    def _share(self) -> list[str]:
        share = self.parts / "host/usr/share/qemu"
        return ["-L", str(share)] if share.exists() else []

    def _env(self) -> dict[str, str]:
        """With the programs of fetch.sh, which bring their own libraries."""
        host = self.parts / "host"
        env = dict(os.environ)
        env["PATH"] = f"{host}/usr/bin:{host}/bin:{env['PATH']}"
        libraries = sorted({str(path.parent) for path in host.rglob("*.so.*")})
        if libraries:
            env["LD_LIBRARY_PATH"] = ":".join(libraries)
        return env


def archive(root: Path) -> bytes:
    """A folder as a cpio archive of the "new" format, all of it root's, as the kernel unpacks it."""
    parts = []
    entries = [(str(path.relative_to(root)), path) for path in sorted(root.rglob("*"))]
    for number, (name, path) in enumerate([*entries, ("TRAILER!!!", None)]):
        content = path.read_bytes() if path and path.is_file() else b""
        mode = path.stat().st_mode if path else 0
        header = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        parts.append(b"070701" + b"".join(b"%08X" % value for value in header))
        parts.append(padded(name.encode() + b"\0", 110))
        parts.append(padded(content, 0))
    return b"".join(parts)


def padded(content: bytes, before: int) -> bytes:
    """With so many bytes before it, up to the next multiple of four."""
    return content + b"\0" * (-(before + len(content)) % 4)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def answers(port: int) -> bool:
    """Whether a CONNECT gets its CONNACK: QEMU takes connections long before the board does."""
    connect = b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06prober"
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=2) as peer:
            peer.sendall(connect)
            return peer.recv(4) == b"\x20\x02\x00\x00"
    except OSError:
        return False
