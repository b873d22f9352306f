"""The traffic client: one process, one connection, seeded bytes out and in. Decides nothing; its events tell.

    python -m scenarios.client --name c1 --traffic download --seed 7 --send 0 --receive 100000000 --to
    10.0.0.1:8080

Emits `ready` and waits for SIGUSR1 (unless --now), then `connected`, `progress` about every 20 ms, `done`,
and `resets` a moment later. Exits 0 whatever happens to the connection.
"""

import argparse
import json
import signal
import socket
import struct
import sys
import time

from scenarios.events import Emitter
from scenarios.resets import Address, ResetCounter
from scenarios.transfer import Order, Transfer, errno_name

LINGER_S = 0.2
TCP_INFO_TOTAL_RETRANS = 100
"""Offset of tcpi_total_retrans in struct tcp_info, a u32."""


def total_retransmits(sock: socket.socket) -> int | None:
    """Segments this end has sent again over the connection's life; None when the kernel does not say."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    except OSError:
        return None
    if len(info) < TCP_INFO_TOTAL_RETRANS + 4:
        return None
    return int(struct.unpack_from("=I", info, TCP_INFO_TOTAL_RETRANS)[0])


def header(arguments: argparse.Namespace) -> bytes:
    """The line that asks the application for this traffic."""
    asked = {"traffic": arguments.traffic, "seed": arguments.seed}
    asked |= {
        "send": arguments.send,
        "receive": arguments.receive,
        "idle_s": arguments.idle,
        "limit_s": arguments.limit,
    }
    return json.dumps(asked).encode() + b"\n"


def run(arguments: argparse.Namespace, emit: Emitter) -> None:
    """Connect, move everything, report."""
    host, _, port = arguments.to.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + arguments.limit
    try:
        counter: ResetCounter | None = ResetCounter()
    except PermissionError:
        counter = None
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(min(arguments.idle, arguments.limit))
    try:
        sock.connect((host.strip("[]"), int(port)))
        near, far = _ends(sock)
        emit("connected", traffic=arguments.traffic, src=near[0], sport=near[1], dst=far[0], dport=far[1])
        sock.sendall(header(arguments))
    except OSError as error:
        reason = "timed out" if isinstance(error, TimeoutError) else errno_name(error)
        emit(
            "done",
            traffic=arguments.traffic,
            error=f"cannot connect: {reason}",
            sent_bytes=0,
            received_bytes=0,
        )
        return

    def report(received: int, gap: float) -> None:
        keys = {
            "traffic": arguments.traffic,
            "dir": "receive",
            "bytes": received,
            "gap_ms": round(gap * 1000, 3),
        }
        emit("progress", **keys)

    order = Order(arguments.seed, "send", arguments.send, "receive", arguments.receive, closes_first=True)
    transfer = Transfer(sock, order, report, time.monotonic, deadline, arguments.idle)
    transfer.run()
    retransmits = total_retransmits(sock)
    sock.close()
    emit(
        "done",
        traffic=arguments.traffic,
        error=transfer.error,
        sent_bytes=transfer.sent,
        sent_sha256=transfer.sent_sha256,
        received_bytes=transfer.check.bytes,
        received_sha256=transfer.check.sha256,
        first_difference=transfer.check.first_difference,
        retransmits=retransmits,
    )
    # An RST that answers the connection's last segments is seen only if somebody still looks.
    resets = counter.count_for(LINGER_S, near, far) if counter else None
    emit("resets", traffic=arguments.traffic, resets=resets)


def _ends(sock: socket.socket) -> tuple[Address, Address]:
    near, far = sock.getsockname(), sock.getpeername()
    return (near[0], near[1]), (far[0], far[1])


def main() -> int:
    """Entry point."""
    parser = argparse.ArgumentParser(prog="scenarios.client")
    parser.add_argument("--name", required=True)
    parser.add_argument("--traffic", required=True)
    parser.add_argument("--to", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--send", type=int, default=0, metavar="BYTES")
    parser.add_argument("--receive", type=int, default=0, metavar="BYTES")
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS", help="for the whole transfer")
    parser.add_argument("--idle", type=float, default=30.0, metavar="SECONDS", help="without a byte either way")
    parser.add_argument("--now", action="store_true", help="do not wait for SIGUSR1")
    arguments = parser.parse_args()
    emit = Emitter(arguments.name)
    if not arguments.now:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        emit("ready", traffic=arguments.traffic)
        signal.sigwait({signal.SIGUSR1})
    run(arguments, emit)
    return 0


if __name__ == "__main__":
    sys.exit(main())
