"""The moves that are under way: each goes on when the engine it waits for has answered.

Decides: nothing; reload.py orders the steps of a move. Never touches: records, policy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from host_agent.connection import Connection
from host_agent.hold import Hold
from host_agent.peer import EnginePeer, engine_gone
from host_agent.policy import Plan
from host_agent.records import Records
from host_agent.reload import Ask, Outcome, Steps, move
from host_agent.verbs import Message, PeerGone

Done = Callable[[Outcome], None]


class Moves:
    """peers: engines by place, as they come and go. over: called with the outcome of every move."""

    def __init__(self, records: Records, hold: Hold, peers: dict[int, EnginePeer], over: Done):
        self._records, self._hold, self._peers, self._over = records, hold, peers, over
        self._running: dict[Connection, Steps] = {}
        self._waiters: dict[Connection, Done] = {}

    def __contains__(self, connection: object) -> bool:
        return connection in self._running

    def start(self, plan: Plan, done: Done | None = None) -> None:
        """Begins a move, unless one of this connection is under way. done: called behind `over`, with the outcome."""
        if plan.connection in self._running:
            return
        if done:
            self._waiters[plan.connection] = done
        steps = self._running[plan.connection] = move(plan, self._records, self._hold)
        self._step(steps, None)

    def _step(self, steps: Steps, reply: Message | None) -> None:
        """Carries a move on until it waits for an engine, or is over. An engine that is gone refuses."""
        try:
            while True:
                ask: Ask = steps.send(reply) if reply is not None else next(steps)
                reply = None
                peer = self._peers.get(ask.engine)
                try:
                    if peer is None:
                        raise PeerGone("not there")
                    if ask.reply:
                        peer.ask(ask.message, partial(self._step, steps))
                        return
                    peer.send(ask.message)
                except PeerGone:  # whether it is gone for good, its own descriptor tells
                    if ask.reply:
                        reply = engine_gone()
        except StopIteration as stop:
            outcome: Outcome = stop.value
            connection = outcome.plan.connection
            del self._running[connection]
            waiter = self._waiters.pop(connection, None)
            self._over(outcome)
            if waiter:
                waiter(outcome)
