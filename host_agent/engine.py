"""A TCP engine: owns the TCP sockets of one network namespace and relays their bytes to the applications.

Decides: nothing; it does what the agent's verbs say (docs/verbs.md). Never touches: the records, other engines, policy.

The same program runs N+1 times. In the server it is the host stack, which alone listens and accepts; in each NIC it is
the offload engine. It serves one agent at a time over verbs.py, and goes on without one: what holding.py keeps, frozen
or not, waits for the next.
"""

from __future__ import annotations

import argparse
import os
import select
import socket
import struct
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import lru_cache
from itertools import starmap
from pathlib import Path
from typing import Any

from host_agent import kernel, rtnetlink, verbs
from host_agent.connection import Connection, key_of
from host_agent.emit import emit
from host_agent.held import Saved
from host_agent.holding import Holding
from host_agent.limits import FEATURES, Limits, Refused
from host_agent.listener import Listener, Service
from host_agent.loop import EDGE, Loop, Precedence
from host_agent.restoring import Restoring
from host_agent.steering import CAPACITY, HostSteering, NicSteering, Steering
from host_agent.verbs import VERSION, Link, Message, PeerGone

EVERYWHERE = ["0.0.0.0", "::"]
PAUSE = 0.1  # seconds until it looks again whether a descriptor is free
ANSWERED = ("save", "restore", "thaw", "query", "statistics")


