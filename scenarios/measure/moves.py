"""A move of a connection and its parts, from the fault that made it necessary to the next new byte.

fault ── detect ──> seen ── wait ──> hold, save, restore, release ──> first byte
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scenarios.measure.arrivals import Arrivals
from scenarios.measure.faults import Fault
from scenarios.measure.owners import place
from scenarios.measure.stories import Connection, Event, Story, connection_of

BY_FAULT = ("link_down", "lacp", "probe", "fault")
"""Causes of moves that a fault of the NIC they leave has made necessary."""
GUESSES = (*BY_FAULT, "link_up", "drain", "rebalance", "command")
"""Causes of moves whose new NIC the switch may see otherwise."""
PARTS = ("detect", "wait", "hold", "save", "restore", "release", "first_byte")
"""In order."""


@dataclass(frozen=True)
class Move:
    """One move. `parts`: milliseconds, those that are known. `began`: when frames began to be held."""

    connection: Connection | None
    kind: str
    cause: str
    source: str
    target: str
    began: float
    ended: float
    parts: Mapping[str, float]
    fault: float | None = None
    """When what made it necessary happened, as far as that is a fault."""

    @property
    def total_ms(self) -> float:
        """From the hold to the release."""
        return (self.ended - self.began) * 1000


def moves(story: Story, faults: Sequence[Fault]) -> list[Move]:
    """The moves of one traffic, in the order of their ends."""
    alone = len(story.connected) == 1
    found = []
    for event in story.moves:
        parts = {name: float(ms) for name, ms in event.get("parts_ms", {}).items() if name != "total"}
        total = float(event.get("parts_ms", {}).get("total", 0.0))
        ended = float(event["t"])
        began, source = ended - total / 1000, place(event["from"])
        fault = _fault(event["cause"], source, began, faults)
        if fault is not None and fault.seen is not None:
            parts["detect"] = round((fault.seen - fault.t) * 1000, 3)
            parts["wait"] = round((began - fault.seen) * 1000, 3)
        first = _first_byte(story, connection_of(event), ended) if alone else None
        if first is not None:
            parts["first_byte"] = round((first - ended) * 1000, 3)
        ordered = {name: parts[name] for name in PARTS if name in parts}
        who = connection_of(event)
        target = place(event["to"])
        found.append(
            Move(who, event["kind"], event["cause"], source, target, began, ended, ordered, fault.t if fault else None)
        )
    return found


def _fault(cause: str, source: str, began: float, faults: Sequence[Fault]) -> Fault | None:
    """What has caused a move, the last one that the agent knew of on the NIC that it left."""
    known = [one for one in faults if one.nic == source and one.seen is not None and one.seen <= began]
    return known[-1] if known and cause in BY_FAULT else None


def collateral(story: Story) -> int:
    """Reloads that only the switch's new choice made necessary. What corrects a guess of the agent's is none."""
    last: dict[Connection | None, Event] = {}
    count = 0
    for event in sorted(story.moves, key=lambda one: float(one["t"])):
        before = last.get(connection_of(event))
        if event["cause"] == "stray" and before is not None and before["cause"] not in GUESSES:
            count += 1
        last[connection_of(event)] = event
    return count


def first_byte_after_fault(story: Story, faults: Sequence[Fault]) -> float | None:
    """Milliseconds, the longest over all faults while the traffic lived; None when there was none, or nobody knows.

    A connection that a fault has moved has new bytes when its move is over. For one that was not moved the link is
    surely dead when the agent knows of it: the bytes before that may have been on their way.
    """
    if not story.connected:
        return None
    found = []
    begin = min(story.connected.values())
    end = float(story.done["t"]) if story.done else float("inf")
    known = moves(story, faults)
    for fault in [one for one in faults if begin <= one.t < end]:
        caused = [one for one in known if one.fault == fault.t and one.source == fault.nic]
        since = [(one.connection, one.ended) for one in caused]
        if not since and fault.seen is not None:
            since = [(one, fault.seen) for one in story.connected]
        found += [first - fault.t for one, t in since if (first := _first_byte(story, one, t)) is not None]
    return round(max(found) * 1000, 3) if found else None


def _first_byte(story: Story, connection: Connection | None, t: float) -> float | None:
    """When a connection had its first new byte behind `t`, in every direction. Of many, each told its longest stall."""
    if len(story.connected) == 1:
        after = [Arrivals(story.progress[direction]).first_after(t) for direction in story.directions]
        return max((t + seconds for seconds in after if seconds is not None), default=None)
    told = story.ends.get(connection) if connection else None
    if told is None or not told.stall_ended - told.longest_stall_ms / 1000 <= t < told.stall_ended:
        return None
    return told.stall_ended
