"""Removes results that a killed run left unfinished. A run's network, processes and mounts end with it by themselves.

Decides what is a leftover: a folder with a run's `events.jsonl` and `scenario.yaml`, without its `result.json`, that
nobody works on. Touches nothing else.
"""

import shutil
from contextlib import suppress
from pathlib import Path

from scenarios.claim import RECORD, under_way


def clean(results: Path) -> list[Path]:
    """Remove them below a folder of results, and folders that are empty then; what was removed. Raises OSError."""
    found = [record.parent for record in sorted(results.glob(f"**/{RECORD}"))]
    # A run that nobody works on any more has its result by now, or never will.
    unfinished = [one for one in found if not under_way(one) and not (one / "result.json").exists()]
    removed = [folder for folder in unfinished if (folder / "scenario.yaml").exists()]
    for folder in removed:
        try:
            shutil.rmtree(folder)
        except OSError as error:  # it names a file without its folder
            raise OSError(error.errno, error.strerror, str(folder)) from None
        with suppress(OSError):  # others are still in it
            folder.parent.rmdir()
    return removed
