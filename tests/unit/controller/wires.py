"""Two ends' aggregators and the wires between them, in simulated time: what each end sends arrives at the other's
port, or does not.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from controller.aggregator import Aggregator, Lacp

A, B = 0, 1
SYSTEMS = ("02:00:00:00:05:01", "02:00:00:00:00:01")


class Wires:
    """`eats[end][port]` is the share of frames that the wire loses on their way from that end."""

    def __init__(
        self,
        ports: int,
        settings: tuple[Lacp, Lacp],
        delay_s: float = 0.001,
        seed: int = 0,
        watch: Callable[[Wires], None] | None = None,
    ) -> None:
        self.ports = range(1, ports + 1)
        self.ends = [Aggregator(self.ports, one) for one in settings]
        self.eats = [dict.fromkeys(self.ports, 0.0) for _ in self.ends]
        self.far = {(end, port): (1 - end, port) for end in (A, B) for port in self.ports}
        self.delay_s, self.now, self.watch = delay_s, 0.0, watch
        self._random = random.Random(seed)
        self._flying: list[tuple[float, int, int, int, bytes]] = []
        self._count = 0

    def link(self, port: int, up: bool) -> None:
        for end in self.ends:
            end.link(port, up, self.now)
        self._after()

    def links(self, up: bool = True) -> None:
        for port in self.ports:
            for end in self.ends:
                end.link(port, up, self.now)
        self._after()

    def run(self, until: float) -> None:
        """Let everything happen up to that time."""
        for _ in range(200_000):
            due = [time for end in self.ends if (time := end.due()) is not None]
            now = min([*due, *(flight[0] for flight in self._flying[:1])], default=until + 1)
            if now > until:
                self.now = until
                return
            self.now = max(self.now, now)
            while self._flying and self._flying[0][0] <= self.now:
                _, _, end, port, frame = heapq.heappop(self._flying)
                self.ends[end].heard(port, frame, self.now)
            self._after()
        raise AssertionError("it never rests")

    def carrying(self, end: int) -> list[int]:
        return [port for port in self.ports if self.ends[end].why_not(port) is None]

    def _after(self) -> None:
        for number, end in enumerate(self.ends):
            end.run(self.now)
            for port, frame in end.frames:
                if self._random.random() >= self.eats[number][port]:
                    far, far_port = self.far[number, port]
                    self._count += 1
                    heapq.heappush(self._flying, (self.now + self.delay_s, self._count, far, far_port, frame))
            end.frames.clear()
        if self.watch is not None:
            self.watch(self)
