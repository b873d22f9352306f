"""The probe: three rounds missed, while the switch answers others, and a member is dead."""

from hypothesis import given
from hypothesis import strategies as st

from host_agent.lacp_probe import BACK, MISSED, Probe


def probe(nics: int, inherited: range | tuple[int, ...] = ()) -> Probe:
    one = Probe(inherited)
    for nic in range(nics):
        one.carrier(nic, True)
    return one


def rounds(one: Probe, number: int, answering: set[int]) -> None:
    for _ in range(number):
        for nic in one.round():
            if nic in answering:
                one.answer(nic, one.number)


def test_a_member_is_dead_until_it_has_answered_once() -> None:
    one = probe(2)
    assert one.alive == set()
    rounds(one, 1, {1})
    assert one.alive == {1}


def test_three_missed_are_dead_and_three_answers_bring_it_back() -> None:
    one = probe(3)
    rounds(one, 5, {0, 1, 2})
    rounds(one, MISSED, {0, 2})
    assert one.alive == {0, 1, 2}  # the third may yet be answered
    rounds(one, 1, {0, 2})
    assert one.alive == {0, 2}
    rounds(one, BACK - 1, {0, 1, 2})
    assert one.alive == {0, 2}
    rounds(one, 1, {0, 2})  # one missed: it begins anew
    rounds(one, BACK - 1, {0, 1, 2})
    assert one.alive == {0, 2}
    rounds(one, 1, {0, 1, 2})
    assert one.alive == {0, 1, 2}


def test_a_switch_that_answers_nobody_kills_nobody() -> None:
    one = probe(3)
    rounds(one, 5, {0, 1, 2})
    rounds(one, 50, set())
    assert one.alive == {0, 1, 2}
    rounds(one, MISSED, {0, 1})  # now it answers again, and the third wire has as many rounds as ever
    assert one.alive == {0, 1, 2}
    rounds(one, 1, {0, 1})
    assert one.alive == {0, 1}


def test_a_link_that_comes_up_does_not_speak_for_a_switch_that_answers_nobody() -> None:
    one = probe(2)
    rounds(one, 5, {0, 1})
    rounds(one, MISSED - 1, set())
    one.carrier(2, True)
    rounds(one, 5, set())
    assert one.alive == {0, 1}


def test_a_switch_that_dies_in_the_middle_of_a_round_kills_nobody() -> None:
    one = probe(2)
    rounds(one, 5, {0, 1})
    rounds(one, 1, {0})
    rounds(one, 50, set())
    assert one.alive == {0, 1}


def test_without_a_carrier_nobody_is_asked() -> None:
    one = probe(2)
    rounds(one, 1, {0, 1})
    one.carrier(0, False)
    assert one.alive == {1}
    assert one.round() == [1]
    one.carrier(0, True)
    assert one.alive == {1}
    rounds(one, 1, {0, 1})
    assert one.alive == {0, 1}


def test_an_earlier_agents_members_are_alive_until_they_miss() -> None:
    one = probe(2, range(2))
    assert one.alive == {0, 1}
    rounds(one, MISSED + 1, {1})
    assert one.alive == {1}


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 50)), max_size=50))
def test_forged_late_and_doubled_answers(answers: list[tuple[int, int]]) -> None:
    one = probe(2)
    for nic, number in answers:
        one.answer(nic, number)
    assert one.alive == set()  # no round has begun
    one.round()
    one.answer(0, 1)
    one.answer(0, 1)
    assert one.alive == {0}


@given(st.lists(st.sets(st.integers(0, 2)), min_size=4, max_size=60))
def test_who_is_dead_has_missed_three_and_who_answers_lives(story: list[set[int]]) -> None:
    one = probe(3, range(3))
    history: list[set[int]] = []
    for answering in story:
        before = set(one.alive)
        rounds(one, 1, answering)
        for nic in before - one.alive:
            assert len(history) >= MISSED
            assert all(nic not in heard for heard in history[-MISSED:])
            assert any(heard for heard in history[-2:])
        history.append(answering)
