"""One member's end of LACP: the Receive, Periodic, Mux and Transmit machines of IEEE 802.1AX-2014, 6.4.12 to 6.4.16.

Decides: what this end believes of the other, whether it collects and distributes, and when it speaks.
Never touches: sockets, clocks (time is passed in, in seconds), the other members (lacp.py selects among them).

         carrier                  PDU                       no PDU in time
    PORT_DISABLED --> EXPIRED ----------> CURRENT --------------------------------> EXPIRED --> DEFAULTED

         selected              the other end is in sync
    DETACHED --> ATTACHED ----------------------------> COLLECTING_DISTRIBUTING           (coupled control)

Stricter than the standard: a member is usable only while the other end, too, says that it collects. So an end that has
gone deaf stops the other at once, not three seconds later.
Of the standard's Mux machine the state WAITING is left out: it waits so that links that come up together are joined
together. Here the members are known beforehand, and each may carry traffic as soon as it can.
"""

from __future__ import annotations

import math
from dataclasses import replace
from enum import Enum

from host_agent.lacp_pdu import NOBODY, NOTHING, End, Lacpdu, State

FAST, SLOW = 1.0, 30.0  # seconds between PDUs (Fast_Periodic_Time, Slow_Periodic_Time)
SHORT, LONG = 3.0, 90.0  # seconds without one (Short_Timeout_Time, Long_Timeout_Time)
MOST = 3  # PDUs in any FAST seconds
NEVER = math.inf

_MOVING = State.COLLECTING | State.DISTRIBUTING
_AGREED = State.ACTIVITY | State.TIMEOUT | State.SYNCHRONIZATION | State.AGGREGATION


class Receive(Enum):
    PORT_DISABLED = "port_disabled"
    EXPIRED = "expired"
    DEFAULTED = "defaulted"
    CURRENT = "current"


class Mux(Enum):
    DETACHED = "detached"
    ATTACHED = "attached"
    COLLECTING_DISTRIBUTING = "collecting_distributing"


