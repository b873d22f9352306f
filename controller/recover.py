"""What a controller that is started anew learns from the flows it finds in its switch: stations, moved
connections, buckets, settings and drained members, so that forwarding goes on as it was.

The inverse of `pipeline`, for flows that an earlier run made from the same configuration (their cookie says
so). Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from controller.hashing import Connection, connection
from controller.lacpdu import End
from controller.lag import Lag
from controller.pipeline import BUCKET, FIRST, LAG, MOVED, NOTE, TARGET, Key, Rules, group_number
from controller.policies import POLICIES
from controller.rebalance import REBALANCE, bucket_count


def stations(lags: Iterable[Lag], found: Rules) -> dict[str, int | str]:
    """MAC -> host port or LAG's name."""
    names = {lag.number: lag.name for lag in lags}
    places: dict[str, int | str] = {}
    for key, actions in found.items():
        fields = dict(key.match)
        if key.table != TARGET or not isinstance(mac := fields.get("eth_dst"), str):
            continue
        match actions[0]:
            case ("output", int(port)):
                places[mac] = port
            case ("load", "reg1", int(number)) if number in names:
                places[mac] = names[number]
    return places


def lag_as_found(lag: Lag, found: Rules) -> Lag:
    """The LAG as the flows have it, or `lag` itself when they do not have it."""
    mine = {key: actions for key, actions in found.items() if dict(key.match).get("reg1") == lag.number}
    note = next((actions for key, actions in mine.items() if key.table == NOTE and len(actions) == 3), None)
    if note is None:
        return lag
    (_, _, seed), (_, _, policy), (_, _, rebalance) = note
    ports = {group_number(lag, port, kind): port for port in lag.members for kind in (FIRST, MOVED)}
    as_found = replace(
        lag,
        seed=seed,
        policy=tuple(POLICIES)[policy],
        rebalance=tuple(REBALANCE)[rebalance],
        drained=frozenset(_drained(mine)),
        collecting=None if lag.collecting is None else dict(_partners(mine)),
        moved={conn: ports[actions[0][1]] for key, actions in mine.items() if (conn := _moved(key)) is not None},
        buckets=_buckets(mine, ports),
    )
    active = frozenset(as_found.buckets)
    if as_found.rebalance != "modulo" and len(as_found.buckets) != bucket_count(len(lag.members)):
        return replace(as_found, buckets=(), moved={})  # half of a plan: the switch lost the rest
    # One that died between two messages has left buckets of the old plan among those of the new.
    return replace(
        as_found, active=active, buckets=REBALANCE[as_found.rebalance](lag.members, active, as_found.buckets)
    )


def _drained(mine: Rules) -> Iterable[int]:
    for key, actions in mine.items():
        fields: dict[str, Any] = dict(key.match)
        if key.table == NOTE and not actions:
            yield fields["in_port"]


def _partners(mine: Rules) -> Iterable[tuple[int, End]]:
    """As `pipeline.partner_words` wrote them."""
    for key, actions in mine.items():
        if key.table == NOTE and len(actions) == 4:
            high, low, keys, port = (action[2] for action in actions)
            system = ((high & 0xFFFF) << 32 | low).to_bytes(6, "big").hex(":")
            fields: dict[str, Any] = dict(key.match)
            yield fields["in_port"], End(high >> 16, system, keys >> 16, keys & 0xFFFF, port)


def _moved(key: Key) -> Connection | None:
    fields: dict[str, Any] = dict(key.match)
    if key.table != LAG or "tcp_src" not in fields:
        return None
    ip = "ipv6" if "ipv6_src" in fields else "ipv4"
    return connection(fields[f"{ip}_src"], fields["tcp_src"], fields[f"{ip}_dst"], fields["tcp_dst"])


def _buckets(mine: Rules, ports: dict[int, int]) -> tuple[int, ...]:
    """The buckets of the plan that the LAG's flow leads to; a controller may have died between two plans."""
    plan = {
        value
        for key, actions in mine.items()
        for action in actions
        if key.table == LAG and action[:2] == ("load", "reg3")
        for value in action[2:]
    }
    if len(plan) != 1:
        return ()
    chosen: dict[int, int] = {}
    for key, actions in mine.items():
        fields: dict[str, Any] = dict(key.match)
        if key.table == BUCKET and fields["reg3"] in plan and actions[0][1] in ports:
            chosen[fields["reg0"]] = ports[actions[0][1]]
    return tuple(port for _, port in sorted(chosen.items())) if set(chosen) == set(range(len(chosen))) else ()
