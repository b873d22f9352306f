"""The host engine's ears: accepts connections to the team's address and joins each to its application.

Decides: nothing but what cannot be served. Never touches: connections once they are accepted.

The application sees the client's own address and port: the channel is bound to them (IP_TRANSPARENT), and the server's
routes bring what the application answers back to the channel (topologies/settings.py). So it listens on the loopback.
"""

from __future__ import annotations

import argparse
import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from host_agent import repair
from host_agent.connection import Connection
from host_agent.emit import emit
from host_agent.loop import Loop

_BACKLOG = 4096
_SHORT = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE = 0.1  # seconds until it looks again whether what was short is there
_ANSWER_S = 1.0  # for the application's kernel to take a connection; a full backlog must not stop the engine for long
_TRANSPARENT = {
    socket.AF_INET: (socket.IPPROTO_IP, 19),  # IP_TRANSPARENT
    socket.AF_INET6: (socket.IPPROTO_IPV6, 75),  # IPV6_TRANSPARENT
}


@dataclass(frozen=True)
class Service:
    """A port of the team, and where its application listens: ("127.0.0.1", 8080), or the path of a Unix socket.

    The host `localhost` is 127.0.0.1 to IPv4 clients and ::1 to IPv6 clients.
    """

    name: str
    port: int
    app: tuple[str, int] | str

    @classmethod
    def parse(cls, text: str) -> Service:
        """NAME:PORT=HOST:PORT or NAME:PORT=/path/of/socket"""
        try:
            listen, _, app = text.partition("=")
            name, _, port = listen.rpartition(":")
            if app.startswith("/"):
                return cls(name, int(port), app)
            host, _, app_port = app.rpartition(":")
            return cls(name, int(port), (host.strip("[]"), int(app_port)))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME:PORT=HOST:PORT or NAME:PORT=/path") from None


Accepted = Callable[[Connection, socket.socket, socket.socket, str], None]


class Listener:
    """One service on a team's addresses. accepted(connection, tcp, channel, service) takes over both sockets."""

    def __init__(self, who: str, service: Service, addresses: list[str], loop: Loop, accepted: Accepted):
        """Raises OSError when the port is taken."""
        self._who, self._service, self._loop, self._accepted = who, service, loop, accepted
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, service.port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)
            self._watch(listener)

    def _watch(self, listener: socket.socket) -> None:
        self._loop.watch(listener.fileno(), lambda _mask: self._accept(listener))

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                tcp, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _SHORT:
                    emit(self._who, "refused", reason=f"{error.strerror}; for descriptors raise `ulimit -n`")
                    # The peer still waits, so the listener stays readable: without a pause this would be all we do.
                    self._loop.unwatch(listener.fileno())
                    self._loop.after(_PAUSE, lambda: self._watch(listener))
                    return
                continue  # the peer gave up before it was accepted
            local = tcp.getsockname()
            connection = Connection(peer[0], peer[1], local[0], local[1])
            channel = self._connect_application(connection)
            if isinstance(channel, OSError):
                reason = f"application: {channel.strerror or channel}"
                emit(self._who, "refused", **connection.fields(), reason=reason)
                reset(tcp)
                continue
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            repair.limit_unsent(tcp)
            tcp.setblocking(False)
            self._accepted(connection, tcp, channel, self._service.name)

    def _connect_application(self, connection: Connection) -> socket.socket | OSError:
        app = self._service.app
        if isinstance(app, str):
            family = socket.AF_UNIX
        else:
            app = (_LOCALHOST[":" in connection.src] if app[0] == "localhost" else app[0], app[1])
            family = socket.AF_INET6 if ":" in app[0] else socket.AF_INET
        try:
            channel = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:  # the last free descriptor was the peer's
            return error
        try:
            if not isinstance(app, str):
                _speak_as(channel, connection)
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # An application that has closed for good looks like one that has only finished sending, until asked.
                channel.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
            channel.settimeout(_ANSWER_S)
            channel.connect(app)
            channel.setblocking(False)
        except OSError as error:
            channel.close()
            return error
        return channel


_LOCALHOST = {False: "127.0.0.1", True: "::1"}


def _speak_as(channel: socket.socket, connection: Connection) -> None:
    """Gives the channel the client's address, where application and client are of one family. Raises OSError."""
    if (channel.family == socket.AF_INET6) != (":" in connection.src):
        return
    channel.setsockopt(*_TRANSPARENT[channel.family], 1)
    # One port of a client may have connections to several services; only one of them can be a listener's.
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    channel.bind((connection.src, connection.sport))


def reset(s: socket.socket) -> None:
    """Closes at once; a TCP peer gets an RST."""
    if s.family != socket.AF_UNIX:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
