"""What records and engines counted, put together: per NIC, per connection, and of the whole team.

Decides: what is added to what. Never touches: maps, engines; it is given what they say.

An engine counts a connection's bytes and retransmissions since the connection came to it; what earlier engines counted
is `before`, and is added.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.policy import HOST
from host_agent.team import TeamState

ADDED = ("bytes_in", "bytes_out", "retransmits")

Answers = Mapping[int, Mapping[str, Any]]


def gather(
    answers: Answers,
    records: Iterable[tuple[Connection, Record]],
    before: Mapping[Connection, Mapping[str, int]],
    figure_4: Mapping[str, Mapping[str, int]],
    team: TeamState,
) -> dict[str, Any]:
    """answers: the engines' `statistics`, by place. figure_4: frames by block and by what became of them, by NIC."""
    known = dict(records)
    connections = [
        _connection(each, team.name(place), known, before)
        for place, answer in sorted(answers.items())
        for each in answer["connections"]
    ]
    nics: dict[str, dict[str, Any]] = {}
    for place, name in enumerate(team.names):
        mine = [one for one in connections if one["place"] == name]
        frames = dict(answers.get(place, {}).get("statistics", {}))
        nics[name] = {"connections": len(mine), **_sums(mine), "frames": frames, "figure_4": dict(figure_4[name])}
    at_host = [one for one in connections if one["place"] == team.name(HOST)]
    frames, blocks = (_added(one[key] for one in nics.values()) for key in ("frames", "figure_4"))
    whole = {"connections": len(connections), "offloaded": len(connections) - len(at_host), "records": len(known)}
    return {
        "nics": nics,
        "host": {"connections": len(at_host), **_sums(at_host)},
        "connections": connections,
        "team": {**whole, **_sums(connections), "frames": frames, "figure_4": blocks},
    }


def _connection(
    told: Mapping[str, Any],
    place: str,
    known: Mapping[Connection, Record],
    before: Mapping[Connection, Mapping[str, int]],
) -> dict[str, Any]:
    connection = Connection(*told["connection"])
    earlier, record = before.get(connection, {}), known.get(connection)
    facts = {**connection.fields(), "place": place, **{k: v for k, v in told.items() if k != "connection"}}
    facts |= {key: told[key] + earlier.get(key, 0) for key in ADDED}
    if record is not None:
        facts |= {"epoch": record.epoch, "strays": record.strays}
    return facts


def _sums(connections: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    return dict.fromkeys(ADDED, 0) | _added({key: one[key] for key in ADDED} for one in connections)


def _added(tables: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for table in tables:
        total.update(table)
    return dict(total)
