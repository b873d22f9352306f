"""A link aggregation group: its members, which of them are active, and which member carries which bucket.

Decides the list of buckets from the active members, and the member of a connection. The number of buckets
is the modulus of the hash. Values never change: each step returns a new Lag. It never touches flows,
sockets or Ryu.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace

from controller.hashing import Connection, connection_hash


def modulo(members: tuple[int, ...], active: frozenset[int]) -> tuple[int, ...]:
    """One bucket for each active member, in order: most connections move when their number changes."""
    return tuple(port for port in members if port in active)


# How buckets are shared out again after a change: (members, active) -> the port of each bucket.
REBALANCE: dict[str, Callable[[tuple[int, ...], frozenset[int]], tuple[int, ...]]] = {"modulo": modulo}


@dataclass(frozen=True)
class Lag:
    """`number` (1..) is unique in its switch; `generation` counts the lists of buckets this LAG has had."""

    name: str
    number: int
    members: tuple[int, ...]
    seed: int = 0
    rebalance: str = "modulo"
    active: frozenset[int] = frozenset()
    generation: int = 0
    buckets: tuple[int, ...] = ()
    moved: Mapping[Connection, int] = field(default_factory=dict)

    def with_active(self, ports: Iterable[int]) -> Lag:
        """Share out the buckets again; connections moved to a port now inactive fall back to the hash."""
        active = frozenset(ports) & frozenset(self.members)
        if active == self.active:
            return self
        return replace(
            self,
            active=active,
            generation=self.generation + 1,
            buckets=REBALANCE[self.rebalance](self.members, active),
            moved={conn: port for conn, port in self.moved.items() if port in active},
        )

    def with_port(self, port: int, up: bool) -> Lag:
        """One member came up or went down."""
        return self.with_active(self.active | {port} if up else self.active - {port})

    def with_move(self, conn: Connection, port: int) -> Lag:
        """One connection leaves by `port` from now on. Raises ValueError if that is not an active member."""
        if port not in self.active:
            raise ValueError(f"{self.name}: port {port} is not an active member (active: {list(self.buckets)})")
        return replace(self, moved={**self.moved, conn: port})

    def port_of(self, conn: Connection) -> int | None:
        """The member that carries this connection towards the team, or None when no member is active."""
        if conn in self.moved:
            return self.moved[conn]
        if not self.buckets:
            return None
        return self.buckets[connection_hash(conn, self.seed) % len(self.buckets)]
