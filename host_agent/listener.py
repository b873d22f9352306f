"""The host engine's ears: accepts connections to the team's address and joins each to its application.

Decides: nothing but what cannot be served. Never touches: connections once they are accepted.
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


@dataclass(frozen=True)
class Service:
    """A port of the team, and where its application listens: ("127.0.0.1", 8080), or the path of a Unix socket."""

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
            return cls(name, int(port), (host, int(app_port)))
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not NAME:PORT=HOST:PORT or NAME:PORT=/path") from None


Accepted = Callable[[Connection, socket.socket, socket.socket, str], None]


class Listener:
    """One service on a team's addresses. accepted(connection, tcp, channel, service) takes over both sockets."""

    def __init__(self, who: str, service: Service, addresses: list[str], loop: Loop, accepted: Accepted):
        """Raises OSError when the port is taken."""
        self._who, self._service, self._accepted = who, service, accepted
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, service.port))
            listener.listen(_BACKLOG)
            listener.setblocking(False)

            def ready(_mask: int, listener: socket.socket = listener) -> None:
                self._accept(listener)

            loop.watch(listener.fileno(), ready)

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                tcp, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    emit(self._who, "refused", reason="too many open descriptors; raise `ulimit -n`")
                    return
                continue  # the peer gave up before it was accepted
            local = tcp.getsockname()
            connection = Connection(peer[0], peer[1], local[0], local[1])
            channel = self._connect_application()
            if isinstance(channel, OSError):
                reason = f"application: {channel.strerror}"
                emit(self._who, "refused", **connection.fields(), reason=reason)
                reset(tcp)
                continue
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            repair.limit_unsent(tcp)
            self._accepted(connection, tcp, channel, self._service.name)

    def _connect_application(self) -> socket.socket | OSError:
        app = self._service.app
        channel = socket.socket(socket.AF_UNIX if isinstance(app, str) else socket.AF_INET, socket.SOCK_STREAM)
        try:
            channel.connect(app)
            if not isinstance(app, str):
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            channel.close()
            return error
        return channel


def reset(s: socket.socket) -> None:
    """Closes at once; a TCP peer gets an RST."""
    if s.family != socket.AF_UNIX:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()
