"""Turns a switch's state into flows and groups, as plain data, and two states into the messages between them.

    table 0  SOURCE   By which LAG did it enter (reg2)? A source that is new here is shown to the controller, and so
                      is what the other end of a member says of the link (LACP). By members that do not collect,
                      nothing else comes in.
    table 1  TARGET   Destination MAC -> host port, or -> LAG (reg1). Unknown and multicast -> everywhere.
    table 2  LAG      Back into its own LAG: drop. Moved by command: its member. Else by policy, one flow for each
                      kind of frame: multipath writes hash % buckets into reg0, the flow its plan's key to reg3.
    table 3  BUCKET   (LAG, plan, bucket) -> member
    table 4  LOST     The member is dead (reg4). As table 2, with the plan that holds without it.
    table 5  SPARE    As table 3, for those plans.
    table 6  NOTE     Never reached: what no other flow says and a controller that is started anew must know.

    group "first" of each member    fast failover: out of its port; if that is dead, to table LOST
    group "spare" of each member    fast failover: out of its port, or out of the next that lives
    group "moved" of each member    fast failover: out of its port; else as if it had not been moved (reg4)

So the switch leaves a dead port by itself, and each connection of that port goes where the re-enumeration, ten
milliseconds later, will send it as well: it moves once. A second death before that is answered by `spare`.

Because one flow in table 2 decides both the modulus and the plan, replacing it moves all connections of its kind
at once: a new plan's buckets are installed before it, the old one's are removed after it, and no connection ever
leaves by a port that is neither its old nor its new one. Where the number of buckets is fixed, a bucket's flow is
replaced on its own. The number of flows never depends on the number of connections.

It never touches Ryu: `openflow` knows how these look on the wire. Field names are OpenFlow's and Nicira's.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from controller.hashing import IPV4, IPV6, TCP, Connection
from controller.lacpdu import ETH_TYPE, SLOW_PROTOCOLS, End
from controller.lag import Lag, Plan
from controller.policies import BORROWED_BITS, OTHER, POLICIES, Recipe
from controller.rebalance import REBALANCE

SOURCE, TARGET, LAG, BUCKET, LOST, SPARE, NOTE = range(7)
GROUP = 255
"""Not a table: the key of a group, whose priority is the group's number."""
FIRST, SPARE_FOR, MOVED = range(3)  # kinds of groups
_MAKE = (GROUP, BUCKET, LAG, TARGET, SOURCE, SPARE, LOST, NOTE)
"""The order in which things are made: nothing leads to what is not there, and what is urgent comes first."""
FOR_LATER = (SPARE, LOST, NOTE)
"""Nothing of these is in use while the members that the controller knows of live."""
_PARTNER = ("reg4", "reg5", "reg6", "reg7")
_MEMBER, _MOVED, _POLICY, _POLICY_BY_TYPE = 300, 200, 100, 110  # priorities in table LAG

Value = int | str | tuple[str, str]  # a pair is (value, mask)
Match = tuple[tuple[str, Value], ...]
# ("output", port) ("group", number) ("controller",) ("controller", "whole") ("load", register, value)
# ("resubmit", table) ("multipath", fields, basis, links)
# ("move", field, its first bit, other field, its first bit, bits)
# and in groups ("bucket", port to watch, actions)
Action = tuple[Any, ...]
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
    """The messages from `old` to `new`: first make, in the order of `_MAKE`, then break.

    A plan that is gone goes as a whole, in one message.
    """
    made = [Change(key, actions) for key, actions in new.items() if old.get(key) != actions]
    made.sort(key=lambda change: _MAKE.index(change.key.table))
    plans = {plan for key in new if (plan := _plan_of(key)) is not None}
    gone = [_removal(key, plans) for key in old if key not in new]
    gone.sort(key=lambda change: change.key.table)  # groups last: their flows would go with them
    return made + list(dict.fromkeys(gone))


def _removal(key: Key, plans: set[Key]) -> Change:
    plan = _plan_of(key)
    if plan is None or plan in plans:
        return Change(key, None)
    return Change(plan, None, wide=True)


def _plan_of(key: Key) -> Key | None:
    if key.table not in (BUCKET, SPARE):
        return None
    return key._replace(match=tuple((name, value) for name, value in key.match if name != "reg0"))


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
            slow = match(in_port=member, eth_type=ETH_TYPE, eth_dst=SLOW_PROTOCOLS)
            rules[Key(SOURCE, 500, slow)] = (("controller", "whole"),)
            rules[Key(SOURCE, 100, match(in_port=member))] = (
                ("controller",),
                ("load", "reg2", lag.number),
                ("resubmit", TARGET),
            )
        # The same hash as for a known destination: a connection's frames leave by one port, learned or not.
        everywhere += [("load", "reg1", lag.number), ("resubmit", LAG)]
        rules[Key(LAG, _MEMBER, match(reg1=lag.number, reg2=lag.number))] = ()
        rules |= group_rules(lag)
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


def group_number(lag: Lag, port: int, kind: int = FIRST) -> int:
    """In decimal: the LAG, the port in six digits, and FIRST, SPARE_FOR or MOVED."""
    return lag.number * 10_000_000 + port * 10 + kind


