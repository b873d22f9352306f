"""The ends of the wires as the agent hears and speaks on them: one packet socket per bus, for the slow protocols only.

Decides: nothing. Never touches: what the PDUs mean (lacp.py, lacp_probe.py).

A socket that is bound to one protocol gets its frames behind tc, where bpf/team.bpf.c lets these pass; what it sends
leaves by its bus, and the NIC passes it on to its wire.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from host_agent.lacp_pdu import ETHERTYPE, Lacpdu, Marker, pack, unpack
from host_agent.loop import Loop

Heard = Callable[[int, Lacpdu | Marker], None]


def address_of(interface: str) -> bytes:
    """Its MAC, 6 bytes. Raises OSError when it is not there."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as s:
        s.bind((interface, 0))
        address: bytes = s.getsockname()[4]
        return address


class Wires:
    """buses: interfaces in NIC order. source: the MAC that is written on what we send. Raises OSError."""

    def __init__(self, loop: Loop, buses: list[str], source: bytes, heard: Heard):
        self._source, self._heard = source, heard
        self._sockets: list[socket.socket] = []
        for nic, bus in enumerate(buses):
            # Of no protocol until it is bound, or it would hear the other buses meanwhile.
            one = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
            one.bind((bus, ETHERTYPE))
            self._sockets.append(one)
            loop.watch(one.fileno(), partial(self._readable, nic))

    def send(self, nic: int, pdu: Lacpdu | Marker) -> None:
        """A bus that is down, or full, loses it, as a wire would."""
        with suppress(OSError):
            self._sockets[nic].send(pack(pdu, self._source))

    def _readable(self, nic: int, _mask: int) -> None:
        self.read(nic)

    def read(self, nic: int) -> None:
        """Hands on what has come in by a NIC."""
        while True:
            try:
                pdu = unpack(self._sockets[nic].recv(2048))
            except OSError:  # all read; or the bus went down, which the NIC's engine tells better
                return
            if pdu is not None:
                self._heard(nic, pdu)
