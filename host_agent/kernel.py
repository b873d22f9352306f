"""The kernel as the server side sees it: BPF objects and maps (through libbpf), tc hooks.

Decides: nothing. Never touches: TCP sockets (repair.py), netlink (rtnetlink.py), what maps and frames mean
(records.py, steering.py).

libbpf is called through ctypes: it parses ELF and BTF, speaks netlink to tc and reads ring buffers, all of which we
would otherwise write again; a binding generator or a compiler at run time would buy nothing more.
"""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import mmap
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

_FIRST = 512
"""Elements of a map that are asked for first."""


class KernelError(Exception):
    """What the kernel or libbpf refused, in one line. number: of errno, 0 when there is none."""

    def __init__(self, text: str, number: int = 0):
        super().__init__(text)
        self.number = number


_messages: list[str] = []
_kept: list[Any] = []  # callbacks that C may call for as long as we live


def _load_libbpf() -> ctypes.CDLL:
    try:
        lib = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise KernelError(f"libbpf.so.1 cannot be loaded ({error}); install the Debian package libbpf1") from None
    pointer, path, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
        ("bpf_object__open_file", pointer, (path, pointer)),
        ("bpf_object__load", number, (pointer,)),
        ("bpf_object__close", None, (pointer,)),
        ("bpf_object__find_map_by_name", pointer, (pointer, path)),
        ("bpf_map__fd", number, (pointer,)),
        ("bpf_map__set_max_entries", number, (pointer, ctypes.c_uint32)),
        ("bpf_object__find_program_by_name", pointer, (pointer, path)),
        ("bpf_program__fd", number, (pointer,)),
        ("bpf_obj_pin", number, (number, path)),
        ("bpf_obj_get", number, (path,)),
        ("bpf_map_lookup_elem", number, (number, pointer, pointer)),
        ("bpf_map_update_elem", number, (number, pointer, pointer, ctypes.c_uint64)),
        ("bpf_map_delete_elem", number, (number, pointer)),
        ("bpf_map_lookup_batch", number, (number, pointer, pointer, pointer, pointer, pointer, pointer)),
        ("bpf_map_update_batch", number, (number, pointer, pointer, pointer, pointer)),
        ("bpf_map_delete_batch", number, (number, pointer, pointer, pointer)),
        ("bpf_prog_test_run_opts", number, (number, pointer)),
        ("bpf_link_create", number, (number, number, number, pointer)),
        ("bpf_iter_create", number, (number,)),
        ("bpf_raw_tracepoint_open", number, (path, number)),
        ("bpf_tc_hook_create", number, (pointer,)),
        ("bpf_tc_attach", number, (pointer, pointer)),
        ("ring_buffer__new", pointer, (number, pointer, pointer, pointer)),
        ("ring_buffer__epoll_fd", number, (pointer,)),
        ("ring_buffer__consume", number, (pointer,)),
    ):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    # libbpf's print callback takes a va_list; vsnprintf renders it.
    libc = ctypes.CDLL(None)
    libc.vsnprintf.argtypes = (pointer, ctypes.c_size_t, path, pointer)

    def keep(level: int, form: bytes, arguments: int) -> int:
        if level == 0:  # LIBBPF_WARN
            text = ctypes.create_string_buffer(4096)
            libc.vsnprintf(text, len(text), form, arguments)
            _messages.append(text.value.decode(errors="replace").strip())
        return 0

    lib.libbpf_set_print.argtypes = (pointer,)
    _kept.append(ctypes.CFUNCTYPE(number, number, path, pointer)(keep))
    lib.libbpf_set_print(_kept[0])
    return lib


_lib: ctypes.CDLL | None = None


def _libbpf() -> ctypes.CDLL:
    global _lib
    if _lib is None:
        _lib = _load_libbpf()
    return _lib


def _check(result: int, what: str) -> int:
    if result < 0:
        reason = os.strerror(-result)
        detail = next((m for m in reversed(_messages) if "libbpf" in m), "")
        _messages.clear()
        raise KernelError(f"{what}: {reason}" + (f" ({detail.splitlines()[-1]})" if detail else ""), -result)
    return result