class Port:
    """actor: this end; its state octet says whether it is active, and fast. inherited: the other end of a member that
    an earlier agent had up; it stays up until that end says otherwise, or is not heard in time."""

    def __init__(self, actor: End, inherited: End | None = None):
        self.actor, self.partner = actor, NOBODY
        self.receive, self.mux, self.selected = Receive.PORT_DISABLED, Mux.DETACHED, False
        self.expired = 0  # how often the other end fell silent
        self._enabled = False
        self._ntt = False  # need to transmit
        self._silent_at = NEVER  # current_while: when the other end is late
        self._periodic_at = NEVER
        self._interval = NEVER
        self._sent: list[float] = []
        self._inherited = inherited
        self._say(State.DEFAULTED)

    @property
    def usable(self) -> bool:
        """It may carry traffic."""
        ready = self._enabled and self.mux is Mux.COLLECTING_DISTRIBUTING
        return ready and State.COLLECTING in self.partner.state

    @property
    def lag(self) -> tuple[int, bytes, int, int] | None:
        """The aggregate that the other end offers (LAG ID, 6.4.6); its last number tells ends apart that do not
        aggregate. None: nobody there, or it is ourselves."""
        one = self.partner
        if self.receive not in (Receive.CURRENT, Receive.EXPIRED) or one.system in (self.actor.system, NOBODY.system):
            return None
        return one.system_priority, one.system, one.key, 0 if State.AGGREGATION in one.state else one.port

    # -- what happens to it ------------------------------------------------------------------------------------------

    def enable(self, up: bool, now: float) -> None:
        """The carrier. What was inherited counts only if that is up from the first."""
        inherited, self._inherited = self._inherited, None
        if up == self._enabled:
            return
        self._enabled = up
        if not up:
            self.receive, self._silent_at = Receive.PORT_DISABLED, NEVER
            self._partner_says(without=State.SYNCHRONIZATION)
        elif inherited:
            self.partner, self.mux, self.selected = inherited, Mux.COLLECTING_DISTRIBUTING, True
            self.receive, self._silent_at, self._ntt = Receive.CURRENT, now + self._timeout(), True
            self._say(State.SYNCHRONIZATION | _MOVING, State.DEFAULTED)
        else:
            self._expire(now)

    def hear(self, pdu: Lacpdu, now: float) -> None:
        if not self._enabled:
            return
        if pdu.actor.identity != self.partner.identity:
            self.selected = False  # update_Selected: somebody else is there, or sees itself otherwise
        ours = pdu.partner
        if ours.identity != self.actor.identity or (ours.state ^ self.actor.state) & _AGREED:
            self._ntt = True  # update_NTT: it does not know how we are
        self._record(pdu)
        self.receive, self._silent_at = Receive.CURRENT, now + self._timeout()
        self._say(NOTHING, State.EXPIRED | State.DEFAULTED)

    def select(self, selected: bool) -> None:
        self.selected = selected

    def tick(self, now: float) -> None:
        """What time alone brings about."""
        if now >= self._silent_at:
            if self.receive is Receive.CURRENT:
                self.expired += 1
                self._expire(now)
            else:
                self._default()
        self._run_periodic(now)

    def run_mux(self) -> None:
        """Until it rests: one step of the machine may allow the next."""
        before = None
        while before is not self.mux:
            before = self.mux
            in_sync = State.SYNCHRONIZATION in self.partner.state
            if not self.selected:
                back = {Mux.COLLECTING_DISTRIBUTING: Mux.ATTACHED}
                self._enter(back.get(self.mux, Mux.DETACHED))
            elif self.mux is Mux.DETACHED:
                self._enter(Mux.ATTACHED)
            else:
                self._enter(Mux.COLLECTING_DISTRIBUTING if in_sync else Mux.ATTACHED)

    def transmit(self, now: float) -> Lacpdu | None:
        """What is to be said now, if anything."""
        self._run_periodic(now)
        self._sent = [at for at in self._sent if at + FAST > now]
        if not self._ntt or not self._may_speak() or len(self._sent) >= MOST:
            return None
        self._ntt = False
        self._sent.append(now)
        return Lacpdu(self.actor, self.partner)

    def due(self) -> float:
        """When tick() and transmit() have something to do next."""
        speak = NEVER
        if self._ntt and self._may_speak():
            speak = self._sent[0] + FAST if len(self._sent) >= MOST else -NEVER
        return min(self._silent_at, self._periodic_at, speak)

    # -- the machines' own steps -------------------------------------------------------------------------------------

    def _expire(self, now: float) -> None:
        """EXPIRED: the other end is asked to speak up."""
        self.receive, self._silent_at, self._ntt = Receive.EXPIRED, now + SHORT, True
        self._partner_says(State.TIMEOUT, without=State.SYNCHRONIZATION)
        self._say(State.EXPIRED)

    def _default(self) -> None:
        """DEFAULTED: nobody is there. Alone a link is of no use to a team."""
        self.receive, self._silent_at = Receive.DEFAULTED, NEVER
        self.selected, self.partner = False, NOBODY
        self._say(State.DEFAULTED, State.EXPIRED)

    def _record(self, pdu: Lacpdu) -> None:
        """recordPDU: the other end is in sync only if it means us, and one of both speaks unasked."""
        knows_us = pdu.partner.identity == self.actor.identity or State.AGGREGATION not in pdu.actor.state
        kept_up = State.ACTIVITY in pdu.actor.state or State.ACTIVITY in self.actor.state & pdu.partner.state
        self.partner = pdu.actor
        if not (knows_us and kept_up):
            self._partner_says(without=State.SYNCHRONIZATION)

    def _run_periodic(self, now: float) -> None:
        interval = (FAST if State.TIMEOUT in self.partner.state else SLOW) if self._may_speak() else NEVER
        if interval < self._interval != NEVER:
            self._ntt = True  # it wants to hear from us more often: it waits already
        if interval != self._interval:
            self._interval, self._periodic_at = interval, now + interval
        elif now >= self._periodic_at:
            self._ntt, self._periodic_at = True, now + interval

    def _may_speak(self) -> bool:
        """NO_PERIODIC otherwise: no carrier, or both ends wait to be asked."""
        return self._enabled and State.ACTIVITY in self.actor.state | self.partner.state

    def _enter(self, mux: Mux) -> None:
        if mux is self.mux:
            return
        self.mux, self._ntt = mux, True
        if mux is Mux.COLLECTING_DISTRIBUTING:
            self._say(_MOVING)
        elif mux is Mux.ATTACHED:
            self._say(State.SYNCHRONIZATION, _MOVING)
        else:
            self._say(NOTHING, State.SYNCHRONIZATION | _MOVING)

    def _timeout(self) -> float:
        return SHORT if State.TIMEOUT in self.actor.state else LONG

    def _say(self, more: State, less: State = NOTHING) -> None:
        self.actor = replace(self.actor, state=self.actor.state & ~less | more)

    def _partner_says(self, more: State = NOTHING, *, without: State) -> None:
        self.partner = replace(self.partner, state=self.partner.state & ~without | more)
