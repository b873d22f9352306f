"""The scenarios that come along: right, explained, drawn, and named as their files."""

import pytest

from scenarios.cli import LIBRARY
from scenarios.load import load_file

FILES = sorted(LIBRARY.glob("*.yaml"))


def test_there_are_some():
    assert {file.stem for file in FILES} >= {"link_failover", "rehash", "host_stack"}


LONG = sorted((LIBRARY.parent / "long").glob("*.yaml"))
"""Those that take too long for the library."""


@pytest.mark.parametrize("file", [*FILES, *LONG], ids=lambda file: file.stem)
def test_right(file):
    scenario = load_file(file)
    assert scenario.scenario == file.stem
    assert scenario.about.endswith(".")
    assert scenario.topic != "other", "give it a topic, see `teambed list`"
    assert any(set("┌├└") & set(line) for line in file.read_text().splitlines() if line.startswith("#"))
    for name in scenario.traffic:
        assert any(f"{name}.intact" in text for text in scenario.expect), f"nobody asks whether {name} is intact"
