"""Messages between host and NIC over a real socket pair: what goes in comes out, and no descriptor is lost."""

import array
import gc
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_agent.verbs import INLINE, Link, Message, PeerGone

Pair = tuple[Link, Link]


@contextmanager
def connected() -> Iterator[Pair]:
    """Two ends; whatever is done with them, no descriptor may be left when they are closed."""
    before = descriptors()
    ends = [Link(s) for s in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)]
    yield ends[0], ends[1]
    for end in ends:
        end.close()
    assert descriptors() <= before, "descriptors are left open"


@pytest.fixture
def pair() -> Iterator[Pair]:
    gc.collect()  # what other tests have dropped is closed now, not in between
    with connected() as ends:
        yield ends


def descriptors() -> set[str]:
    """The open ones; the one that reads the list is gone by then."""
    return {fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}")}


def one(link: Link) -> Message:
    (message,) = link.receive()
    return message


FIELDS = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in ("verb", "channel", "size", "fields")),
    st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=20), st.lists(st.integers(), max_size=4)),
    max_size=5,
)


@given(
    st.text(max_size=10), FIELDS, st.one_of(st.binary(max_size=100), st.binary(min_size=1).map(lambda b: b * INLINE))
)
@settings(max_examples=60)
def test_round_trip(verb: str, fields: dict, body: bytes) -> None:
    with connected() as pair:
        pair[0].send(Message(verb, fields, body))
        assert one(pair[1]) == Message(verb, fields, body)


@pytest.mark.parametrize("size", [0, 1, INLINE - 1, INLINE, INLINE + 1, 64 * 1024, 5_000_000])
@pytest.mark.parametrize("with_channel", [False, True])
def test_bodies_of_all_sizes_with_and_without_a_channel(pair: Pair, size: int, with_channel: bool) -> None:
    body = os.urandom(size)
    near, far = socket.socketpair()
    pair[0].send(Message("restore", {"id": 1}, body, near.detach() if with_channel else None))
    got = one(pair[1])
    assert (got.verb, got.fields, got.body) == ("restore", {"id": 1}, body)
    if with_channel:
        assert got.channel is not None
        with socket.socket(fileno=got.channel) as moved:  # the very same channel
            moved.sendall(b"through")
            assert far.recv(10) == b"through"
        assert far.recv(10) == b""  # and nobody else has it any more
    else:
        assert got.channel is None
        near.close()
    far.close()


def test_a_body_may_hold_any_byte(pair: Pair) -> None:
    """The first NUL ends the header; those in the body are its own."""
    for body in (b"\0", b"\0\0{}", bytes(range(256)) * 2):
        pair[0].send(Message("x", {"text": "\0"}, body))
        assert one(pair[1]) == Message("x", {"text": "\0"}, body)


def test_messages_come_in_order_both_ways(pair: Pair) -> None:
    for n in range(20):
        pair[0].send(Message("a", {"n": n}))
        pair[1].send(Message("b", {"n": n}))
    assert [m.fields["n"] for m in pair[1].receive()] == list(range(20))
    assert [(m.verb, m.fields["n"]) for m in pair[0].receive()] == [("b", n) for n in range(20)]
    assert list(pair[0].receive()) == []


def test_what_the_socket_does_not_take_waits_for_flush(pair: Pair) -> None:
    """Sending never blocks, however long the other end does not read; order, bodies and channels are kept."""
    total, got = 600, []
    for n in range(total):
        reader, writer = os.pipe()
        os.write(writer, b"%d" % n)
        os.close(writer)
        pair[0].send(Message("m", {"n": n}, bytes([n % 256]) * (INLINE + 1 if n % 50 == 0 else 1000), reader))
    assert not pair[0].flush()
    while len(got) < total:
        for message in pair[1].receive():
            assert message.channel is not None
            assert os.read(message.channel, 10) == b"%d" % message.fields["n"]
            os.close(message.channel)
            assert set(message.body) == {message.fields["n"] % 256}
            got.append(message.fields["n"])
        pair[0].flush()
    assert got == list(range(total))
    assert pair[0].flush()


