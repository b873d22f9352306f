"""A context taken from one socket and put into another continues the connection, byte for byte.

      peer (an ordinary socket)  <------ loopback ------>  served: saved, packed, unpacked, restored

The peer never takes part in a move. What it sends and what it receives is compared by SHA-256, so a context that is
wrong in one byte cannot pass; the last tests damage one byte at a time and see to it that this is so.
"""

import hashlib
import random
import socket
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from host_agent import repair, tcp_info
from host_agent.connection import Connection
from host_agent.context import BadContext, Context, Window
from host_agent.tcp_info import CLOSED, USUAL_RTO, info, shortest_rto, state, urgent

pytestmark = pytest.mark.kernel

MAC = bytes.fromhex("020000000101")
LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
LIMIT = 4.0  # seconds until a transfer counts as broken; a retransmission timeout after a move is 1 s


class Broken(Exception):
    """The connection did not go on as if nothing had happened."""


class Pair:
    """A connection between `peer` and `served`, and what each has sent."""

    def __init__(self, family: int, seed: int = 1):
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((LOOPBACK[family], 0))
            listener.listen()
            self.peer = socket.socket(family)
            self.peer.connect(listener.getsockname())
            self.served = listener.accept()[0]
        self.served.setblocking(False)
        local, remote = self.served.getsockname(), self.served.getpeername()
        self.connection = Connection(remote[0], remote[1], local[0], local[1])
        self._random = random.Random(seed)
        self.outward = hashlib.sha256()  # served -> peer
        self.inward = hashlib.sha256()
        self.sent_out = self.sent_in = 0

    def close(self) -> None:
        self.peer.close()
        self.served.close()

    def write_until_full(self) -> None:
        """Served's send queue, until the kernel takes no more."""
        try:
            while True:
                self._count_out(data := self._random.randbytes(65536), self.served.send(data))
        except BlockingIOError:
            pass

    def write(self, size: int) -> None:
        data = self._random.randbytes(size)
        self._count_out(data, self.served.send(data))

    def _count_out(self, data: bytes, taken: int) -> None:
        self.outward.update(data[:taken])
        self.sent_out += taken

    def peer_writes(self, size: int) -> None:
        data = self._random.randbytes(size)
        self.peer.sendall(data)
        self.inward.update(data)
        self.sent_in += size

    def save(self) -> Context:
        repair.freeze([self.served])
        context = repair.read(self.served, self.connection, MAC).context
        repair.discard(self.served)
        return context

    def restore(self, context: Context, *, probe: bool = True) -> None:
        self.served = repair.restore(context)
        repair.resume(self.served, context, probe=probe)

    def go_on_with(self, context: Context) -> None:
        """Restores a context that may be wrong, and finishes, with no timeout to wait for. Raises Broken."""
        try:
            self.restore(context)
        except (repair.CannotRestore, OSError) as error:
            raise Broken(str(error)) from None
        self.finish(0.7)

    def finish(self, limit: float = LIMIT) -> None:
        """Both directions to their ends. Raises Broken when bytes or windows are not as they should be."""
        self.peer.settimeout(limit)
        self.served.settimeout(limit)
        self.peer_writes(1000)
        received: dict[str, bytes] = {}
        reader = threading.Thread(target=lambda: received.update(peer=_read(self.peer, self.sent_out + 1000)))
        reader.start()
        received["served"] = _read(self.served, self.sent_in)
        data = self._random.randbytes(1000)
        try:
            self.served.sendall(data)
        except OSError as error:
            raise Broken(f"cannot send: {error}") from None
        self._count_out(data, 1000)
        reader.join()
        for name, digest in (("peer", self.outward), ("served", self.inward)):
            if hashlib.sha256(received[name]).digest() != digest.digest():
                raise Broken(f"{name} received {len(received[name])} bytes that are not those sent")
        self._compare_windows()

    def _compare_windows(self) -> None:
        """What one end grants is what the other counts on: the scales fit."""
        for one, other in ((self.peer, self.served), (self.served, self.peer)):
            deadline = time.monotonic() + 2
            while info(one).snd_wnd != info(other).rcv_wnd:
                if time.monotonic() > deadline:
                    raise Broken(f"send window {info(one).snd_wnd}, granted {info(other).rcv_wnd}")
                one.send(b"w")  # a segment brings an acknowledgement, and the window as it is now
                _read(other, 1)


