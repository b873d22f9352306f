"""A process that has few descriptors left."""

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def room_for(number: int) -> Iterator[None]:
    """So many more descriptors, and no more."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    listed = os.listdir("/proc/self/fd")
    used = {int(fd) for fd in listed if os.path.exists(f"/proc/self/fd/{fd}")}  # but for the one that read the list
    free = [fd for fd in range(max(used) + number + 2) if fd not in used]
    resource.setrlimit(resource.RLIMIT_NOFILE, (free[number], limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
