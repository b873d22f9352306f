"""What `teambed bench` says to a wrong call."""

import os

import pytest

from benchmarks import cli as bench


def test_an_unknown_benchmark_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["frame_path", "nonsense"]) == 2
    assert "'nonsense'; there are frame_path, " in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--out", "--page"])
def test_an_empty_name_is_not_the_current_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(SystemExit) as ended:
        bench.main([option, ""])
    assert ended.value.code == 2
    assert "an empty name is no folder" in capsys.readouterr().err


def test_a_folder_that_cannot_be_made_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert bench.main(["--out", "/dev/null"]) == 2
    assert capsys.readouterr().err == "teambed: /dev/null: File exists; choose another --out\n"


def test_without_root_nothing_is_measured(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert bench.main([]) == 3
    assert "needs root" in capsys.readouterr().err
