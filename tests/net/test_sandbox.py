"""A run leaves nothing behind, whatever dies, and two runs with the same names do not meet."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from topologies import sandbox

pytestmark = pytest.mark.net

# Builds the whole of Figure 1, reports, and then waits for a line on its standard input.
RUN = """
    from topologies.network import Network
    switch = sandbox.OpenVSwitch()
    switch.start()
    net = Network(figure_1(nics=3, clients=2), sandbox.RUN_DIR)
    net.start()
    net.popen("c1", ["sleep", "1000"])
    # An orphan in a session of its own: nobody but the kernel can find it.
    subprocess.run(["setsid", "--fork", "sleep", "1000"], check=True)
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    inside = {
        "links": sorted(line.split()[1].rstrip(":").partition("@")[0] for line in links.splitlines()),
        "run_dir": sorted(os.listdir(sandbox.RUN_DIR)),
        "bridges": subprocess.run(["ovs-vsctl", "list-br"], capture_output=True, text=True).stdout.split(),
        "pid_namespace": os.readlink("/proc/self/ns/pid"),
        "clients": net.run("c1", ["cat", "/sys/class/net/eth0/address"]).stdout.strip(),
    }
    print(json.dumps(inside), flush=True)
    sys.stdin.readline()
    net.stop()
    switch.stop()
