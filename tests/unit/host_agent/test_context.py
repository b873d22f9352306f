"""A context is its bytes: what was packed comes out again, and what was not packed is refused."""

import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from host_agent.connection import Connection
from host_agent.context import VERSION, BadContext, Context, Options, State, Window

U8, U16, U32 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32))
SHIFTS = st.integers(0, 14)  # RFC 7323, 2.3
QUEUE = st.binary(max_size=300)
CONNECTIONS = st.sampled_from(
    [Connection("10.0.0.11", 40000, "10.0.0.1", 8080), Connection("fd00::11", 40000, "fd00::1", 8080)]
)


@st.composite
def contexts(draw: st.DrawFn) -> Context:
    scaled = draw(st.booleans())
    return Context(
        connection=draw(CONNECTIONS),
        state=draw(st.sampled_from(State)),
        snd_una=draw(U32),
        rcv_nxt=draw(U32),
        window=Window(*(draw(U32) for _ in range(5))),
        mss=draw(U16),
        snd_wscale=draw(SHIFTS) if scaled else None,
        rcv_wscale=draw(SHIFTS) if scaled else None,
        sack=draw(st.booleans()),
        ecn=draw(st.booleans()),
        timestamp=draw(st.none() | U32),
        sndbuf=draw(U32),
        rcvbuf=draw(U32),
        buffer_locks=draw(U8),
        congestion=draw(st.sampled_from(["", "bbr", "cubic", "a_name_of_15_by"])),
        next_hop=draw(st.binary(min_size=6, max_size=6)),
        mtu=draw(U16),
        rto=draw(U32),
        options=Options(*(draw(st.integers(-(2**31), 2**31 - 1)) for _ in range(11))),
        sent=draw(QUEUE),
        unsent=draw(QUEUE),
        received=draw(QUEUE),
        fin_sent=draw(st.booleans()),
        app_ended=draw(st.booleans()),
        peer_ended=draw(st.booleans()),
    )


ONE = Context(
    connection=Connection("10.0.0.11", 40000, "10.0.0.1", 8080),
    state=State.CLOSING,
    snd_una=2**32 - 2,
    rcv_nxt=7,
    window=Window(1, 2, 3, 4, 5),
    mss=1448,
    snd_wscale=0,
    rcv_wscale=7,
    sack=True,
    ecn=False,
    timestamp=0,
    sndbuf=87040,
    rcvbuf=131072,
    buffer_locks=0,
    congestion="bbr",
    next_hop=bytes(range(6)),
    mtu=1500,
    rto=204_000,
    options=Options(nodelay=1, hop_limit=-1),
    sent=b"sent",
    unsent=b"unsent",
    received=b"received",
    fin_sent=True,
    peer_ended=True,
)


@given(contexts())
def test_round_trip(context: Context) -> None:
    packed = context.pack()
    assert Context.unpack(packed) == context
    assert Context.unpack(packed).pack() == packed


def test_a_scale_of_none_is_not_a_scale_of_zero() -> None:
    """And a timestamp of 0 is one all the same."""
    assert Context.unpack(ONE.pack()) == ONE
    plain = ONE._replace(snd_wscale=None, rcv_wscale=None, timestamp=None)
    assert Context.unpack(plain.pack()) == plain


def test_any_damaged_byte_is_refused() -> None:
    packed = ONE.pack()
    for at in range(len(packed)):
        for bit in (1, 0x80):
            damaged = bytearray(packed)
            damaged[at] ^= bit
            with pytest.raises(BadContext):
                Context.unpack(bytes(damaged))


@given(st.binary(max_size=400))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    for foreign in (data, b"TBCX" + data):
        with pytest.raises(BadContext):
            Context.unpack(foreign)


def test_a_context_cut_short_or_too_long_is_refused() -> None:
    packed = ONE.pack()
    for wrong in (*(packed[:n] for n in range(len(packed))), packed + b"x"):
        with pytest.raises(BadContext):
            Context.unpack(wrong)


def test_another_version_is_refused_by_name() -> None:
    """Even when its checksum is right: a newer engine's context is whole, but not for this one."""
    other = bytearray(ONE.pack())
    struct.pack_into("!H", other, 4, VERSION + 1)
    struct.pack_into("!I", other, 8, zlib.crc32(bytes(other[12:]), zlib.crc32(bytes(other[:8]))))
    with pytest.raises(BadContext, match=f"version {VERSION + 1}, this engine has {VERSION}"):
        Context.unpack(bytes(other))


@given(contexts())
def test_resent(context: Context) -> None:
    """Nothing is in flight any more, and the stream is the same from the same first byte."""
    again = context.resent()
    assert again.sent == b""
    assert again.unsent == context.sent + context.unsent
    assert again.again == len(context.sent)
    # A FIN is behind the bytes: sent again with them, but for one that was acknowledged.
    assert again.fin_sent == (context.fin_sent and context.state is State.FIN_WAIT2)
    assert again._replace(sent=context.sent, unsent=context.unsent, fin_sent=context.fin_sent, again=0) == context


@given(contexts())
def test_snd_nxt_counts_a_fin_that_is_under_way(context: Context) -> None:
    fin = context.fin_sent and context.state is not State.FIN_WAIT2
    assert (context.snd_nxt - context.snd_una) % 2**32 == len(context.sent) + fin


@pytest.mark.parametrize("state", [0, 2, 3, 6, 7, 10, 12, 255])
def test_a_state_that_cannot_move_is_refused(state: int) -> None:
    other = bytearray(ONE._replace(options=ONE.options._replace(linger2=99)).pack())
    where = next(n for n in range(len(other)) if other[n] != ONE._replace(state=State.CLOSE_WAIT).pack()[n] and n > 12)
    assert other[where] == State.CLOSING
    other[where] = state
    struct.pack_into("!I", other, 8, zlib.crc32(bytes(other[12:]), zlib.crc32(bytes(other[:8]))))
    with pytest.raises(BadContext, match=f"state {state}, which cannot move"):
        Context.unpack(bytes(other))


@pytest.mark.parametrize(
    ("state", "out", "acked", "inward"),
    [
        (State.ESTABLISHED, False, False, False),
        (State.FIN_WAIT1, True, False, False),
        (State.FIN_WAIT2, True, True, False),
        (State.CLOSE_WAIT, False, False, True),
        (State.LAST_ACK, True, False, True),
        (State.CLOSING, True, False, True),
    ],
)
def test_what_a_state_says_of_the_fins(state: State, out: bool, acked: bool, inward: bool) -> None:
    """RFC 9293, 3.3.2."""
    assert (state.fin_out, state.fin_acked, state.fin_in) == (out, acked, inward)


@given(contexts(), QUEUE, QUEUE, st.booleans(), st.booleans())
def test_with_relayed(context: Context, out: bytes, inward: bytes, app: bool, peer: bool) -> None:
    """From the application: behind what TCP had of it. For the application: ahead of what TCP still has."""
    whole = context.with_relayed(taken_out=out, taken_in=inward, app_ended=app, peer_ended=peer)
    assert (whole.app_ended, whole.peer_ended) == (app, peer)
    assert whole.sent + whole.unsent == context.sent + context.unsent + out
    assert whole.received == inward + context.received
    assert (whole.snd_una, whole.rcv_nxt, whole.sent) == (context.snd_una, context.rcv_nxt, context.sent)
