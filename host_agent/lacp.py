"""LACP on every member of a team: the Selection logic of IEEE 802.1AX-2014, 6.4.14, over the members' machines.

Decides: which members belong together. Never touches: sockets, clocks; time is passed in.

All members of a team must lead to one and the same aggregate of one other system, or frames would arrive where nobody
expects them. Where they do not, the team is wired wrongly: the aggregate that most members lead to is chosen, of equal
ones the one in use; the other members are not selected, and that is told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from host_agent.lacp_pdu import NOTHING, End, Lacpdu, State
from host_agent.lacp_port import Mux, Port, Receive

Lag = tuple[int, bytes, int, int]


@dataclass(frozen=True)
class Standing:
    """How one member stands. state: of its Mux machine, or of its Receive machine while nobody is heard."""

    state: str
    usable: bool
    partner: End

    @property
    def facts(self) -> tuple[object, ...]:
        """What is news when it changes; the other end's state octet alone is not."""
        return self.state, self.usable, self.partner.identity


@dataclass
class Doings:
    """send: PDUs by NIC. changed: members that stand otherwise now. miswired: aggregate -> its NICs, when there is
    more than one and that is news."""

    send: list[tuple[int, Lacpdu]] = field(default_factory=list)
    changed: dict[int, Standing] = field(default_factory=dict)
    miswired: dict[Lag, list[int]] = field(default_factory=dict)


class Lacp:
    """system: the team's MAC. inherited: members that an earlier agent had up, and the ends that they led to."""

    def __init__(
        self,
        system: bytes,
        nics: int,
        *,
        active: bool,
        fast: bool,
        key: int = 1,
        inherited: Mapping[int, End] = MappingProxyType({}),
    ):
        state = State.AGGREGATION | (State.ACTIVITY if active else NOTHING) | (State.TIMEOUT if fast else NOTHING)
        self.ports = [Port(End(system, key, nic + 1, state), inherited.get(nic)) for nic in range(nics)]
        self.lag: Lag | None = None
        self._stood = [_standing(port) for port in self.ports]
        self._told: dict[Lag, list[int]] = {}

    def carrier(self, nic: int, up: bool, now: float) -> Doings:
        self.ports[nic].enable(up, now)
        return self.tick(now)

    def hear(self, nic: int, pdu: Lacpdu, now: float) -> Doings:
        self.ports[nic].hear(pdu, now)
        return self.tick(now)

    def tick(self, now: float) -> Doings:
        """Lets all machines run until they rest."""
        for port in self.ports:
            port.tick(now)
            port.run_mux()  # one that was deselected leaves first, also when it is to come back at once
        offered = self._select()
        done = Doings()
        for nic, port in enumerate(self.ports):
            port.run_mux()
            pdu = port.transmit(now)
            if pdu is not None:
                done.send.append((nic, pdu))
            stands = _standing(port)
            before, self._stood[nic] = self._stood[nic], stands
            if stands.facts != before.facts:
                done.changed[nic] = stands
        done.miswired = offered if len(offered) > 1 and offered != self._told else {}
        self._told = offered
        return done

    def due(self) -> float:
        return min(port.due() for port in self.ports)

    def standing(self, nic: int) -> Standing:
        return self._stood[nic]

    def _select(self) -> dict[Lag, list[int]]:
        """Gives what is offered by those that speak now."""
        lags = {nic: port.lag for nic, port in enumerate(self.ports)}
        count = Counter(lag for lag in lags.values() if lag is not None)
        if count:
            self.lag = max(count, key=lambda lag: (count[lag], lag == self.lag, [-byte for byte in lag[1]]))
        for nic, port in enumerate(self.ports):
            if port.receive is not Receive.PORT_DISABLED:
                port.select(lags[nic] is not None and lags[nic] == self.lag)
        offered: dict[Lag, list[int]] = {}
        for nic, lag in lags.items():
            if lag is not None and self.ports[nic].receive is Receive.CURRENT:
                offered.setdefault(lag, []).append(nic)
        return offered


def _standing(port: Port) -> Standing:
    alone = port.receive in (Receive.PORT_DISABLED, Receive.EXPIRED, Receive.DEFAULTED)
    state = port.receive.value if alone and port.mux is not Mux.COLLECTING_DISTRIBUTING else port.mux.value
    return Standing(state, port.usable, port.partner)
