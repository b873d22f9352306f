"""The traffic client: one process, one connection or many, seeded bytes out and in. Decides nothing; its events tell.

    python -m scenarios.client --name c1 --traffic download --seed 7 --send 0 --receive 100000000 --to
    10.0.0.1:8080

Emits `ready` and waits for SIGUSR1 (unless --now), then `connected`, `progress` about every 20 ms (of many
connections: every 100 ms, added up), `ended` with what each connection did, `done` when all have ended, and `resets` a
moment later. Exits 0 whatever happens to the connections.
"""

import argparse
import json
import os
import selectors
import signal
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

from scenarios.counts import said
from scenarios.driver import Driver
from scenarios.events import Emitter
from scenarios.resets import Address, End, Pair, ResetCounter, end, pair
from scenarios.sizes import draw
from scenarios.tally import PORTS, TOGETHER_S, TOLD_RESETS, Each, Ends, Progress
from scenarios.transfer import Order, Transfer, errno_name

LINGER_S = 0.2
COUNTS = ("retransmits", "out_of_order", "duplicates")


class Client:
    """All connections of one traffic."""

    def __init__(self, arguments: argparse.Namespace, emit: Emitter) -> None:
        """Connects nothing yet."""
        self._a, self._emit, self._driver = arguments, emit, Driver()
        host, _, port = arguments.to.rpartition(":")
        self._to = (host.strip("[]"), int(port))
        self._alone = arguments.count == 1
        self._ends = Ends()
        self._progress = Progress(emit, arguments.traffic, "receive", self._alone)
        self._each = Each(emit, arguments.traffic)
        self._said: dict[str, list[int | None]] = {key: [] for key in COUNTS}
        self._left: int = arguments.count
        self._new: list[tuple[Address, Address]] = []
        self._ports: dict[Pair, int] = {}
        self._gone: set[End] = set()
        self._deadline = time.monotonic() + arguments.limit

    def run(self) -> None:
        """Connect, move everything, report."""
        try:
            counter: ResetCounter | None = ResetCounter()
        except PermissionError:
            counter = None
        begin = self._driver.clock()
        for index in range(self._a.count):
            self._driver.at(begin + (index / self._a.arrivals if self._a.arrivals else 0.0), partial(self._open, index))
        if not self._alone:
            self._report()
        while self._left:
            self._driver.turn()
        self._tell_connected()
        self._progress.tell()
        self._each.tell()
        sums = {key: None if None in found else sum(filter(None, found)) for key, found in self._said.items() if found}
        self._emit("done", traffic=self._a.traffic, **self._ends.facts(), **sums)
        if self._ports:
            # An RST that answers a connection's last segments is seen only if somebody still looks.
            found = counter.count_for(LINGER_S, self._ports.keys(), self._gone) if counter else None
            self._tell_resets(found)

    def _tell_resets(self, found: Counter[Pair] | None) -> None:
        """`of`: by the client's port, unless there are more than a line of events has room for."""
        few = found is not None and len(found) <= TOLD_RESETS
        of = {"of": {str(self._ports[one]): count for one, count in (found or {}).items()}} if few else {}
        self._emit("resets", traffic=self._a.traffic, resets=None if found is None else found.total(), **of)

    def _open(self, index: int) -> None:
        family = socket.AF_INET6 if ":" in self._to[0] else socket.AF_INET
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        waiting = True

        def settle(error: str | None) -> None:
            nonlocal waiting
            if not waiting:
                return
            waiting = False
            self._driver.unwatch(sock)
            if error is None:
                self._begin(index, sock)
            else:
                self._fail(sock, error)

        def ready() -> None:
            number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            settle(errno_name(OSError(number, os.strerror(number))) if number else None)

        self._driver.watch(sock, selectors.EVENT_WRITE, ready)
        self._driver.at(min(self._driver.clock() + self._a.idle, self._deadline), lambda: settle("timed out"))
        try:
            sock.connect(self._to)
        except BlockingIOError:
            pass
        except OSError as error:
            settle(errno_name(error))

    def _fail(self, sock: socket.socket, error: str) -> None:
        sock.close()
        self._ends.fail(f"cannot connect: {error}")
        self._left -= 1

    def _begin(self, index: int, sock: socket.socket) -> None:
        try:
            near, far = sock.getsockname()[:2], sock.getpeername()[:2]
            sock.send(header(self._a, None if self._alone else index))  # a line fits into an empty queue
        except OSError as error:
            self._fail(sock, errno_name(error))
            return
        self._ports[pair(near, far)] = near[1]
        self._new.append((near, far))
        if self._alone:
            self._tell_connected()
        order = order_of(self._a, None if self._alone else index)
        report, clock = self._progress.of_one(), self._driver.clock
        transfer = Transfer(sock, order, report, clock, self._deadline, self._a.idle)
        self._driver.add(transfer, lambda over: self._over(over, near, far))

    def _over(self, transfer: Transfer, near: Address, far: Address) -> None:
        counts = said(transfer.sock) | {"duplicates": transfer.dropped}
        for key, count in counts.items():
            self._said[key].append(count)
        self._each.add(transfer, near, far, counts)
        transfer.sock.close()
        if transfer.whole and self._a.half == "server":  # otherwise it is the application that closes last
            self._gone.add(end(*near))
        self._ends.add(transfer)
        for first in range(0, len(transfer.responses), PORTS):
            times = [round(one * 1000, 3) for one in transfer.responses[first : first + PORTS]]
            self._emit("responses", traffic=self._a.traffic, ms=times)
        self._left -= 1

    def _report(self) -> None:
        self._tell_connected()
        self._progress.tell()
        self._each.tell()
        self._driver.at(self._driver.clock() + TOGETHER_S, self._report)

    def _tell_connected(self) -> None:
        """Many connections differ in the client's port only."""
        while self._new:
            some, self._new = self._new[:PORTS], self._new[PORTS:]
            (src, sport), (dst, dport) = some[0]
            ports: dict[str, Any] = {"sport": sport}
            if not self._alone:
                ports = {"sports": [near[1] for near, _ in some]}
            self._emit("connected", traffic=self._a.traffic, src=src, **ports, dst=dst, dport=dport)


