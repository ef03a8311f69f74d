"""What an emulated board must do, told from outside; see ../board-test.sh.

Each story starts a board of its own. What is measured is printed as rows of a table.
"""

import argparse
import datetime
import random
import signal
import sys
import time
from pathlib import Path

from clients import PATIENCE, Crowd, Flood, Paho, Stopped, publish, reason_code, subscriber, sys_figures
from emulator import KINDS, Board

OPEN = ["--listener", "1883", "--allow-anonymous", "true"]
ON_DISK = [*OPEN, "--persistence", "true", "--persistence-location", "/data/midge"]

TITLES = {
    "armv7": "ARMv7 (Cortex-A7) with 40 MB",
    "armv6": "ARMv6: Raspberry Pi A+",
}

# kB that may be resident.
START_MAX = 1024
IDLE_MAX = 1536
IDLE_CLIENTS = 500
MEMORY_LIMIT = 6_000_000  # bytes
# With what the allocator keeps, the program's own pages, and the most that one turn brings.
FLOOD_MAX = 9_000
OFFLINE_MESSAGES = 20_000


class Stories:
    def __init__(self, args):
        self.args = args
        self.rows: list[tuple[str, str, str]] = []
        self.failed: list[str] = []

    def board(self, name: str, form: str, flags: list[str], disk: bool = False) -> Board:
        return Board(
            kind=KINDS[self.args.board],
            parts=self.args.parts,
            work=self.args.work / name,
            binary=self.args.binaries / f"midge-{self.args.board}-{form}",
            flags=flags,
            disk=disk,
        )

    def note(self, what: str, figure: str, budget: str = "") -> None:
        self.rows.append((what, figure, budget))
        print(f"    {what}: {figure} {f'({budget})' if budget else ''}", flush=True)

    def note_memory(self, what: str, kilobytes: int, most: int | None = None) -> None:
        self.note(what, f"{kilobytes} kB resident", f"{most} kB at most" if most else "")
        if most and kilobytes > most:
            self.failed.append(f"{what}: {kilobytes} kB, {kilobytes - most} too many")

    def tell(self, story) -> None:
        print(f"=== {story.__doc__.splitlines()[0]}", flush=True)
        since = time.monotonic()
        try:
            story()
        except Exception as trouble:  # the other stories are still worth telling
            self.failed.append(f"{story.__name__}: {trouble}")
            print(f"    FAILED: {trouble}", flush=True)
        print(f"=== {time.monotonic() - since:.0f} s", flush=True)

    def every_qos_and_retained(self):
        """mosquitto_pub and mosquitto_sub: QoS 0, 1 and 2, and a retained message."""
        board = self.board("qos", "minimal", OPEN)
        try:
            seconds = board.start()
            self.note("from power on to the first CONNACK", f"{seconds:.1f} s (emulated)")
            self.note("memory free before midge starts", board.free())
            self.note_memory("minimal, at the start", board.memory(), START_MAX)
            lines = [f"message {n}" for n in range(200)]
            for qos in ("0", "1", "2"):
                with subscriber(board.port, "-t", "a/+", "-q", qos, "-C", "200") as got:
                    publish(board.port, "-t", "a/b", "-q", qos, lines=lines)
                expect(f"QoS {qos}", got, lines)
            publish(board.port, "-t", "home/t", "-r", "-q", "1", "-m", "21.5")
            with subscriber(board.port, "-t", "home/#", "-v", "-C", "1") as got:
                pass
            expect("retained", got, ["home/t 21.5"])
            board.check()
        finally:
            board.cut_power()

    def many_idle_clients_and_load(self):
        """500 idle clients, then load beside them, then all leave."""
        board = self.board("crowd", "minimal", OPEN)
        try:
            board.start()
            crowd = Crowd(board.port, IDLE_CLIENTS)
            idle = board.memory()
            self.note_memory(f"minimal, {IDLE_CLIENTS} idle clients", idle, IDLE_MAX)
            lines = [f"{n:05} {'x' * 58}" for n in range(5000)]
            since = time.monotonic()
            with subscriber(board.port, "-t", "load", "-q", "1", "-C", "5000") as got:
                publish(board.port, "-t", "load", "-q", "1", lines=lines)
            expect("load", got, lines)
            rate = 5000 / (time.monotonic() - since)
            self.note("QoS 1 beside them, 64 bytes, one publisher", f"{rate:.0f}/s (emulated)")
            self.note_memory("minimal, most under that load", board.peak())
            crowd.end()
            time.sleep(2)
            self.note_memory("minimal, after all have left", board.memory())
            board.check()
        finally:
            board.cut_power()

    def offline_session(self):
        """20,000 messages wait for a client that is away, on disk, and all arrive in order."""
        board = self.board("offline", "full", ON_DISK, disk=True)
        try:
            board.start()
            self.note_memory("full, on disk, at the start", board.memory())
            away = Paho(board.port, "away", clean=False)
            away.subscribe("q/#")
            away.end()
            lines = [f"{n:05}" for n in range(OFFLINE_MESSAGES)]
            publish(board.port, "-t", "q/x", "-q", "1", "-M", "100", lines=lines)
            self.note_memory(f"full, {OFFLINE_MESSAGES} messages waiting", board.memory())
            back = Paho(board.port, "away", clean=False)
            got = [message.decode() for message in back.take(quiet=10)]
            back.end()
            expect("offline session", got, lines)
            self.note_memory("full, after they have been delivered", board.memory())
            self.note_memory("full, most in between", board.peak())
            board.check()
        finally:
            board.cut_power()

    def flood(self):
        """50 publishers, a subscriber that has stopped reading, and 6 MB: it lives, and recovers."""
        # Nothing else bounds what waits for the subscriber.
        endless = ["--max-queued-messages", "0", "--max-queued-bytes", "0"]
        flags = [*OPEN, *endless, "--memory-limit", str(MEMORY_LIMIT), "--connection-messages", "false"]
        board = self.board("flood", "full", flags)
        flood = None
        try:
            board.start()
            stopped = Stopped(board.port, b"flood/#")
            flood = Flood(board.port, b"flood/x", publishers=50)
            self.wait_for(board, "Memory is short")
            # Between two waves it is not short, and somebody may come in.
            codes = [reason_code(board.port, b"new-%d" % n) for n in range(20)]
            if set(codes) - {0} != {0x97}:
                raise RuntimeError(f"new clients were answered {codes}, and not 0x97")
            self.note("new clients meanwhile", f"{codes.count(0x97)} of {len(codes)} refused with 0x97")
            time.sleep(30)
            board.check()
            if flood.left() != 50:
                raise RuntimeError(f"{flood.left()} of 50 publishers are still connected")
            flood.end()
            stopped.end()
            self.wait_for(board, "Memory suffices again")
            figures = sys_figures(board.port, "memory")
            for name in ("refused", "dropped", "slowed"):
                if not figures[name]:
                    raise RuntimeError(f"$SYS/broker/memory/{name} is 0")
            counted = ", ".join(f"{figures[name]} {name}" for name in ("refused", "dropped", "slowed"))
            self.note("counted in $SYS/broker/memory", counted)
            with subscriber(board.port, "-t", "after", "-q", "1", "-C", "1") as got:
                publish(board.port, "-t", "after", "-q", "1", "-m", "the flood")
            expect("after the flood", got, ["the flood"])
            flooded = f"full, most in a flood with a limit of {MEMORY_LIMIT} bytes"
            self.note_memory(flooded, board.peak(), FLOOD_MAX)
            self.note_memory("full, after it", board.memory())
            board.check()
        finally:
            if flood:
                flood.end()
            board.cut_power()

    def wait_for(self, board: Board, words: str) -> None:
        """Until midge has logged them."""
        until = time.monotonic() + PATIENCE
        while words not in board.console():
            board.check()
            if time.monotonic() > until:
                raise RuntimeError(f"midge does not log {words!r}:\n{board.console()[-4000:]}")
            time.sleep(0.5)
        print("    " + next(line for line in board.console().splitlines() if words in line), flush=True)

    def power_cuts(self):
        """The power goes at a random moment under load: everything acknowledged is there."""
        board = self.board("cuts", "full", ON_DISK, disk=True)
        dice = random.Random(self.args.seed)
        acknowledged: set[bytes] = set()
        delivered: set[bytes] = set()
        newest_retained = -1
        try:
            for cut in range(self.args.cuts + 1):
                board.start()
                reader = Paho(board.port, "reader", clean=False)
                reader.subscribe("cut/#")
                watcher = Paho(board.port, f"watcher-{cut}")
                watcher.subscribe("state")
                delivered.update(reader.take(quiet=3))
                kept = watcher.take(quiet=1)
                lost = acknowledged - delivered
                if lost:
                    raise RuntimeError(f"cut {cut}: {len(lost)} acknowledged are lost: {min(lost)!r}")
                if newest_retained >= 0 and (not kept or int(kept[0]) < newest_retained):
                    raise RuntimeError(f"cut {cut}: retained is {kept}, acknowledged {newest_retained}")
                reader.end()
                watcher.end()
                if cut == self.args.cuts:
                    break
                writer = Paho(board.port, f"writer-{cut}")
                until = time.monotonic() + dice.uniform(0.5, 4)
                n = 0
                while time.monotonic() < until and not writer.lost.is_set():
                    if writer.waiting() < 50:
                        writer.publish("cut/x", f"{cut:03}-{n:06}".encode())
                        if n % 10 == 0:
                            state = f"{cut * 1_000_000 + n}".encode()
                            writer.publish("state", state, retain=True)
                        n += 1
                    else:
                        time.sleep(0.001)
                board.cut_power()
                writer.drop()
                answered = writer.acknowledged()
                if not answered:
                    raise RuntimeError(f"cut {cut}: nothing was acknowledged, so nothing was tried")
                for payload in answered:
                    if payload.isdigit():
                        newest_retained = max(newest_retained, int(payload))
                    else:
                        acknowledged.add(payload)
                print(f"    cut {cut + 1}: {writer.sent()} sent, {len(answered)} acknowledged", flush=True)
            self.note(
                f"{self.args.cuts} power cuts",
                f"{len(acknowledged)} acknowledged messages, none lost",
            )
            board.check()
        finally:
            board.cut_power()


