"""A link aggregation group: its members, which of them are active, and which member carries which bucket.

Decides the list of buckets from the active members, the lists that hold should one of them die, and the member
of a frame. The number of buckets is the modulus of the hash. Values never change: each step returns a new Lag.
It never touches flows, sockets or Ryu.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from controller.aggregator import Lacp
from controller.hashing import Connection, frame_of
from controller.lacpdu import End, State
from controller.policies import NEEDS_MAC, frame_hash
from controller.rebalance import REBALANCE, Ports, fill, rehashed_share
from controller.rebalance import moved_share as share_of_buckets

_FIXED = 1 << 16


class Plan(NamedTuple):
    """`buckets` maps a bucket to its port, out of `links` buckets; `key` differs for plans that could be mixed up.

    Of a modulo plan the key is the set of active members, one bit each: another set, another modulus. A plan with
    a fixed number of buckets keeps its key and is changed bucket by bucket.
    """

    key: int
    links: int
    buckets: dict[int, int]


@dataclass(frozen=True)
class Lag:
    """`number` (1..) is unique in its switch. `drained` are members taken out by command.

    With fewer than `min_links` members that could be active, none is. `collecting` are the members by which frames
    may come in, with their LACP partner; None: all of them, without LACP.
    """

    name: str
    number: int
    members: Ports
    seed: int = 0
    rebalance: str = "modulo"
    policy: str = "layer3+4"
    min_links: int = 1
    lacp: Lacp = field(default_factory=Lacp)
    collecting: Mapping[int, End] | None = None
    active: frozenset[int] = frozenset()
    drained: frozenset[int] = frozenset()
    buckets: Ports = ()
    moved: Mapping[Connection, int] = field(default_factory=dict)

    def with_active(self, ports: Iterable[int]) -> Lag:
        """Share out the buckets again; connections moved to a port now inactive fall back to the hash."""
        active = (frozenset(ports) & frozenset(self.members)) - self.drained
        if len(active) < self.min_links:
            active = frozenset()
        if active == self.active:
            return self
        return replace(
            self,
            active=active,
            buckets=REBALANCE[self.rebalance](self.members, active, self.buckets),
            moved={conn: port for conn, port in self.moved.items() if port in active},
        )

    def with_settings(self, seed: int | None = None, policy: str | None = None, rebalance: str | None = None) -> Lag:
        """Other settings. A new way to rebalance deals out the buckets anew; moved connections stay moved."""
        lag = replace(self, seed=self.seed if seed is None else seed, policy=policy or self.policy)
        if rebalance in (None, self.rebalance):
            return lag
        assert rebalance is not None
        return replace(lag, rebalance=rebalance, buckets=REBALANCE[rebalance](self.members, self.active, ()))

    def with_drained(self, port: int, drained: bool) -> Lag:
        """Take a member out, or let it in again; `with_active` then has to be called. Raises ValueError."""
        if port not in self.members:
            raise ValueError(f"{self.name}: port {port} is not a member (members: {list(self.members)})")
        if drained and port in self.active and len(self.active) <= self.min_links:
            raise ValueError(
                f"{self.name}: port {port} is one of the last {self.min_links} active members; nothing would be left"
                if self.min_links > 1
                else f"{self.name}: port {port} is the last active member; nothing would be left"
            )
        return replace(self, drained=self.drained | {port} if drained else self.drained - {port})

    def with_collecting(self, ports: Mapping[int, End] | None) -> Lag:
        """Frames may come in by these members only."""
        named = None if ports is None else {port: end._replace(state=State(0)) for port, end in ports.items()}
        return self if named == self.collecting else replace(self, collecting=named)

    @property
    def shut(self) -> frozenset[int]:
        """Members by which no frame may come in: those that LACP does not let collect."""
        return frozenset() if self.collecting is None else frozenset(self.members) - self.collecting.keys()

    def evened(self) -> Lag:
        """All steps of filling up at once."""
        lag = self
        while (more := lag.filled()) is not lag:
            lag = more
        return lag

    def filled(self) -> Lag:
        """One step of a returned member's filling up, or this same Lag when there is nothing to do."""
        if self.rebalance != "resilient":
            return self
        buckets = fill(self.members, self.active, self.buckets)
        return self if buckets == self.buckets else replace(self, buckets=buckets)

    def with_move(self, conn: Connection, port: int) -> Lag:
        """One connection leaves by `port` from now on. Raises ValueError if that is not an active member."""
        if port not in self.active:
            active = [member for member in self.members if member in self.active]
            raise ValueError(f"{self.name}: port {port} is not an active member (active: {active})")
        return replace(self, moved={**self.moved, conn: port})

    def port_of(self, conn: Connection, src_mac: str | None = None) -> int | None:
        """The member that carries this connection towards the team, or None when no member is active.

        Raises ValueError when the policy needs the source's MAC and it is not given.
        """
        if conn in self.moved:
            return self.moved[conn]
        if not self.buckets:
            return None
        if src_mac is None and self.policy in NEEDS_MAC:
            raise ValueError(f"src_mac: {self.policy} decides by the source's MAC; say which (02:00:…)")
        mac = bytes.fromhex((src_mac or "00" * 6).replace(":", ""))
        return self.buckets[frame_hash(self.policy, frame_of(conn, mac), self.seed) % len(self.buckets)]

    def plan(self) -> Plan:
        """What holds while all active members live."""
        key = self._mask(self.active) if self.rebalance == "modulo" else _FIXED
        return Plan(key, len(self.buckets), dict(enumerate(self.buckets)))

    def lost_plans(self) -> dict[int, Plan]:
        """For each active member, what holds for its frames should it die: the same that rebalancing will do."""
        plans = {}
        for port in self.members:
            left = self.active - {port}
            if port not in self.active or not left:
                continue
            buckets = REBALANCE[self.rebalance](self.members, left, self.buckets)
            if self.rebalance == "modulo":
                plans[port] = Plan(self._mask(left), len(buckets), dict(enumerate(buckets)))
            else:
                own = {b: buckets[b] for b, was in enumerate(self.buckets) if was == port}
                plans[port] = Plan(_FIXED | port, len(buckets), own)
        return plans

    def _mask(self, ports: frozenset[int]) -> int:
        return sum(1 << index for index, port in enumerate(self.members) if port in ports)


def moved_share(old: Lag, new: Lag) -> tuple[float, float]:
    """Which share of many connections moved between these two states, and which had to: 0 to 1 each."""
    same = (old.seed, old.policy) == (new.seed, new.policy)
    return (share_of_buckets if same else rehashed_share)(old.buckets, new.buckets)
