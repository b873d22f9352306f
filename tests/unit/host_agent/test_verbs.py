"""Messages between host and NIC over a real socket pair: what goes in comes out, and no descriptor is lost."""

import array
import gc
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_agent.verbs import CHANNELS, INLINE, Link, Message, PeerGone, memory
from tests.unit.host_agent.descriptors import room_for

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


RESERVED = ("verb", "channels", "contexts", "fields")
FIELDS = st.dictionaries(
    st.text(max_size=8).filter(lambda key: key not in RESERVED),
    st.one_of(st.integers(), st.booleans(), st.none(), st.text(max_size=20), st.lists(st.integers(), max_size=4)),
    max_size=5,
)


@given(st.text(max_size=10), FIELDS, st.sampled_from([0, INLINE]))
@settings(max_examples=60)
def test_round_trip(verb: str, fields: dict, more: int) -> None:
    with connected() as pair:
        message = Message(verb, fields | {"more": "x" * more}, [])
        pair[0].send(message)
        assert one(pair[1]) == message


@pytest.mark.parametrize("size", [0, 1, 64 * 1024, 5_000_000])
@pytest.mark.parametrize("channels", [0, 1, CHANNELS])
def test_channels_and_contexts(pair: Pair, size: int, channels: int) -> None:
    """With fields that are too long for a packet as well: as many descriptors as one carries."""
    contexts, near, far = os.urandom(size), *socket.socketpair()
    fd = memory(contexts)
    fields = {"id": 1, "long": "x" * INLINE}
    pair[0].send(Message("restore", fields, [near.fileno()] * channels, fd))
    os.close(fd)
    near.close()  # what was sent stays the sender's
    got = one(pair[1])
    assert (got.verb, got.fields, len(got.channels)) == ("restore", fields, channels)
    assert got.contexts is not None
    assert os.pread(got.contexts, size + 1, 0) == contexts
    for n, channel in enumerate(got.channels):
        os.write(channel, b"%d" % (n % 10))
    assert far.recv(1000) == (b"0123456789" * channels)[:channels] if channels else True
    got.close()
    assert far.recv(10) == b""  # and nobody else has it any more
    far.close()


def test_messages_come_in_order_both_ways(pair: Pair) -> None:
    for n in range(20):
        pair[0].send(Message("a", {"n": n}))
        pair[1].send(Message("b", {"n": n}))
    assert [m.fields["n"] for m in pair[1].receive()] == list(range(20))
    assert [(m.verb, m.fields["n"]) for m in pair[0].receive()] == [("b", n) for n in range(20)]
    assert list(pair[0].receive()) == []


def test_what_the_socket_does_not_take_waits_for_flush(pair: Pair) -> None:
    """Sending never blocks, however long the other end does not read; order, fields and channels are kept."""
    total, got = 600, []
    for n in range(total):
        reader, writer = os.pipe()
        os.write(writer, b"%d" % n)
        os.close(writer)
        pair[0].send(Message("m", {"n": n, "more": chr(65 + n % 26) * (INLINE if n % 50 == 0 else 1000)}, [reader]))
        os.close(reader)
    assert not pair[0].flush()
    while len(got) < total:
        for message in pair[1].receive():
            (channel,) = message.channels
            assert os.read(channel, 10) == b"%d" % message.fields["n"]
            os.close(channel)
            assert set(message.fields["more"]) == {chr(65 + message.fields["n"] % 26)}
            got.append(message.fields["n"])
        pair[0].flush()
    assert got == list(range(total))
    assert pair[0].flush()


def test_many_fields_travel_in_memory(pair: Pair) -> None:
    """As the answer to `query` of an engine with 10,000 connections."""
    fields = {"re": 1, "connections": [["10.0.0.11", n, "10.0.0.1", 8080] for n in range(10_000)]}
    pair[0].send(Message("reply", fields))
    assert one(pair[1]).fields == fields


def test_what_waits_is_closed_with_the_link(pair: Pair) -> None:
    for _ in range(300):
        pair[0].send(Message("m", {"more": "x" * 1000}, [0]))
    assert not pair[0].flush()
    for message in pair[1].receive():
        message.close()
    pair[0].close()  # the fixture looks for what is left


def test_the_other_end_closed(pair: Pair) -> None:
    pair[0].send(Message("last", {}))
    pair[0].close()
    messages = pair[1].receive()
    assert next(messages).verb == "last"
    with pytest.raises(PeerGone, match="closed"):
        next(messages)
    with pytest.raises(PeerGone, match="sending: Broken pipe"):
        pair[1].send(Message("x", {"more": "x" * INLINE}, [0]))


def test_received_descriptors_do_not_spread_to_children(pair: Pair) -> None:
    pair[0].send(Message("m", {}, [0]))
    (channel,) = one(pair[1]).channels
    inheritable = os.get_inheritable(channel)
    os.close(channel)
    assert not inheritable


def packet(**fields) -> bytes:
    return json.dumps(fields).encode()


BROKEN = {
    "no JSON": (b"hello", 0),
    "no UTF-8": (b"\xff\xfe", 0),
    "something behind it": (packet(verb="x") + b"\0", 0),
    "a list": (b"[]", 1),
    "a number": (b"1", 1),
    "a text": (b'"x"', 1),
    "no verb": (packet(channels=1), 1),
    "a channel that did not come": (packet(verb="x", channels=1), 0),
    "channels that are no number": (packet(verb="x", channels="1"), 1),
    "fewer than none": (packet(verb="x", channels=-1, contexts=True), 0),
    "contexts that did not come": (packet(verb="x", channels=1, contexts=True), 1),
    "too many descriptors": (packet(verb="x", channels=1), 3),
    "one that was not announced": (packet(verb="x"), 1),
    "fields that did not come": (packet(verb="x", fields=5), 0),
    "fields of another size": (packet(verb="x", fields=5), 1),
    "fields of no size": (packet(verb="x", fields="4"), 1),
    "fields that are no JSON": (packet(verb="x", channels=1, fields=4), 2),
    "too long": (packet(verb="x" * 70_000, channels=1), 1),
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


def test_long_fields_need_no_descriptor_that_is_not_there(pair: Pair) -> None:
    """An engine that is full of connections still answers; again and again."""
    message = Message("reply", {"more": "x" * INLINE}, [])
    for _ in range(3):
        with room_for(0):
            pair[0].send(message)
        assert one(pair[1]) == message
