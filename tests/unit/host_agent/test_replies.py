"""What a save tells of a context is looked at, number by number."""

import os
from typing import Any

import pytest

from host_agent import verbs
from host_agent.replies import check_reply
from host_agent.told import Told
from host_agent.verbs import Malformed, Message

SOUND = Told(3, "ESTABLISHED", 1, 2, 0, 0, 0, 10, 2**31 - 1, 120, 200_000)


def checked(saved: Any) -> None:
    contexts = verbs.memory(b"xxx")
    try:
        check_reply(
            Message("save", {"connections": [["10.0.0.11", 40000, "10.0.0.1", 8080]]}),
            Message("reply", {"saved": [saved], "refused": []}, [0], contexts),
        )
    finally:
        os.close(contexts)


@pytest.mark.parametrize("saved", [SOUND, SOUND._replace(size=0), SOUND._replace(state="CLOSING", ecn=1)])
def test_a_sound_one_is(saved: Told) -> None:
    checked(list(saved))


@pytest.mark.parametrize("name", Told._fields)
@pytest.mark.parametrize("value", [None, 0.5, True, [], {}])
def test_one_with_another_thing_in_any_place_is_not(name: str, value: object) -> None:
    with pytest.raises(Malformed, match="saved"):
        checked(list(SOUND._replace(**{name: value})))


@pytest.mark.parametrize(
    ("saved", "why"),
    [
        (list(SOUND._replace(size=-1)), "saved"),
        (list(SOUND._replace(size=4)), "did not come"),
        (list(SOUND._replace(state=1)), "saved"),
        (list(SOUND._replace(size="3")), "saved"),
        (list(SOUND)[:-1], "saved"),
        ([*SOUND, 0], "saved"),
        (SOUND._asdict(), "saved"),
        ([], "saved"),
        (7, "saved"),
    ],
    ids=str,
)
def test_another_is_not_and_the_reason_is_told(saved: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        checked(saved)
