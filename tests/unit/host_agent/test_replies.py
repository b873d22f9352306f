"""What a save tells of a context is looked at, number by number."""

import os
from typing import Any

import pytest

from host_agent import verbs
from host_agent.replies import check_reply
from host_agent.verbs import Malformed, Message

SEQ = {"snd_una": 1, "rcv_nxt": 2}
SOUND: dict[str, Any] = {"size": 3, "bytes_in": 0, "bytes_out": 0, "retransmits": 0, "seq": SEQ}
NO_SEQ = {name: value for name, value in SOUND.items() if name != "seq"}


def checked(saved: Any) -> None:
    contexts = verbs.memory(b"xxx")
    try:
        check_reply(
            Message("save", {"connections": [["10.0.0.11", 40000, "10.0.0.1", 8080]]}),
            Message("reply", {"saved": [saved], "refused": []}, [0], contexts),
        )
    finally:
        os.close(contexts)


@pytest.mark.parametrize("saved", [SOUND, NO_SEQ, SOUND | {"size": 0}, SOUND | {"state": "ESTABLISHED"}])
def test_a_sound_one_is(saved: dict[str, Any]) -> None:
    checked(saved)


@pytest.mark.parametrize(
    ("saved", "why"),
    [
        (SOUND | {"size": -1}, "size"),
        (SOUND | {"size": "3"}, "size"),
        (SOUND | {"size": 4}, "did not come"),
        (SOUND | {"bytes_in": None}, "bytes_in"),
        (SOUND | {"retransmits": 0.5}, "retransmits"),
        (SOUND | {"seq": 7}, "snd_una"),
        (SOUND | {"seq": {"snd_una": 1}}, "rcv_nxt"),
        (SOUND | {"seq": SEQ | {"rcv_nxt": "2"}}, "rcv_nxt"),
        (NO_SEQ | {"bytes_out": []}, "bytes_out"),
        ([1], "size"),
    ],
)
def test_another_is_not_and_the_reason_is_told(saved: Any, why: str) -> None:
    with pytest.raises(Malformed, match=why):
        checked(saved)
