"""Files that are there whole or not at all: they are written beside their place, and moved there. Decides nothing."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(file: Path) -> Iterator[BinaryIO]:
    """What is written to it takes the file's place, unless something is raised. Raises OSError, which names it."""
    written = file.with_name(file.name + ".new")
    try:
        with written.open("wb") as out:
            yield out
        written.replace(file)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(file)) from None
    finally:
        with suppress(OSError):
            written.unlink()
