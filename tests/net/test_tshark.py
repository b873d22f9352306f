"""tshark's own analysis of the captures agrees with our measurements of resets, retransmissions and stalls.

One run has a lossy wire under an upload, half a second without any link, and an adapter that dies with a connection.
What is compared, at each client's own interface:

    resets            RST segments either way: equal
    retransmissions   segments of the client that tshark says do not go on where it was: equal to the kernel's count
    stalls            the longest time in which the client's acknowledgements do not go on: within STALL_MS
    duplicates        segments of the server that brought nothing new: at least those that the client's TCP threw away
"""

import json
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.net

TEAMBED = Path(__file__).resolve().parents[2] / "teambed"
SCENARIO = """\
scenario: compared
about: Loss, stalls and a reset, all of them captured.
network: {nics: 3, clients: 3, rate: 100mbit}
services: {files: {listen: 8080}}
traffic:
  upload: {client: c1, service: files, send: 12MB}
  download: {client: c2, service: files, receive: 12MB}
  victim: {client: c3, service: files, receive: 50MB, pace: 20mbit}
captures: [c1, c2, c3]
timeline:
  - {at: 100ms, do: impair, nic: carrying(upload), loss: 1%}
  - {at: 600ms, do: heal, nic: last}
  - {at: 700ms, do: all_links_down}
  - {at: 1300ms, do: all_links_up}
  - {at: 1500ms, do: wait, until: done(upload)}
  - {at: 1500ms, do: wait, until: done(download)}
  - {at: 1500ms, do: wait, until: offloaded(victim)}
  - {at: 1500ms, do: adapter_failure, nic: carrying(victim)}
expect:
  - upload.intact and download.intact and victim.lost == 1
"""
STALL_MS = 60.0
"""An application reads a little later than its TCP acknowledges, and an acknowledgement may wait for 40 ms."""
AGAIN = ("retransmission", "fast_retransmission", "spurious_retransmission", "out_of_order")
"""What tshark calls a segment that begins before the highest one sent so far; at its sender's interface each of these
was sent again, whatever the time since then makes tshark call it."""
FIELDS = (
    *("frame.time_epoch", "tcp.srcport", "tcp.len", "tcp.ack", "tcp.flags.reset"),
    *(f"tcp.analysis.{word}" for word in (*AGAIN, "keep_alive", "window_update")),
)


@dataclass(frozen=True)
class Segment:
    """One TCP segment as tshark tells of it; `says`: words of its analysis."""

    t: float
    by_client: bool
    length: int
    ack: int
    reset: bool
    says: frozenset[str]


@dataclass(frozen=True)
class Compared:
    """Both accounts of one run, by traffic."""

    measured: dict[str, dict[str, Any]]
    segments: dict[str, list[Segment]]


def analysed(capture: Path, link: str, address: str) -> list[Segment]:
    """tshark's account of what a client's interface saw of its own connection.

    First that link alone: the switch floods what it does not know yet, and a frame that tshark meets at two interfaces
    is a retransmission to it.
    """
    alone = capture.with_name(f"{link}.pcapng")
    tshark("-r", str(capture), "-Y", f'frame.interface_name == "{link}"', "-w", str(alone))
    words = [word for field in FIELDS for word in ("-e", field)]
    told = tshark("-r", str(alone), "-Y", f"tcp && ip.addr == {address}", "-T", "fields", "-E", "occurrence=f", *words)
    found = []
    for line in told.splitlines():
        t, port, length, ack, reset, *says = line.split("\t")
        analysis = zip(FIELDS[-len(says) :], says, strict=True)
        words_said = frozenset(field.rpartition(".")[2] for field, said in analysis if said)
        found.append(
            Segment(float(t), port != "8080", int(length or 0), int(ack or 0), reset in ("1", "True"), words_said)
        )
    return found


def tshark(*words: str) -> str:
    """What it prints."""
    return subprocess.run(["tshark", *words], capture_output=True, text=True, check=True, timeout=120).stdout


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]) -> Compared:
    """The run, and what tshark and we make of it."""
    require("tshark", "tcpdump")
    folder = tmp_path_factory.mktemp("tshark")
    (folder / "compared.yaml").write_text(SCENARIO)
    argv = [TEAMBED, "run", "compared.yaml", "--out", "out"]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr
    run = folder / "out" / "compared"
    for log in (run / "logs").glob("capture-*.log"):
        assert "0 packets dropped by kernel" in log.read_text()
    measured = json.loads((run / "result.json").read_text())["measurements"]
    ends = {"upload": ("c1", "10.0.0.11"), "download": ("c2", "10.0.0.12"), "victim": ("c3", "10.0.0.13")}
    return Compared(measured, {name: analysed(run / "capture.pcapng", *end) for name, end in ends.items()})


@pytest.mark.parametrize("traffic", ["upload", "download", "victim"])
def test_resets(compared: Compared, traffic: str) -> None:
    seen = sum(one.reset for one in compared.segments[traffic])
    assert seen == compared.measured[traffic]["resets"]
    assert bool(seen) is (traffic == "victim")


@pytest.mark.parametrize("traffic", ["upload", "download", "victim"])
def test_retransmissions(compared: Compared, traffic: str) -> None:
    sent = [one for one in compared.segments[traffic] if one.by_client and not one.reset]
    again = sum(bool(one.says & {*AGAIN}) for one in sent)
    assert again == compared.measured[traffic]["client_retransmits"]
    if traffic == "upload":
        assert again > 0, "nothing was lost, so nothing was compared"


def test_stalls(compared: Compared) -> None:
    told = [one for one in compared.segments["download"] if one.by_client and not one.reset]
    advances = [one.t for before, one in pairwise(told) if one.ack > before.ack]
    longest = max(later - earlier for earlier, later in pairwise(advances)) * 1000
    assert longest > 400, "the links were not gone"
    assert abs(longest - compared.measured["download"]["longest_stall_ms"]) <= STALL_MS


@pytest.mark.parametrize("traffic", ["upload", "download", "victim"])
def test_duplicates(compared: Compared, traffic: str) -> None:
    received = [one for one in compared.segments[traffic] if not one.by_client]
    nothing_new = sum(bool(one.says & {*AGAIN, "keep_alive", "window_update"}) for one in received)
    assert compared.measured[traffic]["client_duplicates"] <= nothing_new
