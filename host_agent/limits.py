"""What a NIC can hold: how many connections, and of which kinds.

Decides: whether a context is refused, and the reason. Never touches: sockets, tables.
"""

from __future__ import annotations

from dataclasses import dataclass

from host_agent.context import Context

FEATURES = frozenset({"ipv4", "ipv6", "timestamps", "sack"})


class Refused(Exception):
    """A context is not taken. reason: one word for the agent (docs/verbs.md); the text is for a person."""

    def __init__(self, reason: str, text: str):
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class Limits:
    """capacity: connections at once, memory: bytes that all may take, 0 for any number. features: those that it has of
    FEATURES."""

    capacity: int = 0
    features: frozenset[str] = FEATURES
    memory: int = 0

    def check(self, context: Context, held: int, taken: int = 0, *, fault: bool) -> None:
        """held: how many connections are here already, and taken: the memory that they take. Raises Refused."""
        if fault:
            raise Refused("fault", "its link is down")
        if self.capacity and held >= self.capacity:
            raise Refused("full", f"it holds {held} connections, and has room for no more")
        if self.memory and taken >= self.memory:
            raise Refused("full", f"its connections take {taken} bytes, of {self.memory} that there are")
        for feature in sorted(needed(context) - self.features) if self.features != FEATURES else ():
            raise Refused(f"feature:{feature}", f"it cannot do {feature}, which the connection needs")


def needed(context: Context) -> set[str]:
    """The features that a connection uses, of FEATURES."""
    found = {"ipv6" if context.connection.ipv6 else "ipv4"}
    if context.timestamp is not None:
        found.add("timestamps")
    if context.sack:
        found.add("sack")
    return found
