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

from controller.green import green_socket

_COMMANDS = b"".join(
    b'{"id":%d,"method":"revalidator/%s","params":[]}' % one for one in enumerate((b"pause", b"resume"))
)
"""In one write: the thread is never left paused."""
_DEADLINE_S = 2.0


def now(control: str) -> None:
    """control: the path of the daemon's control socket. Waits for the answers: before them the two CPUs that there may
    be are wanted by others than us, and to one who has gone the daemon would not carry out the second command."""
    with contextlib.suppress(OSError), green_socket.socket(green_socket.AF_UNIX, green_socket.SOCK_STREAM) as daemon:
        daemon.settimeout(_DEADLINE_S)
        daemon.connect(control)
        daemon.sendall(_COMMANDS)
        told = b""
        while told.count(b'"id"') < 2 and (part := daemon.recv(4096)):
            told += part
