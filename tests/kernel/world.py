"""A host and two NICs, each a network namespace with a Holding of its own, and a peer; frames pass through this file.

    peer (tun) <---- deliver(): held, lost or passed on ----> host | nic0 | nic1 (a tun each)
                                                                |
                                                     application: the far end of the channel

All in one thread: between two calls of step() nothing moves but the kernels' timers. So a test can stop the frames of
either direction, bring both ends into any state, move the connection there and let go.
"""

import ctypes
import fcntl
import hashlib
import os
import random
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from host_agent.connection import Connection
from host_agent.held import Saved
from host_agent.holding import Holding
from host_agent.limits import Limits, Refused
from host_agent.repair import CannotMove
from host_agent.restoring import Restoring
from host_agent.steering import Seen
from host_agent.told import Told
from tests.turned import TurnedLoop

CLONE_NEWNET = 0x40000000
MAC = bytes.fromhex("020000000101")
ADDRESSES = {socket.AF_INET: ("10.9.0.1", "10.9.0.2"), socket.AF_INET6: ("fd09::1", "fd09::2")}  # team, peer
PLACES = ("host", "nic0", "nic1")
LIMIT = 8.0  # seconds until something counts as broken: a first retransmission timeout is 1 s
SYN, RST = 2, 4
_libc = ctypes.CDLL(None, use_errno=True)


class Namespace:
    """A network namespace with one tun device; `fd` is its wire."""

    def __init__(self, name: str, addresses: Iterable[str], mtu: int = 1500, initcwnd: int = 256):
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        assert _libc.unshare(CLONE_NEWNET) == 0
        try:
            self.handle = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            self.fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(self.fd, 0x400454CA, struct.pack("16sH22x", b"tun0", 0x0001 | 0x1000))  # IFF_TUN, IFF_NO_PI
            lines = ["link set lo up", f"link set tun0 mtu {mtu} txqueuelen 10000 up"]
            device = "tun0" if name == "peer" else "lo"
            lines += [f"addr add {one} dev {device}{' nodad' * (':' in one)}" for one in addresses]
            lines += [f"route add {net} dev tun0 initcwnd {initcwnd}" for net in ("default", "::/0")]
            subprocess.run(["ip", "-force", "-batch", "-"], input="\n".join(lines), text=True, check=True)
            sysctl("net/ipv6/conf/tun0/router_solicitations", 0)
        finally:
            _libc.setns(home, CLONE_NEWNET)
            os.close(home)

    @contextmanager
    def inside(self) -> Iterator[None]:
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        assert _libc.setns(self.handle, CLONE_NEWNET) == 0
        try:
            yield
        finally:
            _libc.setns(home, CLONE_NEWNET)
            os.close(home)

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.handle)


def sysctl(path: str, value: int | str) -> None:
    with open(f"/proc/sys/{path}", "w") as file:
        file.write(str(value))


class Doors:
    """What steering.py does, as far as a world of one connection at a time needs it: who may speak."""

    def __init__(self) -> None:
        self.speaks: set[Connection] = set()
        self.log: list[str] = []

    def leaving(self, connections: Sequence[Connection]) -> Sequence[None]:
        self.log += ["leaving"] * len(connections)
        return [None] * len(connections)

    def left(self, connections: Sequence[Connection]) -> None:
        self.log += ["left"] * len(connections)
        self.speaks -= set(connections)

    def joining(self, next_hops: Mapping[Connection, bytes]) -> None:
        self.log += ["joining"] * len(next_hops)
        self.speaks |= set(next_hops)

    def joined(self, connections: Sequence[Connection]) -> None:
        self.log += ["joined"] * len(connections)

    def ending(self, connection: Connection) -> None:
        self.log.append("ending")

    def ended(self, connection: Connection, *, answers: bool) -> None:
        self.log.append(f"ended {answers}")
        if not answers:
            self.speaks.discard(connection)

    def update(self, connections: Iterable[Connection], next_hop: bytes) -> None:
        self.log.append(f"update {len(list(connections))} {next_hop.hex()}")

    def next_hop(self, connection: Connection) -> bytes | None:
        return None

    def seen(self, connection: Connection) -> Seen | None:
        return None


