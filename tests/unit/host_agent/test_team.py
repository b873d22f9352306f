"""Which NICs are active, and what keeps the others from it."""

import pytest

from host_agent.team import TeamState


def team(min_links: int = 1) -> TeamState:
    one = TeamState(("nic0", "nic1", "nic2"), min_links)
    one.links |= {0, 1, 2}
    one.engines |= {0, 1, 2}
    return one


def test_all_that_is_there_is_active() -> None:
    one = team(3)
    assert one.active == (0, 1, 2)
    assert [one.why(nic) for nic in range(3)] == [None] * 3


@pytest.mark.parametrize(
    ("lacking", "why"), [("members", "removed"), ("engines", "engine"), ("links", "carrier"), ("unfit", "lacp")]
)
def test_each_thing_is_needed(lacking: str, why: str) -> None:
    one = team()
    if lacking == "unfit":
        one.unfit[1] = "lacp"
    else:
        getattr(one, lacking).discard(1)
    assert one.active == (0, 2)
    assert [one.why(nic) for nic in range(3)] == [None, why, None]


def test_with_fewer_than_min_links_none_is_active() -> None:
    one = team(2)
    one.links.discard(2)
    assert one.active == (0, 1)
    one.unfit[0] = "probe"
    assert one.active == ()
    assert [one.why(nic) for nic in range(3)] == ["probe", "min_links", "carrier"]
    one.unfit.clear()
    assert one.active == (0, 1)