def expect(what: str, got: list[str], wanted: list[str]) -> None:
    if got != wanted:
        at = next((n for n, pair in enumerate(zip(got, wanted)) if pair[0] != pair[1]), len(got))
        raise RuntimeError(f"{what}: {len(got)} of {len(wanted)} arrived, the first fault is at {at}")


def write_section(document: Path, title: str, commit: str, table: list[str]) -> None:
    """In place of what stood under that title, or at the end."""
    said = f"{datetime.date.today()}, commit {commit}:"
    section = "\n".join([title, "", said, "", *table]) + "\n"
    before, found, rest = document.read_text().partition(title + "\n")
    if not found:
        document.write_text(f"{before.rstrip()}\n\n{section}")
        return
    following = rest.find("\n#")
    after = rest[following:] if following >= 0 else ""
    document.write_text(before + section + after)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("board", choices=KINDS)
    parser.add_argument("--parts", type=Path, required=True, help="what fetch.sh fetched")
    parser.add_argument("--binaries", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", help="the one story of that name")
    parser.add_argument("--write", type=Path, help="the document that gets the table")
    parser.add_argument("--commit", help="what it was measured of")
    stories = Stories(args := parser.parse_args())
    # As with an interrupt: no board is to go on when this has ended.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    todo = [stories.every_qos_and_retained]
    if args.board == "armv7":
        todo += [stories.many_idle_clients_and_load, stories.offline_session, stories.flood]
        todo += [stories.power_cuts]
    for story in todo:
        if args.only in (None, story.__name__):
            stories.tell(story)
    table = ["| | | at most |", "|---|---|---|"]
    table += [f"| {' | '.join(row)} |" for row in stories.rows]
    print("\n".join(table))
    if args.write and not stories.failed:
        write_section(args.write, f"### {TITLES[args.board]}", args.commit, table)
    for failure in stories.failed:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if stories.failed else 0


if __name__ == "__main__":
    sys.exit(main())
