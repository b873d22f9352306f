"""Gives the user-space switch's packet sockets room for a burst.

Open vSwitch's own datapath reads each port through an AF_PACKET socket with the kernel's default buffer of 208 KiB,
which holds 90 frames: what comes while its one thread waits for a CPU is lost, up to a tenth of a 200 Mbit/s stream
on two cores. What it sends goes by one more socket, for all ports of all bridges, with a buffer as small. A frame
counts there for as long as it waits in its port's queue, so that all these queues together had 90 frames, and a full
one took the others' room. The default can be changed for the whole machine only, and Open vSwitch has no setting; so
the sockets are borrowed from the running daemon (pidfd_getfd(2), Linux 5.6) and enlarged. The one that sends is there
when a first frame was sent, so one is. Decides nothing else, and touches no socket of another kind.
"""

import ctypes
import errno
import os
import socket
from pathlib import Path

RECEIVE_BYTES = 4 * 1024 * 1024
SEND_BYTES = 256 * 1024 * 1024
"""More than the queues of any switch's ports hold: their limits are to hold, not this one."""
_FIRST = "0180c200000e" + "000000000000" + "88b5" + 46 * "00"
"""For nobody but the neighbour (IEEE 802.1Q, table 8-1), who does not know it: EtherType of local experiments."""
_PIDFD_GETFD = 438  # the same number on every architecture (linux/unistd.h)
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33


def first_frame(bridge: str, port: str) -> list[str]:
    """The command that has a bridge send a frame by that port, and returns when it is gone."""
    return ["ovs-ofctl", "-O", "OpenFlow13", "packet-out", bridge, f"in_port=controller packet={_FIRST} actions={port}"]


def widen(pid: int) -> int:
    """Sets both buffers of every packet socket of a process; the number of sockets. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    pidfd = os.pidfd_open(pid)
    widened = 0
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if not _link(entry).startswith("socket:"):
                continue
            fd = libc.syscall(_PIDFD_GETFD, pidfd, int(entry.name), 0)
            if fd < 0 and ctypes.get_errno() == errno.EBADF:
                continue  # closed meanwhile, as that of whoever sent the first frame is
            if fd < 0:
                raise OSError(ctypes.get_errno(), "pidfd_getfd")
            with socket.socket(fileno=fd) as one:
                if one.family == socket.AF_PACKET:
                    one.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, RECEIVE_BYTES)
                    one.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, SEND_BYTES)
                    widened += 1
    finally:
        os.close(pidfd)
    return widened


def _link(entry: Path) -> str:
    try:
        return os.readlink(entry)
    except FileNotFoundError:  # closed meanwhile
        return ""
