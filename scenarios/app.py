"""The built-in application: a TCP server in the server node that sends and checks seeded bytes.

    python -m scenarios.app --name app --listen /run/app.sock

A connection begins with the client's line of JSON, which names the traffic and its seed; a relay in front may
hide every address. All connections share one thread. Emits `ready`, then `progress` for what clients send, and
`served` when all connections of a traffic have ended, or at SIGTERM, which ends it.
"""

import argparse
import json
import selectors
import signal
import socket
import sys
from dataclasses import dataclass, field
from typing import Any, NoReturn

from scenarios.counts import said
from scenarios.driver import Driver
from scenarios.events import Emitter
from scenarios.tally import TOGETHER_S, Ends, Progress
from scenarios.transfer import Order, Transfer, errno_name

LONGEST_HEADER = 4096
HEADER_S = 30.0
READ = selectors.EVENT_READ


@dataclass
class Traffic:
    """What is known of one traffic at this end."""

    name: str
    count: int
    progress: Progress
    ends: Ends = field(default_factory=Ends)
    told: bool = False


class App:
    """Serves everybody who connects."""

    def __init__(self, listener: socket.socket, emit: Emitter) -> None:
        """Serves nobody before `run`."""
        self._listener, self._emit, self._driver = listener, emit, Driver()
        self._traffic: dict[str, Traffic] = {}

    def run(self) -> NoReturn:
        """Until somebody raises SystemExit."""
        self._listener.setblocking(False)
        self._driver.watch(self._listener, READ, self._accept)
        self._report()
        while True:
            self._driver.turn()

    def last_words(self) -> None:
        """What is known of traffic that never came to its end."""
        for traffic in self._traffic.values():
            traffic.progress.tell()
            if traffic.ends.connections and not traffic.told:
                self._emit("served", traffic=traffic.name, **traffic.ends.facts())

    def _report(self) -> None:
        for traffic in self._traffic.values():
            traffic.progress.tell()
        self._driver.at(self._driver.clock() + TOGETHER_S, self._report)

    def _accept(self) -> None:
        for _ in range(64):  # the others shall have their turn too
            try:
                sock, _ = self._listener.accept()
            except BlockingIOError:
                return
            self._await_header(sock)

    def _await_header(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        waiting = True

        def let_go(error: str | None) -> None:
            nonlocal waiting
            if waiting:
                waiting = False
                self._driver.unwatch(sock)
                if error:
                    self._emit("served", error=error)
                    sock.close()

        def readable() -> None:
            try:
                asked = read_header(sock)
                if asked is not None:
                    order, ends = order_of(asked), _ends(sock)
                    let_go(None)
                    self._serve(sock, asked, order, ends)
            except OSError as error:
                let_go(errno_name(error))
            except (ValueError, KeyError, TypeError) as error:
                let_go(f"bad request: {error}")

        self._driver.watch(sock, READ, readable)
        self._driver.at(self._driver.clock() + HEADER_S, lambda: let_go("timed out: no line that asks for traffic"))

    def _serve(self, sock: socket.socket, asked: dict[str, Any], order: Order, ends: dict[str, Any] | None) -> None:
        """One connection after its first line."""
        name, clock = asked["traffic"], self._driver.clock
        traffic = self._traffic.get(name)
        if traffic is None or traffic.told:
            count = int(asked.get("count", 1))
            traffic = self._traffic[name] = Traffic(name, count, Progress(self._emit, name, "send", count == 1))
        deadline = clock() + float(asked.get("limit_s", 60.0))
        transfer = Transfer(sock, order, traffic.progress.of_one(), clock, deadline, float(asked.get("idle_s", 30.0)))
        self._driver.add(transfer, lambda over: self._over(traffic, over, ends))

    def _over(self, traffic: Traffic, transfer: Transfer, ends: dict[str, Any] | None) -> None:
        if ends is not None:  # without a relay in front this socket is the server's end: an engine tells of it else
            self._emit("closed", **ends, retransmits=said(transfer.sock)["retransmits"])
        transfer.sock.close()
        traffic.ends.add(transfer)
        if traffic.ends.connections >= traffic.count:
            traffic.told = True
            traffic.progress.tell()
            self._emit("served", traffic=traffic.name, **traffic.ends.facts())


def read_header(sock: socket.socket) -> dict[str, Any] | None:
    """The client's line, None when it has not come whole. Raises ValueError when it is none, OSError."""
    try:
        begun = sock.recv(LONGEST_HEADER, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    length = begun.find(b"\n") + 1
    if not length:
        if not begun or len(begun) >= LONGEST_HEADER:
            raise ValueError("the connection did not begin with a line that asks for traffic")
        return None
    asked = json.loads(sock.recv(length))  # no further: the stream begins after it
    if not isinstance(asked, dict):
        raise ValueError("the first line asks for nothing")
    return asked


def order_of(asked: dict[str, Any]) -> Order:
    """What the client's line asks for. Raises ValueError, KeyError, TypeError when the line is wrong."""
    if not isinstance(asked["traffic"], str):
        raise ValueError("`traffic` is no name")
    return Order(
        seed=int(asked["seed"]),
        out_name="receive",
        out_bytes=int(asked["receive"]),
        in_name="send",
        in_bytes=int(asked["send"]),
        closes_first=False,
        index=asked.get("index"),
        pace=float(asked.get("pace", 0.0)),
        every=float(asked.get("every", 0.0)),
        rounds=int(asked.get("requests", 0)),
        half={"client": "in", "server": "out"}.get(str(asked.get("half")), ""),
    )


def _ends(sock: socket.socket) -> dict[str, Any] | None:
    """Both ends' addresses, while the kernel has them: not once the connection is over. None behind a relay.

    Raises OSError.
    """
    if sock.family == socket.AF_UNIX:
        return None
    near, far = sock.getsockname(), sock.getpeername()
    (src, sport), (dst, dport) = ((end[0].removeprefix("::ffff:"), end[1]) for end in (far, near))
    return {"src": src, "sport": sport, "dst": dst, "dport": dport}


def listen(where: str) -> socket.socket:
    """A listener at the path of a Unix socket, or at an address and port."""
    if where.startswith("/"):
        return socket.create_server(where, family=socket.AF_UNIX, backlog=4096)
    host, _, port = where.rpartition(":")
    if host == "[::]":  # IPv4 as well
        return socket.create_server(("", int(port)), family=socket.AF_INET6, dualstack_ipv6=True, backlog=4096)
    return socket.create_server((host, int(port)), backlog=4096)


def _name(listener: socket.socket) -> str:
    """Where it listens, with the port that the kernel chose if it was to choose."""
    name = listener.getsockname()
    return name if isinstance(name, str) else f"{name[0]}:{name[1]}"


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="scenarios.app")
    parser.add_argument("--name", required=True)
    parser.add_argument("--listen", required=True, metavar="PATH|ADDRESS:PORT")
    arguments = parser.parse_args()
    emit = Emitter(arguments.name)
    app = App(listen(arguments.listen), emit)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    emit("ready", listen=_name(app._listener))
    try:
        app.run()
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        app.last_words()


if __name__ == "__main__":
    sys.exit(main())
