"""A way to the broker that can be cut, for clients whose connection a test cannot reach."""

import socket
import threading

from broker import HOST


class Line:
    def __init__(self, test):
        self.broker_port = test.broker.port
        self.ends = []
        self.listener = socket.create_server((HOST, 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()
        test.addCleanup(self.close)

    def accept(self):
        try:
            while True:
                client, _ = self.listener.accept()
                broker = socket.create_connection((HOST, self.broker_port))
                self.ends += [client, broker]
                for way in [(client, broker), (broker, client)]:
                    threading.Thread(target=carry, args=way, daemon=True).start()
        except OSError:
            pass  # the listener is closed, or the broker is gone

    def cut(self):
        while self.ends:
            hang_up(self.ends.pop())

    def close(self):
        hang_up(self.listener)  # close() alone would not wake accept()
        self.listener.close()
        self.cut()


def carry(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
    except OSError:
        pass  # it was cut
    hang_up(source)
    hang_up(sink)
    source.close()


def hang_up(end):
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # it was already
