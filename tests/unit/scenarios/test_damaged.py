"""Hundreds of damaged scenario files: each call is wrong, says so in one line that names the damaged one, and starts
nothing."""

import random
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from scenarios import cli, launcher
from scenarios.cli import LIBRARY
from topologies import capabilities

sys.path.insert(0, str(Path(__file__).parent))
from damage import Damage, damages

KINDS = ("misspelt", "removed", "type", "unit", "no unit", "range", "word", "reference")
EACH = 40
"""Of every kind, by chance, the same ones each time."""


def chosen() -> Iterator[Damage]:
    files = [file for file in sorted(LIBRARY.glob("*.yaml")) if "<<:" not in file.read_text()]
    every = [damage for file in files for damage in damages(file.stem, file.read_text())]
    for kind in KINDS:
        yield from random.Random(5).sample([one for one in every if one.kind == kind], EACH)


@pytest.fixture(autouse=True)
def nothing_is_started(monkeypatch):
    def started(*_: object, **__: object) -> None:
        raise AssertionError("something was started, or was about to be")

    monkeypatch.setattr(launcher.Run, "_launch", started)
    monkeypatch.setattr(capabilities, "probe", started)


def test_every_damage_is_told_in_one_line_with_its_place(tmp_path, capsys):
    file, count = tmp_path / "f.yaml", 0
    for one in chosen():
        file.write_text(one.text)
        assert cli.main(["run", str(file), "--out", str(tmp_path / "out")]) == cli.WRONG, one
        said = capsys.readouterr()
        assert said.out == ""
        assert said.err.count("\n") == 1, (one.kind, one.what, said.err)
        assert said.err.startswith(f"{file}:{one.line}: "), (one.kind, one.what, one.line, said.err)
        count += 1
    assert count == EACH * len(KINDS) >= 200
    assert not (tmp_path / "out").exists()