class Map:
    """One BPF map by descriptor. Keys and values are bytes of the map's exact sizes."""

    def __init__(self, fd: int, key_size: int, value_size: int, owner: BpfObject | None = None):
        self.fd = fd
        self._owner = owner  # whose descriptor it is, kept for as long as we are
        self._lib = _libbpf()
        self._key_size, self._value_size = key_size, value_size
        self._value = ctypes.create_string_buffer(value_size)

    def get(self, key: bytes) -> bytes | None:
        result = self._lib.bpf_map_lookup_elem(self.fd, key, self._value)
        if result == -errno.ENOENT:
            return None
        _check(result, "map lookup")
        return self._value.raw

    def put(self, key: bytes, value: bytes, flags: int = 0) -> None:
        """Raises KernelError, with the number E2BIG when the map is full."""
        _check(self._lib.bpf_map_update_elem(self.fd, key, value, flags), "map update")

    def delete(self, key: bytes) -> bool:
        """True if the key was there."""
        result = self._lib.bpf_map_delete_elem(self.fd, key)
        if result == -errno.ENOENT:
            return False
        _check(result, "map delete")
        return True

    def batches(self, size: int = 4096) -> Iterator[tuple[int, bytes, memoryview, bool]]:
        """All elements of a hash map, up to about `size` by one system call: how many, their keys, their values until
        the next ones are asked for, and whether these were the last.

        Few by the first one: a map is mostly read when it has few, and room for many takes longer than they do.
        """
        most, size = size, min(size, _FIRST)
        place, count, result = ctypes.create_string_buffer(max(4, self._key_size)), ctypes.c_uint32(), 0
        before: ctypes.Array[ctypes.c_char] | None = None
        keys = values = ctypes.create_string_buffer(0)
        while result == 0:
            if len(values) != size * self._value_size:
                keys = ctypes.create_string_buffer(size * self._key_size)
                values = ctypes.create_string_buffer(size * self._value_size)
            count.value = size
            result = self._lib.bpf_map_lookup_batch(self.fd, before, place, keys, values, ctypes.byref(count), None)
            if result == -errno.ENOSPC:  # one chain of the hash table is longer than that
                size, result = 2 * size, 0
                continue
            if result != -errno.ENOENT:  # the kernel's word for: these were the last
                _check(result, "map lookup")
            before, size = place, max(size, min(8 * size, most))
            yield count.value, keys.raw, memoryview(values).cast("B"), result != 0

    def put_many(self, elements: Sequence[tuple[bytes, bytes]]) -> None:
        """Puts all of them by one system call. Raises KernelError; some are there then, and some are not."""
        keys, values = (b"".join(parts) for parts in zip(*elements, strict=True)) if elements else (b"", b"")
        count = ctypes.c_uint32(len(elements))
        if elements:
            _check(self._lib.bpf_map_update_batch(self.fd, keys, values, ctypes.byref(count), None), "map update")

    def delete_many(self, keys: Sequence[bytes]) -> None:
        """Deletes those that are there, by one system call where that is all of them."""
        rest, count = list(keys), ctypes.c_uint32()
        while rest:
            count.value = len(rest)
            result = self._lib.bpf_map_delete_batch(self.fd, b"".join(rest), ctypes.byref(count), None)
            if result != -errno.ENOENT:
                _check(result, "map delete")
                return
            rest = rest[count.value + 1 :]  # it stops at one that is not there

    def shared(self, count: int) -> mmap.mmap:
        """So many elements of an array that was made to be seen in our own memory (BPF_F_MMAPABLE)."""
        return mmap.mmap(self.fd, count * self._value_size)

    def max_entries(self) -> int:
        return self._told("max_entries")

    def value_size(self) -> int:
        """Bytes of a value, as the kernel took it from the compiled object."""
        return self._told("value_size")

    def memory(self) -> int:
        """Bytes that it takes in the kernel, as the kernel counts them."""
        return self._told("memlock")

    def _told(self, what: str) -> int:
        lines = Path(f"/proc/self/fdinfo/{self.fd}").read_text().splitlines()
        return int(next(line.split(":")[1] for line in lines if line.startswith(f"{what}:")))


