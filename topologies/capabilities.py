"""What this machine can do: root, programs, namespaces, kernel features.

Decides nothing: it probes and returns data; `teambed doctor` prints it and a run refuses to start without
what it needs. Probes that would change the network do so in a throw-away network namespace. Programs are
looked for on PATH.
"""

import ctypes
import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

PROBE_SECONDS = 10.0
SYS_BPF = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}


@dataclass(frozen=True)
class Capability:
    """One thing that a run may need. detail: what was found; remedy: one line, empty when ok."""

    name: str
    required: bool
    ok: bool
    detail: str
    remedy: str


_Answer = tuple[bool, str]
"""Whether it is there, and what was found or what was said instead."""


@dataclass(frozen=True)
class _Probe:
    name: str
    ask: Callable[[], _Answer]
    remedy: str
    required: bool = True


_begun: "list[Future[list[Capability]]]" = []


def begin() -> None:
    """Have everything probed beside what this process does next; the next call of `probe` has the answers."""
    beside = ThreadPoolExecutor(1)
    _begun.append(beside.submit(probe, NAMES))
    beside.shutdown(wait=False)


def probe(names: Iterable[str] | None = None) -> list[Capability]:
    """Probes everything, or the capabilities named, in an order where causes come before their effects.

    Raises KeyError for a name that does not exist; NAMES has those that do.
    """
    if names is None and _begun:
        return _begun.pop().result()
    wanted = NAMES if names is None else tuple(names)
    unknown = [name for name in wanted if name not in NAMES]
    if unknown:
        raise KeyError(f"no capability {unknown[0]!r}; there are {', '.join(NAMES)}")
    probes = [one for one in _PROBES if one.name in wanted]
    with ThreadPoolExecutor() as beside:  # most wait for a program
        answers = beside.map(lambda one: one.ask(), probes)
        return [
            Capability(one.name, one.required, ok, detail, "" if ok else one.remedy)
            for one, (ok, detail) in zip(probes, answers, strict=True)
        ]


def missing(needed: Iterable[str] | None = None) -> list[Capability]:
    """Those of the capabilities named, or of all required ones, that this machine lacks."""
    names = [one.name for one in _PROBES if one.required] if needed is None else needed
    return [one for one in probe(names) if not one.ok]


def _root() -> _Answer:
    return os.geteuid() == 0, f"user id {os.geteuid()}"


def _program(name: str) -> _Answer:
    path = shutil.which(name)
    return path is not None, path or f"{name!r} is not on PATH"


def _said(argv: list[str], stdin: str = "") -> _Answer:
    """Whether a command succeeds, and the first line of its complaint."""
    if shutil.which(argv[0]) is None:
        return False, f"{argv[0]!r} is not on PATH"
    try:
        done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=PROBE_SECONDS)
    except (OSError, subprocess.TimeoutExpired) as error:
        return False, str(error)
    said = (done.stderr or done.stdout).strip().splitlines()
    return done.returncode == 0, said[0] if said and done.returncode else f"exit status {done.returncode}"


def _in_namespace(*lines: str) -> _Answer:
    """Whether shell lines succeed in a network namespace that ends with them."""
    programs = {line.split()[0] for line in lines}
    for name in ("unshare", *sorted(programs - {"echo", "test"})):
        ok, detail = _program(name)
        if not ok:
            return False, detail
    ok, detail = _said(["unshare", "--net", "sh", "-e"], "\n".join(lines) + "\n")
    return ok, "works" if ok else detail


