"""Which member carries which bucket, after members came and went. Three ways, by what they do to others:

    modulo      as many buckets as active members: nearly all connections move when their number changes, on
                healthy links too. Depends on who is active only.
    rendezvous  a fixed number of buckets, each with a fixed ranking of all members; the highest that is active
                carries it. Only a dead member's buckets move, and they come back with it, all at once.
    resilient   the same number of buckets, with a memory: a dead member's are dealt out to those that have the
                fewest; one that returns gets none at first, then one after the other (`fill`) until it is even.

Pure: lists of ports in, lists of ports out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

from controller.hashing import jhash

Ports = tuple[int, ...]
MAX_MEMBERS = 16
_LEAST_BUCKETS = 64


def bucket_count(members: int) -> int:
    """The fixed number: at least 64, and divisible so that all members and all but any one share it evenly."""
    step = members * max(members - 1, 1)
    return step * math.ceil(_LEAST_BUCKETS / step)


def modulo(members: Ports, active: frozenset[int], _now: Ports) -> Ports:
    """One bucket for each active member, in order."""
    return tuple(port for port in members if port in active)


def rendezvous(members: Ports, active: frozenset[int], _now: Ports) -> Ports:
    """Each bucket to the active member that ranks highest in it."""
    if not active:
        return ()
    return tuple(next(port for port in ranking if port in active) for ranking in _rankings(members))


@lru_cache(maxsize=64)
def _rankings(members: Ports) -> tuple[Ports, ...]:
    """For each bucket all members, the first choice first.

    First and second choices are laid out, so that every member has as many buckets, and leaves as many to each
    of the others: ranks by a hash alone, over so few buckets, would be lopsided by a third. The rest is by hash.
    """
    size = len(members)
    rankings = []
    for bucket in range(bucket_count(size)):
        first = bucket % size
        second = (first + 1 + bucket // size % max(size - 1, 1)) % size
        laid_out = list(dict.fromkeys((members[first], members[second])))
        rest = [port for port in members if port not in laid_out]
        weight = {port: jhash(f"{bucket} {port}".encode(), 0) for port in rest}
        rankings.append((*laid_out, *sorted(rest, key=lambda port: (weight[port], port))))
    return tuple(rankings)


def resilient(members: Ports, active: frozenset[int], now: Ports) -> Ports:
    """The buckets of members that are gone go to those with the fewest; with no buckets yet, dealt out in turn."""
    ports = modulo(members, active, now)
    if not ports:
        return ()
    if not now:
        return tuple(ports[bucket % len(ports)] for bucket in range(bucket_count(len(members))))
    load = {port: now.count(port) for port in ports}
    buckets = list(now)
    for bucket, port in enumerate(now):
        if port not in active:
            buckets[bucket] = min(ports, key=lambda one: load[one])
            load[buckets[bucket]] += 1
    return tuple(buckets)


def fill(members: Ports, active: frozenset[int], now: Ports) -> Ports:
    """One bucket from the member with the most to the one with the fewest, or the same when they are even."""
    load = {port: now.count(port) for port in members if port in active}
    if not load:
        return now
    most, fewest = max(load, key=lambda port: load[port]), min(load, key=lambda port: load[port])
    if load[most] - load[fewest] < 2:
        return now
    bucket = now.index(most)
    return (*now[:bucket], fewest, *now[bucket + 1 :])


# (members, active, buckets until now) -> the port of each bucket; empty when nobody is active.
REBALANCE: dict[str, Callable[[Ports, frozenset[int], Ports], Ports]] = {
    "modulo": modulo,
    "resilient": resilient,
    "rendezvous": rendezvous,
}


def rehashed_share(old: Ports, new: Ports) -> tuple[float, float]:
    """As `moved_share`, when all hash values are others: where a connection was says nothing of where it will be."""
    if not old or not new:
        return 0.0, 0.0
    stayed = sum(old.count(port) * new.count(port) for port in set(old)) / len(old) / len(new)
    return 1 - stayed, moved_share(old, new)[1]


def moved_share(old: Ports, new: Ports) -> tuple[float, float]:
    """Which share of all connections moved, and which had to since its member is gone: each 0 to 1.

    Both count hash values, so it is what many evenly spread connections would show. What moved without having
    to is collateral; moved / had to is 1 at best after a death. With no buckets on either side, nothing moved.
    """
    if not old or not new:
        return 0.0, 0.0
    period, left = math.lcm(len(old), len(new)), set(new)
    pairs = [(old[i % len(old)], new[i % len(new)]) for i in range(period)]
    moved = sum(was != now for was, now in pairs)
    had_to = sum(was not in left for was, _ in pairs)
    return moved / period, had_to / period
