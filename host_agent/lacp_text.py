"""LACP's state as a person reads it: in the words of Linux bonding's /proc/net/bonding (mode 802.3ad).

Decides: the form only. Never touches: anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from host_agent.lacp import Lacp
from host_agent.lacp_pdu import End


@dataclass(frozen=True)
class Member:
    """link: its carrier. why: what keeps it from being active, None when it is."""

    name: str
    link: bool
    why: str | None


@dataclass(frozen=True)
class Team:
    """probe_s: seconds between two questions, None without a probe."""

    name: str
    system: bytes
    min_links: int
    rate: str
    active: bool
    probe_s: float | None
    members: Sequence[Member]


def mac(address: bytes) -> str:
    return address.hex(":")


def text(team: Team, lacp: Lacp | None) -> str:
    up = any(one.why is None for one in team.members)
    mode = "IEEE 802.3ad Dynamic link aggregation" if lacp else "load balancing (xor)"
    lines = [f"Team: {team.name}", f"Bonding Mode: {mode}", f"MII Status: {_up(up)}"]
    lines.append(f"Min links: {team.min_links}")
    lines.append(f"Probe interval (ms): {1000 * team.probe_s:g}" if team.probe_s else "Probe: off")
    if lacp:
        lines += ["", "802.3ad info", f"LACP active: {'on' if team.active else 'off'}", f"LACP rate: {team.rate}"]
        lines += ["Aggregator selection policy (ad_select): count"]
        lines += [f"System priority: {lacp.ports[0].actor.system_priority}", f"System MAC address: {mac(team.system)}"]
        selected = [port for port in lacp.ports if port.selected]
        lines += ["Active Aggregator Info:", "\tAggregator ID: 1", f"\tNumber of ports: {len(selected)}"]
        lines += [f"\tActor Key: {lacp.ports[0].actor.key}"]
        if lacp.lag:
            _, system, key, _ = lacp.lag
            lines += [f"\tPartner Key: {key}", f"\tPartner Mac Address: {mac(system)}"]
    for nic, member in enumerate(team.members):
        lines += ["", f"Slave Interface: {member.name}", f"MII Status: {_up(member.link)}"]
        lines.append("Active: yes" if member.why is None else f"Active: no ({member.why})")
        if lacp:
            port = lacp.ports[nic]
            lines += [f"Expired Count: {port.expired}", f"Aggregator ID: {1 if port.selected else 'N/A'}"]
            lines += [f"Receive State: {port.receive.value}", f"Mux State: {port.mux.value}"]
            lines += ["details actor lacp pdu:", *_end(port.actor, "port key")]
            lines += ["details partner lacp pdu:", *_end(port.partner, "oper key")]
    return "\n".join(lines) + "\n"


def _end(end: End, key: str) -> list[str]:
    return [
        f"    system priority: {end.system_priority}",
        f"    system mac address: {mac(end.system)}",
        f"    {key}: {end.key}",
        f"    port priority: {end.port_priority}",
        f"    port number: {end.port}",
        f"    port state: {int(end.state)} ({_letters(end)})",
    ]


def _letters(end: End) -> str:
    """As tcpdump and switches write it, the names spelt out."""
    return ", ".join(flag.name.lower() for flag in end.state if flag.name) or "none"


def _up(up: bool) -> str:
    return "up" if up else "down"
