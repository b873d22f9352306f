"""The agent's records compared with the TCP sockets that really exist in every namespace.

Pure: texts of /proc/net/tcp and /proc/net/tcp6 (proc(5)) and the agent's records in, differences out. What a client
believes to be connected must be one socket at the server's side, in the very place that its record names.
"""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

Connection = tuple[str, int, str, int]
HOST = "host"
LIVE = {1: "established", 4: "FIN sent", 5: "FIN acknowledged", 8: "FIN received"}
"""States (include/net/tcp_states.h) in which a connection still needs its context."""


def connections(text: str, mine_first: bool) -> dict[Connection, int]:
    """The live connections in a listing, with their state; the local end comes first or second."""
    found = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) < 4 or not words[0].endswith(":"):
            continue  # a headline
        state = int(words[3], 16)
        # Without an inode nobody holds it: what a killed process leaves behind while the kernel still says goodbye.
        held = len(words) < 10 or words[9] != "0"
        if state in LIVE and held:
            near, far = _end(words[1]), _end(words[2])
            found[(*near, *far) if mine_first else (*far, *near)] = state
    return found


def listening(text: str) -> set[int]:
    """The ports on which somebody listens."""
    lines = (line.split() for line in text.splitlines())
    return {_end(words[1])[1] for words in lines if len(words) > 3 and words[0].endswith(":") and words[3] == "0A"}


def _end(written: str) -> tuple[str, int]:
    """`0100007F:1F90` → ("127.0.0.1", 8080): the address is in words of the machine's own order."""
    address, _, port = written.partition(":")
    raw = bytes.fromhex(address)
    raw = b"".join(raw[start : start + 4][::-1] for start in range(0, len(raw), 4))
    found = ipaddress.ip_address(raw)
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found), int(port, 16)


def differences(
    wanted: Iterable[Connection], places: Mapping[str, str], records: Iterable[Mapping[str, Any]]
) -> list[str]:
    """What does not agree, a line each.

    wanted: the connections that clients hold established. places: by place (`host` or a NIC) the text of its sockets.
    """
    owners: dict[Connection, list[str]] = {}
    for place, text in places.items():
        for connection in connections(text, mine_first=False):
            owners.setdefault(connection, []).append(place)
    known = {(r["src"], int(r["sport"]), r["dst"], int(r["dport"])): r for r in records}
    found = []
    for connection in wanted:
        owner, record = owners.get(connection, []), known.get(connection)
        told = None if record is None else str(record["nic"]) if record["offloaded"] else HOST
        if len(owner) != 1:
            found.append(f"{_show(connection)}: {'sockets in ' + ', '.join(owner) if owner else 'no socket'}")
        elif told is None:
            found.append(f"{_show(connection)}: no record, its socket is in {owner[0]}")
        elif told != owner[0]:
            found.append(f"{_show(connection)}: the record says {told}, its socket is in {owner[0]}")
    return found


def _show(connection: Connection) -> str:
    src, sport, dst, dport = connection
    return f"{src}:{sport} → {dst}:{dport}"
