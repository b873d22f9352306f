"""A loop that tests turn by hand."""

import select
from collections.abc import Callable


class TurnedLoop:
    """As loop.Loop. timers: in how many seconds, what."""

    def __init__(self) -> None:
        self.epoll, self._handlers = select.epoll(), dict[int, Callable[[int], None]]()
        self.timers: list[tuple[float, Callable[[], None]]] = []

    def watch(
        self, fd: int, handler: Callable[[int], None], mask: int = select.EPOLLIN, *, urgent: bool = False
    ) -> None:
        self.epoll.register(fd, mask)
        self._handlers[fd] = handler

    def widen(self, fd: int, mask: int) -> None:
        self.epoll.modify(fd, mask)

    def unwatch(self, fd: int) -> None:
        self.epoll.unregister(fd)
        del self._handlers[fd]

    def after(self, seconds: float, act: Callable[[], None]) -> None:
        self.timers.append((seconds, act))

    def turn(self) -> None:
        for fd, mask in self.epoll.poll(0):
            if fd in self._handlers:
                self._handlers[fd](mask)

    def due(self, seconds: float) -> None:
        """What waits for so long is due."""
        due = [act for waits, act in self.timers if waits == seconds]
        self.timers = [one for one in self.timers if one[0] != seconds]
        for act in due:
            act()
