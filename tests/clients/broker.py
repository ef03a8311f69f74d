"""Starts the broker under test: a fresh one for every test.

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
        with open(self.log_path, "wb") as log:
            self.process = subprocess.Popen(
                command(self.port, options, Path(self.files.name, "conf")),
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
