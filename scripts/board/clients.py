"""Clients on this machine, which reach the board through a port that QEMU forwards."""

import contextlib
import os
import queue
import signal
import socket
import subprocess
import threading

import paho.mqtt.client as mqtt

HOST = "127.0.0.1"
PATIENCE = 120  # seconds; an emulated board is slow, and this machine may be busy


def mosquitto(program: str, port: int, *flags: str, **options) -> list[str]:
    return [f"mosquitto_{program}", "-h", HOST, "-p", str(port), *flags]


def publish(port: int, *flags: str, lines: list[str] | None = None) -> None:
    """mosquitto_pub; with `lines`, a message of each."""
    given = None if lines is None else "".join(f"{line}\n" for line in lines)
    extra = [] if lines is None else ["-l"]
    command = mosquitto("pub", port, *flags, *extra)
    subprocess.run(command, input=given, text=True, check=True, timeout=PATIENCE)


@contextlib.contextmanager
def subscriber(port: int, *flags: str):
    """mosquitto_sub, once it is subscribed; what it printed is in the list when it has ended."""
    # Line by line, as it says "Subscribed" on the same stream only with -d.
    command = ["stdbuf", "-oL", *mosquitto("sub", port, "-d", *flags)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    lines: list[str] = []
    subscribed = threading.Event()

    def read():
        for line in process.stdout:
            line = line.rstrip("\n")
            if line.startswith("Subscribed"):
                subscribed.set()
            elif not line.startswith("Client ") and line:
                lines.append(line)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        if not subscribed.wait(PATIENCE):
            raise RuntimeError(f"not subscribed: {' '.join(command)}")
        yield lines
        process.wait(PATIENCE)
        reader.join(PATIENCE)
    finally:
        process.kill()
        process.wait()


class Paho:
    """A client whose messages and acknowledgements are kept, with a thread of its own."""

    def __init__(self, port: int, client_id: str, clean: bool = True, window: int = 20):
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.lost = threading.Event()
        self._sent: dict[int, bytes] = {}
        self._acknowledged: list[int] = []
        self._connected = threading.Event()
        self.paho = mqtt.Client(
            mqtt.CallbackAPIVersion.VERSION2,
            client_id,
            clean,
            protocol=mqtt.MQTTv311,
            reconnect_on_failure=False,
        )
        self.paho.max_inflight_messages_set(window)
        self.paho.on_connect = lambda *_: self._connected.set()
        self.paho.on_disconnect = lambda *_: self.lost.set()
        self.paho.on_message = lambda _c, _u, message: self.messages.put(message.payload)
        self.paho.on_publish = lambda _c, _u, mid, _r, _p: self._acknowledged.append(mid)
        self.paho.connect(HOST, port, keepalive=0)
        self.paho.loop_start()
        if not self._connected.wait(PATIENCE):
            raise RuntimeError(f"{client_id} does not get in")

    def publish(self, topic: str, payload: bytes, qos: int = 1, retain: bool = False) -> None:
        info = self.paho.publish(topic, payload, qos, retain)
        self._sent[info.mid] = payload

    def acknowledged(self) -> list[bytes]:
        """Payloads, in the order of their acknowledgements; packet ids must not have come round."""
        return [self._sent[mid] for mid in self._acknowledged]

    def sent(self) -> int:
        return len(self._sent)

    def waiting(self) -> int:
        return len(self._sent) - len(self._acknowledged)

    def subscribe(self, topic: str, qos: int = 1) -> None:
        done = threading.Event()
        self.paho.on_subscribe = lambda *_: done.set()
        self.paho.subscribe(topic, qos)
        if not done.wait(PATIENCE):
            raise RuntimeError(f"no SUBACK for {topic}")

    def take(self, quiet: float) -> list[bytes]:
        """What comes until nothing has come for so many seconds."""
        taken = []
        with contextlib.suppress(queue.Empty):
            while True:
                taken.append(self.messages.get(timeout=quiet))
        return taken

    def end(self) -> None:
        self.paho.disconnect()
        self.paho.loop_stop()

    def drop(self) -> None:
        """Its board has gone, so there is nobody to say farewell to."""
        self.paho.loop_stop()


class Stopped:
    """A subscriber that reads its SUBACK and nothing after it."""

    def __init__(self, port: int, topic: bytes):
        self.socket = socket.create_connection((HOST, port), timeout=PATIENCE)
        self.socket.sendall(b"\x10\x13\x00\x04MQTT\x04\x02\x00\x00\x00\x07stopped")
        topics = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x01"
        self.socket.sendall(b"\x82%c" % len(topics) + topics)
        answers = b""
        while len(answers) < 4 + 5:
            answers += self.socket.recv(4 + 5 - len(answers))

    def end(self) -> None:
        self.socket.close()


class Flood:
    """Publishers of QoS 1 that send as fast as they are let, 1 KiB a message."""

    def __init__(self, port: int, topic: str, publishers: int):
        line = "x" * 1000
        source = f"yes {line} | exec mosquitto_pub -h {HOST} -p {port} -t {topic} -q 1 -l"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.publishers = [
            subprocess.Popen(["sh", "-c", source], start_new_session=True, **quiet)
            for _ in range(publishers)
        ]

    def end(self) -> None:
        for publisher in self.publishers:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(publisher.pid, signal.SIGKILL)
            publisher.wait()


class Crowd:
    """Connections that do nothing but be there. Not paho's: select() ends at 1,024 descriptors."""

    def __init__(self, port: int, number: int):
        self.sockets = []
        for n in range(number):
            peer = socket.create_connection((HOST, port), timeout=PATIENCE)
            client_id = b"idle-%04d" % n
            header = b"\x00\x04MQTT\x04\x02\x0e\x10\x00\x09" + client_id
            peer.sendall(b"\x10%c" % len(header) + header)
            if peer.recv(4) != b"\x20\x02\x00\x00":
                raise RuntimeError(f"client {n} of {number} does not get in")
            self.sockets.append(peer)

    def end(self) -> None:
        for peer in self.sockets:
            peer.sendall(b"\xe0\x00")
            peer.close()
