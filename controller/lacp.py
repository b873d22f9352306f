"""LACP on one port (IEEE 802.1AX-2014, 6.4): the Receive, Periodic, Mux and Transmit machines, named as there.

    Receive                                            Mux (coupled control)

      PORT_DISABLED ◄─ link down ─ any                   DETACHED ◄───────── unselected ──┐
           │ link up                                         │ selected                   │
           ▼          3 s without PDU                        ▼         all wait over      │
        EXPIRED ───────────────► DEFAULTED                WAITING ──────────────────► ATTACHED
         │   ▲                       │                       └─ unselected ► DETACHED   │   ▲
     PDU │   │ 3 s or 90 s           │ PDU                         partner in synchrony │   │ no longer, or
         ▼   │ without PDU           │                                                  ▼   │ unselected
        CURRENT ◄────────────────────┘                             COLLECTING_DISTRIBUTING ─┘

Which ports are selected is the aggregator's business (`aggregator.py`). Pure: time is passed in, nothing is sent.
Where this is stricter than the standard: a port carries frames only if its partner says that it collects, so an
end that hears nothing stops the other end at once; and a port without partner (DEFAULTED) carries nothing.
"""

from __future__ import annotations

from enum import StrEnum

from controller.lacpdu import End, Lacpdu, State

FAST_PERIODIC_S, SLOW_PERIODIC_S = 1.0, 30.0
SHORT_TIMEOUT_S, LONG_TIMEOUT_S = 3.0, 90.0
AGGREGATE_WAIT_S = 2.0
MOST_IN_A_FAST_PERIOD = 3
"""LACPDUs that a port may send."""


class Receive(StrEnum):
    """States of the Receive machine."""

    PORT_DISABLED = "PORT_DISABLED"
    EXPIRED = "EXPIRED"
    DEFAULTED = "DEFAULTED"
    CURRENT = "CURRENT"


class Mux(StrEnum):
    """States of the Mux machine."""

    DETACHED = "DETACHED"
    WAITING = "WAITING"
    ATTACHED = "ATTACHED"
    COLLECTING_DISTRIBUTING = "COLLECTING_DISTRIBUTING"


RECEIVE: dict[Receive, dict[str, Receive]] = {
    Receive.PORT_DISABLED: {"link_up": Receive.EXPIRED},
    Receive.EXPIRED: {"pdu": Receive.CURRENT, "timeout": Receive.DEFAULTED, "link_down": Receive.PORT_DISABLED},
    Receive.DEFAULTED: {"pdu": Receive.CURRENT, "link_down": Receive.PORT_DISABLED},
    Receive.CURRENT: {"pdu": Receive.CURRENT, "timeout": Receive.EXPIRED, "link_down": Receive.PORT_DISABLED},
}
"""What happens -> the next state; what is not here changes nothing."""

MUX: dict[Mux, dict[str, Mux]] = {
    Mux.DETACHED: {"selected": Mux.WAITING},
    Mux.WAITING: {"unselected": Mux.DETACHED, "ready": Mux.ATTACHED},
    Mux.ATTACHED: {"unselected": Mux.DETACHED, "in_sync": Mux.COLLECTING_DISTRIBUTING},
    Mux.COLLECTING_DISTRIBUTING: {"unselected": Mux.ATTACHED, "not_in_sync": Mux.ATTACHED},
}
"""What is so -> the next state; the first that holds counts."""

_SHOWN = State.ACTIVITY | State.TIMEOUT | State.SYNCHRONIZATION | State.AGGREGATION
"""What the partner must know of this end's state (update_NTT)."""


