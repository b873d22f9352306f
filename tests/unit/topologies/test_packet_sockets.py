"""The switch's packet sockets are looked for among sockets that come and go."""

import os
import socket
from pathlib import Path

import pytest

from topologies import packet_sockets


def test_a_socket_that_is_closed_while_they_are_looked_for_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    going = socket.socket()
    there, looked = packet_sockets._link, []

    def look(entry: Path) -> str:
        link = there(entry)
        if entry.name == str(going.fileno()):
            looked.append(link)
            going.close()
        return link

    monkeypatch.setattr(packet_sockets, "_link", look)
    packet_sockets.widen(os.getpid())
    assert looked[0].startswith("socket:")