def _read(s: socket.socket, size: int) -> bytes:
    """Up to size bytes, fewer when the connection breaks or stands still."""
    data = b""
    try:
        while len(data) < size:
            part = s.recv(min(1 << 20, size - len(data)))
            if not part:
                break
            data += part
    except OSError:
        pass
    return data


@pytest.fixture(params=[socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    p = Pair(request.param)
    yield p
    p.close()


@contextmanager
def lossy_loopback() -> Iterator[None]:
    """Loses every frame of more than 200 bytes after it was sent: data stays in flight, acknowledgements pass.

    On the way in, for the sender's TCP would know of a loss in its own queue and count the data as unsent.
    """
    _run("ip link add ifb0 type ifb")
    _run("ip link set ifb0 up")
    _run("tc qdisc add dev ifb0 root tbf rate 100mbit burst 200 limit 10000")
    _run("tc qdisc add dev lo clsact")
    match = "protocol all u32 match u32 0 0"
    _run(f"tc filter add dev lo ingress {match} action mirred egress redirect dev ifb0")
    try:
        yield
    finally:
        _run("tc qdisc del dev lo clsact")
        _run("ip link del ifb0")


def _run(command: str) -> None:
    subprocess.run(command.split(), check=True)


def test_idle_connection(pair: Pair) -> None:
    pair.restore(pair.save())
    pair.finish()


def test_many_moves_with_both_queues_filled(pair: Pair) -> None:
    pair.write_until_full()
    pair.peer_writes(100_000)
    _await(lambda: _received(pair.served) >= 100_000)
    for _ in range(10):
        context = Context.unpack(pair.save().pack())
        assert context.unsent
        assert context.received
        pair.restore(context)
    pair.finish()


@pytest.mark.parametrize("resend", [False, True], ids=["in flight", "sent again"])
def test_what_was_lost_in_flight_arrives(pair: Pair, resend: bool) -> None:
    with lossy_loopback():
        pair.write_until_full()
        pair.peer_writes(100)
        _await(lambda: _received(pair.served) == 100)
        context = pair.save()
    assert all((context.sent, context.unsent, context.received))
    pair.restore(context.resent() if resend else context)
    pair.finish()


def test_sent_again_needs_no_timeout(pair: Pair) -> None:
    """All that was in flight is on the wire at once, and nothing of it by the retransmission timer."""
    with lossy_loopback():
        pair.write(10_000)
        context = pair.save()
    assert len(context.sent) == 10_000
    pair.served = repair.restore(context.resent())
    assert info(pair.served).rto < 50_000 or not shortest_rto(pair.served, USUAL_RTO)
    repair.resume(pair.served, context.resent(), probe=True)
    assert len(_read_within(pair.peer, 10_000, 0.5)) == 10_000
    assert info(pair.served).retransmits == 0


def test_of_a_batch_only_the_first_of_a_kind_is_asked(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has its own congestion control all the same."""
    asked, alike = list[socket.socket](), set[repair.Kind]()
    known = tcp_info.congestion
    monkeypatch.setattr(repair, "congestion", lambda s: asked.append(s) or known(s))
    context = pair.save()
    repair.restore(context).close()  # from now on the path is known
    asked.clear()
    usual, other = context.congestion, "reno" if context.congestion != "reno" else "cubic"
    for name, asks in ((usual, 1), (usual, 0), (other, 1), (usual, 0), (other, 1)):
        with repair.restore(context._replace(congestion=name), alike) as s:
            assert (known(s), len(asked)) == (name, asks)
        asked.clear()
    if not context.connection.ipv6:  # what TCP remembers of a path, it remembers for each address of its own
        repair.restore(context._replace(connection=context.connection._replace(dst="127.0.0.2")), alike).close()
        assert asked
    pair.restore(context)
    pair.finish()


def test_what_the_relay_holds_travels_along(pair: Pair) -> None:
    """Bytes between application and TCP join the queues: after `unsent`, and before `received`."""
    pair.peer_writes(5000)
    _await(lambda: _received(pair.served) == 5000)
    pair.served.setblocking(False)
    taken_in = pair.served.recv(2000)
    taken_out = b"x" * 3000
    context = pair.save().with_relayed(taken_out=taken_out, taken_in=taken_in)
    pair.outward.update(taken_out)
    pair.sent_out += len(taken_out)
    pair.restore(Context.unpack(context.pack()))
    pair.finish()


def test_sequence_numbers_that_wrap(pair: Pair) -> None:
    """Both ends of a fresh connection are set just below 2**32 by hand; then the stream and a move cross it."""
    near = 2**32 - 3000
    ours = pair.save()
    repair.freeze([pair.peer])
    backward = Connection(ours.connection.dst, ours.connection.dport, ours.connection.src, ours.connection.sport)
    theirs = repair.read(pair.peer, backward, MAC).context
    repair.discard(pair.peer)
    pair.peer = repair.restore(_shifted(theirs, near, near))
    repair.resume(pair.peer, theirs, probe=False)
    pair.restore(_shifted(ours, near, near), probe=False)
    pair.write(2000)
    pair.peer_writes(2000)
    _await(lambda: _received(pair.served) == 2000)
    pair.restore(pair.save())
    pair.write(2000)
    pair.peer_writes(2000)
    _await(lambda: _received(pair.served) == 4000)
    crossed = pair.save()
    assert max(crossed.snd_una, crossed.rcv_nxt) < 5000
    pair.restore(crossed)
    pair.finish()


def _shifted(c: Context, snd: int, rcv: int) -> Context:
    w = c.window
    window = Window(rcv, w.snd_wnd, w.max_window, w.rcv_wnd, rcv)
    return c._replace(snd_una=snd, rcv_nxt=rcv, window=window)


def test_options_and_buffers_survive(pair: Pair) -> None:
    pair.served.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    before = pair.save()
    assert before.sack
    assert before.timestamp is not None
    assert before.snd_wscale is not None
    pair.restore(before, probe=False)
    after = pair.save()
    # Time goes on, and so does the timestamp; all else is as it was, and does not grow from move to move.
    assert after._replace(timestamp=before.timestamp) == before
    assert 0 <= (after.timestamp or 0) - before.timestamp < 60_000_000
    pair.restore(after)
    pair.finish()


def test_restored_socket_uses_the_whole_segment_size(pair: Pair) -> None:
    def mss() -> int:
        return int(struct.unpack_from("=I", pair.served.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 24), 16)[0])

    before = mss()
    pair.restore(pair.save())
    assert mss() == before
    pair.finish()


def test_urgent_data_that_was_not_read_cannot_move_and_goes_on(pair: Pair) -> None:
    pair.peer.send(b"!", socket.MSG_OOB)
    _await(lambda: urgent([pair.served.fileno()]))
    assert str(repair.freeze([pair.served])[pair.served]) == "urgent data pending"
    pair.write(100)
    assert len(_read_within(pair.peer, 100, 5)) == 100
    assert pair.served.recv(1, socket.MSG_OOB) == b"!"
    repair.freeze([pair.served])
    repair.thaw(pair.served)


@pytest.mark.parametrize("who", ["SYN-SENT", "TIME-WAIT"])
def test_a_state_that_cannot_move_is_refused(pair: Pair, who: str) -> None:
    if who == "SYN-SENT":
        with socket.socket() as s, socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            others = [socket.socket() for _ in range(3)]
            for one in (*others, s):  # the last find no place in the listener's queue
                one.setblocking(False)
                one.connect_ex(full.getsockname())
            with pytest.raises(repair.CannotMove, match="state SYN-SENT"):
                _freeze_and_read(s)
            for one in others:
                one.close()
        return
    pair.served.shutdown(socket.SHUT_WR)
    pair.peer.shutdown(socket.SHUT_WR)
    _await(lambda: state(pair.served) == CLOSED)  # TIME-WAIT has no socket any more
    with pytest.raises(repair.CannotMove, match="state CLOSED"):
        _freeze_and_read(pair.served)


def _freeze_and_read(s: socket.socket) -> None:
    assert not repair.freeze([s])
    repair.read(s, Connection("10.9.0.2", 1, "10.9.0.1", 2), MAC)


def test_frozen_and_thawed_it_sends_what_waits(pair: Pair) -> None:
    pair.write(1000)
    repair.freeze([pair.served])
    repair.thaw(pair.served)
    pair.finish()


# -- one wrong byte ---------------------------------------------------------------------------------------------------


def _flip(data: bytes, where: int) -> bytes:
    return data[:where] + bytes([data[where] ^ 1]) + data[where + 1 :]


DAMAGES: dict[str, Callable[[Context], Context]] = {
    "snd_una": lambda c: c._replace(snd_una=(c.snd_una + 1) % 2**32),
    "snd_una, high byte": lambda c: c._replace(snd_una=c.snd_una ^ 0x01000000),
    "rcv_nxt": lambda c: c._replace(rcv_nxt=(c.rcv_nxt + 1) % 2**32),
    "snd_wscale": lambda c: c._replace(snd_wscale=(c.snd_wscale or 0) - 1),
    "rcv_wscale": lambda c: c._replace(rcv_wscale=(c.rcv_wscale or 0) - 1),
    "sent": lambda c: c._replace(sent=_flip(c.sent, len(c.sent) // 2)),
    "unsent": lambda c: c._replace(unsent=_flip(c.unsent, len(c.unsent) - 1)),
    "received": lambda c: c._replace(received=_flip(c.received, 0)),
    "sent, one byte short": lambda c: c._replace(sent=c.sent[1:]),
    "received, one byte short": lambda c: c._replace(received=c.received[1:]),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_one_wrong_byte_breaks_the_connection(damage: str) -> None:
    """The same steps as above, with one byte of the context wrong: the comparison at the end must see it."""
    pair = Pair(socket.AF_INET)
    try:
        with lossy_loopback():
            pair.write(200_000)
            pair.peer_writes(100)
            _await(lambda: _received(pair.served) == 100)
            context = pair.save()
        assert all((context.sent, context.unsent, context.received))
        damaged = DAMAGES[damage](context)
        assert damaged != context
        with pytest.raises(Broken):
            pair.go_on_with(damaged.resent())
    finally:
        pair.close()


def test_the_same_steps_undamaged_pass() -> None:
    """The counterpart of the damages: without one, the steps end well."""
    pair = Pair(socket.AF_INET)
    with lossy_loopback():
        pair.write(200_000)
        pair.peer_writes(100)
        _await(lambda: _received(pair.served) == 100)
        context = pair.save()
    pair.go_on_with(context.resent())
    pair.close()


def test_every_damaged_byte_of_a_packed_context_is_refused(pair: Pair) -> None:
    pair.peer_writes(50)
    _await(lambda: _received(pair.served) == 50)
    packed = pair.save().pack()
    for where in range(len(packed)):
        with pytest.raises(BadContext):
            Context.unpack(_flip(packed, where))


def _received(s: socket.socket) -> int:
    return tcp_info.count(s, repair.SIOCINQ)


def _read_within(s: socket.socket, size: int, seconds: float) -> bytes:
    s.settimeout(seconds)
    return _read(s, size)


def _await(condition: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.001)
