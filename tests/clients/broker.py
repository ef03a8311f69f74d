"""Starts the broker under test: a fresh one for every test; and says which tests are stories of
docs/clients.md.

MIDGE       the broker's binary, by default target/release/midge
MIDGE_LIKE  "mosquitto" starts mosquitto instead, to see how it does in the same tests
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MIDGE = Path(os.environ.get("MIDGE", ROOT / "target/release/midge"))
IS_MOSQUITTO = os.environ.get("MIDGE_LIKE") == "mosquitto"
HOST = "127.0.0.1"
PATIENCE = 10  # seconds to wait for anything that has to happen

only_midge = unittest.skipIf(IS_MOSQUITTO, "mosquitto does not promise this")


def story(*names):
    """Marks a test that tells these stories in every version, which it is given."""

    def mark(test):
        test.stories = names
        return test

    return mark


def story_of_v5(*names):
    """Marks a test that tells these stories in version 5."""

    def mark(test):
        test.cells = [(name, "5.0") for name in names]
        return test

    return mark


def in_version(test, name, version):
    def told(self):
        test(self, version)

    told.cells = [(told_name, name) for told_name in test.stories]
    return told


class Broker:
    """A running broker. Options are its long flags: max_packet_size=1000 is --max-packet-size 1000.

    Without the option `listener` it is started with `-p PORT`.
    """

    def __init__(self, **options):
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            self.port = probe.getsockname()[1]
        self.files = tempfile.TemporaryDirectory()
        self.log_path = Path(self.files.name, "log")
        command = mosquitto_command if IS_MOSQUITTO else midge_command
        self.command = command(self.port, options, Path(self.files.name, "conf"))
        self.start()

    def start(self):
        """Also again, after its end, on the same port."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self.wait_until_it_accepts()

    def wait_until_it_accepts(self):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                socket.create_connection((HOST, self.port)).close()
                return
            except ConnectionRefusedError:
                time.sleep(0.01)
        self.process.kill()
        raise AssertionError(f"the broker does not accept connections; its log:\n{self.log()}")

    def log(self):
        return self.log_path.read_text(errors="replace")

    def crash(self):
        self.process.kill()
        self.process.wait()

    def terminate(self):
        """Asks the broker to stop and returns its exit code."""
        self.process.terminate()
        try:
            return self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError("the broker does not stop on SIGTERM") from None


def midge_command(port, options, _conf):
    if not MIDGE.exists():
        raise FileNotFoundError(f"{MIDGE}: build it with `cargo build --release`, or set MIDGE")
    flags = [] if "listener" in options else ["-p", str(port)]
    for name, value in options.items():
        flags += ["--" + name.replace("_", "-"), str(value).replace("PORT", str(port))]
    return [MIDGE, *flags]


def mosquitto_command(port, options, conf):
    lines = [f"{name} {value}\n".replace("PORT", str(port)) for name, value in options.items()]
    conf.write_text("".join(lines))
    return ["mosquitto", "-c", conf, *([] if "listener" in options else ["-p", str(port)])]


class BrokerTest(unittest.TestCase):
    """A test case with a broker. If a test fails, the broker's log is printed."""

    options = {}
    versions = {}  # of MQTT, by their names in docs/clients.md, as the client calls them

    def __init_subclass__(cls):
        for name, test in list(vars(cls).items()):
            if hasattr(test, "stories"):
                delattr(cls, name)
                for version_name, version in cls.versions.items():
                    told = in_version(test, version_name, version)
                    setattr(cls, f"{name}_in_{version_name}", told)

    def setUp(self):
        self.broker = self.start_broker(**self.options)

    def start_broker(self, **options):
        broker = Broker(**options)
        self.addCleanup(self.stop_broker, broker)
        return broker

    def stop_broker(self, broker):
        if broker.process.returncode is None:
            self.assertEqual(broker.terminate(), 0, "exit code after SIGTERM")
        self.logs.append(broker.log())
        broker.files.cleanup()

    def run(self, result=None):
        self.logs = []
        problems_before = len(result.failures) + len(result.errors)
        super().run(result)
        if len(result.failures) + len(result.errors) > problems_before:
            for log in self.logs:
                print(f"\n--- log of the broker in {self.id()}\n{log}---", file=sys.stderr)
