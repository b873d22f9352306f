"""An engine that has no descriptor to spare."""

import errno
import os
import select
import socket
from pathlib import Path
from typing import Any

from host_agent.engine import Engine
from host_agent.limits import Limits


class Full(socket.socket):
    """There is none left for whoever calls, at first."""

    full = True

    def accept(self) -> tuple[socket.socket, Any]:
        if self.full:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return super().accept()


def test_an_agent_waits_for_a_descriptor_and_the_connections_go_on(tmp_path: Path) -> None:
    path = str(tmp_path / "engine")
    with Full(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.bind(path)
        control.listen(1)
        engine = Engine("nic0", control, None, Limits())  # type: ignore[arg-type]
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as agent:
            agent.connect(path)
            engine._greet(select.EPOLLIN)
            assert control.fileno() not in engine.loop._handlers  # it would be readable all the time
            control.full = False
            engine.loop._timers[-1][2]()
            assert control.fileno() in engine.loop._handlers
            engine._greet(select.EPOLLIN)
            agent.settimeout(5)
            assert b'"ready"' in agent.recv(1000)
        engine._hang_up()