class Engine:
    """One engine: its connections, and the conversation with the agent."""

    def __init__(self, name: str, control: socket.socket, steering: Steering, limits: Limits):
        self.name = name
        self.loop = Loop()
        self._steering = steering
        self._holding = Holding(self.loop, steering, limits, self._event, requests=isinstance(steering, NicSteering))
        self._control = control
        self._link: Link | None = None
        self._greeted = False
        self.precedence = Precedence(self.loop)
        self._carrier: rtnetlink.CarrierWatch | None = None
        self.loop.watch(control.fileno(), self._greet)

    def run(self) -> None:
        self.loop.run(self._holding.idle)

    def watch_next_hops(self, steering: NicSteering) -> None:
        """Tells when a frame has taught another next hop: other NICs may have idle connections of the same peer."""

        def learned(connection: Connection, mac: bytes) -> None:
            self._event("neighbour", connection, {"next_hop": mac.hex()})

        self._new_hops = steering.new_hops(learned)
        self.loop.watch(self._new_hops.fd, lambda _mask: self._new_hops.consume())

    def watch_carrier(self, interface: str) -> None:
        watch = self._carrier = rtnetlink.CarrierWatch(interface)
        known = watch.up
        self._holding.fault = not known

        def changed(_mask: int) -> None:
            nonlocal known
            up = watch.read()
            # Told again: of a carrier that was back at once the host may have heard the loss alone (link_loss.py).
            self._tell(Message("link", {"up": up, "wire": watch.wire}))
            if up != known:
                known = up
                emit(self.name, "link", up=up)
                if up:
                    self._holding.recovered()
                else:
                    self._holding.fault = True

        # Ahead of all other work: a fault's first cost is the time until it is known.
        self.loop.watch(watch.fd, changed, urgent=True)

    def accepted(self, connection: Connection, tcp: socket.socket, channel: socket.socket, service: str) -> None:
        """Takes over a new connection and its application's channel."""
        emit(self.name, "accepted", **connection.fields(), service=service)
        self._tell(Message("accepted", {"connection": connection, "service": service}))
        self._holding.take(connection, tcp, channel)

    def _event(self, event: str, connection: Connection, facts: dict[str, Any]) -> None:
        emit(self.name, event, **connection.fields(), **facts)
        self._tell(Message(event, {"connection": connection, **facts}))

    # -- the conversation --------------------------------------------------------------------------------------------

    def _greet(self, _mask: int) -> None:
        try:
            sock, _ = self._control.accept()
            link = Link(sock)
        except OSError:  # no descriptor is free: the agent waits until one is, and must not be all that we hear of
            self.loop.unwatch(self._control.fileno())
            self.loop.after(PAUSE, lambda: self.loop.watch(self._control.fileno(), self._greet))
            return
        if self._link:
            self._hang_up()
        self._link = link
        self._greeted = False
        # Thousands of connections may have bytes to be carried just when they are to leave.
        self.loop.watch(link.fd, self._listen_to_agent, EDGE, urgent=True)
        limits = self._holding.limits
        about = {"capacity": limits.capacity, "features": sorted(limits.features)}
        self._tell(Message("ready", {"version": VERSION, "name": self.name, **about}))
        if self._carrier:
            self._tell(Message("link", {"up": self._carrier.up, "wire": self._carrier.wire}))

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

    def _listen_to_agent(self, mask: int) -> None:
        if not self._link:
            return
        if mask & select.EPOLLHUP:  # who has gone waits for no answer, and may have decided otherwise since
            self._hang_up()
            return
        self.precedence.stand_back()
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
        try:
            self._do(message)
        except (KeyError, TypeError, ValueError, OverflowError, struct.error) as error:
            raise PeerGone(f"{message.verb}: not a request of this protocol: {error!r}") from None
        finally:
            message.close()  # what nobody took

    def _do(self, message: Message) -> None:
        fields, holding = message.fields, self._holding
        facts: dict[str, Any]
        if message.verb in ANSWERED:
            fields["id"]  # it is known before anything is done
        if message.verb == "hello":
            if fields.get("version") != VERSION:
                raise PeerGone(f"it speaks version {fields.get('version')}, this engine {VERSION}")
            self._greeted = True
            return
        if not self._greeted:
            raise PeerGone(f"{message.verb} before hello")
        match message.verb:
            case "save":
                self._save(fields)
            case "restore":
                self._restore(message)
            case "release":
                holding.joined(_connections(fields["connections"]))
            case "discard":
                holding.discard(_connections(fields["connections"]))
            case "thaw":
                self._thaw(fields)
            case "update":
                self._update(fields)
            case "invalidate":
                holding.invalidate(_connection(fields["connection"]))
            case "query":
                limits = holding.limits
                facts = {"connections": list(holding.upkeep.describe()), "statistics": self._counts()}
                self._reply(fields, capacity=limits.capacity, features=sorted(limits.features), **facts)
            case "statistics":
                facts = {"connections": list(holding.upkeep.statistics()), "statistics": self._counts()}
                self._reply(fields, **facts)
            case other:
                raise PeerGone(f"unknown verb {other!r}")

    def _counts(self) -> dict[str, int]:
        return vars(self._steering.counts()) if isinstance(self._steering, NicSteering) else {}

    def _update(self, fields: dict[str, Any]) -> None:
        one, src, mtu = fields.get("connection"), fields.get("src"), fields.get("mtu")
        one = None if one is None else _connection(one)
        if "next_hop" in fields:
            was = _mac(fields["was"], "was") if "was" in fields else None
            self._holding.upkeep.new_hop(_mac(fields["next_hop"], "next_hop"), one, src, was)
        if mtu is not None and one is not None:
            if self._holding.upkeep.too_big(one, int(mtu), int(fields["seq"])):
                self._event("path", one, {"mtu": mtu})
        elif mtu is not None:
            self._holding.upkeep.new_mtu(str(src), int(mtu))

    def _save(self, fields: dict[str, Any]) -> None:
        wanted = _wanted(fields)
        saved: list[Saved] = []
        refused: list[dict[str, Any]] = []
        for at, each in enumerate(self._holding.save(wanted)):
            if isinstance(each, Saved):
                saved.append(each)
            else:
                refused.append({"at": at, "error": str(each), "reason": each.reason})
        try:
            contexts = verbs.memory(b"".join(one.context for one in saved))
        except OSError as error:
            for one in saved:
                with suppress(Refused):  # it stays frozen, and the next agent is told of it
                    self._holding.thaw(one.connection)
            self._reply(fields, error=f"memory: {error.strerror}", reason="kernel")
            return
        try:
            channels, told = [one.channel for one in saved], [one.told for one in saved]
            self._reply(fields, channels, contexts, saved=told, refused=refused)
        finally:
            os.close(contexts)

    def _restore(self, message: Message) -> None:
        fields, channels = message.fields, list(message.channels)
        if message.bare:  # all that lives here goes on, and what was to come stays where it is
            self._reply(fields, error="no descriptor is free", reason="kernel")
            return
        how = Restoring(bool(fields["resend"]), bool(fields["probe"]), bool(fields.get("wait")))
        packed = _contexts(message)
        answers = self._holding.restore(list(zip(packed, channels, strict=True)), how)
        message.channels = ()
        verbs.close([channel for channel, answer in zip(channels, answers, strict=True) if answer is not None])
        self._refuse(fields, answers)

    def _thaw(self, fields: dict[str, Any]) -> None:
        answers: list[Refused | None] = []
        for connection in _connections(fields["connections"]):
            try:
                self._holding.thaw(connection)
                answers.append(None)
            except Refused as refused:
                answers.append(refused)
        self._refuse(fields, answers)

    def _refuse(self, fields: dict[str, Any], answers: Iterable[Refused | None]) -> None:
        told = [{"at": n, "error": str(one), "reason": one.reason} for n, one in enumerate(answers) if one]
        self._reply(fields, refused=told)

    def _reply(
        self, fields: dict[str, Any], channels: Sequence[int] = (), contexts: int | None = None, **facts: Any
    ) -> None:
        self._tell(Message("reply", {"re": fields["id"], **facts}, channels, contexts))


