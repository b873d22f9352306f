"""What records and engines counted, put together: per NIC, per connection, and of the whole team.

Decides: what is added to what. Never touches: maps, engines; it is given what they say.

An engine counts a connection's bytes and retransmissions since the connection came to it; what earlier engines counted
is `before`, and is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.policy import HOST
from host_agent.team import TeamState

ADDED = ("bytes_in", "bytes_out", "retransmits")
PART = 64
"""Connections that are told of together."""

Answers = Mapping[int, Mapping[str, Any]]


def gather(
    answers: Answers,
    records: Iterable[Sequence[tuple[Connection, Record]]],
    before: Mapping[Connection, Mapping[str, int]],
    figure_4: Mapping[str, Mapping[str, int]],
    team: TeamState,
) -> Iterator[dict[str, Any] | None]:
    """answers: the engines' `statistics`, by place. figure_4: frames by block and by what became of them, by NIC.

    Gives None now and then, for it may take long, and then what there is; `connections` of it in parts."""
    told = [
        (Connection(*each["connection"]), place, each)
        for place, answer in sorted(answers.items())
        for each in answer["connections"]
    ]
    wanted, known, count = {connection for connection, _, _ in told}, dict[Connection, Record](), 0
    for some in records:
        known.update((connection, record) for connection, record in some if connection in wanted)
        count += len(some)
        yield None
    parts: list[list[dict[str, Any]]] = []
    held, sums = Counter[int](), {place: Counter(dict.fromkeys(ADDED, 0)) for place in range(HOST, len(team.names))}
    for start in range(0, len(told), PART):
        parts.append([])
        for connection, place, each in told[start : start + PART]:
            one = _connection(connection, each, team.name(place), known.get(connection), before.get(connection, {}))
            parts[-1].append(one)
            held[place] += 1
            sums[place].update({key: one[key] for key in ADDED})
        yield None
    nics: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(team.names):
        frames = dict(answers.get(place, {}).get("statistics", {}))
        nics[name] = {"connections": held[place], **sums[place], "frames": frames, "figure_4": dict(figure_4[name])}
    frames, blocks = (_added(one[key] for one in nics.values()) for key in ("frames", "figure_4"))
    whole = {"connections": len(told), "offloaded": len(told) - held[HOST], "records": count}
    yield {
        "nics": nics,
        "host": {"connections": held[HOST], **sums[HOST]},
        "connections": iter(parts),
        "team": {**whole, **_added(sums.values()), "frames": frames, "figure_4": blocks},
    }


def _connection(
    connection: Connection,
    told: Mapping[str, Any],
    place: str,
    record: Record | None,
    earlier: Mapping[str, int],
) -> dict[str, Any]:
    facts = {**connection.fields(), "place": place, **{k: v for k, v in told.items() if k != "connection"}}
    facts |= {key: told[key] + earlier.get(key, 0) for key in ADDED}
    if record is not None:
        facts |= {"epoch": record.epoch, "strays": record.strays}
    return facts


def _added(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(total)
