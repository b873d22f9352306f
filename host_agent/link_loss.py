"""Hears of a wire's loss from the kernel itself, a work item, a grace period and two wake-ups before its engine does.

Decides: nothing. Never touches: links. It only hastens: whether a link is up, the NIC's engine says (rtnetlink.py), and
where the kernel has no such tracing (`teambed doctor`: link_tracing) that is all there is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from host_agent import kernel
from host_agent.bpf import build
from host_agent.loop import Loop

LATER = 0.1
"""Seconds from the start until it is loaded: libbpf reads all types of the kernel, which takes 25 ms of a CPU."""

_WIRE, _NIC = struct.Struct("=Ii"), struct.Struct("=I")


class LinkLoss:
    """lost(NIC id) is called when a wire is about to lose its carrier."""

    def __init__(self, loop: Loop, lost: Callable[[int], None]):
        self._loop, self._lost = loop, lost
        self._told: dict[int, bytes] = {}
        self._wires: kernel.Map | None = None
        self._ring: kernel.RingBuffer | None = None
        loop.after(LATER, self._begin)

    def watch(self, nic: int, wire: Sequence[int] | None) -> None:
        """wire: the inode number of its network namespace, and its index there, if its engine tells them. What was lost
        before its engine said something of it is told first, and what is said holds."""
        if self._ring is not None:
            self._ring.consume()
        if wire is not None:
            self._told[nic] = _WIRE.pack(*wire)
            self._put(nic)

    def _put(self, nic: int) -> None:
        if self._wires is not None:
            with suppress(kernel.KernelError):
                self._wires.put(self._told[nic], _NIC.pack(nic))

    def _begin(self) -> None:
        done = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        beside = ThreadPoolExecutor(1)
        loaded = beside.submit(_load)
        beside.shutdown(wait=False)
        self._loop.watch(done, lambda _mask: self._use(done, loaded))
        loaded.add_done_callback(lambda _: os.eventfd_write(done, 1))

    def _use(self, done: int, loaded: Future[kernel.BpfObject]) -> None:
        self._loop.unwatch(done)
        os.close(done)
        with suppress(kernel.KernelError):
            self._object = loaded.result()
            ring = self._ring = kernel.RingBuffer(
                self._object.map("lost", 0, 0).fd, lambda data: self._lost(int(_NIC.unpack(data)[0]))
            )
            self._loop.watch(ring.fd, lambda _mask: ring.consume(), urgent=True)
            self._wires = self._object.map("wires", _WIRE.size, _NIC.size)
            for nic in self._told:
                self._put(nic)


def _load() -> kernel.BpfObject:
    """Raises KernelError."""
    loaded = kernel.BpfObject(build.path("carrier"))
    loaded.program("closing").trace()
    return loaded