class Memory:
    """Bytes that a program may read while this lives. address: where they are."""

    def __init__(self, data: bytes):
        self._buffer = ctypes.create_string_buffer(data, len(data))
        self.address = ctypes.addressof(self._buffer)


class _TestRun(ctypes.Structure):  # struct bpf_test_run_opts
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("data_in", ctypes.c_void_p),
        ("data_out", ctypes.c_void_p),
        ("data_size_in", ctypes.c_uint32),
        ("data_size_out", ctypes.c_uint32),
        ("ctx_in", ctypes.c_void_p),
        ("ctx_out", ctypes.c_void_p),
        ("ctx_size_in", ctypes.c_uint32),
        ("ctx_size_out", ctypes.c_uint32),
        ("retval", ctypes.c_uint32),
        ("repeat", ctypes.c_int),
        ("duration", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
        ("cpu", ctypes.c_uint32),
        ("batch_size", ctypes.c_uint32),
    ]


class _LinkOptions(ctypes.Structure):  # struct bpf_link_create_opts, as far as an iterator needs it
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
        ("iter_info", ctypes.c_void_p),
        ("iter_info_len", ctypes.c_uint32),
    ]


class _TcHook(ctypes.Structure):  # struct bpf_tc_hook
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("ifindex", ctypes.c_int),
        ("attach_point", ctypes.c_int),
        ("parent", ctypes.c_uint32),
    ]


class _TcOpts(ctypes.Structure):  # struct bpf_tc_opts
    _fields_ = [
        ("sz", ctypes.c_size_t),
        ("prog_fd", ctypes.c_int),
        ("flags", ctypes.c_uint32),
        ("prog_id", ctypes.c_uint32),
        ("handle", ctypes.c_uint32),
        ("priority", ctypes.c_uint32),
    ]


_PIECE = 1 << 16  # the kernel gives half as much at once
INGRESS, EGRESS = 1, 2  # enum bpf_tc_attach_point


class Program:
    """One loaded BPF program by descriptor."""

    def __init__(self, fd: int, name: str, owner: BpfObject | None = None):
        self.fd, self.name = fd, name
        self._owner = owner

    def attach(self, interface: str, where: int) -> None:
        """To the clsact hook of an interface of this network namespace; where is INGRESS or EGRESS."""
        lib = _libbpf()
        hook = _TcHook(ctypes.sizeof(_TcHook), socket.if_nametoindex(interface), where, 0)
        result = lib.bpf_tc_hook_create(ctypes.byref(hook))
        if result != -errno.EEXIST:
            _check(result, f"clsact on {interface}")
        replace = 1  # BPF_TC_F_REPLACE: an engine that was killed has left its programs behind
        options = _TcOpts(sz=ctypes.sizeof(_TcOpts), prog_fd=self.fd, flags=replace, handle=1, priority=1)
        _check(lib.bpf_tc_attach(ctypes.byref(hook), ctypes.byref(options)), f"{self.name} on {interface}")

    def trace(self) -> int:
        """Attaches it where its section says. Lives as long as the descriptor that this gives."""
        return _check(_libbpf().bpf_raw_tracepoint_open(None, self.fd), self.name)

    def walk(self, a_map: Map) -> Iterator[bytes]:
        """Of an iterator: runs it over every element, and gives what it writes, piece by piece; nothing at a pause."""
        info = ctypes.c_uint32(a_map.fd)  # union bpf_iter_link_info
        options = _LinkOptions(ctypes.sizeof(_LinkOptions), 0, ctypes.addressof(info), ctypes.sizeof(info))
        trace_iter = 28  # enum bpf_attach_type
        link = _check(_libbpf().bpf_link_create(self.fd, 0, trace_iter, ctypes.byref(options)), self.name)
        try:
            elements = _check(_libbpf().bpf_iter_create(link), self.name)
        finally:
            os.close(link)
        with open(elements, "rb", buffering=0) as file:
            while (written := file.read(_PIECE)) != b"":
                yield written or b""

    def run(self, *, frame: bytes | None = None, context: bytes | None = None) -> tuple[int, bytes]:
        """BPF_PROG_TEST_RUN: once over a frame and/or a context. Gives the return value and the context afterwards."""
        ctx = ctypes.create_string_buffer(context, len(context)) if context is not None else None
        options = _TestRun(sz=ctypes.sizeof(_TestRun))
        if frame is not None:
            data = ctypes.create_string_buffer(frame, len(frame))
            options.data_in, options.data_size_in = ctypes.addressof(data), len(frame)
            if ctx is not None:  # a tc program's context is copied out; a syscall program's is written in place
                options.ctx_out, options.ctx_size_out = ctypes.addressof(ctx), len(ctx)
        if ctx is not None:
            options.ctx_in, options.ctx_size_in = ctypes.addressof(ctx), len(ctx)
        result = _libbpf().bpf_prog_test_run_opts(self.fd, ctypes.byref(options))
        _check(result, f"run of {self.name}")
        return options.retval, ctx.raw if ctx is not None else b""

    def timed(self, frame: bytes, repeat: int) -> tuple[int, int]:
        """The same over a frame, so many times: the last return value, and the nanoseconds of one run."""
        data = ctypes.create_string_buffer(frame, len(frame))
        options = _TestRun(sz=ctypes.sizeof(_TestRun), data_size_in=len(frame), repeat=repeat)
        options.data_in = ctypes.addressof(data)
        _check(_libbpf().bpf_prog_test_run_opts(self.fd, ctypes.byref(options)), f"run of {self.name}")
        return options.retval, options.duration


