"""LACP: the frames, the machines of one member, and what members of a team have to do with each other."""

import random
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from host_agent.lacp import Lacp
from host_agent.lacp_pdu import End, Lacpdu, Marker, State, pack, unpack
from host_agent.lacp_port import FAST, LONG, MOST, SHORT, SLOW, Mux, Port, Receive
from host_agent.lacp_text import Member, Team, text
from tests.unit.host_agent.lacp_ends import HOST, OTHER, SWITCH, Wire, World, pair

RATES = pytest.mark.parametrize("rates", [(a, b) for a in (True, False) for b in (True, False)], ids=str)

# -- the frames -------------------------------------------------------------------------------------------------------

NUMBER, MAC = st.integers(0, 0xFFFF), st.binary(min_size=6, max_size=6)
ENDS = st.builds(End, MAC, NUMBER, NUMBER, st.integers(0, 255).map(State), NUMBER, NUMBER)
PDUS = st.one_of(
    st.builds(Lacpdu, ENDS, ENDS), st.builds(Marker, MAC, NUMBER, st.integers(0, 2**32 - 1), st.booleans())
)


@given(PDUS)
def test_what_is_packed_is_read_again(pdu: Lacpdu | Marker) -> None:
    frame = pack(pdu, HOST)
    assert len(frame) == 124
    assert frame[:6].hex() == "0180c2000002"
    assert frame[12:14].hex() == "8809"
    assert unpack(frame) == pdu
    assert unpack(frame + bytes(4)) == pdu


@given(PDUS, st.integers(0, 123))
def test_a_frame_cut_short_is_none(pdu: Lacpdu | Marker, size: int) -> None:
    assert unpack(pack(pdu, HOST)[:size]) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    unpack(data)
    unpack(pack(Marker(HOST, 1, 1), HOST)[:14] + data)


@pytest.mark.parametrize(("place", "byte"), [(0, 3), (12, 0), (14, 9), (15, 0), (16, 4), (17, 19), (36, 1), (37, 0)])
def test_a_malformed_lacpdu_is_none(place: int, byte: int) -> None:
    frame = bytearray(pack(Lacpdu(End(HOST, 1, 1, State(61)), End(SWITCH, 1, 1, State(61))), HOST))
    frame[place] = byte
    assert unpack(bytes(frame)) is None


def test_the_bytes_of_a_lacpdu_are_those_of_the_standard() -> None:
    actor, partner = (
        End(HOST, 0x11, 0x22, State(0x3D), 0x8001, 0x33),
        End(SWITCH, 0x44, 0x55, State(0x3F), 0x8002, 0x66),
    )
    assert pack(Lacpdu(actor, partner), HOST)[14:].hex() == (
        "0101"
        "0114" "8001" "020000000001" "0011" "0033" "0022" "3d" "000000"
        "0214" "8002" "020000000007" "0044" "0066" "0055" "3f" "000000"
        "0310" "0000" + 24 * "0" + "0000" + 100 * "0"
    )  # fmt: skip


# -- two ends and a wire ----------------------------------------------------------------------------------------------


@RATES
@pytest.mark.parametrize("active", [(True, True), (True, False), (False, True)], ids=str)
def test_two_ends_find_each_other(rates: tuple[bool, bool], active: tuple[bool, bool]) -> None:
    world = pair(3, rates=rates, active=active)
    world.run(1.1)
    for name in ("host", "switch"):
        assert world.usable(name) == [True] * 3
        for nic, port in enumerate(world.ends[name].ports):
            far = world.ends["switch" if name == "host" else "host"].ports[nic].actor
            assert port.partner == far  # each knows how the other is
            assert State.COLLECTING | State.DISTRIBUTING | State.SYNCHRONIZATION in port.actor.state
            assert not (State.EXPIRED | State.DEFAULTED) & port.actor.state


def test_two_passive_ends_say_nothing() -> None:
    world = pair(active=(False, False))
    world.run(200)
    assert world.sent == {}
    assert world.usable("host") == [False]
    assert world.ends["host"].ports[0].receive is Receive.DEFAULTED


@RATES
def test_each_end_hears_as_often_as_it_asks(rates: tuple[bool, bool]) -> None:
    world = pair(rates=rates)
    world.run(10)
    world.sent.clear()
    world.run(310)
    for name, wanted in (("host", rates[1]), ("switch", rates[0])):
        every = FAST if wanted else SLOW
        assert len(world.sent[name, 0]) == pytest.approx(300 / every, abs=1)


