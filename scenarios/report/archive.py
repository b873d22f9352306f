"""A run's folder: judges what is in it, and writes all that is made of it. The live run and `teambed report` both do.

Reads events.jsonl, scenario.yaml, the captures and the runner's log; writes result.json and report.html.
"""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from scenarios import events, verdict
from scenarios.claim import RECORD, under_way
from scenarios.console import told
from scenarios.load import load_file
from scenarios.processes import last_words
from scenarios.report import captures
from scenarios.report.damage import damage
from scenarios.report.junit import Case, junit
from scenarios.report.pcapng import Comment
from scenarios.report.whole import whole
from scenarios.schema import Scenario

_FLAT = re.compile(r"\[\s+([^\[\]{}]*?)\s+\]")
"""A list of plain values over several lines."""


LONG = 10_000
"""Events of a record in which damage is not found at once."""


class NoRun(Exception):
    """There is nothing to report on; the message is one line for a person."""


def runs(folder: Path) -> list[Path]:
    """The folders of runs: this one, or those in it, in order. Raises NoRun."""
    try:
        inside = sorted(folder.iterdir())
    except OSError as error:
        raise NoRun(f"{error.filename}: {error.strerror}") from None
    found = [folder] if _holds_a_run(folder) else [one for one in inside if _holds_a_run(one)]
    if not found:
        raise NoRun(f"{folder} holds no run: no events.jsonl is in it, nor in a folder in it")
    return found


def _holds_a_run(folder: Path) -> bool:
    """Also where nobody may look into it: that is told then, rather than that there is none."""
    try:
        (folder / RECORD).stat()
    except PermissionError:
        return True
    except OSError:
        return False
    return True


def rebuild(folder: Path, tell: Callable[[str], object]) -> Case:
    """Judge an archived run again, by its own scenario file. Raises NoRun, LoadError, OSError.

    An archive may come from anywhere: what makes no sense in it is the reader's to know, in one line. To find it in a
    long record takes minutes, for it is judged twenty times and more; that is told first.
    """
    if (folder / RECORD).exists() and not (folder / RECORD).is_file():
        raise NoRun(f"{folder / RECORD} is no file; put the run's own there, or remove the folder")
    if under_way(folder):
        raise NoRun(f"{folder}: the run is under way; wait for its end")
    scenario = _scenario(folder)
    try:
        return write(folder, scenario)
    except OSError:
        raise
    except Exception as error:
        record = events.read(folder / RECORD)
        if len(record) > LONG:
            count = f"{len(record):,} events"
            tell(f"{folder / RECORD}: something makes no sense; looking for it among {count}, which takes minutes")
        found = damage(lambda part: _made(folder, scenario, part), record)
        if found is None:  # a mistake of ours
            raise
        remedy = "delete the line, or run the scenario again"
        raise NoRun(f"{folder / RECORD}:{found.line}: {found}; {remedy}") from error


def write(folder: Path, scenario: Scenario) -> Case:
    """Judge what the folder's events tell, and write everything, or nothing. Raises OSError."""
    record = events.read(folder / RECORD)
    made, comments, files = _made(folder, scenario, record)
    captures.put_together(folder, scenario.scenario, comments)
    for name, data in files.items():
        _put(folder / name, data)
    return made


def _made(
    folder: Path, scenario: Scenario, record: Sequence[events.Event]
) -> tuple[Case, list[Comment], dict[str, bytes]]:
    """All that is made of these events, nothing of it written yet."""
    environment = _told(record, "environment").get("environment", {})
    result = verdict.judge(scenario, record, environment)
    if result.get("reason") == verdict.WITHOUT_A_WORD:
        status = _told(record, "torn_down").get("status", "unknown")
        result["reason"] += f" (exit status {status}){last_words(folder / 'logs' / 'runner.log')}"
    result["digest"] = _told(record, "scenario").get("digest")
    from scenarios.report.page import page  # and with it Jinja, which takes longer to import than the rest

    made, shown = _case(folder, scenario, result, record), page(result, record, scenario.about)
    junit([made])
    files = {"result.json": _dump(result), "report.html": shown}
    return made, captures.comments(record), {name: text.encode(errors="replace") for name, text in files.items()}


def write_junit(folder: Path, cases: Sequence[Case]) -> None:
    """junit.xml of these runs. Raises OSError."""
    _put(folder / "junit.xml", junit(cases).encode(errors="replace"))


def case(folder: Path) -> Case:
    """What junit.xml tells of a run that has its result. Raises NoRun, LoadError, OSError."""
    scenario = _scenario(folder)
    try:
        result = json.loads((folder / "result.json").read_bytes())
        made = _case(folder, scenario, result, events.read(folder / RECORD))
        junit([made])
    except OSError:
        raise
    except Exception as error:
        raise NoRun(f"{folder / 'result.json'} is damaged; `teambed report {folder}` makes it anew") from error
    return made


def _case(folder: Path, scenario: Scenario, result: verdict.Result, record: Sequence[events.Event]) -> Case:
    took = max((float(event["t"]) for event in record), default=0.0)
    started = _told(record, "scenario").get("started")
    text = told(scenario, result, record, folder)
    return Case(result, text, took, started if isinstance(started, str) else None)


def _scenario(folder: Path) -> Scenario:
    """Of a run; its file is that case alone. Raises NoRun, LoadError."""
    file = folder / "scenario.yaml"
    if not file.is_file():
        raise NoRun(f"{folder} has no scenario.yaml to judge the run by; put the one there that it was run by")
    return load_file(file)


def _told(record: Sequence[events.Event], kind: str) -> events.Event:
    """The first event of a kind, or an empty one."""
    return next((event for event in record if event["event"] == kind), {})


def _dump(result: verdict.Result) -> str:
    """JSON, with lists of numbers on one line each."""
    text = json.dumps(result, indent=2, ensure_ascii=False)
    return _FLAT.sub(lambda found: "[" + re.sub(r"\n\s+", " ", found.group(1)) + "]", text) + "\n"


def _put(file: Path, data: bytes) -> None:
    """All of it or nothing. Raises OSError."""
    with whole(file) as out:
        out.write(data)
