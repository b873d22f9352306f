"""Signs of life of a team's members beside their carrier: LACP and the probe, on the agent's loop.

Decides: nothing by itself; lacp.py and lacp_probe.py do. Never touches: connections, records; it calls `changed`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import astuple, replace
from functools import partial
from pathlib import Path
from typing import Any

from host_agent.config import AgentConfig
from host_agent.emit import emit
from host_agent.lacp import Doings, Lacp, Lag, Standing
from host_agent.lacp_pdu import End, Lacpdu, Marker, State
from host_agent.lacp_probe import Probe
from host_agent.lacp_text import Member, Team, mac, text
from host_agent.lacp_wire import Wires, address_of
from host_agent.loop import Loop
from host_agent.team import TeamState


class Watch:
    """inherited: NICs that an earlier agent had active; they stay so until LACP or the probe knows better.

    changed: called when `unfit` may be otherwise. Raises OSError when a bus is not there.
    """

    def __init__(self, config: AgentConfig, loop: Loop, inherited: Iterable[int], changed: Callable[[], None]):
        self._config, self._loop, self._changed = config, loop, changed
        self._names = [nic.name for nic in config.nics]
        self.system = address_of(config.team)
        self._partners = Path(config.control).with_suffix(".lacp")
        self.lacp: Lacp | None = None
        if config.lacp.mode != "off":
            active, fast = config.lacp.mode == "active", config.lacp.rate == "fast"
            ends = self._left_behind(set(inherited))
            self.lacp = Lacp(self.system, len(self._names), active=active, fast=fast, inherited=ends)
        self.probe = Probe(inherited) if config.probe_s else None
        self._wires = Wires(loop, [nic.bus for nic in config.nics], self.system, self._hear)
        self._due = float("inf")  # the earliest timer that is set
        self._told = self.unfit
        if self.probe and config.probe_s:
            loop.after(0, partial(self._round, self.probe, config.probe_s))

    @property
    def unfit(self) -> dict[int, str]:
        """The members that must carry no traffic, and who says so."""
        found: dict[int, str] = {}
        for nic in range(len(self._names)):
            if self.lacp and not self.lacp.standing(nic).usable:
                found[nic] = "lacp"
            elif self.probe and nic not in self.probe.alive:
                found[nic] = "probe"
        return found

    def carrier(self, nic: int, up: bool) -> None:
        """Does not call `changed`: who tells of a carrier sees to what follows."""
        if self.probe:
            self.probe.carrier(nic, up)
        if self.lacp:
            self._do(self.lacp.carrier(nic, up, time.monotonic()))
        self._told = self.unfit

    def report(self, team: TeamState) -> dict[str, Any]:
        """LACP's state and the probe's, for programs and, as `text`, for people."""
        config, lacp = self._config, self.lacp
        members = [Member(name, nic in team.links, team.why(nic)) for nic, name in enumerate(self._names)]
        rate, active = config.lacp.rate, config.lacp.mode == "active"
        shown = Team(config.team, self.system, config.min_links, rate, active, config.probe_s, members)
        facts: list[dict[str, Any]] = []
        for nic, member in enumerate(members):
            facts.append({"nic": member.name, "link": member.link, "active": member.why is None, "why": member.why})
            if lacp:
                port = lacp.ports[nic]
                facts[-1] |= {"receive": port.receive.value, "mux": port.mux.value, "selected": port.selected}
                facts[-1] |= {"actor": end_facts(port.actor), "partner": end_facts(port.partner)}
                facts[-1] |= {"expired": port.expired}
            if self.probe:
                facts[-1]["probe"] = nic in self.probe.alive
        settings: dict[str, Any] = {"mode": config.lacp.mode, "rate": rate, "system": mac(self.system)}
        settings |= {"min_links": config.min_links, "probe_s": config.probe_s}
        return {**settings, "members": facts, "text": text(shown, lacp)}

    def _hear(self, nic: int, pdu: Lacpdu | Marker) -> None:
        if isinstance(pdu, Lacpdu):
            if self.lacp:
                self._do(self.lacp.hear(nic, pdu, time.monotonic()))
        elif not pdu.response:
            self._wires.send(nic, Marker(pdu.system, pdu.port, pdu.transaction, response=True))
            return
        elif self.probe and (pdu.system, pdu.port) == (self.system, nic + 1):
            self.probe.answer(nic, pdu.transaction)
        self._tell()

    def _tell(self) -> None:
        unfit = self.unfit
        if unfit != self._told:
            self._told = unfit
            self._changed()

    def _round(self, probe: Probe, every: float) -> None:
        for nic in probe.round():
            self._wires.send(nic, Marker(self.system, nic + 1, probe.number))
        self._tell()
        self._loop.after(every, partial(self._round, probe, every))

    def _do(self, doings: Doings) -> None:
        assert self.lacp is not None
        for nic, pdu in doings.send:
            self._wires.send(nic, pdu)
        for nic, standing in doings.changed.items():
            emit(self._config.name, "lacp", nic=self._names[nic], **_facts(standing))
        if doings.changed:
            self._leave_behind(self.lacp)
        if doings.miswired:
            emit(self._config.name, "miswired", partners=[self._offer(*one) for one in doings.miswired.items()])
        due = self.lacp.due()
        if due < self._due:
            self._due = due
            self._loop.after(max(0.0, due - time.monotonic()), partial(self._tick, due))

    def _tick(self, due: float) -> None:
        assert self.lacp is not None
        if due != self._due:  # an earlier one was set meanwhile, and has set the next
            return
        self._due = float("inf")
        self._do(self.lacp.tick(time.monotonic()))
        self._tell()

    # What the next agent must know, or it could not speak before it is spoken to, and the other end might give us up.

    def _leave_behind(self, lacp: Lacp) -> None:
        up = {self._names[nic]: port.partner for nic, port in enumerate(lacp.ports) if port.usable}
        fresh = self._partners.with_suffix(".lacp.new")
        with suppress(OSError):  # the next agent finds nothing newer, and is told otherwise by the other ends
            fresh.write_text(json.dumps({name: [end.system.hex(), *astuple(end)[1:]] for name, end in up.items()}))
            fresh.replace(self._partners)

    def _left_behind(self, nics: set[int]) -> dict[int, End]:
        """Of those that were active last; whatever cannot be read was not left by an agent."""
        try:
            left = json.loads(self._partners.read_text())
            ends = {name: End(bytes.fromhex(words[0]), *words[1:]) for name, words in left.items()}
            states = {name: replace(end, state=State(end.state)) for name, end in ends.items()}
        except (OSError, ValueError, TypeError, AttributeError, LookupError):
            return {}
        return {nic: states[self._names[nic]] for nic in nics if self._names[nic] in states}

    def _offer(self, lag: Lag, nics: list[int]) -> dict[str, Any]:
        assert self.lacp is not None
        _, system, key, _ = lag
        names = [self._names[nic] for nic in nics]
        return {"system": mac(system), "key": key, "nics": names, "selected": lag == self.lacp.lag}


def _facts(standing: Standing) -> dict[str, Any]:
    return {"state": standing.state, "usable": standing.usable, "partner": end_facts(standing.partner)}


def end_facts(end: End) -> dict[str, Any]:
    """One end, as events and the API tell it."""
    facts = {"system_priority": end.system_priority, "system": mac(end.system), "key": end.key}
    facts |= {"port_priority": end.port_priority, "port": end.port}
    return facts | {"state": int(end.state)}
