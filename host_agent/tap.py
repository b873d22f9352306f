"""A tap device of this network namespace, which the frames of a moving connection go to.

Decides: nothing. Never touches: frames (hold.py), who sends them there (steering.py).
"""

import fcntl
import os
import socket
import struct


def open_tap(name: str, *, keep: bool) -> int:
    """A tap device of this namespace, made if missing; keep: it outlives the descriptor. Non-blocking."""
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    tunsetiff, tunsetpersist, iff_tap, iff_no_pi = 0x400454CA, 0x400454CB, 0x0002, 0x1000  # linux/if_tun.h
    fcntl.ioctl(fd, tunsetiff, struct.pack("16sH22x", name.encode(), iff_tap | iff_no_pi))
    fcntl.ioctl(fd, tunsetpersist, int(keep))
    return fd


def set_up(interface: str) -> None:
    """IFF_UP, as `ip link set … up`."""
    siocgifflags, siocsifflags, iff_up = 0x8913, 0x8914, 0x1  # linux/sockios.h, linux/if.h
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH22x", interface.encode(), 0)
        flags = struct.unpack("16sH22x", fcntl.ioctl(s, siocgifflags, request))[1]
        fcntl.ioctl(s, siocsifflags, struct.pack("16sH22x", interface.encode(), flags | iff_up))
