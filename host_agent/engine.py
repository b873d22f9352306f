"""A TCP engine: owns the TCP sockets of one network namespace and relays their bytes to the applications.

Decides: nothing but the order within one save or restore. Never touches: the records, other engines, policy.

The same program runs N+1 times. In the server it is the host stack, which alone listens and accepts; in each NIC it is
the offload engine. It serves one agent at a time over verbs.py, and goes on without one.
"""

from __future__ import annotations

import argparse
import errno
import os
import select
import signal
import socket
import struct
import sys
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from host_agent import kernel, repair
from host_agent.connection import Connection
from host_agent.context import BadContext, Context
from host_agent.emit import emit
from host_agent.relay import Pipes, Relay, StreamBroken
from host_agent.steering import HostSteering, NicSteering, Steering
from host_agent.verbs import VERSION, Link, Message, PeerGone

TIME_WAIT = 60.0  # seconds; include/net/tcp.h, TCP_TIMEWAIT_LEN
_EDGE = select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP | select.EPOLLET
_CLOSED_STATE = 7


@dataclass
class Held:
    """One connection that lives here: its TCP socket, the application's channel, and what carries bytes between."""

    connection: Connection
    tcp: socket.socket
    channel: socket.socket
    relay: Relay


@dataclass(frozen=True)
class Service:
    """A port of the team, and where its application listens: ("127.0.0.1", 8080), or the path of a Unix socket."""

    name: str
    port: int
    app: tuple[str, int] | str