def header(arguments: argparse.Namespace, index: int | None) -> bytes:
    """The line that asks the application for this traffic."""
    asked = {key: getattr(arguments, key) for key in ("traffic", "seed")}
    asked |= {key: bytes_of(arguments, key, index) for key in ("send", "receive")}
    asked |= {"idle_s": arguments.idle, "limit_s": arguments.limit}
    if index is not None:
        asked |= {"index": index, "count": arguments.count}
    asked |= {key: value for key in ("pace", "every", "half", "requests") if (value := getattr(arguments, key))}
    return json.dumps(asked).encode() + b"\n"


def bytes_of(arguments: argparse.Namespace, direction: str, index: int | None) -> int:
    """All that one connection moves in that direction."""
    size = draw(getattr(arguments, direction), arguments.seed, direction, index or 0)
    return size * (arguments.requests or 1)


def order_of(arguments: argparse.Namespace, index: int | None) -> Order:
    """The client's end of the same."""
    return Order(
        seed=arguments.seed,
        out_name="send",
        out_bytes=bytes_of(arguments, "send", index),
        in_name="receive",
        in_bytes=bytes_of(arguments, "receive", index),
        closes_first=True,
        index=index,
        pace=arguments.pace,
        every=arguments.every,
        rounds=arguments.requests,
        think=arguments.think,
        half={"client": "out", "server": "in"}.get(arguments.half, ""),
    )


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scenarios.client")
    parser.add_argument("--name", required=True)
    parser.add_argument("--traffic", required=True)
    parser.add_argument("--to", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--send", type=json.loads, default=0, metavar="BYTES|DISTRIBUTION")
    parser.add_argument("--receive", type=json.loads, default=0, metavar="BYTES|DISTRIBUTION")
    parser.add_argument("--requests", type=int, default=0, help="so many, each answered before the next")
    parser.add_argument("--think", type=float, default=0.0, metavar="SECONDS", help="between answer and request")
    parser.add_argument("--count", type=int, default=1, help="connections, each with these bytes")
    parser.add_argument("--arrivals", type=float, default=0.0, metavar="PER_SECOND", help="0: all at once")
    parser.add_argument("--pace", type=float, default=0.0, metavar="BYTES_PER_SECOND", help="of each end of each")
    parser.add_argument("--every", type=float, default=0.0, metavar="SECONDS", help="one byte, so often")
    parser.add_argument("--half", choices=("client", "server"), help="closes as soon as it has sent all")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="for the whole transfer")
    parser.add_argument("--idle", type=float, default=30.0, metavar="SECONDS", help="without a byte either way")
    parser.add_argument("--now", action="store_true", help="do not wait for SIGUSR1")
    return parser.parse_args(words)


def main() -> int:
    """Entry point."""
    arguments = parse()
    emit = Emitter(arguments.name)
    if not arguments.now:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        emit("ready", traffic=arguments.traffic)
        signal.sigwait({signal.SIGUSR1})
    Client(arguments, emit).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
