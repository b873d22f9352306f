"""LACP end to end in simulated time: two aggregators on good, lossy, eaten and one-way wires, wrongly wired ones,
and one that is started anew. Time is in seconds.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.aggregator import Aggregator, Lacp
from controller.lacp import MUX, RECEIVE, Mux, Port, Receive
from controller.lacpdu import End, Lacpdu, Marker, State, decode, encode
from tests.unit.controller.wires import SYSTEMS, A, B, Wires

ACTIVE = (Lacp("active"), Lacp("active", system=SYSTEMS[B]))
EATEN = {"none": (0.0, 0.0), "both": (1.0, 1.0), "to_b": (1.0, 0.0), "to_a": (0.0, 1.0)}


def pair(modes: tuple[str, str] = ("active", "active"), rates: tuple[str, str] = ("fast", "fast")) -> tuple[Lacp, Lacp]:
    return Lacp(modes[A], rates[A]), Lacp(modes[B], rates[B], system=SYSTEMS[B])


def up(ports: int = 2, both: tuple[Lacp, Lacp] = ACTIVE, **more: Any) -> Wires:
    wires = Wires(ports, both, **more)
    wires.links()
    return wires


def both_carry(wires: Wires) -> list[int]:
    assert wires.carrying(A) == wires.carrying(B)
    return wires.carrying(A)


def eat(wires: Wires, port: int, what: str) -> None:
    wires.eats[A][port], wires.eats[B][port] = EATEN[what]


modes = st.sampled_from(["active", "passive"])
rates = st.sampled_from(["fast", "slow"])


@settings(max_examples=60, deadline=None)
@given(
    modes=st.tuples(modes, modes),
    rates=st.tuples(rates, rates),
    before=st.lists(st.sampled_from(list(EATEN)), min_size=3, max_size=3),
    after=st.lists(st.sampled_from(list(EATEN)), min_size=3, max_size=3),
    loss=st.floats(0, 0.6),
    delay=st.floats(0, 0.4),
    seed=st.integers(0, 1000),
)
def test_links_carry_exactly_if_they_work_both_ways_and_one_end_is_active(
    modes: tuple[str, str],
    rates: tuple[str, str],
    before: list[str],
    after: list[str],
    loss: float,
    delay: float,
    seed: int,
) -> None:
    """Whatever was before, and whatever was lost meanwhile."""
    wires = up(3, pair(modes, rates), delay_s=delay, seed=seed)
    for port, what in enumerate(before, 1):
        eat(wires, port, what)
    wires.run(150)
    wires.eats = [dict.fromkeys(wires.ports, loss) for _ in wires.ends]
    wires.run(180)
    for port, what in enumerate(after, 1):
        eat(wires, port, what)
    wires.run(180 + 200)
    good = [port for port, what in enumerate(after, 1) if what == "none"] if "active" in modes else []
    assert both_carry(wires) == good
    wires.run(wires.now + 200)  # and so it stays
    assert both_carry(wires) == good


@settings(max_examples=40, deadline=None)
@given(
    modes=st.tuples(st.just("active"), modes),
    changes=st.lists(st.tuples(st.sampled_from([1, 2]), st.sampled_from(list(EATEN)), st.floats(0, 12)), max_size=6),
    delay=st.floats(0, 0.2),
)
def test_nobody_sends_for_long_to_an_end_that_does_not_collect(
    modes: tuple[str, str], changes: list[tuple[int, str, float]], delay: float
) -> None:
    """No longer than its own timeout, and a second for the limit on what may be sent; on good wires only that."""
    since: dict[tuple[int, int], float] = {}
    worst = 0.0

    def watch(wires: Wires) -> None:
        nonlocal worst
        for end in (A, B):
            for port in wires.ports:
                here, there = wires.ends[end].ports[port], wires.ends[1 - end].ports[port]
                if here.carries and not there.collects:
                    began = since.setdefault((end, port), wires.now)
                    worst = max(worst, wires.now - began)
                else:
                    since.pop((end, port), None)

    wires = up(2, pair(modes), delay_s=delay, watch=watch)
    wires.run(10)
    assert worst <= 1 + delay
    for port, what, seconds in changes:
        eat(wires, port, what)
        wires.run(wires.now + seconds)
    assert worst <= 3 + 1 + 2 * delay


def test_all_members_at_once_are_up_without_waiting_for_others() -> None:
    wires = up(3)
    wires.run(0.1)
    assert both_carry(wires) == [1, 2, 3]


def test_others_are_waited_for() -> None:
    wires = Wires(3, ACTIVE)
    wires.eats[B][3] = 1.0
    wires.links()
    wires.run(1.9)
    assert both_carry(wires) == []
    wires.run(2.1)
    assert both_carry(wires) == [1, 2]


def test_a_waiting_port_whose_carrier_goes_is_not_waited_for() -> None:
    wires = Wires(3, ACTIVE)
    wires.eats[B][3] = 1.0
    wires.link(1, True)
    wires.link(3, True)
    wires.run(0.5)
    wires.link(2, True)
    wires.run(1)
    assert [wires.ends[A].ports[port].mux for port in (1, 2)] == [Mux.WAITING] * 2
    wires.link(1, False)
    wires.run(2.4)
    due = wires.ends[A].due()
    assert due is not None
    assert due > 2.4
    wires.run(2.6)
    assert both_carry(wires) == [2]


@pytest.mark.parametrize("what", ["both", "to_a", "to_b"])
@pytest.mark.parametrize(("rate", "limit"), [("fast", 3.01), ("slow", 90.01)])
def test_an_eaten_wire_is_left_by_both_ends_within_the_timeout(what: str, rate: str, limit: float) -> None:
    wires = up(2, pair(rates=(rate, rate)))
    wires.run(10)
    assert both_carry(wires) == [1, 2]
    eat(wires, 2, what)
    wires.run(10 + limit)
    assert both_carry(wires) == [1]
    assert any(wires.ends[end].ports[2].receive in (Receive.EXPIRED, Receive.DEFAULTED) for end in (A, B))
    wires.run(10 + limit + 4)
    eat(wires, 2, "none")
    wires.run(wires.now + 35)
    assert both_carry(wires) == [1, 2]


def test_two_passive_ends_say_nothing() -> None:
    wires = up(2, pair(("passive", "passive")))
    wires.run(100)
    assert both_carry(wires) == []
    assert not any(wires.ends[A].counters[1].values())


def test_a_short_flap_needs_no_wait() -> None:
    wires = up(2)
    wires.run(5)
    wires.link(2, False)
    assert wires.carrying(A) == [1]
    wires.run(5.5)
    wires.link(2, True)
    wires.run(5.6)
    assert both_carry(wires) == [1, 2]


def test_at_most_three_pdus_in_a_fast_period() -> None:
    end = Aggregator([1], ACTIVE[A])
    end.link(1, True, 0.0)
    times = []
    for step in range(400):  # a partner that knows nothing of us, twenty times a second
        now = step / 20
        end.heard(1, encode(Lacpdu(End(1, SYSTEMS[B], 1, 1, step % 7, State.ACTIVITY), End()), SYSTEMS[B]), now)
        end.run(now)
        times += [now] * len(end.frames)
        end.frames.clear()
    for first, fourth in zip(times, times[3:], strict=False):
        assert fourth - first >= 0.999
    assert len(times) >= 55


def test_the_rate_is_the_partners() -> None:
    wires = up(1, pair(rates=("fast", "slow")))
    wires.run(10)
    before = [end.counters[1]["lacpdu_tx"] for end in wires.ends]
    wires.run(130)
    sent = [end.counters[1]["lacpdu_tx"] - was for end, was in zip(wires.ends, before, strict=True)]
    assert sent[A] == 4  # B is slow: once in 30 s
    assert 119 <= sent[B] <= 121


@pytest.mark.parametrize("state", [state for state in Receive if state is not Receive.PORT_DISABLED])
def test_every_state_is_left_when_the_carrier_goes(state: Receive) -> None:
    assert RECEIVE[state]["link_down"] is Receive.PORT_DISABLED
    assert RECEIVE[Receive.PORT_DISABLED] == {"link_up": Receive.EXPIRED}
    assert all("unselected" in MUX[mux] for mux in Mux if mux is not Mux.DETACHED)


# ------------------------------------------------------------------------------------------- wrong wiring


def other_partner(wires: Wires, port: int, system: str = "02:00:00:00:99:01") -> Port:
    """From now on that port leads to somebody else's, who answers everything."""
    far = Aggregator([port], Lacp("active", system=system))
    wires.ends.append(far)
    wires.eats.append({port: 0.0})
    wires.far[A, port], wires.far[2, port] = (2, port), (A, port)
    far.link(port, True, wires.now)
    return far.ports[port]


