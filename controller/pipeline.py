"""Turns a switch's state into flows, as plain data, and two states into the messages that lead between them.

    table 0  SOURCE   By which LAG did it enter (reg2)? A source that is new here is shown to the controller.
    table 1  TARGET   Destination MAC -> host port, or -> LAG (reg1). Unknown and multicast -> everywhere.
    table 2  LAG      Back into its own LAG: drop. Moved by command: its port. Else ONE flow for each LAG:
                      multipath writes hash % buckets into reg0, and the flow writes its generation to reg3.
    table 3  BUCKET   (LAG, generation, bucket) -> member port

Because one flow in table 2 decides both the modulus and the generation, replacing it moves all connections
at once: the new generation's buckets are installed before it, the old generation's are removed after it, and
no connection ever leaves by a port that is neither its old nor its new one. The number of flows never depends
on the number of connections.

It never touches Ryu: `openflow` knows how these look on the wire. Field names are OpenFlow's and Nicira's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from controller.hashing import TCP, Connection
from controller.lag import Lag

SOURCE, TARGET, LAG, BUCKET = range(4)

Value = int | str | tuple[str, str]  # a pair is (value, mask)
Match = tuple[tuple[str, Value], ...]
# ("output", port) ("controller",) ("load", register, value) ("resubmit", table) ("multipath", basis, links)
Action = tuple[str | int, ...]
Actions = tuple[Action, ...]  # empty: drop


class Key(NamedTuple):
    """What identifies a flow in a switch. Among the flows that match a frame the highest priority wins."""

    table: int
    priority: int
    match: Match


Rules = dict[Key, Actions]


class Change(NamedTuple):
    """One flow-mod: add or replace the flow; or (actions None) remove exactly this flow.

    `wide` removes whatever in the table matches this and perhaps more.
    """

    key: Key
    actions: Actions | None
    wide: bool = False


def match(**fields: Value) -> Match:
    """A match whose order does not depend on how it was written."""
    return tuple(sorted(fields.items()))


def diff(old: Rules, new: Rules) -> list[Change]:
    """The messages from `old` to `new`: first make, from the last table to the first, then break.

    So no flow leads to a later table before that is ready. A generation of buckets goes as a whole, in one
    message.
    """
    made = [Change(key, actions) for key, actions in new.items() if old.get(key) != actions]
    gone = [_removal(key) for key in old if key not in new]
    made.sort(key=lambda change: -change.key.table)
    return made + list(dict.fromkeys(gone))


def _removal(key: Key) -> Change:
    if key.table == BUCKET:
        generation = tuple((name, value) for name, value in key.match if name != "reg0")
        return Change(key._replace(match=generation), None, wide=True)
    return Change(key, None)


def base_rules(lags: Iterable[Lag], hosts: Iterable[int]) -> Rules:
    """What every switch has: `hosts` are the host ports that are up. Sources here are not learned yet."""
    lags = list(lags)
    rules: Rules = {
        # 802.1D reserves these for the two ends of one link (LACP, spanning tree); no switch forwards them.
        Key(SOURCE, 400, match(eth_dst=("01:80:c2:00:00:00", "ff:ff:ff:ff:ff:f0"))): (),
        # A source must be one station; a multicast source would teach nonsense.
        Key(SOURCE, 400, match(eth_src=("01:00:00:00:00:00", "01:00:00:00:00:00"))): (),
        Key(SOURCE, 0, ()): (("controller",), ("resubmit", TARGET)),
    }
    everywhere: list[Action] = []
    for lag in lags:
        for member in lag.members:
            rules[Key(SOURCE, 100, match(in_port=member))] = (
                ("controller",),
                ("load", "reg2", lag.number),
                ("resubmit", TARGET),
            )
        # The same hash as for a known destination: a connection's frames leave by one port, learned or not.
        everywhere += [("load", "reg1", lag.number), ("resubmit", LAG)]
        rules[Key(LAG, 300, match(reg1=lag.number, reg2=lag.number))] = ()
    everywhere += [("output", port) for port in sorted(hosts)]
    rules[Key(TARGET, 0, ())] = tuple(everywhere)
    return rules


def station_rules(mac: str, place: int | Lag) -> Rules:
    """A learned MAC at a host port or behind a LAG: where its frames go, and that it is known there."""
    if isinstance(place, int):
        return {
            Key(TARGET, 100, match(eth_dst=mac)): (("output", place),),
            Key(SOURCE, 200, match(in_port=place, eth_src=mac)): (("resubmit", TARGET),),
        }
    rules: Rules = {
        Key(TARGET, 100, match(eth_dst=mac)): (("load", "reg1", place.number), ("resubmit", LAG)),
    }
    for member in place.members:
        rules[Key(SOURCE, 200, match(in_port=member, eth_src=mac))] = (
            ("load", "reg2", place.number),
            ("resubmit", TARGET),
        )
    return rules


def lag_rules(lag: Lag) -> Rules:
    """What depends on which members are active; with none there is no flow: frames to the LAG are dropped."""
    rules: Rules = {}
    for bucket, port in enumerate(lag.buckets):
        where = match(reg1=lag.number, reg3=lag.generation, reg0=bucket)
        rules[Key(BUCKET, 100, where)] = (("output", port),)
    if lag.buckets:
        rules[Key(LAG, 100, match(reg1=lag.number))] = (
            ("multipath", lag.seed, len(lag.buckets)),
            ("load", "reg3", lag.generation),
            ("resubmit", BUCKET),
        )
    for conn, port in lag.moved.items():
        rules[Key(LAG, 200, connection_match(lag.number, conn))] = (("output", port),)
    return rules


def connection_match(lag_number: int, conn: Connection) -> Match:
    """Frames of exactly this TCP connection on their way into the LAG."""
    if ":" in conn.src:
        fields: dict[str, Value] = {"eth_type": 0x86DD, "ipv6_src": conn.src, "ipv6_dst": conn.dst}
    else:
        fields = {"eth_type": 0x0800, "ipv4_src": conn.src, "ipv4_dst": conn.dst}
    return match(reg1=lag_number, ip_proto=TCP, tcp_src=conn.sport, tcp_dst=conn.dport, **fields)
