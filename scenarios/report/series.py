"""What happened over time, in bins that a drawing can show: each NIC's throughput, connections, records. Pure.

A run of any length and any number of connections becomes at most `MOST` columns.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from scenarios.measure.nics import growth, places
from scenarios.measure.owners import offloaded
from scenarios.measure.stories import Event

MOST = 240
SHORTEST_S = 0.1
"""Of a column: the switch's counters are not read more often."""


@dataclass(frozen=True)
class Bins:
    """Columns of equal width from `begin` on."""

    begin: float
    end: float
    count: int

    @property
    def width(self) -> float:
        """Of a column, in seconds."""
        return (self.end - self.begin) / self.count

    def index(self, t: float) -> int:
        """The column that a time falls into; the first or the last one for what lies outside."""
        return min(self.count - 1, max(0, int((t - self.begin) / self.width)))


def bins(events: Sequence[Event]) -> Bins:
    """From the traffic's start to its end."""
    times = {event["event"]: float(event["t"]) for event in events}
    last = max((float(event["t"]) for event in events), default=1.0)
    begin = times.get("up", 0.0)
    end = max(begin + SHORTEST_S, times.get("finished", times.get("stopping", last)))
    return Bins(begin, end, max(1, min(MOST, round((end - begin) / SHORTEST_S))))


def throughput(events: Sequence[Event], grid: Bins) -> dict[str, list[float]]:
    """NIC → Mbit/s on its wire, both directions together, by column."""
    nic_of = {f"{switch}-{nic}": nic for nic, switch in places(events).items()}
    bits = {nic: [0.0] * grid.count for nic in nic_of.values()}
    over = {float(event["t"]): float(event.get("over") or SHORTEST_S) for event in events if event["event"] == "ports"}
    for t, port, grown in growth(events):
        if port in nic_of:
            _spread(bits[nic_of[port]], (grown[0] + grown[2]) * 8, t - over[t], t, grid)
    return {nic: [value / grid.width / 1e6 for value in values] for nic, values in bits.items()}


def _spread(into: list[float], amount: float, since: float, until: float, grid: Bins) -> None:
    """Share an amount out over the columns between two times."""
    for index in range(grid.index(since), grid.index(until) + 1):
        low = grid.begin + index * grid.width
        share = min(until, low + grid.width) - max(since, low)
        if share > 0:
            into[index] += amount * share / (until - since)


def held(events: Sequence[Event], grid: Bins) -> dict[str, list[int]]:
    """NIC → the connections it held at the end of each column."""
    nics = list(places(events))
    return {nic: _at_ends([(t, held.get(nic, 0)) for t, held in offloaded(events)], grid) for nic in nics}


@dataclass(frozen=True)
class Records:
    """NIC → how many records it had at the end of each column: of offloaded connections, and of others."""

    offloaded: dict[str, list[int]]
    others: dict[str, list[int]]


def records(events: Sequence[Event], grid: Bins) -> Records | None:
    """As the agents counted them; None when none did, for an older agent tells nothing of them."""
    counts: dict[str, list[tuple[float, int, int]]] = {nic: [] for nic in places(events)}
    for event in events:
        if event["event"] == "headcount":
            for nic, (every, of_offloaded) in event["nics"].items():
                counts.setdefault(nic, []).append((float(event["t"]), of_offloaded, every - of_offloaded))
    if not any(counts.values()):
        return None
    return Records(
        {nic: _at_ends([(t, one) for t, one, _ in some], grid) for nic, some in counts.items()},
        {nic: _at_ends([(t, other) for t, _, other in some], grid) for nic, some in counts.items()},
    )


def _at_ends(changes: Sequence[tuple[float, int]], grid: Bins) -> list[int]:
    """A number at the end of each column, from when it changed, and to what; 0 before."""
    found: list[int] = []
    at, now = 0, 0
    for index in range(grid.count):
        until = grid.begin + (index + 1) * grid.width
        while at < len(changes) and changes[at][0] <= until:
            now = changes[at][1]
            at += 1
        found.append(now)
    return found
