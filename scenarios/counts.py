"""What the kernel counted of one TCP connection; decides nothing."""

import socket
import struct

TCP_INFO_TOTAL_RETRANS, TCP_INFO_RCV_OOOPACK = 100, 224
"""Offsets of tcpi_total_retrans and tcpi_rcv_ooopack in struct tcp_info (linux/tcp.h), u32 both."""
SO_MEMINFO, SK_MEMINFO_DROPS = 55, 4 * 8
"""asm-generic/socket.h, and an offset in what it gives (linux/sock_diag.h)."""


def said(sock: socket.socket) -> dict[str, int | None]:
    """What the kernel counted over the connection's life at this end; None for what it does not say."""
    info = _option(sock, socket.IPPROTO_TCP, socket.TCP_INFO)
    return {
        "retransmits": _number(info, TCP_INFO_TOTAL_RETRANS),
        "out_of_order": _number(info, TCP_INFO_RCV_OOOPACK),
    }


def dropped(sock: socket.socket) -> int | None:
    """Segments that its TCP threw away. They had nothing new for it: they fit the window, for the peer keeps to that.

    Behind the peer's FIN it throws away every acknowledgement, too, once it has read it (net/ipv4/tcp_input.c,
    tcp_rcv_state_process, TCP_CLOSE_WAIT).
    """
    return _number(_option(sock, socket.SOL_SOCKET, SO_MEMINFO), SK_MEMINFO_DROPS)


def _option(sock: socket.socket, level: int, name: int) -> bytes:
    try:
        return sock.getsockopt(level, name, 256)
    except OSError:
        return b""


def _number(data: bytes, offset: int) -> int | None:
    return int(struct.unpack_from("=I", data, offset)[0]) if len(data) >= offset + 4 else None
