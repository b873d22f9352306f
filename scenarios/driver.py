"""Drives many transfers, and whatever else waits for a socket or a time, in one thread.

Decides only who has its turn. A transfer is looked at when its socket is ready, when its pace allows it to go on, and
now and then, so that it notices that it is stalled.
"""

import heapq
import selectors
import socket
import time
from collections.abc import Callable
from itertools import count

from scenarios.transfer import PROGRESS_S, STALLED_S, Transfer, watch

FEW = 8
"""Up to so many transfers are looked at as often as a single one."""

Act = Callable[[], None]


class Driver:
    """One loop: `watch` sockets, `at` times, `add` transfers, then `turn` again and again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing to wait for yet."""
        self.clock = clock
        self._selector = selectors.DefaultSelector()
        self._transfers: dict[Transfer, Callable[[Transfer], None]] = {}
        self._known: dict[Transfer, int] = {}
        self._times: list[tuple[float, int, Act | Transfer]] = []
        self._order = count()
        self._swept = clock()

    @property
    def transfers(self) -> int:
        """How many are under way."""
        return len(self._transfers)

    def watch(self, sock: socket.socket, mask: int, act: Act) -> None:
        """Call `act` whenever the socket is ready."""
        self._selector.register(sock, mask, act)

    def unwatch(self, sock: socket.socket) -> None:
        """Wait for it no more."""
        self._selector.unregister(sock)

    def at(self, when: float, act: Act) -> None:
        """Call `act` once, at that time of the clock."""
        heapq.heappush(self._times, (when, next(self._order), act))

    def add(self, transfer: Transfer, over: Callable[[Transfer], None]) -> None:
        """Drive it to its end, then call `over` with it; its socket is left open."""
        transfer.sock.setblocking(False)
        self._transfers[transfer], self._known[transfer] = over, 0
        self._look(transfer, 0)

    def turn(self, longest: float = STALLED_S) -> None:
        """Wait for something, at most so long, and do all that is to be done then."""
        now = self.clock()
        every = PROGRESS_S if len(self._transfers) <= FEW else STALLED_S
        wait = min(longest, self._swept + every - now if self._transfers else longest)
        if self._times:
            wait = min(wait, self._times[0][0] - now)
        for key, mask in self._selector.select(max(0.0, wait)):
            if isinstance(key.data, Transfer):
                self._look(key.data, mask)
            else:
                key.data()
        now = self.clock()
        while self._times and self._times[0][0] <= now:
            due = heapq.heappop(self._times)[2]
            if not isinstance(due, Transfer):
                due()
            elif due in self._transfers:
                self._look(due, 0)
        if now - self._swept >= every:
            self._swept = now
            for transfer in list(self._transfers):
                transfer.turn(0)
                if transfer.over:
                    self._end(transfer)

    def _look(self, transfer: Transfer, mask: int) -> None:
        transfer.turn(mask)
        if transfer.over:
            self._end(transfer)
            return
        now = self.clock()
        self._known[transfer] = watch(
            self._selector, transfer.sock, self._known[transfer], transfer.mask(now), transfer
        )
        wakes = transfer.wakes_at(now)
        if wakes is not None:
            heapq.heappush(self._times, (wakes, next(self._order), transfer))

    def _end(self, transfer: Transfer) -> None:
        watch(self._selector, transfer.sock, self._known.pop(transfer), 0)
        self._transfers.pop(transfer)(transfer)