@RATES
def test_a_wire_that_dies_silently_is_seen_at_both_ends(rates: tuple[bool, bool]) -> None:
    world = pair(2, rates=rates)
    world.run(5.05)
    world.wires[0].loss = {"host": 1, "switch": 1}
    limits = {"host": SHORT if rates[0] else LONG, "switch": SHORT if rates[1] else LONG}
    first, last = sorted(world.heard[name, 0] + limit for name, limit in limits.items())
    world.run(first - 0.01)
    assert world.usable("host") == world.usable("switch") == [True, True]
    world.run(last + 0.1)
    assert world.usable("host") == world.usable("switch") == [False, True]
    world.wires[0].loss = {}
    world.run(world.now + 2.5)
    assert world.usable("host") == world.usable("switch") == [True, True]


@RATES
@pytest.mark.parametrize("deaf", ["host", "switch"])
def test_a_wire_that_carries_one_way_is_down_at_both_ends(rates: tuple[bool, bool], deaf: str) -> None:
    """The deaf end says so, and the other believes it: at once, for it is told, not by a timeout of its own."""
    world = pair(2, rates=rates)
    world.run(5.05)
    talker = "switch" if deaf == "host" else "host"
    world.wires[0].loss = {talker: 1}
    limit = SHORT if rates[0 if deaf == "host" else 1] else LONG
    world.run(world.heard[deaf, 0] + limit + 0.1)
    assert world.usable("host") == world.usable("switch") == [False, True]
    world.run(world.now + 200)
    assert world.usable("host") == world.usable("switch") == [False, True]


def test_a_carrier_that_goes_takes_the_member_down_at_once() -> None:
    world = pair(2)
    world.run(5)
    world.carrier(world.wires[1], False)
    assert world.usable("host") == world.usable("switch") == [True, False]
    world.run(7)
    world.carrier(world.wires[1], True)
    world.run(8.2)
    assert world.usable("host") == world.usable("switch") == [True, True]


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10**6),
    nics=st.integers(1, 4),
    rates=st.tuples(st.booleans(), st.booleans()),
    active=st.sampled_from([(True, True), (True, False), (False, True)]),
    troubles=st.lists(
        st.tuples(
            st.floats(0.001, 8),
            st.integers(0, 3),
            st.sampled_from(["cut", "join", "deaf", "dumb", "lossy", "heal"]),
        ),
        max_size=12,
    ),
)
def test_whatever_the_wires_do(seed: int, nics: int, rates, active, troubles) -> None:
    """At any time: who collects and distributes has heard the other end within its timeout, never speaks more than
    three times a second; and when the wires have been well for long enough, all are up."""
    world = pair(nics, rates=rates, active=active, seed=seed)

    def check() -> None:
        for name, fast in zip(("host", "switch"), rates, strict=True):
            for nic, up in enumerate(world.usable(name)):
                if up:
                    assert world.now - world.heard[name, nic] <= (SHORT if fast else LONG) + 1e-6
        for times in world.sent.values():
            for n in range(len(times) - MOST):
                assert times[n + MOST] - times[n] >= FAST - 1e-9

    for wait, number, trouble in troubles:
        world.run(world.now + wait)
        check()
        wire = world.wires[number % nics]
        match trouble:
            case "cut" | "join":
                world.carrier(wire, trouble == "join")
            case _:
                loss = {"deaf": {"switch": 1}, "dumb": {"host": 1}, "lossy": {"host": 0.5, "switch": 0.5}, "heal": {}}
                wire.loss = loss[trouble]
        check()
    for wire in world.wires:
        wire.loss = {}
        world.carrier(wire, True)
    world.run(world.now + 2 * SLOW + SHORT)
    check()
    assert world.usable("host") == world.usable("switch") == [True] * nics


@given(st.lists(st.tuples(st.sampled_from(["hear", "tick", "up", "down"]), ENDS, ENDS, st.floats(0, 100)), max_size=30))
def test_a_member_stands_anything_it_is_told(story) -> None:
    """Any PDUs at any times: in sync with nobody but who names us, and never stuck with something always due."""
    lacp, now = Lacp(HOST, 1, active=True, fast=True), 0.0
    for verb, actor, partner, wait in story:
        now += wait
        match verb:
            case "hear":
                lacp.hear(0, Lacpdu(actor, partner), now)
            case "tick":
                lacp.tick(now)
            case _:
                lacp.carrier(0, verb == "up", now)
        assert lacp.due() > now
        port = lacp.ports[0]
        if port.usable:
            assert State.SYNCHRONIZATION in port.partner.state
            assert port.partner.system != HOST