class BpfObject:
    """A compiled BPF object, loaded. Raises KernelError with libbpf's last word when the kernel refuses it."""

    def __init__(self, path: Path, max_entries: dict[str, int] | None = None):
        self._object = None
        self._lib = _libbpf()
        self._object = self._lib.bpf_object__open_file(str(path).encode(), None)
        if not self._object:
            raise KernelError(f"{path}: {os.strerror(ctypes.get_errno())}; ./teambed builds it")
        for name, size in (max_entries or {}).items():
            found = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
            _check(self._lib.bpf_map__set_max_entries(found, size), f"size of {name}")
        _check(self._lib.bpf_object__load(self._object), f"loading {path.name}")

    def map(self, name: str, key_size: int, value_size: int) -> Map:
        found = self._lib.bpf_object__find_map_by_name(self._object, name.encode())
        return Map(_check(self._lib.bpf_map__fd(found), name), key_size, value_size, self)

    def program(self, name: str) -> Program:
        found = self._lib.bpf_object__find_program_by_name(self._object, name.encode())
        return Program(_check(self._lib.bpf_program__fd(found), name), name, self)

    def __del__(self) -> None:
        """Closes all its descriptors; what is attached or pinned stays."""
        if self._object:
            self._lib.bpf_object__close(self._object)


def pin(fd: int, path: Path) -> None:
    _check(_libbpf().bpf_obj_pin(fd, str(path).encode()), f"pin {path}")


def pinned(path: Path) -> int:
    """The descriptor of a pinned map or program."""
    return _check(_libbpf().bpf_obj_get(str(path).encode()), f"pinned {path}")


class RingBuffer:
    """Reads a BPF ring buffer; `fd` becomes readable when there is something."""

    def __init__(self, fd: int, take: Callable[[bytes], None]):
        def sample(_context: int, data: int, size: int) -> int:
            take(ctypes.string_at(data, size))
            return 0

        kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
        self._sample = kind(sample)  # lives as long as the ring does
        self._ring = _libbpf().ring_buffer__new(fd, self._sample, None, None)
        if not self._ring:
            raise KernelError(f"ring buffer: {os.strerror(ctypes.get_errno())}")
        self.fd = _libbpf().ring_buffer__epoll_fd(self._ring)

    def consume(self) -> None:
        _check(_libbpf().ring_buffer__consume(self._ring), "ring buffer")


def tcp_in_segments() -> int:
    """Tcp InSegs of this namespace's /proc/net/snmp: segments its TCP has received, whoever counts beside it."""
    names, values = (line.split() for line in Path("/proc/net/snmp").read_text().splitlines() if line[:4] == "Tcp:")
    return int(values[names.index("InSegs")])
