"""An event loop over epoll: descriptors, their handlers, and an end on SIGTERM.

Decides: in which order handlers run. Never touches: what they do.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Callable

Handler = Callable[[int], None]
EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET


class Loop:
    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._urgent: int | None = None
        self._running = True

    def watch(self, fd: int, handler: Handler, mask: int = select.EPOLLIN, *, urgent: bool = False) -> None:
        """Calls handler(events) when the descriptor is ready; an urgent one before all others."""
        self._epoll.register(fd, mask)
        self._handlers[fd] = handler
        if urgent:
            self._urgent = fd

    def unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._handlers[fd]

    def run(self, timeout: Callable[[], float], after: Callable[[], None]) -> None:
        """Until SIGTERM. timeout(): seconds to wait at most, -1 for ever. after(): once behind each round."""
        reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.watch(reader, lambda _mask: None)
        # A signal just before the wait would not end it: the wait is begun anew (PEP 475). The pipe ends it.
        signal.set_wakeup_fd(writer)
        signal.signal(signal.SIGTERM, lambda *_: self._stop())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the runner's to handle
        while self._running:
            events = self._epoll.poll(timeout())
            events.sort(key=lambda event: event[0] != self._urgent)
            for fd, mask in events:
                handler = self._handlers.get(fd)  # an earlier handler of this round may have closed it
                if handler:
                    handler(mask)
            after()

    def _stop(self) -> None:
        self._running = False
