"""The probe: silence on one wire is told from an end that answers nobody. Time is in seconds."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.aggregator import Lacp
from controller.probe import Prober
from tests.unit.controller.wires import SYSTEMS, A, B, Wires

PERIOD = 0.1


def up(ports: int = 3, modes: tuple[str, str] = ("off", "off")) -> Wires:
    """Only end A asks."""
    wires = Wires(ports, (Lacp(modes[A], probe_s=PERIOD), Lacp(modes[B], system=SYSTEMS[B])))
    wires.links()
    return wires


@pytest.mark.parametrize("end", [A, B])
def test_a_wire_that_eats_frames_in_either_direction_is_dead_after_three_probes(end: int) -> None:
    wires = up()
    wires.run(5.05)
    assert wires.carrying(A) == [1, 2, 3]
    wires.eats[end][2] = 1.0
    wires.run(5.05 + 3 * PERIOD)
    assert wires.carrying(A) == [1, 2, 3]
    wires.run(5.05 + 4 * PERIOD)
    assert wires.carrying(A) == [1, 3]
    assert wires.ends[A].why_not(2) == "probe"
    wires.eats[end][2] = 0.0
    wires.run(wires.now + 2 * PERIOD)
    assert wires.carrying(A) == [1, 3], "one answer is not enough"
    wires.run(wires.now + 3 * PERIOD)
    assert wires.carrying(A) == [1, 2, 3]


def test_a_new_link_must_answer_once() -> None:
    prober = Prober(PERIOD)
    prober.link(1, True, 0.0)
    assert prober.alive == set()
    assert prober.tick(0.0) == [1]
    prober.answered(1, 99)
    prober.answered(2, 1)
    assert prober.alive == set()
    prober.answered(1, 1)
    assert prober.alive == {1}
    prober.link(1, False, 0.0)
    assert (prober.alive, prober.due(), prober.tick(9.0)) == (set(), None, [])


def test_an_end_that_answers_nobody_says_nothing_of_the_wires() -> None:
    wires = up()
    wires.run(5)
    wires.eats[B] = dict.fromkeys(wires.ports, 1.0)
    wires.run(20)
    assert wires.carrying(A) == [1, 2, 3]
    wires.eats[B] = {1: 0.0, 2: 1.0, 3: 0.0}  # it is there again, and one wire is not
    wires.run(21)
    assert wires.carrying(A) == [1, 3]


def test_a_link_that_comes_up_does_not_speak_for_an_end_that_answers_nobody() -> None:
    prober = Prober(PERIOD)
    for port in (1, 2):
        prober.link(port, True, 0.0)
    for number in range(12):
        if number == 7:
            prober.link(3, True, number * PERIOD)
        prober.tick(number * PERIOD)
        for port in (1, 2) if number < 5 else ():
            prober.answered(port, prober.round)
    assert prober.alive == {1, 2}


def test_an_end_that_answers_again_need_not_answer_everywhere_at_the_same_time() -> None:
    prober = Prober(PERIOD)
    for port in (1, 2):
        prober.link(port, True, 0.0)
    for number in range(1, 10):
        prober.tick(number * PERIOD)
        for port in (1, 2):
            if number == 1:
                prober.answered(port, number)
    prober.answered(1, 9)
    prober.tick(10 * PERIOD)  # between the two answers
    assert prober.alive == {1, 2}
    prober.answered(2, 9)
    for number in range(10, 15):
        prober.answered(1, number)
        prober.tick((number + 1) * PERIOD)
    assert prober.alive == {1}


def test_the_probe_sees_before_lacp_does_and_lacp_agrees() -> None:
    wires = up(3, ("active", "active"))
    wires.run(5)
    assert wires.carrying(A) == [1, 2, 3]
    wires.eats[B][1] = 1.0
    wires.run(5.5)
    assert wires.ends[A].why_not(1) == "probe"
    wires.run(8.5)
    assert wires.ends[A].why_not(1) == "lacp"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.lists(st.floats(0, 0.5), min_size=3, max_size=3), min_size=1, max_size=8), st.integers(0, 99))
def test_after_any_loss_working_wires_are_alive(losses: list[list[float]], seed: int) -> None:
    wires = up()
    wires._random.seed(seed)
    for loss in losses:
        wires.eats[A] = dict(zip(wires.ports, loss, strict=True))
        wires.run(wires.now + 1)
    wires.eats[A] = {1: 0.0, 2: 0.0, 3: 1.0}
    wires.run(wires.now + 1)
    assert wires.carrying(A) == [1, 2]
