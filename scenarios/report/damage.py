"""Which event of an archived run makes no sense, when the run cannot be judged or shown for it.

Pure: it judges parts of the record again, and decides by what fails and what does not. A reader of events takes what
each of them tells as it comes; to hold every word against a form, of archives too old and too new, would be another
account of all events.
"""

import json
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

from scenarios.events import Damaged, Told

MOST = 20
"""Events that are tried for one that failed only with what another tells."""
SHOWN = 60
"""Characters of a value that are shown."""


class _Asked(Told):
    """It knows which of its words were asked for, the last one last."""

    def __init__(self, event: Told) -> None:
        super().__init__(event)
        self.line = event.line
        self.words: dict[str, None] = {}

    def __getitem__(self, key: str) -> Any:
        self._note(key)
        return super().__getitem__(key)

    def get(self, key: str, default: Any = None) -> Any:
        self._note(key)
        return super().get(key, default)

    def _note(self, key: str) -> None:
        self.words.pop(key, None)
        self.words[key] = None


def damage(judge: Callable[[Sequence[Told]], object], record: Sequence[Told]) -> Damaged | None:
    """The first event that judge(record) fails at; None where no part of the record is to blame.

    A word of it is named where it is told otherwise by all events of the kind; one before, where that is told otherwise
    by most.
    """

    def why(part: Sequence[Told]) -> Exception | None:
        try:
            judge(part)
        except Exception as error:  # whatever Python says of something that is not what it should be
            return error
        return None

    place = bisect_left(range(len(record)), True, key=lambda last: why(record[: last + 1]) is not None)
    if place == len(record):
        return None
    before, guilty = record[:place], _Asked(record[place])
    reason = why([*before, guilty])
    if isinstance(reason, Damaged):
        return reason
    # Most likely it is the last one that was asked for.
    words = [key for key in reversed(guilty.words) if key in guilty and key not in ("t", "event")]
    without = {key: why([*before, guilty.without(key)]) for key in words}
    suspects = [key for key in words if without[key] is None or isinstance(without[key], Damaged)]
    for key in suspects:
        alike = [one for one in record if one["event"] == guilty["event"] and one is not record[place] and key in one]
        if alike and not any(_type(one[key]) is _type(guilty[key]) for one in alike):
            return _cannot_be(guilty, key)
    for key in suspects:
        for other in _telling_otherwise(record, before, key, guilty[key]):
            if why([*(one for one in before if one is not other), guilty]) is None:
                return _cannot_be(other, key)
    return Damaged(guilty.line, f"the event `{guilty['event']}` makes no sense behind those before it")


def _telling_otherwise(record: Sequence[Told], before: Sequence[Told], key: str, value: object) -> list[Told]:
    """Those before that tell something of another type by this word, the first ones; nobody can add a text to a number.

    None unless most of all events tell it as this one does: else it may be this one that is damaged.
    """
    told = [one for one in record if one.get(key) is not None]
    if sum(_type(one[key]) is _type(value) for one in told) * 2 <= len(told):
        return []
    return [one for one in before if one.get(key) is not None and _type(one[key]) is not _type(value)][:MOST]


def _type(value: object) -> type:
    return float if isinstance(value, int) else type(value)


def _cannot_be(event: Told, key: str) -> Damaged:
    told = json.dumps(event[key])
    told = told if len(told) <= SHOWN else f"{told[:SHOWN]}…"
    return Damaged(event.line, f"`{key}` of the event `{event['event']}` cannot be {told}")