def _namespaces() -> _Answer:
    ok, detail = _said(["unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "true"])
    return ok, "network, mount and PID" if ok else detail


def _ipv6() -> _Answer:
    return _in_namespace("ip link set lo up", "ip -6 address add fd00::1/128 dev lo")


def _shaping() -> _Answer:
    return _in_namespace("ip link set lo up", "tc qdisc add dev lo root handle 1: htb default 1")


def _clsact() -> _Answer:
    return _in_namespace("ip link set lo up", "tc qdisc add dev lo clsact")


def _netem() -> _Answer:
    return _in_namespace("ip link set lo up", "tc qdisc add dev lo root netem delay 1ms")


def _bonding() -> _Answer:
    return _in_namespace("ip link add probe0 type bond")


def _veth() -> _Answer:
    return _in_namespace("ip link add probe0 type veth peer name probe1")


def _tun() -> _Answer:
    return _in_namespace("ip tuntap add dev probe0 mode tap")


def _bpf() -> _Answer:
    """bpf(BPF_MAP_CREATE) for an array of one entry, in this process; the descriptor is closed at once."""
    number = SYS_BPF.get(os.uname().machine)
    if number is None:
        return False, f"unknown machine {os.uname().machine}"
    libc = ctypes.CDLL(None, use_errno=True)
    array_of_one = (ctypes.c_uint32 * 5)(2, 4, 4, 1, 0)  # array; key, value bytes; entries; flags
    fd = libc.syscall(number, 0, ctypes.byref(array_of_one), ctypes.sizeof(array_of_one))
    if fd < 0:
        return False, os.strerror(ctypes.get_errno())
    os.close(fd)
    return True, "the bpf system call works"


def _btf() -> _Answer:
    there = Path("/sys/kernel/btf/vmlinux").exists()
    return there, "the kernel describes its types" if there else "no /sys/kernel/btf/vmlinux"


def _link_tracing() -> _Answer:
    """Whether a tracing program may hear of a device that is being closed, by its queue."""
    try:
        there = b"btf_trace_qdisc_reset" in Path("/sys/kernel/btf/vmlinux").read_bytes()
    except OSError as error:
        return False, f"no /sys/kernel/btf/vmlinux ({error.strerror})"
    return there, "the tracepoint qdisc_reset" if there else "no tracepoint qdisc_reset"


def _file_system(name: str) -> _Answer:
    kinds = Path("/proc/filesystems").read_text().split()
    return name in kinds, "known to the kernel" if name in kinds else f"the kernel has no {name} file system"


def _tcp_repair() -> _Answer:
    """Whether the option that lets a connection be saved and restored is accepted, on a fresh socket."""
    option = 19
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as one:
        try:
            one.setsockopt(socket.IPPROTO_TCP, option, 1)
            one.setsockopt(socket.IPPROTO_TCP, option, 0)
        except OSError as error:
            return False, error.strerror or str(error)
    return True, "socket option accepted"


def _bpf_objects() -> _Answer:
    built = Path(__file__).resolve().parent.parent / ".build"
    objects = sorted(built.rglob("*.o"))
    return bool(objects), ", ".join(one.name for one in objects) or f"none in {built}"


def _ovs_kernel() -> _Answer:
    there = Path("/sys/module/openvswitch").exists()
    return there, "module openvswitch" if there else "not loaded; the user-space datapath is used"


def _package(name: str) -> str:
    return f"apt-get install {name}"


_PROBES = (
    _Probe("root", _root, "run it as root (sudo ./teambed …)"),
    _Probe("ip", lambda: _program("ip"), _package("iproute2")),
    _Probe("tc", lambda: _program("tc"), _package("iproute2")),
    _Probe("unshare", lambda: _program("unshare"), _package("util-linux")),
    _Probe("ethtool", lambda: _program("ethtool"), _package("ethtool")),
    _Probe("mnexec", lambda: _program("mnexec"), _package("mininet")),
    _Probe("ovs-vswitchd", lambda: _program("ovs-vswitchd"), _package("openvswitch-switch")),
    _Probe("ovs-vsctl", lambda: _program("ovs-vsctl"), _package("openvswitch-switch")),
    _Probe("namespaces", _namespaces, "as root; in a container: docker run --privileged …"),
    _Probe("ipv6", _ipv6, "start the kernel without ipv6.disable=1"),
    _Probe("veth", _veth, "a kernel with CONFIG_VETH (modprobe veth)"),
    _Probe("tun", _tun, "a kernel with CONFIG_TUN and /dev/net/tun (modprobe tun)"),
    _Probe("htb", _shaping, "a kernel with CONFIG_NET_SCH_HTB (modprobe sch_htb)"),
    _Probe("clsact", _clsact, "a kernel with CONFIG_NET_SCH_INGRESS (modprobe sch_ingress)"),
    _Probe("bpf", _bpf, "a kernel with CONFIG_BPF_SYSCALL; in a container: docker run --privileged …"),
    _Probe("btf", _btf, "a kernel of 5.9 or later with CONFIG_DEBUG_INFO_BTF"),
    _Probe("bpffs", lambda: _file_system("bpf"), "a kernel with CONFIG_BPF_SYSCALL"),
    _Probe("tcp_repair", _tcp_repair, "as root; a kernel with CONFIG_CHECKPOINT_RESTORE"),
    _Probe("bpf_objects", _bpf_objects, "run ./teambed doctor once as root: it builds them"),
    _Probe("tcpdump", lambda: _program("tcpdump"), _package("tcpdump"), required=False),
    _Probe("netem", _netem, "a kernel with CONFIG_NET_SCH_NETEM, for scenarios that delay frames", required=False),
    _Probe("bonding", _bonding, "a kernel with CONFIG_BONDING, for `driver: linux_bonding`", required=False),
    _Probe("link_tracing", _link_tracing, "a kernel of 5.8 or later, to see lost links sooner", required=False),
    _Probe("nginx", lambda: _program("nginx"), _package("nginx-light"), required=False),
    _Probe("iperf3", lambda: _program("iperf3"), _package("iperf3"), required=False),
    _Probe("curl", lambda: _program("curl"), _package("curl"), required=False),
    _Probe("tshark", lambda: _program("tshark"), _package("tshark"), required=False),
    _Probe("chromium", lambda: _program("chromium"), _package("chromium"), required=False),
    _Probe("ovs_kernel", _ovs_kernel, "modprobe openvswitch, for a faster switch", required=False),
)
NAMES: tuple[str, ...] = tuple(one.name for one in _PROBES)
"""The names of all capabilities, in the order they are probed."""
OPTIONAL: tuple[str, ...] = tuple(one.name for one in _PROBES if not one.required)
"""Those that only some scenarios and tests need."""