def test_a_pdu_that_does_not_name_us_is_no_agreement() -> None:
    port = Port(End(HOST, 1, 1, State(7)))
    port.enable(True, 0)
    there = End(SWITCH, 1, 1, State(0x3F))
    for partner in (End(OTHER, 1, 1, State(7)), End(HOST, 2, 1, State(7)), End(HOST, 1, 2, State(7))):
        port.hear(Lacpdu(there, partner), 1)
        port.select(True)
        port.run_mux()
        assert port.mux is Mux.ATTACHED
    port.hear(Lacpdu(there, port.actor), 2)
    port.select(True)
    port.run_mux()
    assert port.mux is Mux.COLLECTING_DISTRIBUTING


def test_our_own_voice_is_nobody() -> None:
    """A wire that leads back to ourselves is no member of anything."""
    world = World({"host": Lacp(HOST, 2, active=True, fast=True)}, [Wire(("host", 0), ("host", 1))])
    world.run(20)
    assert world.usable("host") == [False, False]
    assert world.miswired == {}


def test_nobody_is_no_aggregate() -> None:
    """At first nothing is claimed; and two that are not heard yet do not outvote the one that is."""
    host = Lacp(HOST, 3, active=True, fast=True)
    for nic in range(3):
        ((_, first),) = host.carrier(nic, True, 0).send
        assert first.actor.state == State.ACTIVITY | State.TIMEOUT | State.AGGREGATION | State.DEFAULTED | State.EXPIRED
    host.hear(0, Lacpdu(UP, host.ports[0].actor), 0.1)
    assert host.lag is not None
    assert host.lag[1] == SWITCH
    assert [port.selected for port in host.ports] == [True, False, False]


# -- wiring -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", [{0}, {1}, {2}], ids=str)
def test_a_member_that_leads_elsewhere_is_not_selected_and_told(there: set[int]) -> None:
    host = Lacp(HOST, 3, active=True, fast=True)
    ends = {"host": host} | {
        name: Lacp(system, 3, active=True, fast=True) for name, system in (("switch", SWITCH), ("other", OTHER))
    }
    world = World(ends, [Wire(("host", nic), ("other" if nic in there else "switch", nic)) for nic in range(3)])
    world.run(3)
    assert world.usable("host") == [nic not in there for nic in range(3)]
    assert world.miswired["host"][-1] == sorted([sorted(there), [nic for nic in range(3) if nic not in there]])
    assert host.lag is not None
    assert host.lag[1] == SWITCH
    (wrong,) = there
    assert not ends["other"].ports[wrong].usable  # we are not in sync there, and it knows


def test_of_two_equal_sides_the_one_in_use_stays() -> None:
    ends = {"host": Lacp(HOST, 2, active=True, fast=True), "switch": Lacp(SWITCH, 1, active=True, fast=True)}
    ends["other"] = Lacp(bytes(5) + b"\1", 1, active=True, fast=True)  # the lower address
    first, second = Wire(("host", 0), ("switch", 0)), Wire(("host", 1), ("other", 0))
    world = World(ends, [first])
    world.run(2)
    world.wires.append(second)
    world.carrier(second, True)
    world.run(4)
    assert world.usable("host") == [True, False]
    assert world.miswired["host"] == [[[0], [1]]]
    world.carrier(first, False)
    world.run(12)
    assert world.usable("host") == [False, True]  # now it is the only one


def test_another_key_of_the_same_switch_is_another_aggregate() -> None:
    ends = {"host": Lacp(HOST, 3, active=True, fast=True), "switch": Lacp(SWITCH, 2, active=True, fast=True)}
    ends["its other"] = Lacp(SWITCH, 1, active=True, fast=True, key=9)
    wires = [Wire(("host", nic), ("switch", nic)) for nic in range(2)] + [Wire(("host", 2), ("its other", 0))]
    world = World(ends, wires)
    world.run(3)
    assert world.usable("host") == [True, True, False]


def test_ends_that_do_not_aggregate_are_one_each() -> None:
    host = Lacp(HOST, 2, active=True, fast=True)
    for nic in (0, 1):
        host.carrier(nic, True, 0)
        there = End(SWITCH, 1, nic + 1, State(0x3F) & ~State.AGGREGATION)
        host.hear(nic, Lacpdu(there, host.ports[nic].actor), 1)
    assert [port.usable for port in host.ports] == [True, False]


