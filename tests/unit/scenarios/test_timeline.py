"""The timeline: what is due when, what the words for NICs mean, how `wait` holds the clock."""

import pytest

from scenarios.conditions import Facts
from scenarios.steps import AllLinksDown, LinkDown, LinkUp, OffloadNow, Rehash, ReloadNow, Wait
from scenarios.timeline import Due, Timeline, TimelineError, parse_word

NICS = ("nic0", "nic1", "nic2")


def down(at: float, nic: str) -> LinkDown:
    return LinkDown.model_construct(at=at, do="link_down", nic=nic)


def up(at: float, nic: str) -> LinkUp:
    return LinkUp.model_construct(at=at, do="link_up", nic=nic)


def rehash(at: float, connection: str, to: str = "other") -> Rehash:
    return Rehash.model_construct(at=at, do="rehash", connection=connection, to=to)


def wait(at: float, until: str, limit: float = 10.0) -> Wait:
    return Wait.model_construct(at=at, do="wait", until=until, limit=limit)


def facts(**keys) -> Facts:
    return Facts(**({"nics": NICS, "carrying": {"download": "nic1"}} | keys))


def one(step, timeline_facts: Facts, **keys) -> str | None:
    due, _ = Timeline((step,), **keys).advance(step.at, timeline_facts)
    assert due is not None
    return due.nic


def test_steps_are_due_in_the_order_of_their_times():
    timeline = Timeline.of([up(3, "last"), down(1, "nic2")])
    assert timeline.advance(0.999, facts()) == (None, timeline)
    due, timeline = timeline.advance(1.0, facts())
    assert due == Due(0, down(1, "nic2"), "nic2")
    assert timeline.ready_in(1.0) == 2.0
    due, timeline = timeline.advance(3.2, facts())
    assert due == Due(1, up(3, "last"), "nic2")
    assert timeline.finished
    assert timeline.ready_in(9) is None


def test_steps_at_one_time_keep_the_files_order():
    timeline = Timeline.of([down(1, "nic0"), down(1, "nic1")])
    first, timeline = timeline.advance(1, facts())
    second, _ = timeline.advance(1, facts())
    assert (first.nic, second.nic) == ("nic0", "nic1")


def test_carrying():
    assert one(down(1, "carrying(download)"), facts()) == "nic1"


def test_other_is_neither_the_carrier_nor_down():
    for seed in range(20):
        assert one(rehash(1, "download"), facts(down={"nic2"}), seed=seed) == "nic0"
        assert one(down(1, "other(download)"), facts(), seed=seed) in ("nic0", "nic2")


def test_any_is_up_and_every_nic_has_its_turn():
    assert {one(down(1, "any"), facts(), seed=seed) for seed in range(50)} == set(NICS)
    assert {one(down(1, "any"), facts(down={"nic0"}), seed=seed) for seed in range(50)} == {"nic1", "nic2"}


def test_one_seed_chooses_the_same_nics_again():
    steps = [down(t, "any") for t in range(8)]

    def choices(seed):
        timeline, chosen = Timeline.of(steps, seed), []
        while not timeline.finished:
            due, timeline = timeline.advance(99, facts())
            chosen.append(due.nic)
        return chosen

    assert choices(1) == choices(1)
    assert choices(1) != choices(2)


@pytest.mark.parametrize(
    ("step", "known", "reason"),
    [
        (down(1, "last"), {}, "`last` is the NIC of the step before, and there is none"),
        (down(1, "carrying(upload)"), {}, "no NIC carries `upload`; do the step later, or wait for it"),
        (down(1, "carrying(upload)"), {"done": {"upload"}}, "no NIC carries `upload`; it has ended"),
        (
            rehash(1, "download"),
            {"down": {"nic0", "nic2"}},
            "`other` fits no NIC: the link of every other NIC is down",
        ),
    ],
)
def test_a_step_that_cannot_be_done(step, known, reason):
    with pytest.raises(TimelineError) as error:
        Timeline((step,)).advance(1, facts(**known))
    assert str(error.value) == f"step 1 ({step.do} at 1s): {reason}"


