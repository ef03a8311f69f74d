"""Clients on this machine, which reach the board through a port that QEMU forwards."""

import contextlib
import queue
import selectors
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


def sys_figures(port: int, branch: str) -> dict[str, int]:
    """What $SYS/broker says of that, by the last level of the topic."""
    command = mosquitto("sub", port, "-t", f"$SYS/broker/{branch}/#", "-v", "-W", "3")
    # It ends by its time limit, with status 27.
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=PATIENCE).stdout
    rows = (line.rsplit("/", 1)[1].split() for line in printed.splitlines())
    return {name: int(figure) for name, figure in rows}


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


def connect(port: int, client_id: bytes) -> socket.socket:
    """A connection that has got its CONNACK: MQTT 3.1.1, a clean session, no Keep Alive."""
    peer = socket.create_connection((HOST, port), timeout=PATIENCE)
    peer.sendall(connect_packet(4, b"", client_id))
    if (answer := peer.recv(4)) != b"\x20\x02\x00\x00":
        raise RuntimeError(f"{client_id!r} does not get in: {answer!r}")
    return peer


def reason_code(port: int, client_id: bytes) -> int:
    """That with which a client of MQTT 5 is let in or refused."""
    with socket.create_connection((HOST, port), timeout=PATIENCE) as peer:
        peer.sendall(connect_packet(5, b"\x00", client_id))
        answer = b""
        while len(answer) < 4:
            answer += peer.recv(4 - len(answer))
        return answer[3]


def connect_packet(version: int, properties: bytes, client_id: bytes) -> bytes:
    header = b"\x00\x04MQTT%c\x02\x00\x00" % version + properties
    rest = header + len(client_id).to_bytes(2, "big") + client_id
    return b"\x10%c" % len(rest) + rest


def publish_packet(topic: bytes, payload: bytes, qos: int) -> bytes:
    """With a packet id of 1, for a packet of between 128 bytes and 16 KiB."""
    packet_id = b"\x00\x01" if qos else b""
    rest = len(topic).to_bytes(2, "big") + topic + packet_id + payload
    return b"%c%c%c" % (0x30 | qos << 1, len(rest) & 0x7F | 0x80, len(rest) >> 7) + rest


class Stopped:
    """A subscriber that reads its SUBACK and nothing after it."""

    def __init__(self, port: int, topic: bytes):
        self.socket = connect(port, b"stopped")
        topics = b"\x00\x01" + len(topic).to_bytes(2, "big") + topic + b"\x01"
        self.socket.sendall(b"\x82%c" % len(topics) + topics)
        answers = b""
        while len(answers) < 5:
            answers += self.socket.recv(5 - len(answers))

    def end(self) -> None:
        self.socket.close()


class Flood:
    """Publishers that send messages of 1,000 bytes as fast as they are let, of QoS 0 and 1 by turns.

    One thread for all of them: fifty programs would take the processor from the board.
    """

    def __init__(self, port: int, topic: bytes, publishers: int):
        self._ended = threading.Event()
        self._selector = selectors.DefaultSelector()
        self._burst = b"".join(publish_packet(topic, b"x" * 1000, qos) for qos in (0, 1) * 8)
        for n in range(publishers):
            peer = connect(port, b"flood-%02d" % n)
            peer.setblocking(False)
            self._selector.register(peer, selectors.EVENT_READ | selectors.EVENT_WRITE, [self._burst])
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.is_set():
            for key, events in self._selector.select(0.1):
                try:
                    self._serve(key.fileobj, key.data, events)
                except BlockingIOError:
                    pass
                except ConnectionError:  # midge may end those that take most
                    self._selector.unregister(key.fileobj)
                    key.fileobj.close()

    def _serve(self, peer: socket.socket, rest: list[bytes], events: int) -> None:
        if events & selectors.EVENT_WRITE:
            rest[0] = rest[0][peer.send(rest[0]) :] or self._burst
        if events & selectors.EVENT_READ and not peer.recv(65536):
            raise ConnectionResetError

    def left(self) -> int:
        """Publishers that are still connected."""
        return len(self._selector.get_map())

    def end(self) -> None:
        self._ended.set()
        self._thread.join()
        for key in list(self._selector.get_map().values()):
            self._selector.unregister(key.fileobj)
            key.fileobj.close()


class Crowd:
    """Connections that do nothing but be there. Not paho's: select() ends at 1,024 descriptors."""

    def __init__(self, port: int, number: int):
        self.sockets = []
        for n in range(number):
            self.sockets.append(connect(port, b"idle-%04d" % n))

    def end(self) -> None:
        for peer in self.sockets:
            peer.sendall(b"\xe0\x00")
            peer.close()
