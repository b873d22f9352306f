"""Events of one moment are lines of their own."""

import json
import os

import pytest

from host_agent.emit import emit_each


@pytest.mark.parametrize(
    "each", [[], [{"n": 1}], [{"text": text, "deep": {"k": [1, {}]}} for text in ("", "}, {", "\0")]]
)
def test_each_is_a_line_whatever_it_says(each: list[dict[str, object]], monkeypatch: pytest.MonkeyPatch) -> None:
    written = list[bytes]()
    monkeypatch.setattr(os, "write", lambda fd, data: written.append(data))
    emit_each("agent", "move", [json.dumps(one)[1:-1] for one in each], kind="reload")
    found = [json.loads(line) for line in b"".join(written).splitlines()]
    for one in found:
        del one["t"]
    assert found == [{"who": "agent", "event": "move", "kind": "reload", **one} for one in each]
    assert len(written) <= 1
