"""What an engine does for its connections: a path that narrows."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from host_agent import upkeep
from host_agent.connection import Connection
from host_agent.upkeep import Upkeep

ONE = Connection("10.0.0.11", 4000, "10.0.0.1", 8080)


@pytest.mark.parametrize(
    ("seen", "news"),
    [
        ((1500, 1280), True),
        ((1500, 1500, 1500, 1280), True),  # its TCP hears of it on another CPU
        ((1500,), False),  # it does not believe it
        ((1280,), False),  # it knows already
        ((1200,), False),
    ],
)
def test_a_path_is_news_once_tcp_believes_it(
    monkeypatch: pytest.MonkeyPatch, seen: tuple[int, ...], news: bool
) -> None:
    told: list[int] = []
    answers, passed = list(seen), [0.0]
    clock = SimpleNamespace(monotonic=lambda: passed[0], sleep=lambda seconds: passed.append(passed.pop() + seconds))
    monkeypatch.setattr(upkeep, "time", clock)
    monkeypatch.setattr(upkeep, "path_mtu", lambda *_: answers.pop(0) if len(answers) > 1 else answers[0])
    monkeypatch.setattr(upkeep.segment, "tell_too_big", lambda _connection, mtu, _seq: told.append(mtu))
    held = cast(Any, SimpleNamespace(tcp=None, frozen=None))
    assert Upkeep({ONE: held}, {}, cast(Any, None)).too_big(ONE, 1280, 7) == news
    assert bool(told) == (seen[0] > 1280)