def test_a_port_that_leads_to_another_system_is_not_selected_and_told() -> None:
    wires = Wires(3, ACTIVE)
    far = other_partner(wires, 1)  # the first port, and still it is the fewer that are left out
    wires.links()
    wires.run(10)
    assert wires.carrying(A) == [2, 3]
    assert not far.carries
    (told,) = [item for item in wires.ends[A].news if item["event"] == "miswired"]
    assert told["ports"] == [1]
    assert told["partners"] == {"02:00:00:00:99:01 key 1": [1], f"{SYSTEMS[B]} key 1": [2, 3]}


def test_who_comes_later_is_left_out_even_if_they_are_more() -> None:
    wires = Wires(3, ACTIVE)
    wires.link(1, True)
    wires.run(5)
    assert both_carry(wires) == [1]
    for port in (2, 3):
        wires.ends[A].link(port, True, wires.now)
        other_partner(wires, port)
        wires.far.update({(A, port): (len(wires.ends) - 1, port), (len(wires.ends) - 1, port): (A, port)})
    wires.run(15)
    assert wires.carrying(A) == [1]
    assert wires.ends[A].wrong() == (2, 3)


def test_a_rewired_lag_follows_its_new_partner() -> None:
    wires = up(1)
    wires.run(5)
    other_partner(wires, 1)
    wires.run(15)
    assert wires.carrying(A) == [1]
    assert wires.ends[A].ports[1].partner.system == "02:00:00:00:99:01"
    assert wires.ends[A].wrong() == ()


