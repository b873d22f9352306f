"""A TCP engine: owns the TCP sockets of one network namespace and relays their bytes to the applications.

Decides: nothing but the order within one save or restore. Never touches: the records, other engines, policy.

The same program runs N+1 times. In the server it is the host stack, which alone listens and accepts; in each NIC it is
the offload engine. It serves one agent at a time over verbs.py, and goes on without one.
"""

from __future__ import annotations

import argparse
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from host_agent import kernel, repair
from host_agent.connection import Connection
from host_agent.context import BadContext, Context
from host_agent.emit import emit
from host_agent.listener import Listener, Service, reset
from host_agent.loop import EDGE, Loop
from host_agent.relay import Pipes, Relay, StreamBroken
from host_agent.steering import HostSteering, NicSteering, Steering
from host_agent.verbs import VERSION, Link, Message, PeerGone

TIME_WAIT = 60.0  # seconds; include/net/tcp.h, TCP_TIMEWAIT_LEN
_CLOSED_STATE = 7


@dataclass
class Held:
    """One connection that lives here: its TCP socket, the application's channel, and what carries bytes between."""

    connection: Connection
    tcp: socket.socket
    channel: socket.socket
    relay: Relay


class Engine:
    """One engine: its connections, and the conversation with the agent."""

    def __init__(self, name: str, control: socket.socket, steering: Steering):
        self.name = name
        self.loop = Loop()
        self._steering = steering
        self._control = control
        self._link: Link | None = None
        self._connections: dict[Connection, Held] = {}
        self._lingering: deque[tuple[float, Connection]] = deque()
        self._pipes = Pipes()
        self._busy: dict[Connection, Held] = {}
        self._carrier: kernel.CarrierWatch | None = None
        self.loop.watch(control.fileno(), self._greet)

    def run(self) -> None:
        self.loop.run(self._timeout, self._after)

    def _timeout(self) -> float:
        if self._busy:
            return 0
        return max(0.0, self._lingering[0][0] - time.monotonic()) if self._lingering else -1

    def _after(self) -> None:
        for held in list(self._busy.values()):
            self._pump(held)
        while self._lingering and self._lingering[0][0] <= time.monotonic():
            _, connection = self._lingering.popleft()
            if connection not in self._connections:
                self._steering.left(connection)

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

        # Ahead of all other work: a fault's first cost is the time until it is known.
        self.loop.watch(watch.fd, changed, urgent=True)

    def accepted(self, connection: Connection, tcp: socket.socket, channel: socket.socket, service: str) -> None:
        """Takes over a new connection and its application's channel."""
        emit(self.name, "accepted", **connection.fields(), service=service)
        self._tell(Message("accepted", {"connection": connection, "service": service}))
        self._hold(connection, tcp, channel)

    # -- bytes -------------------------------------------------------------------------------------------------------

    def _hold(self, connection: Connection, tcp: socket.socket, channel: socket.socket) -> Held:
        tcp.setblocking(False)
        channel.setblocking(False)
        held = Held(connection, tcp, channel, Relay(tcp, channel, self._pipes))
        self._connections[connection] = held
        for end in (tcp, channel):
            self.loop.watch(end.fileno(), lambda _mask: self._pump(held), EDGE)
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
            reset(held.tcp)
            reset(held.channel)
        # The kernel answers late segments from TIME-WAIT; so the steering outlives the socket.
        self._lingering.append((time.monotonic() + TIME_WAIT, held.connection))
        emit(self.name, "closed", **held.connection.fields(), **facts)
        self._tell(Message("closed", {"connection": held.connection, **facts}))

    def _let_go(self, held: Held) -> None:
        del self._connections[held.connection]
        self._busy.pop(held.connection, None)
        self.loop.unwatch(held.tcp.fileno())
        self.loop.unwatch(held.channel.fileno())

    # -- verbs -------------------------------------------------------------------------------------------------------

    def _greet(self, _mask: int) -> None:
        sock, _ = self._control.accept()
        if self._link:
            self._hang_up()
        link = self._link = Link(sock)
        self.loop.watch(link.fd, self._listen_to_agent, EDGE)
        self._tell(Message("ready", {"version": VERSION, "name": self.name}))
        if self._carrier:
            self._tell(Message("link", {"up": self._carrier.up}))

    def _hang_up(self) -> None:
        if self._link:
            self.loop.unwatch(self._link.fd)
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


def main() -> int:
    parser = argparse.ArgumentParser(prog="host_agent.engine", description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--socket", required=True, help="where the agent finds it")
    parser.add_argument("--wire", help="a NIC's interface to the switch")
    parser.add_argument("--bus", nargs="+", required=True, help="a NIC's one, or the server's, in NIC order")
    parser.add_argument("--team", help="the server's virtual NIC: makes this the host engine")
    parser.add_argument("--pins", type=Path, help="bpf file system directory for the host engine's maps")
    parser.add_argument("--listen", type=Service.parse, action="append", default=[])
    args = parser.parse_args()
    try:
        steering: Steering = (
            HostSteering(args.team, args.bus, args.pins) if args.team else NicSteering(args.wire, args.bus[0])
        )
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.bind(args.socket)
        control.listen(1)
        engine = Engine(args.name, control, steering)
        for service in args.listen:
            Listener(args.name, service, engine.loop, engine.accepted)
        if args.wire:
            engine.watch_carrier(args.wire)
    except (kernel.KernelError, OSError) as error:
        print(f"{args.name}: {error}", file=sys.stderr)
        return 3
    emit(args.name, "ready")
    engine.run()
    if isinstance(steering, NicSteering):
        emit(args.name, "counters", **vars(steering.counts()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
