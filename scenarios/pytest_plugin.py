"""pytest: every case of a scenario file is a test. Loaded by `-p scenarios.pytest_plugin`, or from a conftest.py.

    pytest -p scenarios.pytest_plugin my_scenarios -m failover -k "rehash or flap" -n 2 --junitxml results.xml

Decides which files are scenarios: those that pytest was pointed to, with a key `scenario` of their own. A file's topic
is a mark. Each case runs in its own sandbox, so they may go side by side.
"""

import io
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from scenarios import catalogue, environment, events, launcher
from scenarios.console import Console
from scenarios.load import Case, LoadError, cases_of_file
from scenarios.verdict import Result
from topologies import capabilities

_SCENARIO = re.compile(rb"^scenario:", re.MULTILINE)
_SURROUNDINGS = pytest.StashKey[dict[str, Any]]()


class ScenarioFailed(Exception):
    """A run that did not pass; the text is what the console would say."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """The options of `teambed run` that make sense here."""
    group = parser.getgroup("teambed", "scenarios of teambed")
    group.addoption("--scenario-out", type=Path, metavar="DIR", help="for the results (default: pytest's own folder)")
    group.addoption("--scenario-set", action="append", default=[], metavar="KEY=VALUE", help="as --set of teambed run")
    for how, about in {"cli": "a live shell in", "pause": "a pause with"}.items():
        about += " the network of a scenario that failed"
        group.addoption(f"--{how}-on-error", dest="scenario_keep", action="store_const", const=how, help=about)


def pytest_configure(config: pytest.Config) -> None:
    """Topics are marks. A shell needs the terminal for itself."""
    for topic, head in catalogue.HEADS.items():
        config.addinivalue_line("markers", f"{topic}: scenarios. {head}")
    if config.getoption("scenario_keep") and config.getoption("numprocesses", None):
        raise pytest.UsageError("--cli-on-error and --pause-on-error need the terminal for themselves; leave out -n")


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A file is taken for a scenario by its key; the copies in folders of results are not."""
    if file_path.suffix not in (".yaml", ".yml") or (file_path.parent / "events.jsonl").exists():
        return None
    return ScenarioFile.from_parent(parent, path=file_path) if _SCENARIO.search(file_path.read_bytes()) else None


class ScenarioFile(pytest.File):
    """One file, with one case or those of its matrix."""

    def collect(self) -> Iterable[pytest.Item]:
        """Its cases. Raises LoadError, which is told as its lines."""
        for case in cases_of_file(self.path, self.config.getoption("scenario_set")):
            yield ScenarioItem.from_parent(self, name=case.scenario.scenario, case=case)

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What is wrong in the file: a line for each mistake."""
        return "\n".join(excinfo.value.lines) if isinstance(excinfo.value, LoadError) else super().repr_failure(excinfo)


class ScenarioItem(pytest.Item):
    """One case."""

    def __init__(self, *, case: Case, **keys: Any) -> None:
        """Starts nothing."""
        super().__init__(**keys)
        self._case = case
        self.add_marker(case.scenario.topic)

    def runtest(self) -> None:
        """Run it in its sandbox. Raises ScenarioFailed, and pytest's own for a skip."""
        out = self._out()
        if out.exists():  # of an earlier call, or of another file's scenario of this name
            pytest.fail(f"{out} exists; choose another --scenario-out", pytrace=False)
        job = launcher.Job(self._case, out, self._keep())
        console = Console(job.scenario, sys.stdout, live=False)
        with launcher.Interruption() as interruption:
            result = launcher.run(job, self._surroundings(), console, interruption)
            if interruption.count:
                raise KeyboardInterrupt
        self.user_properties += [("verdict", result["verdict"]), ("results", str(job.out))]
        if result["verdict"] == "skip":
            pytest.skip(result["reason"])
        if result["verdict"] != "pass":
            raise ScenarioFailed(self._told(result, job))

    def _told(self, result: Result, job: launcher.Job) -> str:
        """The first line is what pytest's summary shows."""
        failed = [one["text"] for one in result["expectations"] if one["verdict"] == "fail"]
        text = io.StringIO(f"{result.get('reason') or '; '.join(failed)}\n")
        text.seek(0, io.SEEK_END)
        console = Console(job.scenario, text, live=False)
        console.start()
        console.result(result, events.read(job.out / "events.jsonl"), job.out)
        return text.getvalue()

    def _out(self) -> Path:
        folder: Path | None = self.config.getoption("scenario_out")
        if folder is not None:
            return folder.absolute() / self.name
        made: Path = self.config._tmp_path_factory.mktemp(self.name)  # type: ignore[attr-defined]
        return made / self.name

    def _keep(self) -> str | None:
        how: str | None = self.config.getoption("scenario_keep")
        return how

    def _surroundings(self) -> dict[str, Any]:
        """What this machine is, asked once a session. Skips where it can run nothing; under TEAMBED_STRICT fails."""
        stash = self.config.stash
        if _SURROUNDINGS not in stash:
            found = capabilities.probe()
            lacking = [f"{one.name}: {one.detail} ({one.remedy})" for one in found if one.required and not one.ok]
            if lacking:
                reason = f"this machine lacks {'; '.join(lacking)}"
                if os.environ.get(launcher.STRICT) == "1":
                    pytest.fail(reason, pytrace=False)
                pytest.skip(reason)
            stash[_SURROUNDINGS] = environment.describe(found)
        return stash[_SURROUNDINGS]

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """As the console tells it: expectations, what was measured, the events around it."""
        if isinstance(excinfo.value, ScenarioFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int, str]:
        """Where it is."""
        return self.path, 0, self.name
