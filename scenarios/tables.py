"""What the live shell shows of a running network. Pure: answers of agents and controller in, lines of text out."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from scenarios.units import show_size

Event = Mapping[str, Any]
Rates = Mapping[str, tuple[float, float]]
"""NIC → bits per second from the switch and to it."""


def table(rows: Iterable[Sequence[object]]) -> list[str]:
    """Lines with columns below each other; the first row is the head."""
    texts = [[str(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in texts) for column in range(len(texts[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in texts]


def team(nics: Sequence[Event], records: Sequence[Event], rates: Rates) -> list[str]:
    """A row for each NIC of a team, and one for the host."""
    rows: list[Sequence[object]] = [
        ("NIC", "link", "member", "engine", "active", "offloaded", "in Mbit/s", "out Mbit/s")
    ]
    for nic in nics:
        name = nic["nic"]
        held = sum(one["offloaded"] and one["nic"] == name for one in records)
        states = (_yes(nic["link"], "up", "DOWN"), _yes(nic["member"]), _yes(nic["engine"]), _yes(nic["active"]))
        come, gone = rates.get(name, (0.0, 0.0))
        rows.append((name, *states, held, f"{come / 1e6:.1f}", f"{gone / 1e6:.1f}"))
    at_host = sum(not one["offloaded"] for one in records)
    return [*table(rows), f"records: {len(records)}, of connections on the host: {at_host}"]


def records(found: Sequence[Event], names: Mapping[Any, str], most: int = 0) -> list[str]:
    """A numbered row for each record; `most`: only the busiest."""
    rows: list[Sequence[object]] = [
        ("#", "client", "service", "traffic", "on", "arrives at", "moves", "strays", "host bytes")
    ]
    numbered = list(enumerate(found, 1))
    if most and len(numbered) > most:
        numbered = sorted(numbered, key=lambda one: -_bytes(one[1]))[:most]
    for number, one in numbered:
        name = names.get((one["src"], one["sport"], one["dst"], one["dport"]), "")
        place = one["nic"] if one["offloaded"] else "host"
        ends = _end(one["src"], one["sport"]), _end(one["dst"], one["dport"])
        rows.append((number, *ends, name, place, one["nic"], one["epoch"], one["strays"], show_size(_bytes(one))))
    left = len(found) - len(numbered)
    return [*table(rows), *([f"and {left} more"] if left else [])] if found else ["no records"]


def groups(switch: str, lags: Mapping[str, Event], nics: Mapping[int, str]) -> list[str]:
    """The LAGs of a switch: members, and which member each bucket of the hash leads to. `nics`: port → NIC."""
    lines = []
    for name, lag in lags.items():
        lines.append(f"{switch} {name}: {lag['hash']}, {lag['rebalance']}, seed {lag['seed']}")
        for port in lag["members"]:
            buckets = [index for index, member in enumerate(lag["buckets"]) if member == port]
            words = "drained" if port in lag["drained"] else "active" if port in lag["active"] else "not active"
            share = f"{len(buckets)} of {len(lag['buckets'])} buckets"
            lines.append(f"  port {port}  {nics.get(port, '?'):6}  {words:10}  {share}")
    return lines


def _bytes(record: Event) -> int:
    return int(record.get("bytes", 0)) + int(record.get("bytes_out", 0))


def _end(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _yes(value: object, yes: str = "yes", no: str = "no") -> str:
    return yes if value else no