@pytest.mark.parametrize("body", [b"", b"a body", bytes(INLINE + 1)])
def test_many_fields_travel_as_a_body_does(pair: Pair, body: bytes) -> None:
    """As the answer to `query` of an engine with 10,000 connections."""
    fields = {"re": 1, "connections": [["10.0.0.11", n, "10.0.0.1", 8080] for n in range(10_000)]}
    pair[0].send(Message("reply", fields, body))
    assert one(pair[1]) == Message("reply", fields, body)


def test_what_waits_is_closed_with_the_link(pair: Pair) -> None:
    for _ in range(300):
        pair[0].send(Message("m", {}, bytes(INLINE + 1), os.dup(0)))
    assert not pair[0].flush()
    for message in pair[1].receive():
        assert message.channel is not None
        os.close(message.channel)
    pair[0].close()  # the fixture looks for what is left


def test_the_other_end_closed(pair: Pair) -> None:
    pair[0].send(Message("last", {}))
    pair[0].close()
    messages = pair[1].receive()
    assert next(messages).verb == "last"
    with pytest.raises(PeerGone, match="closed"):
        next(messages)
    with pytest.raises(PeerGone, match="sending: Broken pipe"):
        pair[1].send(Message("x", {}, bytes(INLINE + 1), os.dup(0)))


def test_received_descriptors_do_not_spread_to_children(pair: Pair) -> None:
    pair[0].send(Message("m", {}, b"", os.dup(0)))
    channel = one(pair[1]).channel
    assert channel is not None
    inheritable = os.get_inheritable(channel)
    os.close(channel)
    assert not inheritable


def memory(data: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, data)
    return fd


def packet(**fields) -> bytes:
    return json.dumps(fields).encode() + b"\0"


BROKEN = {
    "no JSON": (b"hello\0", 0),
    "no UTF-8": (b"\xff\xfe\0", 0),
    "nothing before the body": (b"\0body", 0),
    "a list": (b"[]\0", 1),
    "a number": (b"1\0", 1),
    "a text": (b'"x"\0', 1),
    "no verb": (packet(channel=False), 1),
    "no channel": (packet(verb="x"), 1),
    "a channel that did not come": (packet(verb="x", channel=True), 0),
    "a body that did not come": (packet(verb="x", channel=False, size=5), 0),
    "a channel without its body": (packet(verb="x", channel=True, size=5), 1),
    "a body of another size": (packet(verb="x", channel=False, size=5), 1),
    "a channel and a body of another size": (packet(verb="x", channel=True, size=5), 2),
    "too many descriptors": (packet(verb="x", channel=True), 3),
    "fields that did not come": (packet(verb="x", channel=False, fields=5), 0),
    "fields that are none": (packet(verb="x", channel=False, fields=2) + b"5,", 0),
    "too long": (packet(verb="x", channel=True) + bytes(70_000), 1),
}


@pytest.mark.parametrize(("data", "fds"), BROKEN.values(), ids=BROKEN)
def test_a_broken_packet_ends_the_conversation(pair: Pair, data: bytes, fds: int) -> None:
    """In one line, and whatever descriptors came with it are closed (the fixture counts)."""
    sent = [memory(b"four") for _ in range(fds)]
    ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", sent))] if sent else []
    with socket.socket(fileno=os.dup(pair[0].fd)) as raw:
        raw.sendmsg([data], ancillary)
    for fd in sent:
        os.close(fd)
    with pytest.raises(PeerGone) as gone:
        list(pair[1].receive())
    assert "\n" not in str(gone.value)


def test_a_descriptor_that_was_not_announced_is_not_kept(pair: Pair) -> None:
    with socket.socket(fileno=os.dup(pair[0].fd)) as raw:
        raw.sendmsg([packet(verb="x", channel=False)], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
    with suppress(PeerGone):  # refusing it is as good
        assert one(pair[1]).channel is None
