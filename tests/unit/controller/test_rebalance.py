"""Re-enumeration: who has to move moves, and how many others do. Also the hold-down."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.holddown import HoldDown
from controller.lag import Lag
from controller.rebalance import REBALANCE, bucket_count, fill, moved_share, rendezvous, resilient

FIXED = ("resilient", "rendezvous")


@st.composite
def histories(draw: st.DrawFn) -> tuple[tuple[int, ...], list[frozenset[int]]]:
    members = tuple(draw(st.lists(st.integers(1, 200), min_size=1, max_size=16, unique=True)))
    sets = st.frozensets(st.sampled_from(members))
    return members, [frozenset(members), *draw(st.lists(sets, max_size=6))]


@pytest.mark.parametrize("mode", FIXED)
@given(histories())
def test_only_buckets_of_dead_members_move_to_living_ones(
    mode: str, history: tuple[tuple[int, ...], list[frozenset[int]]]
) -> None:
    members, actives = history
    now: tuple[int, ...] = ()
    before = frozenset[int]()
    for active in actives:
        new = REBALANCE[mode](members, active, now)
        assert len(new) == (bucket_count(len(members)) if active else 0)
        assert set(new) <= active
        if new and now:
            for was, is_now in zip(now, new, strict=True):
                if mode == "resilient":
                    assert is_now == was or was not in active
                else:  # a bucket moves from the dead, or to one that has come back
                    assert is_now == was or was not in active or is_now not in before
        now, before = new, active


@given(histories())
def test_rendezvous_depends_on_who_is_active_only(history: tuple[tuple[int, ...], list[frozenset[int]]]) -> None:
    members, actives = history
    now: tuple[int, ...] = ()
    for active in actives:
        now = rendezvous(members, active, now)
        assert now == rendezvous(members, active, ())


@pytest.mark.parametrize("mode", FIXED)
@pytest.mark.parametrize("size", range(1, 17))
def test_buckets_are_shared_evenly_with_all_and_with_all_but_one(mode: str, size: int) -> None:
    members = tuple(range(1, size + 1))
    full = REBALANCE[mode](members, frozenset(members), ())
    assert len(full) >= 64
    assert {full.count(port) for port in members} == {len(full) // size}
    for gone in members:
        active = frozenset(members) - {gone}
        loads = {REBALANCE[mode](members, active, full).count(port) for port in active}
        assert len(loads) <= 1


@pytest.mark.parametrize("size", range(2, 17))
def test_the_collateral_of_each_mode(size: int) -> None:
    members = tuple(range(1, size + 1))
    for mode in REBALANCE:
        full = REBALANCE[mode](members, frozenset(members), ())
        for gone in members:
            fewer = REBALANCE[mode](members, frozenset(members) - {gone}, full)
            moved, had_to = moved_share(full, fewer)
            assert had_to == pytest.approx(1 / size)
            if mode in FIXED:
                assert moved == had_to
            elif size > 2:
                assert moved > 1.5 * had_to  # most move: (n-1)/n of all
        if mode == "modulo":
            total = sum(
                moved_share(full, REBALANCE[mode](members, frozenset(members) - {gone}, full))[0] for gone in members
            )
            assert total / size == pytest.approx((size - 1) / size, abs=0.26)


def test_moved_share_counts() -> None:
    assert moved_share((1, 2), (1,)) == (0.5, 0.5)
    assert moved_share((1,), (1, 2)) == (0.5, 0.0)
    assert moved_share((1, 2, 3), (1, 3)) == (4 / 6, 2 / 6)
    assert moved_share((), (1, 2)) == moved_share((1, 2), ()) == (0.0, 0.0)


@given(histories())
def test_filling_moves_one_bucket_at_a_time_to_the_emptiest_until_it_is_even(
    history: tuple[tuple[int, ...], list[frozenset[int]]],
) -> None:
    members, actives = history
    now: tuple[int, ...] = ()
    for active in actives:
        now = resilient(members, active, now)
    active = actives[-1]
    if not active:
        assert fill(members, active, now) == ()
        return
    for _ in range(bucket_count(len(members)) + 1):
        new = fill(members, active, now)
        moved = [(was, is_now) for was, is_now in zip(now, new, strict=True) if was != is_now]
        if not moved:
            break
        ((was, is_now),) = moved
        assert now.count(was) - now.count(is_now) >= 2
        assert is_now in active
        now = new
    loads = [now.count(port) for port in active]
    assert max(loads) - min(loads) <= 1


@pytest.mark.parametrize("size", range(2, 17))
def test_filling_ends_whatever_the_number_of_active_members(size: int) -> None:
    members = tuple(range(1, size + 1))
    now = resilient(members, frozenset(members[:1]), ())
    for active in (frozenset(members[:count]) for count in range(1, size + 1)):
        steps = 0
        while (new := fill(members, active, now)) != now:
            now, steps = new, steps + 1
            assert steps <= len(now)
        loads = [now.count(port) for port in active]
        assert max(loads) - min(loads) <= 1


def test_a_returning_member_of_a_resilient_lag_gets_nothing_at_first() -> None:
    lag = Lag("", 1, (1, 2, 3), rebalance="resilient").with_active((1, 2, 3))
    back = lag.with_active((1, 3)).with_active((1, 2, 3))
    assert back.active == {1, 2, 3}
    assert 2 not in back.buckets
    assert back.filled().buckets.count(2) == 1


def test_hold_down() -> None:
    hold = HoldDown(updelay_s=2.0, downdelay_s=1.0)
    hold.start({1, 2})
    hold.seen(1, False, 10.0)
    assert (hold.usable, hold.due(), hold.held()) == ({1, 2}, 11.0, [1])
    hold.seen(1, True, 10.5)  # a flap: as if nothing had been
    assert (hold.usable, hold.due()) == ({1, 2}, None)
    hold.seen(1, False, 20.0)
    hold.tick(20.999)
    assert hold.usable == {1, 2}
    hold.tick(21.0)
    assert (hold.usable, hold.due()) == ({2}, None)
    hold.seen(1, True, 30.0)
    hold.seen(1, False, 31.9)  # not long enough
    hold.tick(33.0)
    assert (hold.usable, hold.due()) == ({2}, None)
    hold.seen(1, True, 40.0, at_once=True)
    assert hold.usable == {1, 2}