class Engine:
    """The event loop of one engine. `run()` returns when `stop()` was called."""

    def __init__(self, name: str, control: socket.socket, steering: Steering):
        self.name = name
        self._steering = steering
        self._control = control
        self._link: Link | None = None
        self._connections: dict[Connection, Held] = {}
        self._lingering: deque[tuple[float, Connection]] = deque()
        self._pipes = Pipes()
        self._epoll = select.epoll()
        self._handlers: dict[int, Callable[[int], None]] = {}
        self._busy: dict[Connection, Held] = {}
        self._urgent: int | None = None
        self._carrier: kernel.CarrierWatch | None = None
        self._running = True
        self._watch(control.fileno(), select.EPOLLIN, self._greet)

    def run(self) -> None:
        while self._running:
            timeout = 0.0 if self._busy else self._until_next_linger()
            events = self._epoll.poll(timeout)
            # Carrier events come ahead of all other work: a fault's first cost is the time until it is known.
            events.sort(key=lambda event: event[0] != self._urgent)
            for fd, mask in events:
                handler = self._handlers.get(fd)
                if handler:
                    handler(mask)
            for held in list(self._busy.values()):
                self._pump(held)
            self._forget_lingering()

    def stop(self) -> None:
        self._running = False

    def _watch(self, fd: int, mask: int, handler: Callable[[int], None]) -> None:
        self._epoll.register(fd, mask)
        self._handlers[fd] = handler

    def _unwatch(self, fd: int) -> None:
        self._epoll.unregister(fd)
        del self._handlers[fd]

    # -- the host engine listens, a NIC engine watches its wire ------------------------------------------------------

    def listen(self, service: Service) -> None:
        """Accepts on the port, IPv4 and IPv6. Raises OSError when the port is taken."""
        for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
            listener = socket.socket(family, socket.SOCK_STREAM)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listener.bind((address, service.port))
            listener.listen(4096)
            listener.setblocking(False)

            def accept(_mask: int, listener: socket.socket = listener) -> None:
                self._accept(listener, service)

            self._watch(listener.fileno(), select.EPOLLIN, accept)

    def watch_carrier(self, interface: str) -> None:
        watch = self._carrier = kernel.CarrierWatch(interface)
        known = watch.up

        def changed(_mask: int) -> None:
            nonlocal known
            up = watch.read()
            if up != known:
                known = up
                self._tell(Message("link", {"up": up}))
                emit(self.name, "link", up=up)

        self._urgent = watch.fd
        self._watch(watch.fd, select.EPOLLIN, changed)

    def _accept(self, listener: socket.socket, service: Service) -> None:
        while True:
            try:
                tcp, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in (errno.EMFILE, errno.ENFILE):
                    emit(self.name, "refused", reason="too many open descriptors; raise `ulimit -n`")
                    return
                continue  # the peer gave up before it was accepted
            local = tcp.getsockname()
            connection = Connection(peer[0], peer[1], local[0], local[1])
            kind = socket.AF_UNIX if isinstance(service.app, str) else socket.AF_INET
            channel = socket.socket(kind, socket.SOCK_STREAM)
            try:
                channel.connect(service.app)
            except OSError as error:
                emit(self.name, "refused", **connection.fields(), reason=f"application: {error.strerror}")
                channel.close()
                _reset(tcp)
                continue
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            repair.limit_unsent(tcp)
            if kind == socket.AF_INET:
                channel.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            emit(self.name, "accepted", **connection.fields(), service=service.name)
            self._tell(Message("accepted", {"connection": connection, "service": service.name}))
            self._hold(connection, tcp, channel)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _hold(self, connection: Connection, tcp: socket.socket, channel: socket.socket) -> Held:
        tcp.setblocking(False)
        channel.setblocking(False)
        held = Held(connection, tcp, channel, Relay(tcp, channel, self._pipes))
        self._connections[connection] = held
        for end in (tcp, channel):
            self._watch(end.fileno(), _EDGE, lambda _mask: self._pump(held))
        return held

    def _pump(self, held: Held) -> None:
        if self._connections.get(held.connection) is not held:
            return
        self._busy.pop(held.connection, None)
        try:
            if held.relay.pump():
                self._busy[held.connection] = held
        except StreamBroken as broken:
            self._end(held, str(broken))
            return
        if held.relay.done and repair.info(held.tcp)[0] == _CLOSED_STATE:
            # Only now: a socket closed earlier could not be asked whether its last bytes have arrived.
            self._end(held, "finished")

    def _end(self, held: Held, reason: str) -> None:
        facts = {
            "reason": reason,
            "retransmits": repair.retransmits(held.tcp),
            "bytes_in": held.relay.inward.total,
            "bytes_out": held.relay.outward.total,
        }
        self._let_go(held)
        held.relay.outward.drop()
        held.relay.inward.drop()
        if reason == "finished":
            held.tcp.close()
            held.channel.close()
        else:
            _reset(held.tcp)
            _reset(held.channel)
        # The kernel answers late segments from TIME-WAIT; so the steering outlives the socket.
        self._lingering.append((time.monotonic() + TIME_WAIT, held.connection))
        emit(self.name, "closed", **held.connection.fields(), **facts)
        self._tell(Message("closed", {"connection": held.connection, **facts}))

    def _let_go(self, held: Held) -> None:
        del self._connections[held.connection]
        self._busy.pop(held.connection, None)
        self._unwatch(held.tcp.fileno())
        self._unwatch(held.channel.fileno())

    def _until_next_linger(self) -> float:
        if not self._lingering:
            return -1
        return max(0.0, self._lingering[0][0] - time.monotonic())

    def _forget_lingering(self) -> None:
        while self._lingering and self._lingering[0][0] <= time.monotonic():
            _, connection = self._lingering.popleft()
            if connection not in self._connections:
                self._steering.left(connection)

    # -- verbs -------------------------------------------------------------------------------------------------------

    def _greet(self, _mask: int) -> None:
        sock, _ = self._control.accept()
        if self._link:
            self._hang_up()
        link = self._link = Link(sock)
        self._watch(link.fd, select.EPOLLIN | select.EPOLLOUT | select.EPOLLET, self._listen_to_agent)
        self._tell(Message("ready", {"version": VERSION, "name": self.name}))
        if self._carrier:
            self._tell(Message("link", {"up": self._carrier.up}))

    def _hang_up(self) -> None:
        if self._link:
            self._unwatch(self._link.fd)
            self._link.close()
            self._link = None

    def _tell(self, message: Message) -> None:
        """To the agent, if there is one; a restarted agent asks for all it must know."""
        if self._link:
            try:
                self._link.send(message)
            except PeerGone:
                self._hang_up()

    def _listen_to_agent(self, _mask: int) -> None:
        if not self._link:
            return
        try:
            self._link.flush()
            for message in self._link.receive():
                self._obey(message)
                if not self._link:
                    return
        except PeerGone as gone:
            if str(gone) != "closed":
                print(f"{self.name}: agent: {gone}", file=sys.stderr)
            self._hang_up()

    def _obey(self, message: Message) -> None:
        match message.verb:
            case "hello":
                if message.fields.get("version") != VERSION:
                    raise PeerGone(f"it speaks version {message.fields.get('version')}, this engine {VERSION}")
            case "save":
                self._save(message)
            case "restore":
                self._restore(message)
            case "release":
                self._steering.joined(Connection(*message.fields["connection"]))
            case "query":
                self._tell(Message("reply", {"re": message.fields["id"], "connections": list(self._connections)}))
            case other:
                raise PeerGone(f"unknown verb {other!r}")

    def _save(self, message: Message) -> None:
        re, connection = message.fields["id"], Connection(*message.fields["connection"])
        held = self._connections.get(connection)
        if held is None:
            self._tell(Message("reply", {"re": re, "error": "no such connection here"}))
            return
        next_hop = bytes.fromhex(message.fields["next_hop"])
        self._steering.leaving(connection)
        try:
            repair.freeze(held.tcp)
        except repair.CannotMove as reason:
            self._stay(held, next_hop, re, str(reason))
            return
        self._steering.left(connection)
        try:
            context = repair.read(held.tcp, connection, next_hop)
        except repair.CannotMove as reason:
            self._stay(held, next_hop, re, str(reason))
            repair.thaw(held.tcp)
            return
        relay = held.relay
        context = context.with_relayed(taken_out=relay.outward.take_held(), taken_in=relay.inward.take_held())
        facts = {
            "re": re,
            "retransmits": repair.retransmits(held.tcp),
            "bytes_in": relay.inward.total,
            "bytes_out": relay.outward.total,
        }
        self._let_go(held)
        repair.discard(held.tcp)
        self._tell(Message("reply", facts, context.pack(), held.channel.detach()))

    def _stay(self, held: Held, next_hop: bytes, re: int, reason: str) -> None:
        self._steering.joining(held.connection, next_hop)
        self._steering.joined(held.connection)
        self._tell(Message("reply", {"re": re, "error": reason}))

    def _restore(self, message: Message) -> None:
        re, channel = message.fields["id"], message.channel
        assert channel is not None
        try:
            context = Context.unpack(message.body)
            if message.fields["resend"]:
                context = context.resent()
            tcp = repair.restore(context)
            try:
                self._steering.joining(context.connection, context.next_hop)
            except kernel.KernelError as error:
                repair.discard(tcp)
                raise repair.CannotRestore(f"offload table: {error}") from None
        except (BadContext, repair.CannotRestore) as error:
            self._tell(Message("reply", {"re": re, "error": str(error)}, channel=channel))
            return
        repair.resume(tcp, context, probe=message.fields["probe"])
        held = self._hold(context.connection, tcp, socket.socket(fileno=channel))
        self._tell(Message("reply", {"re": re}))
        self._pump(held)