class Port:
    """`me` is this end as configured, its state with ACTIVITY, TIMEOUT and AGGREGATION only."""

    def __init__(self, me: End) -> None:
        self._me = me
        self.receive = Receive.PORT_DISABLED
        self.mux = Mux.DETACHED
        self.selected = False
        self.partner = End()
        self._default = True  # nothing is known of the partner
        self._need_to_transmit = False
        self._current_while: float | None = None
        self._wait_while: float | None = None
        self._period_s: float | None = None
        self._periodic: float | None = None
        self._sent: list[float] = []

    @property
    def actor(self) -> End:
        """This end as it is now."""
        state = self._me.state
        if self.mux in (Mux.ATTACHED, Mux.COLLECTING_DISTRIBUTING):
            state |= State.SYNCHRONIZATION
        if self.mux is Mux.COLLECTING_DISTRIBUTING:
            state |= State.COLLECTING | State.DISTRIBUTING
        if self._default:
            state |= State.DEFAULTED
        if self.receive is Receive.EXPIRED:
            state |= State.EXPIRED
        return self._me._replace(state=state)

    @property
    def state(self) -> str:
        """One word for both machines: the Mux's once a partner is heard, until then the Receive machine's."""
        return (self.mux if self.receive is Receive.CURRENT else self.receive).lower()

    @property
    def collects(self) -> bool:
        """Frames that come in by this port count."""
        return self.mux is Mux.COLLECTING_DISTRIBUTING

    @property
    def carries(self) -> bool:
        """Frames may go out by this port."""
        return self.collects and bool(self.partner.state & State.COLLECTING)

    # --------------------------------------------------------------------------------------- what happens

    def link(self, up: bool, now: float) -> None:
        """The carrier came or went."""
        if up == (self.receive is Receive.PORT_DISABLED):
            self._receive("link_up" if up else "link_down", now)

    def heard(self, pdu: Lacpdu, now: float) -> None:
        """The partner has sent this."""
        if "pdu" not in RECEIVE[self.receive]:
            return  # it was on its way when the link went
        if pdu.actor.name != self.partner.name:
            self.selected = False
        if pdu.partner.name != self.actor.name or (pdu.partner.state ^ self.actor.state) & _SHOWN:
            self._need_to_transmit = True
        self.partner = pdu.actor._replace(state=pdu.actor.state & ~State.SYNCHRONIZATION)
        if self._in_sync(pdu):
            self.partner = self.partner._replace(state=self.partner.state | State.SYNCHRONIZATION)
        self._default = False
        self._receive("pdu", now)

    def resume(self, partner: End, now: float) -> None:
        """Go on where an earlier run of this program was: collecting and distributing with that partner."""
        assert self.receive is not Receive.PORT_DISABLED
        state = State.ACTIVITY | State.AGGREGATION | State.SYNCHRONIZATION | State.COLLECTING | State.DISTRIBUTING
        self.partner, self._default, self.selected = partner._replace(state=state), False, True
        self.mux, self._need_to_transmit = Mux.COLLECTING_DISTRIBUTING, True
        self._receive_state(Receive.CURRENT, now)

    def tick(self, now: float) -> None:
        """Let the timers run out that are due."""
        if self._current_while is not None and now >= self._current_while:
            self._receive("timeout", now)
        self.run_periodic(now)

    def due(self) -> float | None:
        """When there is something to do."""
        times = [self._current_while, self._periodic]
        if self.receive is not Receive.PORT_DISABLED:  # nobody waits for a port without carrier
            times.append(self._wait_while)
        if self._need_to_transmit and len(self._sent) >= MOST_IN_A_FAST_PERIOD:
            times.append(self._sent[0] + FAST_PERIODIC_S)
        return min((time for time in times if time is not None), default=None)

    # --------------------------------------------------------------------------------------- the machines

    def waits_no_more(self, now: float) -> bool:
        """Ready_N: it has waited long enough for others to be attached together with it."""
        if self._wait_while is not None and now >= self._wait_while:
            self._wait_while = None
        return self._wait_while is None

    def run_mux(self, ready: bool, now: float) -> bool:
        """One transition, if one is due; `ready` is the aggregator's. Returns whether there was one."""
        in_sync = bool(self.partner.state & State.SYNCHRONIZATION)
        holds = {"selected": self.selected, "ready": ready, "in_sync": in_sync}
        holds |= {"unselected": not self.selected, "not_in_sync": not in_sync}
        after = next((state for what, state in MUX[self.mux].items() if holds[what]), None)
        if after is None:
            return False
        self.mux = after
        self._wait_while = now + AGGREGATE_WAIT_S if after is Mux.WAITING else None
        self._need_to_transmit |= after is not Mux.WAITING
        return True

    def run_periodic(self, now: float) -> None:
        """The partner's timeout decides how often it must hear from here; two passive ends say nothing."""
        before, self._period_s = self._period_s, self._period()
        if self._period_s is None:
            self._periodic, self._need_to_transmit = None, False
            return
        hurried = before is not None and self._period_s < before
        if hurried or (self._periodic is not None and now >= self._periodic):
            self._need_to_transmit = True
            self._periodic = None
        if self._periodic is None or self._period_s != before:
            self._periodic = now + self._period_s

    def transmit(self, now: float) -> Lacpdu | None:
        """What is to be sent now, if anything is."""
        if not self._need_to_transmit or self._period_s is None:
            return None
        self._sent = [time for time in self._sent if now < time + FAST_PERIODIC_S]
        if len(self._sent) >= MOST_IN_A_FAST_PERIOD:
            return None
        self._sent.append(now)
        self._need_to_transmit = False
        return Lacpdu(self.actor, self.partner)

    def _receive(self, event: str, now: float) -> None:
        self._receive_state(RECEIVE[self.receive][event], now)

    def _receive_state(self, state: Receive, now: float) -> None:
        self.receive, self._current_while = state, None
        match state:
            case Receive.PORT_DISABLED:
                self._partner_bits(off=State.SYNCHRONIZATION)
            case Receive.EXPIRED:
                self._partner_bits(off=State.SYNCHRONIZATION, on=State.TIMEOUT)
                self._current_while = now + SHORT_TIMEOUT_S
                self._need_to_transmit = True
            case Receive.DEFAULTED:
                self.partner, self._default, self.selected = End(), True, False
            case Receive.CURRENT:
                short = self._me.state & State.TIMEOUT
                self._current_while = now + (SHORT_TIMEOUT_S if short else LONG_TIMEOUT_S)
        self.run_periodic(now)

    def _partner_bits(self, off: State, on: State = State(0)) -> None:  # noqa: B008 (a value)
        self.partner = self.partner._replace(state=self.partner.state & ~off | on)

    def _in_sync(self, pdu: Lacpdu) -> bool:
        """The partner is attached to what it knows to be this port, and somebody keeps the link alive."""
        knows_me = pdu.partner.name == self.actor.name or not pdu.actor.state & State.AGGREGATION
        active = State.ACTIVITY
        maintained = pdu.actor.state & active or (self._me.state & active and pdu.partner.state & active)
        return bool(knows_me and maintained and pdu.actor.state & State.SYNCHRONIZATION)

    def _period(self) -> float | None:
        if self.receive is Receive.PORT_DISABLED or not (self._me.state | self.partner.state) & State.ACTIVITY:
            return None
        return FAST_PERIODIC_S if self.partner.state & State.TIMEOUT else SLOW_PERIODIC_S
