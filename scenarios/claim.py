"""Whether somebody works on a run: a lock on its events.jsonl, which the kernel lets go of however its holder ends.

Decides nothing. The process that starts a run holds it until the run has its result; whoever wants to remove the run,
or to judge it again, asks first.
"""

import fcntl
from pathlib import Path
from typing import BinaryIO

RECORD = "events.jsonl"


def claim(folder: Path) -> BinaryIO:
    """Begins the run's record and holds it until the file is closed. Raises OSError."""
    file = (folder / RECORD).open("ab")
    fcntl.flock(file, fcntl.LOCK_EX)
    return file


def under_way(folder: Path) -> bool:
    """Whether a run is being made there, or judged. Raises OSError."""
    with (folder / RECORD).open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False