def _reset(s: socket.socket) -> None:
    """Closes at once; a TCP peer gets an RST."""
    if s.family != socket.AF_UNIX:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def _service(text: str) -> Service:
    """NAME:PORT=HOST:PORT or NAME:PORT=/path/of/socket"""
    try:
        listen, _, app = text.partition("=")
        name, _, port = listen.rpartition(":")
        if app.startswith("/"):
            return Service(name, int(port), app)
        host, _, app_port = app.rpartition(":")
        return Service(name, int(port), (host, int(app_port)))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME:PORT=HOST:PORT or NAME:PORT=/path") from None


def main() -> int:
    parser = argparse.ArgumentParser(prog="host_agent.engine", description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--socket", required=True, help="where the agent finds it")
    parser.add_argument("--wire", help="a NIC's interface to the switch")
    parser.add_argument("--bus", nargs="+", required=True, help="a NIC's one, or the server's, in NIC order")
    parser.add_argument("--team", help="the server's virtual NIC: makes this the host engine")
    parser.add_argument("--pins", type=Path, help="bpf file system directory for the host engine's maps")
    parser.add_argument("--listen", type=_service, action="append", default=[])
    args = parser.parse_args()
    try:
        steering: Steering
        if args.team:
            steering = HostSteering(args.team, args.bus, args.pins)
        else:
            steering = NicSteering(args.wire, args.bus[0])
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.bind(args.socket)
        control.listen(1)
        engine = Engine(args.name, control, steering)
        for service in args.listen:
            engine.listen(service)
        if args.wire:
            engine.watch_carrier(args.wire)
    except (kernel.KernelError, OSError) as error:
        print(f"{args.name}: {error}", file=sys.stderr)
        return 3
    signal.signal(signal.SIGTERM, lambda *_: engine.stop())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(_wakeup(engine))
    emit(args.name, "ready")
    engine.run()
    if isinstance(steering, NicSteering):
        emit(args.name, "counters", **vars(steering.counts()))
    return 0


def _wakeup(engine: Engine) -> int:
    """A signal must end a poll that is just about to begin (PEP 475 would restart it)."""
    reader, writer = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    engine._watch(reader, select.EPOLLIN, lambda _mask: None)
    return writer


if __name__ == "__main__":
    sys.exit(main())
