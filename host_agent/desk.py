"""What the agent is asked and commanded, at its local API: records, counters, the team, and moves by command.

Decides: whether a command can be begun. Never touches: how it is carried out (agent.py), the form of answers (api.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from host_agent.connection import Connection
from host_agent.peer import ask_all
from host_agent.policy import HOST, Plan
from host_agent.records import RecordsFull
from host_agent.reload import Outcome
from host_agent.statistics import PART, gather

if TYPE_CHECKING:
    from host_agent.agent import Agent

Answered = dict[str, Any] | Iterator[dict[str, Any] | None]
"""At once; or behind any number of None, each of which takes a part of a long time. A long list of it may be an
iterator of its parts, none of which is empty."""

Answer = Callable[[Answered], None]


class Refused(Exception):
    """A request that cannot be served; the text is the answer, in one line."""


class Desk:
    """Each verb is a method. An answer may come later, when a move is over."""

    def __init__(self, agent: Agent):
        self._agent = agent

    def serve(self, request: dict[str, Any], answer: Answer) -> None:
        """Raises Refused, and KeyError or TypeError for a request that lacks what it must have."""
        verb = request["do"]
        serving = {
            "records": self._records,
            "counters": self._counters,
            "team": self._team,
            "floods": self._floods,
            "statistics": self._statistics,
            "lacp": self._lacp,
            "offload": self._move,
            "reload": self._move,
            "upload": self._move,
            "add_nic": self._membership,
            "remove_nic": self._membership,
        }
        if verb not in serving:
            raise Refused(f"do: {verb!r} is not one of {', '.join(serving)}")
        serving[verb](request, answer)

    def _records(self, _request: dict[str, Any], answer: Answer) -> None:
        team = self._agent.team

        def told() -> Iterator[list[dict[str, Any]]]:
            for some in self._agent.records.slices():
                for start in range(0, len(some), PART):
                    yield [
                        {**c.fields(), "nic": team.name(r.nic), "offloaded": r.offloaded, "epoch": r.epoch}
                        | {"packets": r.packets, "bytes": r.bytes, "bytes_out": r.bytes_out, "strays": r.strays}
                        | {"host_segments": r.host_segments, "stage": r.stage.name, "last_seen": r.last_seen}
                        for c, r in some[start : start + PART]
                    ]

        answer({"records": told()})

    def _counters(self, _request: dict[str, Any], answer: Answer) -> None:
        answer({"nics": self._agent.counters()})

    def _floods(self, _request: dict[str, Any], answer: Answer) -> None:
        answer({"floods": [flood.fields() for flood in self._agent.floods.now.values()]})

    def _statistics(self, _request: dict[str, Any], answer: Answer) -> None:
        agent = self._agent

        def told(answers: dict[int, dict[str, Any]]) -> None:
            before = agent.custody.tracker.counted()
            answer(gather(answers, agent.records.slices(), before, agent.counters(), agent.team))

        ask_all(agent.peers, "statistics", told)

    def _team(self, _request: dict[str, Any], answer: Answer) -> None:
        team = self._agent.team
        answer(
            {
                "nics": [
                    {"nic": name, "member": nic in team.members, "link": nic in team.links}
                    | {"engine": nic in team.engines, "active": nic in team.active, "why": team.why(nic)}
                    for nic, name in enumerate(team.names)
                ]
            }
        )

    def _lacp(self, _request: dict[str, Any], answer: Answer) -> None:
        answer(self._agent.watch.report(self._agent.team))

    def _move(self, request: dict[str, Any], answer: Answer) -> None:
        verb, name = request["do"], request.get("nic")
        connection = Connection(*(request[key] for key in Connection._fields))
        record, custody = self._agent.records.get(connection), self._agent.custody
        if record is None and verb != "offload":
            raise Refused(f"{connection}: there is no record of this connection, so no NIC has it")
        if connection in custody.moves:
            raise Refused(f"{connection}: a move is under way")
        source = record.nic if record is not None and record.offloaded else HOST
        target = HOST if verb == "upload" else self._nic_or_any(name, connection)
        if target == source:
            raise Refused(f"{connection}: it is on {self._agent.team.name(target)} already")
        if record is None:
            try:
                custody.record_anew(connection, target)
            except RecordsFull as full:
                raise Refused(str(full)) from None

        def over(outcome: Outcome) -> None:
            answer({"epoch": outcome.epoch} if outcome.target == target else {"error": outcome.reason})

        custody.moves.start(Plan(connection, source, target, "command"), over)

    def _membership(self, request: dict[str, Any], answer: Answer) -> None:
        nic = self._nic(request.get("nic"))
        (self._agent.add_nic if request["do"] == "add_nic" else self._agent.remove_nic)(nic)
        self._team(request, answer)

    def _nic_or_any(self, name: str | None, connection: Connection) -> int:
        if name is not None:
            return self._nic(name)
        any_nic = self._agent.custody.choose(connection)
        if any_nic is None:
            raise Refused("no NIC of the team is active")
        return any_nic

    def _nic(self, name: str | None) -> int:
        if name is None:
            raise Refused("nic: name a NIC of the team")
        try:
            return self._agent.team.nic(name)
        except KeyError as error:
            raise Refused(f"nic: {error.args[0]}") from None
