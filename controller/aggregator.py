"""The slow protocols on all ports of one LAG: LACP's Selection, what is sent and heard, and which members may carry
frames. Without LACP (mode `off`) only probes, if they are set, and the answers to the partner's.

All members go onto one aggregator, so all must have the same partner: the one that most ports have, while nobody is
attached yet, and from then on the one that is attached. Others are wrongly wired: never selected, and told. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, NamedTuple

from controller.lacp import Mux, Port, Receive
from controller.lacpdu import End, Lacpdu, Marker, State, decode, encode
from controller.probe import Prober

MODES = ("off", "active", "passive")
RATES = ("slow", "fast")


class Lacp(NamedTuple):
    """A LAG's settings. `port_ids` tells the ports of switches apart that share `system` (exclusive or)."""

    mode: str = "off"
    rate: str = "fast"
    system: str = "02:00:00:00:05:01"
    key: int = 1
    probe_s: float | None = None
    port_ids: int = 0

    def end(self, port: int) -> End:
        """The configured end of the link at this port."""
        state = State.AGGREGATION
        state |= State.ACTIVITY if self.mode == "active" else State(0)
        state |= State.TIMEOUT if self.rate == "fast" else State(0)
        return End(0x8000, self.system, self.key, 0x8000, port ^ self.port_ids, state)


LagId = tuple[object, ...]
"""What ports must have in common to be aggregated: the partner's system and key, and its port if it is individual."""


