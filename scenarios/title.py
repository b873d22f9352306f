"""The command line that `ps` shows of a process that was forked and not executed. Decides nothing.

Such a process would be called as its parent. Where the kernel does not let it (it lacks CONFIG_CHECKPOINT_RESTORE), it
is, and works all the same.
"""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path

_PR_SET_MM, _PR_SET_MM_MAP = 35, 14  # linux/prctl.h
_kept: list[object] = []


class _Map(ctypes.Structure):  # struct prctl_mm_map
    _fields_ = [
        ("places", ctypes.c_uint64 * 11),
        ("auxv", ctypes.c_void_p),
        ("auxv_size", ctypes.c_uint32),
        ("exe_fd", ctypes.c_uint32),
    ]


def call_it(argv: Sequence[str]) -> None:
    """From now on this process has that command line."""
    text = b"".join(os.fsencode(word) + b"\0" for word in argv)
    line = ctypes.create_string_buffer(text, len(text))
    _kept.append(line)  # the kernel reads it there for as long as we live
    libc = ctypes.CDLL(None)
    libc.sbrk.restype = ctypes.c_void_p
    # By their numbers in proc(5); the first of the list is the third. The arguments are the only ones that change.
    fields = ["", "", "", *Path("/proc/self/stat").read_text().rpartition(")")[2].split()]
    code, data, heap, stack, environment = ([int(fields[n]) for n in numbers] for numbers in _PLACES)
    begin = ctypes.addressof(line)
    places = [*code, *data, *heap, libc.sbrk(0), *stack, begin, begin + len(text), *environment]
    new = _Map((ctypes.c_uint64 * 11)(*places), None, 0, 0xFFFFFFFF)
    libc.prctl(_PR_SET_MM, ctypes.c_ulong(_PR_SET_MM_MAP), ctypes.byref(new), ctypes.c_ulong(ctypes.sizeof(new)), 0)


_PLACES = ((26, 27), (45, 46), (47,), (28,), (50, 51))
"""Of code, data, heap, stack and environment: where each begins and ends."""
