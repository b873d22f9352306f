"""The events about moves: what a run's record says of each, whether it moved or not.

Decides: their words. Never touches: records, engines.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from host_agent import kernel
from host_agent.emit import emit, emit_each
from host_agent.reload import Outcome
from host_agent.team import TeamState


def tell(who: str, outcomes: Sequence[Outcome], team: TeamState) -> None:
    """One event of each: `move`, `lost` or `refused`; those that went from one place to another go together."""
    came = [outcome for outcome in outcomes if outcome.moved]
    for target in dict.fromkeys(outcome.target for outcome in came):
        _tell_moved(who, [outcome for outcome in came if outcome.target == target], team)
    if len(came) == len(outcomes):
        return
    for outcome in outcomes:
        facts = {**outcome.plan.connection.fields(), **_route(outcome, team)}
        if outcome.target is None:
            emit(who, "lost", **facts, reason=outcome.reason)
        elif not (outcome.moved or _is_early(outcome)):
            emit(who, "refused", **facts, reason=outcome.code or "state", error=outcome.reason)


def _is_early(outcome: Outcome) -> bool:
    """Due by its first frames, before its application had it: custody.accepted() sees to that. Nothing was refused."""
    return outcome.code == "absent" and outcome.plan.cause == "policy"


def _tell_moved(who: str, came: Sequence[Outcome], team: TeamState) -> None:
    one = came[0]
    parts = {name: round(1000 * seconds, 3) for name, seconds in one.parts.items()}
    facts = _route(one, team) | {"parts_ms": parts | {"total": round(sum(parts.values()), 3)}}
    if one.kind == "offload":  # nobody asks at other moves, and reading it takes long
        facts["host_tcp_segments"] = kernel.tcp_in_segments()
    emit_each(who, "move", map(_described, came), **facts)


def _route(outcome: Outcome, team: TeamState) -> dict[str, Any]:
    """What it was, why, from where, and where to: there where it is, or should have gone."""
    plan = outcome.plan
    to = outcome.target if outcome.moved and outcome.target is not None else plan.target
    return {"kind": outcome.kind, "cause": plan.cause, "from": team.name(plan.source), "to": team.name(to)}


def _described(outcome: Outcome) -> str:
    """What an event tells of one connection of a batch, as JSON: of thousands this takes a third of the time that
    objects of objects do."""
    src, sport, dst, dport = outcome.plan.connection
    saved = outcome.saved
    assert saved is not None  # it moved
    return (
        f'"src": {_text(src)}, "sport": {sport:d}, "dst": {_text(dst)}, "dport": {dport:d}, "epoch": {outcome.epoch}, '
        f'"context_bytes": {saved.size}, "held_frames": {outcome.held_frames}, "retransmits": {saved.retransmits}, '
        f'"not_carried": {saved.not_carried()}'
    )


_text = lru_cache(4096)(json.dumps)
