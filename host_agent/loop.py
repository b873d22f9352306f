"""An event loop over epoll: descriptors and their handlers, timers, and an end on SIGTERM.

Decides: in which order handlers run, and when a process may go before others. Never touches: what they do.
"""

from __future__ import annotations

import gc
import heapq
import itertools
import os
import select
import signal
import time
from collections.abc import Callable
from contextlib import suppress

_ROUND = 16
"""Events of a round: what is urgent waits for so many handlers at most, however many descriptors are ready."""

Handler = Callable[[int], None]
EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_GARBAGE = 50_000  # objects made until the collector looks at them; the usual 700 are five connections


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()  # which is fair: whoever becomes ready waits behind all that are
        self._urgent, self._urgent_fds = select.epoll(), set[int]()
        self._handlers: dict[int, Handler] = {}
        self._gone = set[int]()  # what this round has closed: by now the number may be another's
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()  # between timers of the same moment
        self._running = True

    def watch(self, fd: int, handler: Handler, mask: int = select.EPOLLIN, *, urgent: bool = False) -> None:
        """Calls handler(events) when the descriptor is ready; one that is urgent to be read before all others."""
        self._epoll.register(fd, mask)
        self._handlers[fd] = handler
        if urgent:
            self._urgent.register(fd, select.EPOLLIN)
            self._urgent_fds.add(fd)

    def widen(self, fd: int, mask: int) -> None:
        """Another mask for a descriptor that is watched; what is so already is told at once."""
        self._epoll.modify(fd, mask)

    def unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._handlers[fd]
        self._gone.add(fd)
        if fd in self._urgent_fds:
            self._urgent_fds.remove(fd)
            self._urgent.unregister(fd)

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        """Calls act once, about so many seconds from now."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), act))

    def run(self, idle: Callable[[], bool] = lambda: True) -> None:
        """Until SIGTERM. idle(): called once behind each round; False: there is more to do without waiting."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(reader, lambda _mask: None)
        # A signal just before the wait would not end it: the wait is begun anew (PEP 475). The pipe ends it.
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle
        # What was imported stays: looking for garbage in it, at every move of many connections, would take long.
        gc.freeze()
        gc.set_threshold(_GARBAGE)
        may_wait = True
        while self._running:
            events = self._epoll.poll(self._until_next() if may_wait else 0, _ROUND)
            if len(events) > 1 and (first := dict(self._urgent.poll(0))):
                for fd, mask in events:
                    first[fd] = first.get(fd, 0) | mask  # which keeps the order
                events = list(first.items())
            self._gone.clear()
            for fd, mask in events:
                if fd not in self._gone:
                    self._handlers[fd](mask)
            while self._timers and self._timers[0][0] <= time.monotonic():
                heapq.heappop(self._timers)[2]()
            may_wait = idle()

    def _until_next(self) -> float:
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else -1

    def _stop(self) -> None:
        self._running = False


class Precedence:
    """Lets this process run before all ordinary ones (real-time class, round robin), if it is allowed to.

    Not while it is given orders, nor for _QUIET behind the last: whoever gives many would be interrupted at each. One
    that was started in another class stays there.
    """

    _QUIET = 0.05  # seconds

    def __init__(self, loop: Loop):
        self._loop = loop
        self._ahead = False
        self._ordered_at = 0.0

    def take(self) -> None:
        rest = self._ordered_at + self._QUIET - time.monotonic()
        if rest > 0:
            self._loop.after(rest, self.take)
            return
        if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK != os.SCHED_OTHER:
            return
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
            self._ahead = True

    def stand_back(self) -> None:
        """An order has come."""
        self._ordered_at = time.monotonic()
        if self._ahead:
            os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
            self._ahead = False
            self._loop.after(self._QUIET, self.take)
