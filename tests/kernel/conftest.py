"""Kernel tests run in one network namespace of their own, and leave it when they are done."""

import ctypes
import os
import subprocess
from collections.abc import Iterator

import pytest

from host_agent.bpf import build
from host_agent.records import Team
from tests.kernel.frame_path import FramePath
from tests.kernel.world import World

CLONE_NEWNET = 0x40000000  # linux/sched.h


@pytest.fixture(scope="session", autouse=True)
def namespace() -> Iterator[None]:
    """A fresh network namespace, loopback up, for this thread and the threads it starts."""
    if os.geteuid() != 0:  # the marker's requirement has its say, by name
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    # The frame size of a real link, or segments of 64 KiB would hide what segmentation does.
    subprocess.run(["ip", "link", "set", "lo", "mtu", "1500", "up"], check=True)
    yield
    libc.setns(home, CLONE_NEWNET)
    os.close(home)


@pytest.fixture(scope="session")
def programs() -> None:
    """The BPF objects, built from the sources as they are."""
    problem = build.build()
    assert problem is None, problem


@pytest.fixture(scope="module")
def spaces(namespace: None) -> Iterator[World]:
    one = World()
    yield one
    for space in (*one.spaces.values(), one.peer_space):
        space.close()


@pytest.fixture
def world(spaces: World) -> Iterator[World]:
    spaces.reset_state()
    yield spaces
    spaces.close()


@pytest.fixture(scope="module")
def path(namespace: None, programs: None) -> FramePath:
    return FramePath()


@pytest.fixture
def empty(path: FramePath) -> FramePath:
    """No record, three live NICs."""
    path.clear(Team(virtual_nic=1, hold=1, live=(0, 1, 2), bus=(1, 1, 1)))
    return path
