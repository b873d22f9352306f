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

    @property
    def total_ms(self) -> float:
        """From the hold to the release."""
        return (self.ended - self.began) * 1000


def moves(story: Story, faults: Sequence[Fault]) -> list[Move]:
    """The moves of one traffic, in the order of their ends."""
    arrivals = [Arrivals(story.progress[direction]) for direction in story.directions]
    alone = len(story.connected) == 1
    found = []
    for event in story.moves:
        parts = {name: float(ms) for name, ms in event.get("parts_ms", {}).items() if name != "total"}
        total = float(event.get("parts_ms", {}).get("total", 0.0))
        ended = float(event["t"])
        began, source = ended - total / 1000, place(event["from"])
        parts |= _before(event["cause"], source, began, faults)
        if alone and (after := [s for one in arrivals if (s := one.first_after(ended)) is not None]):
            parts["first_byte"] = round(max(after) * 1000, 3)
        ordered = {name: parts[name] for name in PARTS if name in parts}
        who = connection_of(event)
        target = place(event["to"])
        found.append(Move(who, event["kind"], event["cause"], source, target, began, ended, ordered))
    return found


def _before(cause: str, source: str, began: float, faults: Sequence[Fault]) -> dict[str, float]:
    """What passed between the fault and the hold, of a move that a fault has caused."""
    if cause not in BY_FAULT:
        return {}
    known = [one for one in faults if one.nic == source and one.seen is not None and one.seen <= began]
    if not known or known[-1].seen is None:
        return {}
    fault, seen = known[-1], known[-1].seen
    return {"detect": round((seen - fault.t) * 1000, 3), "wait": round((began - seen) * 1000, 3)}


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
    """Milliseconds, the longest over all faults while the traffic lived; None when there was none, or nobody knows."""
    if not story.connected:
        return None
    begin = min(story.connected.values())
    end = float(story.done["t"]) if story.done else float("inf")
    times = sorted({one.t for one in faults if begin <= one.t < end})
    if len(story.connected) > 1:
        # Of many, each told its longest stall only.
        stalls = [(one.stall_ended - one.longest_stall_ms / 1000, one.stall_ended) for one in story.ends.values()]
        found = [until - t for t in times for since, until in stalls if since <= t < until]
    else:
        arrivals = [Arrivals(story.progress[direction]) for direction in story.directions]
        found = [s for t in times for one in arrivals if (s := one.first_after(t)) is not None]
    return round(max(found) * 1000, 3) if found else None