class End:
    """One end's application: what it has to send, from a seed, and what it received, as hashes."""

    def __init__(self, seed: int):
        self._random = random.Random(seed)
        self.sent, self.got = hashlib.sha256(), hashlib.sha256()
        self.sent_bytes = self.got_bytes = self.to_send = 0
        self._rest = b""
        self.wants_end = self.ended = self.got_end = False
        self.reads = True

    def turn(self, s: socket.socket) -> None:
        with suppress(BlockingIOError):
            while self.to_send or self._rest:
                if not self._rest:
                    self._rest = self._random.randbytes(min(self.to_send, 16384))
                    self.to_send -= len(self._rest)
                taken = s.send(self._rest)
                self.sent.update(self._rest[:taken])
                self.sent_bytes += taken
                self._rest = self._rest[taken:]
            if self.wants_end and not self.ended:
                self.ended = True
                s.shutdown(socket.SHUT_WR)
        with suppress(BlockingIOError):
            while self.reads and not self.got_end:
                data = s.recv(1 << 18)
                self.got.update(data)
                self.got_bytes += len(data)
                self.got_end = not data

    @property
    def all_sent(self) -> bool:
        return not self.to_send and not self._rest and (self.ended or not self.wants_end)


class World:
    """pass_in, pass_out: whether frames to, and from, the team are passed on; else they wait, or are lost when lossy.
    resets: RST segments that came to the peer. owner: who gets the peer's frames."""

    def __init__(self) -> None:
        team = [f"{ADDRESSES[socket.AF_INET][0]}/32", f"{ADDRESSES[socket.AF_INET6][0]}/128"]
        theirs = [f"{ADDRESSES[socket.AF_INET][1]}/32", f"{ADDRESSES[socket.AF_INET6][1]}/128"]
        self.spaces = {name: Namespace(name, team) for name in PLACES}
        self.peer_space = Namespace("peer", theirs)
        self.loops: dict[str, TurnedLoop] = {}
        self.reset_state()

    def reset_state(self) -> None:
        self.doors = {name: Doors() for name in PLACES}
        self.loops = {name: TurnedLoop() for name in PLACES}
        self.events: list[tuple[str, str, dict[str, Any]]] = []
        self.engines = {name: self._holding(name, Limits()) for name in PLACES}
        self.owner, self.connected = "host", False
        self.pass_in = self.pass_out = True
        self.lossy = False
        self.resets = self.silenced = 0
        self.longest_out = 0  # bytes of an IP packet
        self.waiting_in: list[bytes] = []
        self.waiting_out: list[bytes] = []
        for space in (*self.spaces.values(), self.peer_space):
            with suppress(BlockingIOError):
                while True:
                    os.read(space.fd, 65536)

    def _holding(self, name: str, limits: Limits) -> Holding:
        def tell(event: str, connection: Connection, facts: dict[str, Any]) -> None:
            self.events.append((name, event, facts))

        return Holding(self.loops[name], self.doors[name], limits, tell, requests=name != "host")  # type: ignore

    def limit(self, name: str, limits: Limits) -> None:
        self.engines[name] = self._holding(name, limits)

    # -- frames ------------------------------------------------------------------------------------------------------

    def deliver(self) -> bool:
        """Passes on what there is; True if there was something."""
        some = False
        for packet in self._of_connection(self.peer_space):
            some = True
            if self.pass_in or not self.lossy:
                self.waiting_in.append(packet)
        for name, space in self.spaces.items():
            for packet in self._of_connection(space):
                some = True
                if self.connection not in self.doors[name].speaks:
                    self.silenced += 1
                elif self.pass_out or not self.lossy:
                    self.waiting_out.append(packet)
        if self.pass_in:
            packets, self.waiting_in = self.waiting_in, []
            for packet in packets:
                os.write(self.spaces[self.owner].fd, packet)
        if self.pass_out:
            packets, self.waiting_out = self.waiting_out, []
            for packet in packets:
                self.resets += bool(flags_of(packet) & RST)
                self.longest_out = max(self.longest_out, len(packet))
                os.write(self.peer_space.fd, packet)
        return some

    def _of_connection(self, space: Namespace) -> Iterator[bytes]:
        """Its packets, but for what connections of earlier tests still have to say."""
        ports = {self.connection.sport, self.connection.dport}
        return (one for one in _packets(space.fd) if _ports(one) == ports)

    def step(self) -> bool:
        """One turn of everything; whether a frame was on its way."""
        some = self.deliver()
        for loop in self.loops.values():
            loop.turn()
        for engine in self.engines.values():
            engine.idle()
        for end, s in ((self.app_end, self.app), (self.peer_end, self.peer)):
            end.turn(s)
        return some

    def until(self, holds: Callable[[], Any], what: str = "", limit: float = LIMIT) -> None:
        deadline = time.monotonic() + limit
        while not holds():
            assert time.monotonic() < deadline, f"waited in vain: {what}; {self.story()}"
            self.step()

    def settle(self, seconds: float = 0.01) -> None:
        """Until no frame has passed for a while, and for some turns: on a busy machine one may last longer."""
        last, quiet = time.monotonic(), 0
        while quiet < 5 or time.monotonic() - last < seconds:
            quiet += 1
            if self.step():
                last, quiet = time.monotonic(), 0

    def story(self) -> str:
        a, p = self.app_end, self.peer_end
        return (
            f"app sent {a.sent_bytes} got {p.got_bytes}, peer sent {p.sent_bytes} got {a.got_bytes}, ends "
            f"{a.got_end} {p.got_end}, resets {self.resets}, "
            f"{list(self.engines[self.owner].upkeep.describe())} {self.events}"
        )

    # -- one connection ----------------------------------------------------------------------------------------------

    def connect(
        self,
        family: int,
        *,
        peer_options: Callable[[socket.socket], None] = lambda s: None,
        seed: int = 1,
        again: Connection | None = None,
    ) -> Connection:
        """A connection at the host, with its application, and both ends' streams empty. again: with this identifier."""
        team, _ = ADDRESSES[family]
        with self.spaces["host"].inside(), socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((team, again.dport if again else 0))
            listener.listen()
            with self.peer_space.inside():
                self.peer = socket.socket(family)
                if again:
                    self.peer.bind((again.src, again.sport))
            self.peer.setblocking(False)
            peer_options(self.peer)
            with suppress(BlockingIOError):
                self.peer.connect(listener.getsockname()[:2])
            listener.setblocking(False)
            deadline = time.monotonic() + LIMIT
            while True:
                self._shuttle()
                with suppress(BlockingIOError):
                    self.tcp = listener.accept()[0]
                    break
                assert time.monotonic() < deadline, "no connection"
        local, remote = self.tcp.getsockname(), self.tcp.getpeername()
        self.connection = Connection(remote[0], remote[1], local[0], local[1])
        self.connected = True
        self.app, channel = socket.socketpair()
        for s in (self.tcp, self.app, channel):
            s.setblocking(False)
        self.app_end, self.peer_end = End(seed), End(seed + 1)
        self.doors["host"].speaks.add(self.connection)
        self.engines["host"].take(self.connection, self.tcp, channel)
        self.settle(0.001)
        return self.connection

    def _shuttle(self) -> None:
        for packet in _packets(self.peer_space.fd):
            os.write(self.spaces["host"].fd, packet)
        for packet in _packets(self.spaces["host"].fd):
            os.write(self.peer_space.fd, packet)

    def held(self) -> Any:
        return self.engines[self.owner]._connections[self.connection]

    def move(self, target: str, *, resend: bool = False) -> Told:
        """hold, save, restore, discard, release; what the save told."""
        source, passing = self.owner, self.pass_in
        self.pass_in = False
        saved = self.save(source)
        refused = self.restore(target, saved, resend=resend)
        if refused:
            raise refused
        self.engines[source].discard([self.connection])
        self.owner, self.pass_in = target, passing
        self.engines[target].joined([self.connection])
        return saved.told

    def save(self, place: str) -> Saved:
        """Raises CannotMove. The channel is the held one's own."""
        (saved,) = self.engines[place].save({self.connection: MAC})
        if isinstance(saved, CannotMove):
            raise saved
        return saved

    def restore(self, place: str, saved: Saved, *, resend: bool = False, wait: bool = False) -> Refused | None:
        """As with a duplicate of the channel that came in a message."""
        channel = os.dup(saved.channel)
        with self.spaces[place].inside():
            (refused,) = self.engines[place].restore([(saved.context, channel)], Restoring(resend, resend, wait))
        if refused:
            os.close(channel)
        return refused

    def close(self) -> None:
        """The connection is forgotten, whatever state it is in."""
        if self.connected:
            for s in (self.app, self.peer):
                s.close()
            for engine in self.engines.values():
                engine.invalidate(self.connection)
        for engine in self.engines.values():
            engine._pipes.close()
        for loop in self.loops.values():
            loop.epoll.close()


def _packets(fd: int) -> Iterator[bytes]:
    with suppress(BlockingIOError):
        while True:
            yield os.read(fd, 65536)


def flags_of(packet: bytes) -> int:
    """The TCP flags of an IP packet, 0 if it is none."""
    if packet[0] >> 4 == 4:
        return packet[(packet[0] & 15) * 4 + 13] if packet[9] == 6 else 0
    return packet[40 + 13] if packet[6] == 6 else 0


def _ports(packet: bytes) -> set[int]:
    start = (packet[0] & 15) * 4 if packet[0] >> 4 == 4 else 40
    return set(struct.unpack_from("!HH", packet, start)) if len(packet) >= start + 4 else set()