"""
PORTS = ["lo", "ovs-netdev", "s1", "s1-c1", "s1-c2", "s1-nic0", "s1-nic1", "s1-nic2"]

# A caller of its own for the sandbox, so that the caller too can be killed.
CALLER = """
import sys
from topologies import sandbox
one = sandbox.launch([sys.executable, "-c", sys.argv[1]])
print(one.pid, flush=True)
one.wait()
"""


def machine() -> dict[str, object]:
    """What a run could leave on this machine."""
    links = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True).stdout
    return {
        "interfaces": sorted(line.split(":")[1].strip() for line in links.splitlines()),
        "mounts": sorted(line.split(" ", 4)[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()),
        "named namespaces": sorted(os.listdir("/run/netns")) if os.path.isdir("/run/netns") else [],
        "run directory": os.path.exists(sandbox.RUN_DIR),
        "switch sockets": sorted(map(str, Path("/run").glob("openvswitch/*"))),
    }


def members(namespace: str) -> list[int]:
    """The processes of this machine that are in a PID namespace."""
    found = []
    for link in Path("/proc").glob("[0-9]*/ns/pid"):
        try:
            if os.readlink(link) == namespace:
                found.append(int(link.parts[2]))
        except OSError:
            continue  # it ended meanwhile, or is a zombie
    return found


def net_namespaces(pids: list[int]) -> set[str]:
    """The network namespaces of processes."""
    return {os.readlink(f"/proc/{pid}/ns/net") for pid in pids}


def until(holds: Callable[[], object], seconds: float, what: str) -> None:
    """Waits for a condition; fails when it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.01)


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@pytest.mark.parametrize("victim", ["caller", "unshare", "init", "run"])
def test_nothing_is_left_when_one_is_killed(victim: str) -> None:
    """kill -9 of the first process, of those above it, or of the run below it ends and removes everything."""
    before = machine()
    inside = "from topologies import sandbox\nsandbox.enter()\nimport json, os, subprocess, sys\n"
    inside += "from topologies.shapes import figure_1\n" + textwrap.dedent(RUN)
    caller = subprocess.Popen(
        [sys.executable, "-c", CALLER, inside],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    try:
        assert caller.stdout is not None
        unshare = int(caller.stdout.readline())
        report = json.loads(caller.stdout.readline())
        assert report["links"] == PORTS
        namespace = report["pid_namespace"]
        pids = members(namespace)
        # Six nodes, two daemons, init, the run, a process in a node, an orphan.
        assert len(pids) >= 12
        networks = net_namespaces(pids)
        assert len(networks) == 7
        init = next(pid for pid in pids if parent(pid) == unshare)
        run = next(pid for pid in pids if parent(pid) == init and b"sandbox.enter" in _words(pid))
        os.kill({"caller": caller.pid, "unshare": unshare, "init": init, "run": run}[victim], signal.SIGKILL)
        until(lambda: not members(namespace), 5, "every process of the run ends")
        until(lambda: not _in_use(networks), 5, "its network namespaces are free")
        caller.wait(5)
    finally:
        caller.kill()
        caller.communicate()
    assert machine() == before


def _words(pid: int) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def _in_use(networks: set[str]) -> bool:
    for link in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            if os.readlink(link) in networks:
                return True
        except OSError:
            continue
    return False


def test_two_at_once_with_the_same_names(in_sandbox: Callable[[str], sandbox.Sandbox]) -> None:
    """Both have nic0, s1, the same paths and addresses; neither sees the other, and both end in order."""
    before = machine()
    first, second = in_sandbox(RUN), in_sandbox(RUN)
    reports = []
    for one in (first, second):
        assert one.stdout is not None
        line = one.stdout.readline()
        assert line, one.communicate()[1].decode()
        reports.append(json.loads(line))
    for report in reports:
        assert report["links"] == PORTS
        assert report["run_dir"] == ["bpf", "ovs"]
        assert report["bridges"] == ["s1"]
        assert report["clients"] == "02:00:00:00:01:01"
    assert reports[0]["pid_namespace"] != reports[1]["pid_namespace"]
    # One ends; the other still has everything.
    for one, report in zip((first, second), reports, strict=True):
        assert len(members(report["pid_namespace"])) >= 12
        _, said = one.communicate(b"\n", timeout=20)
        assert one.returncode == 0, said.decode()
        assert members(report["pid_namespace"]) == []
    assert machine() == before


def test_nothing_is_left_after_an_orderly_end(in_sandbox: Callable[[str], sandbox.Sandbox]) -> None:
    """After stop(), before the sandbox itself ends, the interfaces, nodes and daemons are gone already."""
    one = in_sandbox(
        textwrap.dedent(RUN)
        + textwrap.dedent("""
    left = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True).stdout.splitlines()
    names = [Path(p).read_text().strip() for p in Path("/proc").glob("[0-9]*/comm")]
    print(json.dumps({"links": len(left), "processes": sorted(set(names))}), flush=True)
    """)
    )
    out, said = one.communicate(b"\n", timeout=30)
    assert one.returncode == 0, said.decode()
    left = json.loads(out.splitlines()[1])
    assert left["links"] == 1  # lo
    assert not {"bash", "ovs-vswitchd", "ovsdb-server"} & set(left["processes"])


def test_orphans_leave_no_zombies(in_sandbox: Callable[[str], sandbox.Sandbox]) -> None:
    """Orphans are taken in, and the exit status of the run's own children is not stolen."""
    one = in_sandbox("""
    kids = [subprocess.Popen(["sh", "-c", "(sleep 0.05 &) ; exit 7"]) for _ in range(20)]
    statuses = {kid.wait() for kid in kids}
    def states():
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                found.append(path.read_text().rpartition(")")[2].split()[0] + path.parent.name)
            except OSError:
                pass
        return found
    deadline = time.monotonic() + 5
    while len(states()) > 2 and time.monotonic() < deadline:
        time.sleep(0.01)
    print(json.dumps({"statuses": sorted(statuses), "left": len(states())}))
    """)
    out, said = one.communicate(timeout=20)
    assert one.returncode == 0, said.decode()
    assert json.loads(out) == {"statuses": [7], "left": 2}  # init and the run


def test_terminate_lets_the_run_finish(in_sandbox: Callable[[str], sandbox.Sandbox]) -> None:
    """SIGTERM reaches the run itself, which may end in its own way and with its own status."""
    one = in_sandbox("""
    print("ready", flush=True)
    try:
        time.sleep(60)
    finally:
        print("finished", flush=True)
    """)
    assert one.stdout is not None
    assert one.stdout.readline() == b"ready\n"
    one.terminate()
    out, _ = one.communicate(timeout=5)
    assert out == b"finished\n"
    assert one.returncode == 128 + signal.SIGTERM


def test_a_run_that_is_asked_to_finish_before_it_has_begun_does() -> None:
    """SIGTERM waits for somebody who heeds it: neither the caller's handlers nor a first process's deafness lose it."""

    def inside() -> int:
        sys.stdin.read()
        sandbox.enter()
        signal.pause()
        return 0

    before = signal.signal(signal.SIGTERM, lambda *_: None)
    one = sandbox.launch(["run"], inside=inside, stdin=subprocess.PIPE, start_new_session=True)
    try:
        one.terminate()
        assert one.stdin is not None
        one.stdin.close()
        assert one.wait(10.0) == 128 + signal.SIGTERM
    finally:
        signal.signal(signal.SIGTERM, before)
        one.kill()
        one.wait()


def test_its_end_is_heard_of_though_the_caller_takes_in_no_children() -> None:
    """A process that ignores SIGCHLD hands that down; nobody in the sandbox would be told that the run has ended."""

    def inside() -> int:
        sandbox.enter()
        return 7

    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        one = sandbox.launch(["run"], inside=inside)
    finally:
        signal.signal(signal.SIGCHLD, before)
    try:
        assert one.wait(10.0) == 7
    finally:
        one.kill()
        one.wait()


def test_the_world_is_private(in_sandbox: Callable[[str], sandbox.Sandbox]) -> None:
    """Only lo, up; fresh /run, /sys and BPF file system; an unmount here does not reach the machine."""
    one = in_sandbox("""
    kinds = {line.split()[1]: line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    print(json.dumps({
        "links": os.listdir("/sys/class/net"),
        "lo": Path("/sys/class/net/lo/operstate").read_text().strip() != "down",
        "run": sorted(os.listdir("/run")),
        "kinds": [kinds["/run"], kinds["/sys"], kinds[str(sandbox.RUN_DIR / "bpf")]],
        "first": Path("/proc/1/cmdline").read_bytes().split(b"\\0")[1].decode(),
    }))
    """)
    out, said = one.communicate(timeout=10)
    assert one.returncode == 0, said.decode()
    assert json.loads(out) == {
        "links": ["lo"],
        "lo": True,
        "run": ["lock", "netns", "teambed"],
        "kinds": ["tmpfs", "sysfs", "bpf"],
        "first": "-c",
    }


def test_enter_refuses_outside_a_sandbox() -> None:
    """Called by mistake on the machine itself, it touches nothing."""
    with pytest.raises(sandbox.SandboxError, match="not the first process"):
        sandbox.enter()


SHARED = """
import subprocess, sys
from topologies import sandbox
def mounts():
    return open("/proc/self/mountinfo").read()
before = mounts()
inside = "from topologies import sandbox; sandbox.enter(); print('in', flush=True); input()"
pipe = subprocess.PIPE
one = sandbox.launch([sys.executable, "-c", inside], stdin=pipe, stdout=pipe)
assert one.stdout.readline() == b"in\\n"
assert " shared:" in before
assert mounts() == before
one.communicate(b"\\n")
"""


def test_mounts_do_not_spread_where_mounts_are_shared() -> None:
    """As on a machine with systemd, where every mount is shared with new namespaces unless they refuse."""
    done = subprocess.run(
        ["unshare", "--mount", "--propagation=shared", sys.executable, "-c", SHARED],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert done.returncode == 0, done.stderr
