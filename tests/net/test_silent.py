"""Each fault in the library made silent makes at least one expectation of its scenario fail: none is empty.

All of them run in one call, side by side. What is made silent, and how, is in tests/silent.py.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from silent import cases

from scenarios.load import load

TEAMBED = Path(__file__).resolve().parents[2] / "teambed"
CASES = dict(cases())
LONGEST_S = 1800

Verdicts = Callable[[str], dict[str, Any]]
pytestmark = [pytest.mark.net, pytest.mark.long, pytest.mark.timeout(LONGEST_S + 60)]


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Verdicts:
    """The silenced scenarios that this session's tests are about run once, three at a time; a case's result."""
    folder = tmp_path_factory.mktemp("silent")
    for item in request.session.items:
        if item.path == Path(__file__) and hasattr(item, "callspec"):
            case = item.callspec.params["case"]
            (folder / f"{case}.yaml").write_text(CASES[case])
    out = folder / "out"
    call = [TEAMBED, "run", folder, "--jobs", "3", "--out", out]
    subprocess.run(call, capture_output=True, text=True, timeout=LONGEST_S)

    def of(case: str) -> dict[str, Any]:
        read: dict[str, Any] = json.loads((out / load(CASES[case], case).scenario / "result.json").read_text())
        return read

    return of


@pytest.mark.parametrize("case", CASES)
def test_a_silent_fault_is_noticed(results: Verdicts, case: str) -> None:
    """An expectation fails; that the run broke off would prove nothing."""
    result = results(case)
    if result["verdict"] == "skip":
        pytest.skip(result["reason"])
    assert result["verdict"] == "fail", result.get("reason", "all expectations hold without the fault")
    assert any(one["verdict"] == "fail" for one in result["expectations"])
