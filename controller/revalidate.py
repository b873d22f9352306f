"""Has Open vSwitch look at all its flows at once when a port has died.

Its data path forwards by a cache. A thread brings the cache in line with ports and flow tables, at most every 5 ms
(ofproto-dpif-upcall.c, udpif_revalidator). When a link is lost it always runs once too early: the event also empties
the daemon's table of routes for tunnels, which is seen to before the ports are. Then frames leave by the dead port for
5 ms more, whatever groups and flows say. To pause and resume that thread ends its wait.

Decides nothing. It speaks to the daemon's control socket, as ovs-appctl does. Where nobody answers, all goes on as it
would have.
"""

from __future__ import annotations

import contextlib
from typing import Any

from controller.green import eventlet, green_socket

_COMMANDS = b"".join(
    b'{"id":%d,"method":"revalidator/%s","params":[]}' % one for one in enumerate((b"pause", b"resume"))
)
"""In one write, so that nothing of ours comes between them."""
_DEADLINE_S = 2.0
_asked: set[str] = set()
"""Control sockets whose daemon owes an answer."""


def now(control: str) -> None:
    """control: the path of the daemon's control socket. Waits for the answers: before them the two CPUs that there may
    be are wanted by others than us. But not for ever, and while a daemon that has been stopped owes some, not at all.
    """
    if control in _asked:
        return
    daemon = green_socket.socket(green_socket.AF_UNIX, green_socket.SOCK_STREAM)
    try:
        daemon.connect(control)
        daemon.sendall(_COMMANDS)
    except OSError:
        daemon.close()
        return
    _asked.add(control)
    answers = eventlet.spawn(_hear_out, daemon, control)
    with eventlet.Timeout(_DEADLINE_S, False):
        answers.wait()


def _hear_out(daemon: Any, control: str) -> None:
    """Until both answers are there, however late: to one who has gone the daemon would not carry out the second
    command, and the thread would be left paused."""
    with daemon, contextlib.suppress(OSError):
        told = b""
        while told.count(b'"id"') < 2 and (part := daemon.recv(4096)):
            told += part
    _asked.discard(control)
