"""Many connections that wait: a client that counts when each got its byte, and an application that sends them.

    python -m benchmarks.crowd serve --listen 127.0.0.1:7000            SIGUSR1: a byte to every connection
    python -m benchmarks.crowd connect --name crowd --to 10.0.0.1:8080 --count 5000

Decides: nothing. The client emits `crowd_connected`, and `crowd_delivered` once every connection has got a byte or
failed: seconds (of the run's zero) of the last byte, and of the median one.
"""

from __future__ import annotations

import argparse
import select
import signal
import socket
import statistics
import sys
import time
from contextlib import suppress

from scenarios.events import Emitter

HELLO = b"h" * 200
"""What each connection says first: enough to be offloaded."""
AT_ONCE = 100
"""Connections whose handshake is under way at the same time."""


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def serve(listen: tuple[str, int]) -> None:
    listener = socket.create_server(listen, backlog=4096)
    listener.setblocking(False)
    epoll, connections = select.epoll(), dict[int, socket.socket]()
    epoll.register(listener, select.EPOLLIN)

    def send(*_: object) -> None:
        for one in connections.values():
            with suppress(OSError):
                one.send(b"!")

    signal.signal(signal.SIGUSR1, send)
    while True:
        for fd, _ in epoll.poll():
            if fd != listener.fileno():
                _read(epoll, connections, fd)
                continue
            with suppress(BlockingIOError):
                while True:
                    one, _ = listener.accept()
                    one.setblocking(False)
                    connections[one.fileno()] = one
                    epoll.register(one, select.EPOLLIN)


def _read(epoll: select.epoll, connections: dict[int, socket.socket], fd: int) -> None:
    with suppress(BlockingIOError):
        try:
            if connections[fd].recv(65536):
                return
        except ConnectionError:
            pass
        epoll.unregister(fd)
        connections.pop(fd).close()


def connect(emit: Emitter, to: tuple[str, int], count: int) -> None:
    sockets = _connected(to, count)
    emit("crowd_connected", count=len(sockets))
    epoll, waiting, arrived, broken = select.epoll(), {one.fileno(): one for one in sockets}, list[float](), 0
    for fd in waiting:
        epoll.register(fd, select.EPOLLIN)
    while waiting:
        for fd, _ in epoll.poll():
            one = waiting.pop(fd)
            epoll.unregister(fd)
            try:
                if not one.recv(4096):
                    raise ConnectionError("closed")
                arrived.append(time.monotonic() - emit.zero)
            except OSError:
                broken += 1
    middle = statistics.median(arrived) if arrived else None
    emit("crowd_delivered", count=len(arrived), broken=broken, last=max(arrived, default=None), median=middle)
    signal.pause()


def _connected(to: tuple[str, int], count: int) -> list[socket.socket]:
    """All connections, each having said hello."""
    poll, made, under_way = select.epoll(), list[socket.socket](), dict[int, socket.socket]()
    while len(made) < count:
        while len(under_way) < AT_ONCE and len(made) + len(under_way) < count:
            one = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            one.setblocking(False)
            with suppress(BlockingIOError):
                one.connect(to)
            under_way[one.fileno()] = one
            poll.register(one, select.EPOLLOUT)
        for fd, _ in poll.poll():
            one = under_way.pop(fd)
            poll.unregister(fd)
            one.send(HELLO)
            made.append(one)
    return made


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.crowd")
    verbs = parser.add_subparsers(required=True, dest="verb")
    server = verbs.add_parser("serve")
    server.add_argument("--listen", type=address, required=True)
    client = verbs.add_parser("connect")
    client.add_argument("--name", required=True)
    client.add_argument("--to", type=address, required=True)
    client.add_argument("--count", type=int, required=True)
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if arguments.verb == "serve":
        serve(arguments.listen)
    else:
        connect(Emitter(arguments.name), arguments.to, arguments.count)
    return 0


if __name__ == "__main__":
    sys.exit(main())