class Aggregator:
    """After `link`, `heard`, `resume`, and when it is `due`: `run`. Then `frames` (port, bytes) are to be sent and
    `news` to be told; who takes them, clears them.
    """

    def __init__(self, members: Iterable[int], settings: Lacp) -> None:
        self.settings = settings
        self.members = tuple(members)
        self.ports = {port: Port(settings.end(port)) for port in self.members} if settings.mode != "off" else {}
        self.prober = None if settings.probe_s is None else Prober(settings.probe_s)
        self.counters: dict[int, Counter[str]] = {port: Counter() for port in self.members}
        self.partner: LagId | None = None
        self.frames: list[tuple[int, bytes]] = []
        self.news: list[dict[str, Any]] = []
        self._told: dict[int, tuple[str, LagId]] = {}
        self._told_wrong: tuple[int, ...] = ()

    def why_not(self, port: int) -> str | None:
        """What keeps a member whose carrier is up from carrying frames: "lacp", "probe", or nothing."""
        if port in self.ports and not self.ports[port].carries:
            return "lacp"
        return "probe" if self.prober is not None and port not in self.prober.alive else None

    def collecting(self) -> dict[int, End] | None:
        """By which members frames may come in, and with which partner; None: by all."""
        if self.settings.mode == "off":
            return None
        return {port: one.partner for port, one in self.ports.items() if one.collects}

    def wrong(self) -> tuple[int, ...]:
        """Ports whose partner is another than the aggregator's, or is this switch itself."""
        return tuple(
            number
            for number, port in self.ports.items()
            if port.receive is Receive.CURRENT and (_is_loop(port) or lag_id(port) != self.partner)
        )

    # ------------------------------------------------------------------------------------- what happens

    def link(self, port: int, up: bool, now: float) -> None:
        """A member's carrier came or went."""
        if port in self.ports:
            self.ports[port].link(up, now)
        if self.prober is not None:
            self.prober.link(port, up, now)

    def heard(self, port: int, frame: bytes, now: float) -> None:
        """A frame of a slow protocol came in by a member."""
        count = self.counters[port]
        try:
            pdu = decode(frame)
        except ValueError:
            count["malformed"] += 1
            return
        match pdu:
            case Lacpdu():
                count["lacpdu_rx"] += 1
                if port in self.ports:
                    self.ports[port].heard(pdu, now)
            case Marker(response=False):
                count["marker_rx"] += 1
                self._send(port, pdu._replace(response=True))
            case Marker():
                count["marker_response_rx"] += 1
                if self.prober is not None and (pdu.system, pdu.port) == (self.settings.system, self._id(port)):
                    self.prober.answered(port, pdu.transaction)

    def resume(self, port: int, partner: End | None, used: bool, now: float) -> None:
        """Where an earlier run of this program was with a member whose link is up: with that partner, if it collected;
        and whether it was `used`, so that its probe answered."""
        if port in self.ports and partner is not None:
            self.ports[port].resume(partner, now)
        if self.prober is not None and used:
            self.prober.resume([port])

    def due(self) -> float | None:
        """When `run` has something to do."""
        times = [port.due() for port in self.ports.values()]
        if self.prober is not None:
            times.append(self.prober.due())
        return min((time for time in times if time is not None), default=None)

    def run(self, now: float) -> None:
        """All machines, until nothing changes; then what is to be sent and told."""
        for port in self.ports.values():
            port.tick(now)
        while self._select() or self._run_mux(now):
            pass
        for number, port in self.ports.items():
            port.run_periodic(now)
            if (pdu := port.transmit(now)) is not None:
                self._send(number, pdu)
        if self.prober is not None:
            for number in self.prober.tick(now):
                self._send(number, Marker(self.settings.system, self._id(number), self.prober.round))
        self._tell()

    # ------------------------------------------------------------------------------------- the machines

    def _run_mux(self, now: float) -> bool:
        there = [port for port in self.ports.values() if port.receive is not Receive.PORT_DISABLED]
        waiting = [port for port in there if port.mux is Mux.WAITING]
        # With all selected there is nobody left to wait for.
        waited = [port.waits_no_more(now) for port in waiting]
        ready = all(port.selected for port in there) or all(waited)
        changed = [port.run_mux(ready, now) for port in self.ports.values()]
        return any(changed)

    def _select(self) -> bool:
        """The Selection logic. Returns whether anything changed."""
        before = self.partner, [port.selected for port in self.ports.values()]
        heard = [port for port in self.ports.values() if port.receive is Receive.CURRENT and not _is_loop(port)]
        attached = [lag_id(port) for port in heard if _is_attached(port)]
        if attached:
            self.partner = self.partner if self.partner in attached else attached[0]
        elif heard:
            self.partner = Counter(map(lag_id, heard)).most_common(1)[0][0]  # of equals the first
        for port in self.ports.values():
            if port.selected and (_is_loop(port) or lag_id(port) != self.partner):
                port.selected = False
        for port in heard:
            if port.mux is Mux.DETACHED and lag_id(port) == self.partner:
                port.selected = True
        return before != (self.partner, [port.selected for port in self.ports.values()])

    # ----------------------------------------------------------------------------------- sent and told

    def _id(self, port: int) -> int:
        return self.settings.end(port).port

    def _send(self, port: int, pdu: Lacpdu | Marker) -> None:
        response = isinstance(pdu, Marker) and pdu.response
        name = "lacpdu" if isinstance(pdu, Lacpdu) else "marker_response" if response else "marker"
        self.counters[port][f"{name}_tx"] += 1
        self.frames.append((port, encode(pdu, self.settings.system)))

    def _tell(self) -> None:
        for number, port in self.ports.items():
            now = port.state, lag_id(port)
            if self._told.get(number, ("port_disabled", lag_id(Port(End())))) != now:
                self._told[number] = now
                self.news.append({"event": "lacp", "port": number, "state": port.state, "partner": described(port)})
        wrong = self.wrong()
        if wrong != self._told_wrong:
            self._told_wrong = wrong
            partners: dict[str, list[int]] = {}
            for number, port in self.ports.items():
                if port.receive is Receive.CURRENT:
                    partners.setdefault(f"{port.partner.system} key {port.partner.key}", []).append(number)
            self.news.append({"event": "miswired", "ports": list(wrong), "partners": partners})


def lag_id(port: Port) -> LagId:
    """What the partner must have in common with that of the other ports."""
    partner = port.partner
    alone = None if partner.state & State.AGGREGATION else partner.port
    return (partner.system_priority, partner.system, partner.key, alone)


def described(port: Port) -> dict[str, Any]:
    """The partner, for events and people."""
    return {**port.partner._asdict(), "state": int(port.partner.state)}


def _is_attached(port: Port) -> bool:
    return port.selected and port.mux in (Mux.ATTACHED, Mux.COLLECTING_DISTRIBUTING)


def _is_loop(port: Port) -> bool:
    return port.partner.system == port.actor.system and port.partner.key == port.actor.key