# -- an agent that comes after another --------------------------------------------------------------------------------


UP = End(SWITCH, 1, 1, State(0x3F))


def restarted(world: World, nics: int, dead: float, *, fast: bool) -> None:
    ends = {nic: port.partner for nic, port in enumerate(world.ends.pop("host").ports)}
    ghost = Lacp(HOST, nics, active=True, fast=fast, inherited=ends)
    world.wires, wires = [], world.wires
    world.run(world.now + dead)
    world.wires, world.ends["host"] = wires, ghost
    for wire in wires:
        world.do("host", ghost.carrier(wire.a[1], True, world.now))


@given(dead=st.floats(0.01, 1.9), seed=st.integers(0, 1000), fast=st.booleans())
def test_a_restarted_agent_takes_its_members_over(dead: float, seed: int, fast: bool) -> None:
    """Neither end ever takes a member down: the partner is spoken to within its timeout, by a PDU that fits."""
    world = pair(3, rates=(fast, fast), seed=seed)
    world.run(4 + random.Random(seed).random())
    restarted(world, 3, dead, fast=fast)
    until = world.now + (6 if fast else 200)
    while world.now < until:
        assert world.usable("host") == world.usable("switch") == [True] * 3
        world.run(world.now + 0.05)
    assert all(port.receive is Receive.CURRENT for port in world.ends["host"].ports)


def test_a_restarted_agent_believes_a_partner_that_has_given_it_up() -> None:
    world = pair(2)
    world.run(4)
    restarted(world, 2, 8, fast=True)
    assert world.usable("host") == [True, True]
    assert world.usable("switch") == [False, False]
    world.run(world.now + 2)
    assert world.usable("host") == world.usable("switch") == [True, True]
    assert [port.receive for port in world.ends["host"].ports] == [Receive.CURRENT] * 2


def test_a_restarted_agent_that_hears_nothing_gives_up_after_its_first_timeout() -> None:
    host = Lacp(HOST, 1, active=True, fast=True, inherited={0: UP})
    assert not host.standing(0).usable  # no carrier yet
    assert [pdu.partner for _, pdu in host.carrier(0, True, 10).send] == [UP]
    assert host.standing(0).usable
    host.tick(10 + SHORT - 0.01)
    assert host.standing(0).usable
    host.tick(10 + SHORT)
    assert not host.standing(0).usable
    assert host.standing(0).state == "expired"


def test_a_restarted_agent_believes_the_carrier() -> None:
    host = Lacp(HOST, 1, active=True, fast=True, inherited={0: UP})
    host.carrier(0, True, 0)
    host.carrier(0, False, 1)
    assert not host.standing(0).usable
    host.carrier(0, True, 2)
    assert not host.standing(0).usable


# -- for people -------------------------------------------------------------------------------------------------------


def test_the_text_reads_like_proc_net_bonding() -> None:
    world = pair(2)
    world.run(2)
    world.carrier(world.wires[1], False)
    members = [Member("nic0", True, None), Member("nic1", False, "carrier")]
    shown = text(Team("team0", HOST, 1, "fast", True, 0.1, members), world.ends["host"])
    for line in (
        "Bonding Mode: IEEE 802.3ad Dynamic link aggregation",
        "LACP rate: fast",
        "Min links: 1",
        "System MAC address: 02:00:00:00:00:01",
        "\tPartner Mac Address: 02:00:00:00:00:07",
        "Slave Interface: nic1",
        "Active: no (carrier)",
        "    port number: 2",
        "    port state: 63 (activity, timeout, aggregation, synchronization, collecting, distributing)",
    ):
        assert line in shown.splitlines(), line
    static = text(Team("team0", HOST, 2, "fast", False, None, members), None)
    assert "802.3ad" not in static
    assert "Active: no (carrier)" in static
    assert "Probe: off" in static


def test_changes_are_told_once() -> None:
    host, switch = Lacp(HOST, 1, active=True, fast=True), End(SWITCH, 1, 1, State(0x3F))
    assert host.carrier(0, True, 0).changed[0].state == "expired"
    pdu = Lacpdu(switch, host.ports[0].actor)
    told = host.hear(0, pdu, 0.1).changed[0]
    assert (told.state, told.usable, told.partner) == ("collecting_distributing", True, switch)
    again = replace(pdu, actor=replace(switch, state=State(0x3D)))
    assert host.hear(0, again, 0.2).changed == {}
