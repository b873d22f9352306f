"""What the agent does about what it is told: pure decisions, over the records and the team.

Decides: whether, when and where a connection moves. Never touches: maps, sockets, engines, clocks; time is passed in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from host_agent.connection import Connection
from host_agent.decision import Record, Stage
from host_agent.records import NEVER

HOLD_DOWN = 0.1
"""Seconds after a connection left a NIC during which its frames there are late ones, not a new choice of the switch.
It covers what can still be queued on the old link; such frames are forwarded all the same."""

FAULT_WINDOW = 0.5
"""Seconds after a link died during which a move takes what is in flight for lost. The guess at a NIC may have been
wrong and its first burst may not have come through; sending it twice costs little, a retransmission timeout much."""

RETRY = 0.2
"""Seconds until a refused offload is tried again."""


@dataclass(frozen=True)
class OffloadPolicy:
    """When a connection goes to a NIC: after so many bytes in both directions (0: at once), or never (None)."""

    after_bytes: int | None

    @property
    def threshold(self) -> int:
        return NEVER if self.after_bytes is None else self.after_bytes


@dataclass
class History:
    """What the agent remembers of one connection beside its record. left: NIC id -> seconds when it was moved away.
    fault: seconds when a dead link last moved it."""

    left: dict[int, float] = field(default_factory=dict)
    fault: float | None = None

    def in_flight_is_lost(self, now: float) -> bool:
        return self.fault is not None and now - self.fault < FAULT_WINDOW


def should_reload(record: Record, arrived: int, epoch: int, history: History, now: float) -> bool:
    """Block 414: a frame of an offloaded connection came in by another NIC. Is that the switch's new choice?"""
    if not record.offloaded or record.stage is not Stage.SETTLED or record.epoch != epoch or record.nic == arrived:
        return False
    left = history.left.get(arrived)
    return left is None or now - left >= HOLD_DOWN


def guess(live: Iterable[int], load: Mapping[int, int], *, avoid: int) -> int | None:
    """A surviving NIC for a connection whose link died: the least loaded. The switch's choice is not known yet; its
    first frame corrects a wrong guess."""
    return min((nic for nic in live if nic != avoid), key=lambda nic: (load.get(nic, 0), nic), default=None)


@dataclass(frozen=True)
class FaultPlan:
    """What a dead link leads to, record by record."""

    remove: tuple[Connection, ...]
    reload: tuple[tuple[Connection, int], ...]  # with the NIC to go to
    stranded: tuple[Connection, ...]  # no NIC is left


def on_link_down(failed: int, live: tuple[int, ...], records: Iterable[tuple[Connection, Record]]) -> FaultPlan:
    """Walks through the records of a NIC that lost its link: not offloaded -> removed; offloaded -> reloaded."""
    remove: list[Connection] = []
    reload: list[tuple[Connection, int]] = []
    stranded: list[Connection] = []
    load: dict[int, int] = {}
    mine: list[Connection] = []
    for connection, record in records:
        if record.nic != failed:
            load[record.nic] = load.get(record.nic, 0) + record.offloaded
        elif record.stage is Stage.SETTLED:
            (mine if record.offloaded else remove).append(connection)
    for connection in mine:
        target = guess(live, load, avoid=failed)
        if target is None:
            stranded.append(connection)
        else:
            load[target] = load.get(target, 0) + 1
            reload.append((connection, target))
    return FaultPlan(tuple(remove), tuple(reload), tuple(stranded))
