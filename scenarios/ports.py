"""What passed the switch's ports, read from the kernel now and then: the figures behind throughput per NIC.

Decides when to read and what is worth telling. Touches one file, /proc/net/dev of the switch's namespace.
"""

from collections.abc import Collection
from pathlib import Path

EVERY_S = 0.1
"""Between two readings."""
DEVICES = Path("/proc/net/dev")

Counts = tuple[int, int, int, int]
"""Bytes and frames that the switch received there, bytes and frames that it sent there."""


class Ports:
    """The counters of some interfaces, and what has changed in them."""

    def __init__(self, names: Collection[str], devices: Path = DEVICES) -> None:
        """Reads nothing yet."""
        self._names, self._devices = names, devices
        self._known: dict[str, Counts] = {}
        self._due, self._read = 0.0, 0.0
        self.over = 0.0
        """Seconds between the last reading and the one before."""
        self.busiest: str | None = None
        """Whose bytes have grown the most between these two, both ways; None: nobody's."""

    def look(self, now: float, *, at_once: bool = False) -> dict[str, Counts]:
        """The counters that have changed since the last reading; none when it is not time to read yet."""
        if now < self._due and not at_once:
            return {}
        self._due = now + EVERY_S
        self.over, self._read = now - (self._read or now), now
        found = parse(self._devices.read_text(), self._names)
        changed = {name: counts for name, counts in found.items() if counts != self._known.get(name)}
        grown = {
            name: sum(counts[::2]) - sum(self._known[name][::2])
            for name, counts in changed.items()
            if name in self._known
        }
        self.busiest = max(grown, key=grown.__getitem__, default=None)
        self._known |= changed
        return changed


def parse(text: str, names: Collection[str]) -> dict[str, Counts]:
    """The counters of these interfaces, as far as they are there (proc(5), /proc/net/dev)."""
    found = {}
    for line in text.splitlines():
        name, colon, numbers = line.partition(":")
        if colon and name.strip() in names:
            columns = numbers.split()
            found[name.strip()] = (int(columns[0]), int(columns[1]), int(columns[8]), int(columns[9]))
    return found
