"""The scenarios that come along: right, explained, drawn, and named as their files."""

import sys
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
import silent

from scenarios.cli import LIBRARY
from scenarios.load import load, load_file
from scenarios.steps import STEPS

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


CASES = dict(silent.cases())
"""What tests/net/test_silent.py runs."""


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_something_can_be_made_silent(file):
    """A scenario in which no step makes anything happen is about a setting, or a command: tests/silent.py has it."""
    names = [name for name in CASES if name.startswith(f"{file.stem}-")]
    deeds = [step for step in yaml.safe_load(file.read_text()).get("timeline", []) if step["do"] not in silent.LOOKS]
    asked = len(silent.SETTINGS.get(file.stem, ())) + len(silent.COMMANDS.get(file.stem, ()))
    assert len(names) == len(deeds) + asked > 0


@pytest.mark.parametrize("case", CASES)
def test_the_silenced_ones_are_right_and_lack_one_thing(case):
    name = case.partition("-")[0]
    whole, left = load_file(LIBRARY / f"{name}.yaml"), load(CASES[case], case)
    assert left.expect == whole.expect
    assert [step.at for step in left.timeline] == [step.at for step in whole.timeline]
    other = [index for index, step in enumerate(left.timeline) if step != whole.timeline[index]]
    if "-set-" in case:
        assert not other
        assert left.model_copy(update={"scenario": name}) != whole
        return
    index, do = case.split("-")[1:]
    assert other[0] == int(index) - 1
    assert whole.timeline[other[0]].do == do
    assert {left.timeline[one].do for one in other} == {"wait"}


def test_what_silence_is_made_of_is_there():
    assert {*silent.UNDO, *set().union(*silent.UNDO.values()), *silent.LOOKS} <= set(STEPS)
    assert {*silent.SETTINGS, *silent.COMMANDS} <= {file.stem for file in FILES}
