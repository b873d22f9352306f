"""One application and its client, for goodput and latency: the same program at every end that is compared.

    python -m benchmarks.talk serve --listen 0.0.0.0:7000
    python -m benchmarks.talk goodput|latency|requests --to 10.0.0.1:8080 --number N          prints JSON

Decides: nothing. A request is 64 bytes: the number of bytes that it asks for, and padding.
"""

from __future__ import annotations

import argparse
import json
import socket
import struct
import threading
import time

from benchmarks.harness import percentile

REQUEST = 64
SETTLE = 0.3
"""Seconds from a connection's first request to the first one that counts: meanwhile it is offloaded, if it is to be."""
LIMIT = 60.0
TALKERS, ANSWER = 8, 1024
"""Of `requests`: connections at the same time, and the bytes of an answer."""


def address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    return host, int(port)


def serve(listen: tuple[str, int]) -> None:
    with socket.create_server(listen, backlog=256) as listener:
        while True:
            one, _ = listener.accept()
            threading.Thread(target=_answer, args=(one,), daemon=True).start()


def _answer(one: socket.socket) -> None:
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    with one:
        while len(request := one.recv(REQUEST, socket.MSG_WAITALL)) == REQUEST:
            one.sendall(bytes(struct.unpack_from("!Q", request)[0]))


def connect(to: tuple[str, int]) -> socket.socket:
    """A connection that has asked once, and waited for what follows from that."""
    one = socket.create_connection(to, timeout=LIMIT)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(4):
        ask(one, ANSWER)
    time.sleep(SETTLE)
    return one


def ask(one: socket.socket, size: int) -> None:
    one.sendall(struct.pack("!Q", size).ljust(REQUEST, b"\0"))
    left = size
    while left:
        got = len(one.recv(min(left, 1 << 18)))
        if not got:
            raise ConnectionError("closed in the middle of an answer")
        left -= got


def goodput(to: tuple[str, int], number: int) -> float:
    """Mbit/s of one download of so many bytes."""
    with connect(to) as one:
        began = time.perf_counter()
        ask(one, number)
        return 8e-6 * number / (time.perf_counter() - began)


def latency(to: tuple[str, int], number: int) -> list[float]:
    """Microseconds of every percentile, from 1 to 100, of so many round trips."""
    took = []
    with connect(to) as one:
        for _ in range(number):
            began = time.perf_counter()
            ask(one, 1)
            took.append(time.perf_counter() - began)
    return [round(1e6 * percentile(took, percent), 1) for percent in range(1, 101)]


def requests(to: tuple[str, int], number: int) -> float:
    """Requests a second, several connections at the same time, so many on each."""
    ready = threading.Barrier(TALKERS + 1)

    def talk() -> None:
        with connect(to) as one:
            ready.wait(LIMIT)
            for _ in range(number):
                ask(one, ANSWER)

    talkers = [threading.Thread(target=talk) for _ in range(TALKERS)]
    for one in talkers:
        one.start()
    ready.wait(LIMIT)
    began = time.perf_counter()
    for one in talkers:
        one.join()
    return TALKERS * number / (time.perf_counter() - began)


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="benchmarks.talk")
    verbs = parser.add_subparsers(required=True, dest="verb")
    verbs.add_parser("serve").add_argument("--listen", type=address, required=True)
    measures = {"goodput": goodput, "latency": latency, "requests": requests}
    for name in measures:
        verb = verbs.add_parser(name)
        verb.add_argument("--to", type=address, required=True)
        verb.add_argument("--number", type=int, required=True)
    arguments = parser.parse_args()
    if arguments.verb == "serve":
        serve(arguments.listen)
    print(json.dumps(measures[arguments.verb](arguments.to, arguments.number)), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
