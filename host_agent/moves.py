"""The moves that are under way, in batches: each goes on when the engine it waits for has answered.

Decides: which connections move together, and how many at a time. Never touches: records, policy; reload.py orders the
steps of a batch.

What is asked for in one turn of the loop begins behind it, those that go the same way together. While a new engine
restores one batch, the old one saves the next.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from functools import partial

from host_agent.connection import Connection
from host_agent.hold import Hold
from host_agent.peer import EnginePeer, not_sent
from host_agent.policy import Plan
from host_agent.records import Records
from host_agent.reload import Ask, Outcome, Steps, move
from host_agent.verbs import Message, PeerGone

BATCH, FEW = 200, 32
"""Connections in a batch: at most, and at least where there are enough of them. In a larger one each costs less, but
the first waits until the last is saved and restored. So it is half of those that wait: both engines have to do; and
the first ones of many are small, for the new engine has nothing to do until one is saved."""

AT_ONCE = 3
"""Batches of one engine at a time: it saves one while one is restored, and never waits for the next."""

Done = Callable[[Outcome], None]
_Way = tuple[int, str, bool, tuple[int, ...]]  # target, cause, resend, fallbacks


class Moves:
    """peers: engines by place, as they come and go. over: called with outcomes, those of a batch that are known
    together."""

    def __init__(
        self, records: Records, hold: Hold, peers: dict[int, EnginePeer], over: Callable[[list[Outcome]], None]
    ):
        self._records, self._hold, self._peers, self._over = records, hold, peers, over
        self.begun: set[Connection] = set()
        self._planned: dict[Connection, Plan] = {}
        self._plans: dict[int, dict[_Way, deque[Plan]]] = {}  # by source, ways in the order of their turns
        self._batches, self._in_a_row = Counter[int](), Counter[int]()
        self._waiters: dict[Connection, Done] = {}

    def __contains__(self, connection: object) -> bool:
        return connection in self._planned or connection in self.begun

    def start(self, plan: Plan, done: Done | None = None) -> None:
        """Plans a move, unless one of this connection is under way; instead of one that has not begun, if by now what
        is in flight is lost. done: called behind `over`, with the outcome."""
        connection = plan.connection
        planned = self._planned.get(connection)
        if connection in self.begun or (planned and (planned.resend or not plan.resend)):
            return
        if done:
            self._waiters[connection] = done
        self._planned[connection] = plan
        way = plan.target, plan.cause, plan.resend, plan.fallbacks
        ways = self._plans.setdefault(plan.source, {})
        if way in ways:
            ways[way].append(plan)
        else:
            ways[way] = deque([plan])

    def begin(self) -> None:
        """Begins what was planned, as far as it is its turn: at the end of each turn of the loop."""
        while (turn := next((one for one in self._plans if self._batches[one] < AT_ONCE), None)) is not None:
            ways = self._plans[turn]
            way, plans = next(iter(ways.items()))
            self._in_a_row[turn] = min(self._in_a_row[turn] + 1, AT_ONCE) if self._batches[turn] else 0
            size = min(len(plans), BATCH, max(FEW, len(plans) // 2), FEW << self._in_a_row[turn])
            taken = [plans.popleft() for _ in range(size)]
            del ways[way]
            if plans:
                ways[way] = plans  # behind all others
            if not ways:
                del self._plans[turn]
            batch = [plan for plan in taken if self._planned.get(plan.connection) is plan]
            for plan in batch:
                del self._planned[plan.connection]
                self.begun.add(plan.connection)
            if batch:
                self._batches[turn] += 1
                self._step(turn, move(batch, self._records, self._hold), None)

    def _step(self, source: int, steps: Steps, reply: Message | None) -> None:
        """Carries a batch on until it waits for an engine, or is over. An engine that is gone refuses."""
        try:
            while True:
                ask = steps.send(reply)
                reply = None
                if not isinstance(ask, Ask):
                    self._end(ask)
                    continue
                peer = self._peers.get(ask.engine)
                try:
                    if peer is None:
                        raise PeerGone("not there")
                    if ask.reply:
                        peer.ask(ask.message, partial(self._step, source, steps))
                        return
                    peer.send(ask.message)
                except PeerGone:  # whether it is gone for good, its own descriptor tells
                    if ask.reply:
                        reply = not_sent(ask.message)
        except StopIteration:
            self._batches[source] -= 1

    def _end(self, outcomes: list[Outcome]) -> None:
        if not outcomes:
            return
        self.begun -= {outcome.plan.connection for outcome in outcomes}
        self._over(outcomes)
        for outcome in outcomes if self._waiters else ():
            waiter = self._waiters.pop(outcome.plan.connection, None)
            if waiter:
                waiter(outcome)
