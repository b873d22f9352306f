"""A run's folder: judges what is in it, and writes all that is made of it. The live run and `teambed report` both do.

Reads events.jsonl, scenario.yaml, the captures and the runner's log; writes result.json and report.html.
"""

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from scenarios import events, verdict
from scenarios.claim import under_way
from scenarios.console import told
from scenarios.load import load_file
from scenarios.processes import last_words
from scenarios.report import captures
from scenarios.report.junit import Case, junit
from scenarios.schema import Scenario

_FLAT = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")
"""A list of plain values over several lines."""


class NoRun(Exception):
    """There is nothing to report on; the message is one line for a person."""


def runs(folder: Path) -> list[Path]:
    """The folders of runs: this one, or those in it, in order. Raises NoRun."""
    found = (
        [folder]
        if (folder / "events.jsonl").is_file()
        else sorted(file.parent for file in folder.glob("*/events.jsonl"))
    )
    if not found:
        raise NoRun(f"{folder} holds no run: no events.jsonl is in it, nor in a folder in it")
    return found


def rebuild(folder: Path) -> Case:
    """Judge an archived run again, by its own scenario file. Raises NoRun, LoadError, OSError."""
    if under_way(folder):
        raise NoRun(f"{folder}: the run is under way")
    scenario = _scenario(folder)
    with _readable(folder):
        return write(folder, scenario)


def write(folder: Path, scenario: Scenario) -> Case:
    """Judge what the folder's events tell, and write everything, or nothing. Raises OSError."""
    record = events.read(folder / "events.jsonl")
    environment = _told(record, "environment").get("environment", {})
    result = verdict.judge(scenario, record, environment)
    if result.get("reason") == verdict.WITHOUT_A_WORD:
        status = _told(record, "torn_down").get("status", "unknown")
        result["reason"] += f" (exit status {status}){last_words(folder / 'logs' / 'runner.log')}"
    result["digest"] = _told(record, "scenario").get("digest")
    from scenarios.report.page import page  # and with it Jinja, which takes longer to import than the rest

    made, shown = _case(folder, scenario, result, record), page(result, record, scenario.about)
    captures.put_together(folder, record)
    _put(folder / "result.json", _dump(result))
    _put(folder / "report.html", shown)
    return made


def write_junit(folder: Path, cases: Sequence[Case]) -> None:
    """junit.xml of these runs. Raises OSError."""
    _put(folder / "junit.xml", junit(cases))


def case(folder: Path) -> Case:
    """What junit.xml tells of a run that has its result. Raises NoRun, LoadError, OSError."""
    scenario = _scenario(folder)
    with _readable(folder):
        result = json.loads((folder / "result.json").read_text())
        return _case(folder, scenario, result, events.read(folder / "events.jsonl"))


def _case(folder: Path, scenario: Scenario, result: verdict.Result, record: Sequence[events.Event]) -> Case:
    took = max((float(event["t"]) for event in record), default=0.0)
    started = _told(record, "scenario").get("started")
    text = told(scenario, result, record, folder)
    return Case(result, text, took, started if isinstance(started, str) else None)


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """An archive may come from anywhere: what makes no sense in it is the reader's to know, in one line."""
    try:
        yield
    except events.Damaged as error:
        raise NoRun(f"{folder} is damaged: {error}") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise NoRun(f"{folder} is damaged: {type(error).__name__}: {str(error).splitlines()[0][:200]}") from error


def _scenario(folder: Path) -> Scenario:
    """Of a run; its file is that case alone. Raises NoRun, LoadError."""
    file = folder / "scenario.yaml"
    if not file.is_file():
        raise NoRun(f"{folder} has no scenario.yaml to judge the run by")
    return load_file(file)


def _told(record: Sequence[events.Event], kind: str) -> events.Event:
    """The first event of a kind, or an empty one."""
    return next((event for event in record if event["event"] == kind), {})


def _dump(result: verdict.Result) -> str:
    """JSON, with lists of numbers on one line each."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    return _FLAT.sub(lambda found: "[" + re.sub(r"\n\s+", " ", found.group(1)) + "]", text) + "\n"


def _put(file: Path, text: str) -> None:
    """All of it or nothing."""
    written = file.with_name(file.name + ".new")
    written.write_text(text)
    written.replace(file)