def group_rules(lag: Lag) -> Rules:
    """A LAG's groups; they depend on its configuration only."""
    rules: Rules = {}
    for index, port in enumerate(lag.members):
        others = lag.members[index + 1 :] + lag.members[:index]
        lost = (("load", "reg4", port), ("resubmit", LOST))
        # Whichever other member lives: the action is the same.
        first = (("bucket", port, (("output", port),)), *(("bucket", other, lost) for other in others))
        rules[Key(GROUP, group_number(lag, port), ())] = first
        spare = tuple(("bucket", one, (("output", one),)) for one in (port, *others))
        rules[Key(GROUP, group_number(lag, port, SPARE_FOR), ())] = spare
        back = (("load", "reg4", port), ("resubmit", LAG))
        moved = (("bucket", port, (("output", port),)), *(("bucket", other, back) for other in others))
        rules[Key(GROUP, group_number(lag, port, MOVED), ())] = moved
    return rules


def lag_rules(lag: Lag) -> Rules:
    """What depends on which members are active; with none there is no flow: frames to the LAG are dropped."""
    rules = _note_rules(lag)
    for port in lag.shut:
        rules[Key(SOURCE, 300, match(in_port=port))] = ()
    rules |= _plan_rules(lag, lag.plan(), (LAG, BUCKET), {}, FIRST)
    for port, plan in lag.lost_plans().items():
        rules |= _plan_rules(lag, plan, (LOST, SPARE), {"reg4": port}, SPARE_FOR)
    for conn, port in lag.moved.items():
        # Should the port die: a modulo plan without it covers all frames, the others only what the port carried.
        kind = FIRST if lag.rebalance == "modulo" else MOVED
        rules[Key(LAG, _MOVED, connection_match(lag.number, conn))] = (("group", group_number(lag, port, kind)),)
    return rules


def _plan_rules(lag: Lag, plan: Plan, tables: tuple[int, int], when: dict[str, Value], kind: int) -> Rules:
    rules: Rules = {}
    for bucket, port in plan.buckets.items():
        where = match(reg1=lag.number, reg3=plan.key, reg0=bucket)
        rules[Key(tables[1], 100, where)] = (("group", group_number(lag, port, kind)),)
    if not plan.buckets:
        return rules
    for eth_type, recipe in POLICIES[lag.policy].items():
        fields: dict[str, Value] = {"reg1": lag.number, **when}
        if eth_type != OTHER:
            fields["eth_type"] = eth_type
        rules[Key(tables[0], _POLICY if eth_type == OTHER else _POLICY_BY_TYPE, match(**fields))] = (
            *_hash_actions(eth_type, recipe, lag.seed, plan.links),
            ("load", "reg3", plan.key),
            ("resubmit", tables[1]),
        )
    return rules


def _hash_actions(eth_type: int, recipe: Recipe, seed: int, links: int) -> Actions:
    multipath = ("multipath", recipe.fields, seed, links)
    if not recipe.with_mac:
        return (multipath,)
    field, width = ("ipv4_dst", 32) if eth_type == IPV4 else ("ipv6_dst", 128)
    top = width - BORROWED_BITS
    return (
        ("move", field, top, "reg5", 0, BORROWED_BITS),
        ("move", "eth_src", 0, field, top, BORROWED_BITS),
        multipath,
        ("move", "reg5", 0, field, top, BORROWED_BITS),  # the frame leaves as it came
    )


def _note_rules(lag: Lag) -> Rules:
    rules: Rules = {
        Key(NOTE, 100, match(reg1=lag.number)): (
            ("load", "reg5", lag.seed),
            ("load", "reg6", tuple(POLICIES).index(lag.policy)),
            ("load", "reg7", tuple(REBALANCE).index(lag.rebalance)),
        )
    }
    for port in lag.drained:
        rules[Key(NOTE, 200, match(reg1=lag.number, in_port=port))] = ()
    for port, partner in (lag.collecting or {}).items():
        words = zip(_PARTNER, partner_words(partner), strict=True)
        rules[Key(NOTE, 300, match(reg1=lag.number, in_port=port))] = tuple(("load", reg, word) for reg, word in words)
    return rules


def partner_words(end: End) -> tuple[int, ...]:
    """An LACP partner in four registers; `recover` reads them."""
    mac = int(end.system.replace(":", ""), 16)
    return (end.system_priority << 16 | mac >> 32, mac & 0xFFFFFFFF, end.key << 16 | end.port_priority, end.port)


def connection_match(lag_number: int, conn: Connection) -> Match:
    """Frames of exactly this TCP connection on their way into the LAG, for the first time (reg4)."""
    if ":" in conn.src:
        fields: dict[str, Value] = {"eth_type": IPV6, "ipv6_src": conn.src, "ipv6_dst": conn.dst}
    else:
        fields = {"eth_type": IPV4, "ipv4_src": conn.src, "ipv4_dst": conn.dst}
    return match(reg1=lag_number, reg4=0, ip_proto=TCP, tcp_src=conn.sport, tcp_dst=conn.dport, **fields)