def test_wait_holds_the_clock():
    timeline = Timeline.of([wait(1, "offloaded(download)"), down(1.5, "nic0")])
    due, timeline = timeline.advance(1.0, facts())
    assert due is None
    due, timeline = timeline.advance(1.7, facts())
    assert due is None
    due, timeline = timeline.advance(1.8, facts(offloaded={"download"}))
    assert due == Due(0, wait(1, "offloaded(download)"))
    # The clock stood still from 1.0 to 1.8, so 1.5 comes at 2.3.
    assert timeline.ready_in(1.8) == pytest.approx(0.5)
    due, timeline = timeline.advance(2.2, facts())
    assert due is None
    due, timeline = timeline.advance(2.31, facts())
    assert due is not None


def test_wait_that_is_met_at_once_holds_nothing():
    timeline = Timeline.of([wait(1, "connected(download)"), down(1.5, "nic0")])
    _, timeline = timeline.advance(1.0, facts(connected={"download"}))
    assert timeline.held == 0


def test_wait_has_a_limit():
    timeline = Timeline((wait(1, "done(download)", limit=2.0),))
    _, timeline = timeline.advance(3.0, facts())
    with pytest.raises(TimelineError, match=r"`done\(download\)` did not hold within 2 s"):
        timeline.advance(3.1, facts())


def test_words():
    assert parse_word("carrying(download)") == ("carrying", "download")
    assert parse_word(" nic1 ") == ("nic1", None)
    for wrong in ("carrying()", "Nic1", "a(b)(c)", "", "nic1;"):
        with pytest.raises(ValueError, match="is not a name"):
            parse_word(wrong)


def test_steps_without_a_nic():
    step = AllLinksDown.model_construct(at=1, do="all_links_down")
    due, timeline = Timeline.of([down(0, "nic2"), step, up(1, "last")]).advance(1, facts())
    due, timeline = timeline.advance(1, facts())
    assert due == Due(1, step, None)
    due, _ = timeline.advance(1, facts())
    assert due.nic == "nic2", "`last` is the last NIC that was spoken of"


def test_a_command_to_any_nic_and_to_another():
    assert one(OffloadNow.model_construct(at=1, do="offload", connection="download", nic=None), facts()) is None
    step = ReloadNow.model_construct(at=1, do="reload", connection="download", nic="other")
    assert one(step, facts(down={"nic2"})) == "nic0"


def test_wait_until_uploaded():
    timeline = Timeline.of([wait(0, "uploaded(download)")])
    assert timeline.advance(0, facts())[0] is None
    assert timeline.advance(0, facts(uploaded={"download"}))[0] is not None


def test_wait_for_a_move_since_the_step_before():
    timeline = Timeline.of([down(0, "nic0"), wait(0, "reloaded(download)"), wait(0, "moved(download)")])
    _, timeline = timeline.advance(0, facts(reloads={"download": 2}, moves={"download": 3}))
    assert timeline.advance(0, facts(reloads={"download": 2}, moves={"download": 3}))[0] is None, "these were before"
    due, timeline = timeline.advance(0, facts(reloads={"download": 3}, moves={"download": 4}))
    assert due is not None
    due, timeline = timeline.advance(0, facts(reloads={"download": 3}, moves={"download": 4}))
    assert due is not None, "a wait is no step that moves anything"


def test_wait_for_links_as_the_agent_sees_them():
    timeline = Timeline.of([down(0, "nic2"), wait(0, "down(last)"), wait(0, "up(nic0)")])
    _, timeline = timeline.advance(0, facts())
    assert timeline.advance(0, facts(links={"nic2": True}))[0] is None
    due, timeline = timeline.advance(0, facts(links={"nic2": False}))
    assert due is not None
    assert timeline.advance(0, facts(links={"nic0": False}))[0] is None
    assert timeline.advance(0, facts(links={"nic0": True}))[0] is not None


def test_wait_for_bytes():
    timeline = Timeline.of([wait(0, "received(download) >= 1KB")])
    assert timeline.advance(0, facts(received={"download": 999}))[0] is None
    assert timeline.advance(0, facts(received={"download": 1000}))[0] is not None
    timeline = Timeline.of([wait(0, "sent(download) >= 1 MB")])
    assert timeline.advance(0, facts(received={"download": 10**7}))[0] is None
    assert timeline.advance(0, facts(sent={"download": 10**7}))[0] is not None
