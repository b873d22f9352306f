"""What the machine compares: a record and the model's line for it, as tuples; and who shares the load."""

from __future__ import annotations

from host_agent.decision import Record, Stage
from host_agent.policy import Plan
from host_agent.records import NEVER, Threshold
from tests.method.model import Entry

STAGES = {"": Stage.SETTLED, "held": Stage.HELD, "silent": Stage.SILENT}


def facts_of(r: Record) -> tuple:
    fins = ("peer" * bool(r.fins & 1), "host" * bool(r.fins & 2), "peer" * bool(r.fins & 4), "host" * bool(r.fins & 8))
    where = (r.nic, r.offloaded, r.stage, r.epoch, r.closing, r.due, fins)
    return (*where, r.forwarded, r.strays, r.packets, r.bytes, r.bytes_out, r.host_segments, r.silenced)


def facts_in(e: Entry) -> tuple:
    ends = ("peer" * (e.peer_end is not None), "host" * (e.host_end is not None))
    fins = (*ends, "peer" * ("peer" in e.agreed), "host" * ("host" in e.agreed))
    where = (e.nic, e.offloaded, STAGES[e.moving], e.epoch, e.done, e.asked, fins)
    return (*where, e.strays, e.all_strays, e.packets, e.came, e.went, e.into_host, e.hushed)


def threshold(size: int | None, age: int | None) -> Threshold:
    return Threshold(NEVER if size is None else size, age or 0)


def load_of(table) -> dict[int, int]:
    load: dict[int, int] = {}
    for e in table.values():
        load[e.nic] = load.get(e.nic, 0) + e.offloaded
    return load


def shared(moves: list[Plan], load: dict[int, int], up: tuple[int, ...]) -> None:
    """None was given a NIC that another could have spared."""
    for plan in moves:
        assert load.get(plan.target, 0) == min(load.get(nic, 0) for nic in up)
        load[plan.target] = load.get(plan.target, 0) + 1
