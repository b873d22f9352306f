"""Each NIC's measurements: what passed its wire, what it held, what the frame path counted for it."""

from collections.abc import Iterable, Sequence
from typing import Any

from scenarios.measure.owners import changes, offloaded
from scenarios.measure.stories import Event

BLOCKS = {"402_404": "block_404", "406_408": "block_408", "410_412": "block_412", "410_414": "block_414"}
COUNTED = (*BLOCKS, "forwarded", "held")
OWN = {"own_in": "own_frames_in", "own_out": "own_frames_out", "silenced": "silenced"}
WIRE = ("bytes_out", "frames_out", "bytes_in", "frames_in")
"""In the order of a port's counters: what the switch receives is what the NIC sends."""


def nics(events: Sequence[Event]) -> dict[str, dict[str, Any]]:
    """NIC → its measurements."""
    wires, counted = passed(events), _counted(events)
    arrivals, departures, most = _held(events)
    found: dict[str, dict[str, Any]] = {}
    for nic, switch in places(events).items():
        wire: Sequence[int | None] = wires.get(f"{switch}-{nic}", [None] * 4)
        frames = counted.get(nic, {})
        own = _own(nic, events)
        found[nic] = {
            **dict(zip(WIRE, wire, strict=True)),
            "most_offloaded": most.get(nic, 0),
            "arrivals": arrivals.get(nic, 0),
            "departures": departures.get(nic, 0),
            **{BLOCKS.get(key, key): frames.get(key) for key in COUNTED},
            **{name: own.get(key) for key, name in OWN.items()},
        }
    return found


def places(events: Iterable[Event]) -> dict[str, str]:
    """NIC → the switch that its wire leads to, in order."""
    return {
        nic: switch
        for event in events
        if event["event"] == "topology"
        for nics in event["teams"].values()
        for nic, switch in nics.items()
    }


def passed(events: Iterable[Event]) -> dict[str, list[int]]:
    """Port → what passed it between the first reading and the last: bytes, frames received; bytes, frames sent."""
    sums: dict[str, list[int]] = {}
    for _, port, grown in growth(events):
        sums[port] = [one + more for one, more in zip(sums.get(port, [0] * 4), grown, strict=True)]
    return sums


def growth(events: Iterable[Event]) -> Iterable[tuple[float, str, list[int]]]:
    """When, which port, and by how much its counters had grown since the reading before."""
    last: dict[str, list[int]] = {}
    for event in events:
        if event["event"] != "ports":
            continue
        for port, counts in event["ports"].items():
            before = last.get(port, counts)
            if any(new < old for new, old in zip(counts, before, strict=True)):
                before = [0] * 4  # an interface that was made anew
            last[port] = counts
            yield float(event["t"]), port, [new - old for new, old in zip(counts, before, strict=True)]


def _counted(events: Iterable[Event]) -> dict[str, Any]:
    """What the frame path counted, by NIC: the agents' last words."""
    return {
        nic: counts
        for event in events
        if event["event"] == "counters" and "nics" in event
        for nic, counts in event["nics"].items()
    }


def _own(nic: str, events: Iterable[Event]) -> Event:
    """The last words of a NIC's engine; none when it was started more than once, for the first took its own along."""
    starts, words = 0, dict[str, Any]()
    for event in events:
        if event["who"] == nic:
            starts += event["event"] == "ready"
            words = dict(event) if event["event"] == "counters" else words
    return words if starts == 1 else {}


def _held(events: Sequence[Event]) -> tuple[dict[str, int], dict[str, int], dict[str, int]]:
    arrivals: dict[str, int] = {}
    departures: dict[str, int] = {}
    most: dict[str, int] = {}
    for _, _, before, after in changes(events):
        if after is not None:
            departures[before] = departures.get(before, 0) + 1
            arrivals[after] = arrivals.get(after, 0) + 1
    for _, held in offloaded(events):
        for nic, count in held.items():
            most[nic] = max(most.get(nic, 0), count)
    return arrivals, departures, most