def test_a_port_that_leads_back_to_this_switch_is_left_out() -> None:
    wires = Wires(2, ACTIVE)
    wires.far[A, 1], wires.far[A, 2] = (A, 2), (A, 1)
    wires.links()
    wires.run(10)
    assert wires.carrying(A) == []
    assert wires.ends[A].wrong() == (1, 2)


def test_partners_that_do_not_aggregate_get_one_port() -> None:
    wires = Wires(3, ACTIVE)
    for port in wires.ends[B].ports.values():
        port._me = port._me._replace(state=port._me.state & ~State.AGGREGATION)
    wires.links()
    wires.run(10)
    assert wires.carrying(A) == [1]


# ----------------------------------------------------------------------------- started anew, and markers


@pytest.mark.parametrize("rate", ["fast", "slow"])
def test_who_is_started_anew_goes_on_and_the_partner_notices_nothing(rate: str) -> None:
    wires = up(2, pair(rates=(rate, rate)))
    wires.run(10)
    partners = wires.ends[A].collecting()
    assert partners is not None
    wires.ends[B].news.clear()
    wires.run(10.9)
    wires.ends[A] = Aggregator(wires.ports, wires.ends[A].settings)
    for port in wires.ports:
        wires.ends[A].link(port, True, wires.now)
        wires.ends[A].resume(port, partners[port]._replace(state=State(0)), True, wires.now)
    wires.run(wires.now)
    assert both_carry(wires) == [1, 2]
    wires.run(300)
    assert both_carry(wires) == [1, 2]
    assert wires.ends[B].news == []


def test_a_resumed_port_whose_partner_is_gone_times_out() -> None:
    wires = up(1)
    wires.run(5)
    partner = wires.ends[A].ports[1].partner
    wires.ends[A] = Aggregator([1], ACTIVE[A])
    eat(wires, 1, "both")
    wires.ends[A].link(1, True, 5)
    wires.ends[A].resume(1, partner, True, 5)
    wires.run(7.9)
    assert wires.carrying(A) == [1]
    wires.run(8.1)
    assert wires.carrying(A) == []


@pytest.mark.parametrize("mode", ["off", "active"])
def test_markers_are_answered_on_their_port(mode: str) -> None:
    end = Aggregator([1, 2], Lacp(mode))
    end.link(2, True, 0.0)
    end.heard(2, encode(Marker(SYSTEMS[B], 77, 12345), SYSTEMS[B]), 0.0)
    answers = [(port, pdu) for port, frame in end.frames if isinstance(pdu := decode(frame), Marker)]
    assert answers == [(2, Marker(SYSTEMS[B], 77, 12345, response=True))]
    end.heard(2, b"nonsense", 0.0)
    assert end.counters[2]["malformed"] == 1


def told(end: Aggregator, actor: End, partner: End) -> Mux:
    end.heard(1, encode(Lacpdu(actor, partner), actor.system), 0.0)
    end.run(0.0)
    return end.ports[1].mux


def test_a_partner_that_is_in_sync_with_somebody_else_or_plugged_anew_is_not_used() -> None:
    end = Aggregator([1], ACTIVE[A])
    end.link(1, True, 0.0)
    well = State.ACTIVITY | State.AGGREGATION | State.SYNCHRONIZATION | State.COLLECTING
    there, me = End(1, SYSTEMS[B], 1, 1, 5, well), ACTIVE[A].end(1)
    assert told(end, there, me._replace(port=9)) is Mux.ATTACHED
    assert told(end, there, me) is Mux.COLLECTING_DISTRIBUTING
    silent = me._replace(state=State.AGGREGATION)  # each waits to be asked by the other
    assert told(end, there._replace(state=well & ~State.ACTIVITY), silent) is Mux.ATTACHED
    assert told(end, there, me) is Mux.COLLECTING_DISTRIBUTING
    end.ports[1].heard(Lacpdu(there._replace(port=6), me), 0.0)  # another port of the same partner
    assert not end.ports[1].selected
