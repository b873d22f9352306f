"""The machine's load. Decides nothing."""

import os


def load() -> float:
    """Runnable processes, the mean of a minute."""
    return os.getloadavg()[0]
