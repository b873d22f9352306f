"""A fork that takes the place of a program: nothing of its caller's goes on in it."""

import fcntl
import gc
import os
import resource
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from topologies import forks


def fork(inside: Callable[[], int | None]) -> int:
    """Its exit status."""
    child = os.fork()
    if child == 0:
        forks.begin()
        forks.end(inside)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_the_callers_exit_functions_are_the_callers() -> None:
    """What tidies up after the caller would do so while the caller still works."""
    with tempfile.TemporaryDirectory() as folder:
        assert fork(lambda: 0) == 0
        assert os.path.isdir(folder)


def test_garbage_is_collected_but_not_the_callers(tmp_path: Path) -> None:
    """A forgotten file of the caller's would close a descriptor that is another's by now."""
    gc.disable()  # as subprocess does around its preexec_fn
    try:
        ring: list[object] = [(tmp_path / "forgotten").open("w")]
        number = ring[0].fileno()  # type: ignore[attr-defined]
        ring.append(ring)
        del ring

        def inside() -> int:
            gc.collect()
            os.fstat(number)
            return 0 if gc.isenabled() else 3

        assert fork(inside) == 0
    finally:
        gc.enable()
    gc.collect()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_signals_are_no_handlers_of_the_callers() -> None:
    """SIGTERM ends it, whatever the caller did with it."""
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        assert fork(lambda: os.kill(os.getpid(), signal.SIGTERM)) == -signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize(("status", "seen"), [(None, 0), (0, 0), (7, 7), ("words", 1)])
def test_it_ends_with_what_a_program_would(status: int | str | None, seen: int) -> None:
    """By returning, or by SystemExit."""

    def leaves() -> int:
        raise SystemExit(status)

    assert fork(leaves) == seen


def test_an_end_is_heard_by_descriptors_of_any_number() -> None:
    """select knows those below 1,024 only, and a large run has more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard <= 1100:
        pytest.skip("1,100 descriptors are more than this process may have")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        low = os.pidfd_open(process.pid)
        high = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, 1100)
        try:
            assert not forks.ready(high, 0)
            process.kill()
            assert forks.ready(high, None)
        finally:
            os.close(low)
            os.close(high)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
