"""Removes results that a killed run left unfinished. A run's network, processes and mounts end with it by themselves.

Decides what is a leftover: a folder with a run's `events.jsonl` and `scenario.yaml`, without its `result.json`, that
no process names. Touches nothing else.
"""

import shutil
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path


def leftovers(results: Path) -> list[Path]:
    """The folders of unfinished runs below a folder of results, those of runs under way left out."""
    found = [record.parent for record in sorted(results.glob("**/events.jsonl"))]
    begun = [folder for folder in found if (folder / "scenario.yaml").exists()]
    unfinished = [folder for folder in begun if not (folder / "result.json").exists()]
    named = "\n".join(_command_lines()) if unfinished else ""
    return [folder for folder in unfinished if str(folder.absolute()) not in named]


def clean(results: Path) -> list[Path]:
    """Remove them, and folders that are empty then; returns what was removed. Raises OSError."""
    found = leftovers(results)
    for folder in found:
        shutil.rmtree(folder)
        with suppress(OSError):  # others are still in it
            folder.parent.rmdir()
    return found


def _command_lines() -> Iterable[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
