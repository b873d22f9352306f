"""The slow protocols' state of one LAG: for programs, and as text like Linux' /proc/net/bonding. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from controller.aggregator import Aggregator
from controller.lacp import Mux, Port
from controller.lacpdu import End
from controller.lag import Lag

WhyNot = Callable[[int], str | None]
"""What keeps a member from carrying frames, or None."""


def state_of(lag: Lag, end: Aggregator, why_not: WhyNot) -> dict[str, Any]:
    """Everything, for JSON. `why_not` is None for a member that carries frames."""
    ports: dict[str, Any] = {}
    for port in lag.members:
        why = why_not(port)
        ports[str(port)] = {"usable": why is None, "why": why, "counters": dict(end.counters[port])}
        if port in end.ports:
            ports[str(port)] |= _port(end.ports[port])
    settings = end.settings
    return {
        **{"mode": settings.mode, "rate": settings.rate, "system": settings.system, "key": settings.key},
        **{"min_links": lag.min_links, "probe_s": settings.probe_s, "miswired": list(end.wrong()), "ports": ports},
    }


def text_of(lag: Lag, end: Aggregator, why_not: WhyNot) -> str:
    """As a person knows it from /proc/net/bonding."""
    settings, on = end.settings, end.settings.mode != "off"
    lines = [
        f"LAG: {lag.name}",
        f"Bonding Mode: {'IEEE 802.3ad Dynamic link aggregation' if on else 'static'}",
        f"Transmit Hash Policy: {lag.policy}",
        f"Min links: {lag.min_links}",
        f"Probe: {f'markers every {settings.probe_s:g} s' if settings.probe_s else 'off'}",
        f"LACP active: {'on' if settings.mode == 'active' else 'off'}",
        f"LACP rate: {settings.rate}",
    ]
    attached = [port for port in end.ports.values() if port.mux is Mux.COLLECTING_DISTRIBUTING]
    if attached:
        partner = attached[0].partner
        lines += [
            *("", "Active Aggregator Info:", f"\tNumber of ports: {len(attached)}", f"\tActor Key: {settings.key}"),
            *(f"\tPartner Key: {partner.key}", f"\tPartner Mac Address: {partner.system}"),
        ]
    for number in lag.members:
        why = why_not(number)
        lines += ["", f"Slave Interface: port {number}", f"MII Status: {'down' if why == 'carrier' else 'up'}"]
        lines.append(f"Carries frames: {'yes' if why is None else f'no ({why})'}")
        if number in end.ports:
            port = end.ports[number]
            lines += [f"Receive state: {port.receive}", f"Mux state: {port.mux}"]
            lines += _end_lines("actor", port.actor) + _end_lines("partner", port.partner)
        lines += [f"{name}: {count}" for name, count in sorted(end.counters[number].items())]
    return "\n".join(lines) + "\n"


def letters(end: End) -> str:
    """The state's names, as Open vSwitch's lacp/show prints them."""
    names = [flag.name or "" for flag in type(end.state) if flag in end.state]
    return " ".join(name.lower() for name in names)


def _port(port: Port) -> dict[str, Any]:
    return {
        **{"state": port.state, "receive": str(port.receive), "mux": str(port.mux), "selected": port.selected},
        **{"actor": _end(port.actor), "partner": _end(port.partner)},
    }


def _end(end: End) -> dict[str, Any]:
    return {**end._asdict(), "state": int(end.state), "says": letters(end)}


def _end_lines(who: str, end: End) -> list[str]:
    return [
        f"details {who} lacp pdu:",
        f"    system priority: {end.system_priority}",
        f"    system mac address: {end.system}",
        f"    port key: {end.key}",
        f"    port priority: {end.port_priority}",
        f"    port number: {end.port}",
        f"    port state: {int(end.state)} ({letters(end)})",
    ]