def _connections(each: Iterable[Sequence[Any]]) -> list[Connection]:
    """Raises TypeError or ValueError when there is one that is none."""
    found = list(starmap(Connection, each))
    try:
        for one in found:
            key_of(one)
    except (OSError, struct.error) as error:
        raise ValueError(f"a connection is none: {error}") from None
    return found


def _wanted(fields: dict[str, Any]) -> dict[Connection, bytes | None]:
    """Connections to be saved, and where their frames go, as far as that is said. Raises KeyError, and as
    _connections."""
    connections = _connections(fields["connections"])
    macs: list[bytes | None] = [_mac(one, "next_hops") for one in fields.get("next_hops", ())]
    wanted = dict(zip(connections, macs or [None] * len(connections), strict=True))
    if len(wanted) != len(connections):
        raise ValueError("a connection is named twice")
    return wanted


def _contexts(message: Message) -> list[bytes]:
    """The packed contexts that have come, each for one channel. Raises KeyError, TypeError or ValueError."""
    places, contexts = message.fields["places"], message.contexts
    if contexts is None or len(places) != len(message.channels):
        raise ValueError("contexts and channels are not of one number")
    try:
        there = os.pread(contexts, os.fstat(contexts).st_size, 0)
    except OSError as error:  # one that is no memory
        raise ValueError(f"contexts cannot be read: {error.strerror}") from None
    for offset, size in places:
        if not 0 <= offset <= offset + size <= len(there):
            raise ValueError(f"no context at {offset}, of {size} bytes")
    return [there[offset : offset + size] for offset, size in places]


def _connection(ends: Sequence[Any]) -> Connection:
    """Likewise."""
    return _connections([ends])[0]


@lru_cache
def _mac(text: str, what: str) -> bytes:
    mac = bytes.fromhex(text)
    if len(mac) != 6:
        raise ValueError(f"{what} is not 6 bytes")
    return mac


def _features(text: str) -> frozenset[str]:
    found = frozenset(one for one in text.split(",") if one)
    if found - FEATURES:
        raise argparse.ArgumentTypeError(f"{text!r}: features are {', '.join(sorted(FEATURES))}")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(prog="host_agent.engine", description=__doc__.splitlines()[0])
    parser.add_argument("--name", required=True)
    parser.add_argument("--socket", required=True, help="where the agent finds it")
    parser.add_argument("--wire", help="a NIC's interface to the switch")
    parser.add_argument("--bus", nargs="+", required=True, help="a NIC's one, or the server's, in NIC order")
    parser.add_argument("--team", help="the server's virtual NIC: makes this the host engine")
    parser.add_argument("--pins", type=Path, help="bpf file system directory for the host engine's maps")
    parser.add_argument("--records", type=int, default=CAPACITY, help="how many records the host engine has room for")
    parser.add_argument("--address", action="append", help="of the team, to listen on; default: every one")
    parser.add_argument("--listen", type=Service.parse, action="append", default=[])
    parser.add_argument("--capacity", type=int, default=0, help="connections that it holds at most, 0 for any number")
    parser.add_argument("--memory", type=int, default=0, help="bytes that its connections take at most, 0 for any")
    all_features = ",".join(sorted(FEATURES))
    parser.add_argument("--features", type=_features, default=FEATURES, help=f"what it can do: {all_features}")
    args = parser.parse_args()
    try:
        steering: Steering = (
            HostSteering(args.team, args.bus, args.pins, args.records)
            if args.team
            else NicSteering(args.wire, args.bus[0])
        )
        control = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        control.bind(args.socket)
        control.listen(1)
        engine = Engine(args.name, control, steering, Limits(args.capacity, args.features, args.memory))
        for service in args.listen:
            Listener(args.name, service, args.address or EVERYWHERE, engine.loop, engine.accepted)
        if isinstance(steering, NicSteering):
            engine.precedence.take()  # a NIC's own processor does not wait for the host's programs
            engine.watch_carrier(args.wire)
            engine.watch_next_hops(steering)
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
