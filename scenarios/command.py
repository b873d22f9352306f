"""Traffic that a program of its own makes (curl, iperf3, …): runs it, and tells of the connections it has.

    python -m scenarios.command --name client-page --traffic page --to 10.0.0.1:80 --command 'curl …'

Decides nothing; its exit status is what the program thinks of it. Whatever goes from this node to that address is
taken for the program's. Emits `ready`, waits for SIGUSR1, then `connected` for each connection that came about, and
`done` and `resets` at its end. What the program prints goes to standard error, which is the log. Exits 0 whatever
becomes of it.
"""

import argparse
import ipaddress
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from scenarios.events import Emitter
from scenarios.resets import ACK, RST, SYN, Segments

LOOK_S = 0.05
LINGER_S = 0.2
"""For the last segments to come."""
LONGEST = 200
"""Characters of what the program said last."""


class Command:
    """One run of the program."""

    def __init__(self, arguments: argparse.Namespace, emit: Emitter) -> None:
        """Starts nothing yet."""
        self._a, self._emit = arguments, emit
        host, _, port = arguments.to.rpartition(":")
        self._host = host.strip("[]")
        address = ipaddress.ip_address(self._host).packed
        self._to = {(address, one) for one in (int(port), *arguments.ports)}
        self._segments = Segments(SYN | RST)
        self._ports: set[tuple[int, int]] = set()
        """This end's and the server's, of its connections."""
        self._resets = 0
        self._said = b""

    def run(self) -> None:
        """To its end."""
        began = time.monotonic()
        process = subprocess.Popen(
            ["sh", "-c", self._a.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            error = self._follow(process, began + self._a.limit)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        took, status = time.monotonic() - began, process.returncode
        status = status if status >= 0 else 128 - status  # of a signal, as a shell has it
        while time.monotonic() < began + took + LINGER_S:
            self._look(process, LOOK_S)
        self._emit(
            "done",
            traffic=self._a.traffic,
            error=error or self._error(status),
            exit_status=status,
            took_ms=round(took * 1000, 1),
            connections=len(self._ports),
        )
        self._emit("resets", traffic=self._a.traffic, resets=self._resets)

    def _follow(self, process: "subprocess.Popen[bytes]", deadline: float) -> str | None:
        while process.poll() is None:
            if time.monotonic() > deadline:
                return "took too long"
            self._look(process, LOOK_S)
        return None

    def _look(self, process: "subprocess.Popen[bytes]", longest: float) -> None:
        """Wait for something to come, and take it in."""
        pipe = process.stdout
        assert pipe is not None
        watched = [self._segments.fileno(), *([] if pipe.closed else [pipe.fileno()])]
        ready = select.select(watched, [], [], longest)[0]
        if not pipe.closed and pipe.fileno() in ready:
            said = os.read(pipe.fileno(), 65536)
            if not said:
                pipe.close()
            os.write(2, said)
            self._said = (self._said + said)[-4096:]
        for one in self._segments.read():
            ports = one.target[1], one.source[1]
            if one.source in self._to and one.flags & SYN and one.flags & ACK and ports not in self._ports:
                address = str(ipaddress.ip_address(one.target[0]))
                self._ports.add(ports)
                ends = {"src": address, "sport": ports[0], "dst": self._host, "dport": ports[1]}
                self._emit("connected", traffic=self._a.traffic, **ends)
            elif one.flags & RST and self._to & {one.source, one.target}:
                self._resets += 1

    def _error(self, status: int) -> str | None:
        if not status:
            return None
        lines = [line.strip() for line in self._said.decode(errors="replace").splitlines() if line.strip()]
        said = f": {lines[-1][:LONGEST]}" if lines else ""
        return f"the command ended with exit status {status}{said}"


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="scenarios.command")
    parser.add_argument("--name", required=True)
    parser.add_argument("--traffic", required=True)
    parser.add_argument("--to", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--ports", type=int, nargs="*", default=[], help="more ports of the same service")
    parser.add_argument("--command", required=True)
    parser.add_argument("--limit", type=float, default=60.0, metavar="SECONDS")
    parser.add_argument("--now", action="store_true", help="do not wait for SIGUSR1")
    return parser.parse_args(words)


def main() -> int:
    """Entry point."""
    arguments = parse()
    emit = Emitter(arguments.name)
    # Ended from outside, the program goes too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    if not arguments.now:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        emit("ready", traffic=arguments.traffic)
        signal.sigwait({signal.SIGUSR1})
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
    Command(arguments, emit).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
