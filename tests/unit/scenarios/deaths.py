"""A death among child processes, as soon as it is noticed."""

import time

from scenarios.processes import Children, RunError


def died(children: Children) -> str:
    """What is said of it."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            children.check()
        except RunError as error:
            return str(error)
        time.sleep(0.002)
    raise AssertionError("nobody died")
