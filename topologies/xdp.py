"""XDP programs at interfaces: loads instructions into the kernel, and attaches or takes them off in any namespace.

Decides nothing about frames; the instructions come from impair.py. The device itself runs them (native mode), before
packet sockets and tc see a frame.
"""

import ctypes
import os
from pathlib import Path

from topologies import capabilities

_PROG_LOAD, _OBJ_PIN = 5, 6  # linux/bpf.h, enum bpf_cmd
_XDP = 6  # enum bpf_prog_type
_LOG_BYTES = 65536
_ATTRIBUTES = 128


class XdpError(OSError):
    """The kernel refuses a program. One line for a person."""


def pin(instructions: bytes, path: Path) -> None:
    """Loads a program and leaves it in a BPF file system, for `ip link set … xdpdrv pinned`. Raises XdpError."""
    log = ctypes.create_string_buffer(_LOG_BYTES)
    code = ctypes.create_string_buffer(instructions, len(instructions))
    licence = ctypes.create_string_buffer(b"GPL")
    load = _Load(_XDP, len(instructions) // 8, ctypes.addressof(code), ctypes.addressof(licence))
    load.log_level, load.log_size, load.log_buf = 1, _LOG_BYTES, ctypes.addressof(log)
    try:
        program = _bpf(_PROG_LOAD, bytes(load))
    except XdpError as error:
        said = log.value.decode(errors="replace").strip().splitlines()
        raise XdpError(f"{error}: {said[-2] if len(said) > 1 else 'no reason given'}") from None
    try:
        name = ctypes.create_string_buffer(os.fsencode(path))
        _bpf(_OBJ_PIN, bytes(_Pin(ctypes.addressof(name), program)))
    finally:
        os.close(program)


class _Load(ctypes.Structure):  # the part of union bpf_attr for BPF_PROG_LOAD
    _fields_ = [
        ("prog_type", ctypes.c_uint32),
        ("insn_cnt", ctypes.c_uint32),
        ("insns", ctypes.c_uint64),
        ("license", ctypes.c_uint64),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_uint64),
    ]


class _Pin(ctypes.Structure):  # and for BPF_OBJ_PIN
    _fields_ = [("pathname", ctypes.c_uint64), ("bpf_fd", ctypes.c_uint32)]


def _bpf(command: int, attributes: bytes) -> int:
    number = capabilities.SYS_BPF.get(os.uname().machine)
    if number is None:
        raise XdpError(f"bpf on an unknown machine, {os.uname().machine}")
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    result: int = libc.syscall(number, command, ctypes.byref(buffer), _ATTRIBUTES)
    if result < 0:
        raise XdpError(f"the kernel refuses the program: {os.strerror(ctypes.get_errno())}")
    return result
