"""tshark's own analysis of the captures agrees with our measurements of resets, retransmissions and stalls.

One run has lossy wires, a link that is cut under a download, half a second without any link, and an adapter that dies
with a connection. What is compared, at each client's own interface:

    resets            RST segments either way: equal
    retransmissions   segments of the client that tshark says do not go on where it was: equal to the kernel's count
    stalls            the longest time in which the client's acknowledgements do not go on: within STALL_MS
    disorder          segments ahead of one that is missing: as many as the client's TCP counted, within DROPS
    duplicates        segments of no use: as many as the client's TCP threw away, within DROPS

At the wires of all NICs together, for the server's retransmissions: the server has one socket behind the other, and
what a move restored as unsent is sent for the first time by its new socket, whatever the old one did. So a kernel's
count lies between what its socket sent twice itself, and that with what the sockets before had sent already; those
of all sockets are what tshark calls retransmissions. What one socket or another may have sent is counted for neither
below, and for both above.
"""

import json
import re
import subprocess
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from scenarios import events
from scenarios.measure import Event, Story, stories
from scenarios.measure.owners import place

pytestmark = pytest.mark.net

TEAMBED = Path(__file__).resolve().parents[2] / "teambed"
SCENARIO = """\
scenario: compared
about: Loss, a cut link, stalls and a reset, all of them captured.
network: {nics: 3, clients: 3, rate: 100mbit}
services: {files: {listen: 8080}}
traffic:
  upload: {client: c1, service: files, send: 14MB}
  download: {client: c2, service: files, receive: 14MB}
  victim: {client: c3, service: files, receive: 50MB, pace: 20mbit}
captures: [c1, c2, c3, nic0, nic1, nic2]
timeline:
  - {at: 100ms, do: impair, nic: carrying(upload), loss: 1%}
  - {at: 300ms, do: impair, nic: carrying(download), loss: 1%}
  - {at: 500ms, do: heal, nic: last}
  - {at: 500ms, do: heal, nic: carrying(upload)}
  - {at: 600ms, do: link_down, nic: carrying(download)}
  - {at: 800ms, do: link_up, nic: last}
  - {at: 1000ms, do: all_links_down}
  - {at: 1600ms, do: all_links_up}
  - {at: 1600ms, do: wait, until: done(upload)}
  - {at: 1600ms, do: wait, until: done(download)}
  - {at: 1600ms, do: wait, until: offloaded(victim)}
  - {at: 1600ms, do: adapter_failure, nic: carrying(victim)}
  - {at: 1600ms, do: run, name: queue0, node: nic0, command: tc -s qdisc show}
  - {at: 1600ms, do: run, name: queue1, node: nic1, command: tc -s qdisc show}
  - {at: 1600ms, do: run, name: queue2, node: nic2, command: tc -s qdisc show}
expect:
  - upload.intact and download.intact and victim.lost == 1
"""
ENDS = {"upload": ("c1", "10.0.0.11"), "download": ("c2", "10.0.0.12"), "victim": ("c3", "10.0.0.13")}
STALL_MS = 60.0
"""An application reads a little later than its TCP acknowledges, and an acknowledgement may wait for 40 ms."""
DROPS = 3
"""The client asks its TCP when it has all bytes; what comes behind them is in the capture all the same."""
AROUND_S = 0.1
"""A move is told up to so much later than it was made; and frames of the socket that it leaves behind may wait so long
for their wire."""
AGAIN = ("retransmission", "fast_retransmission", "spurious_retransmission", "out_of_order")
"""What tshark calls a segment that begins before the highest one sent so far; at its sender's interface each of these
was sent again, whatever the time since then makes tshark call it."""
FIELDS = (
    *("frame.time_epoch", "frame.interface_name", "tcp.srcport", "tcp.len", "tcp.seq", "tcp.ack"),
    *("tcp.window_size", "tcp.options.timestamp.tsval", "tcp.flags.reset", "tcp.flags.syn"),
    *(f"tcp.analysis.{word}" for word in AGAIN),
)


@dataclass(frozen=True)
class Segment:
    """One TCP segment as tshark tells of it. `again`: it was sent before, by tshark's analysis."""

    t: float
    link: str
    by_client: bool
    length: int
    seq: int
    ack: int
    window: int
    stamp: int
    reset: bool
    syn: bool
    again: bool

    @property
    def end(self) -> int:
        """The sequence number behind it."""
        return self.seq + self.length


@dataclass(frozen=True)
class Compared:
    """Both accounts of one run, by traffic: at the client's interface, and what the server sent by all wires."""

    measured: dict[str, dict[str, Any]]
    stories: dict[str, Story]
    segments: dict[str, list[Segment]]
    sent: dict[str, list[Segment]]
    down: list[tuple[str, float, float]]
    """As `without_link` tells."""


def analysed(capture: Path, name: str, links: str, frames: str) -> list[Segment]:
    """tshark's account of some frames of some links.

    First those alone: the switch floods what it does not know yet, and a frame that tshark meets at two interfaces is a
    retransmission to it.
    """
    alone = capture.with_name(f"{name}.pcapng")
    tshark("-r", str(capture), "-Y", f'frame.interface_name matches "^{links}" && tcp && {frames}', "-w", str(alone))
    words = [word for field in FIELDS for word in ("-e", field)]
    found = []
    for line in tshark("-r", str(alone), "-T", "fields", "-E", "occurrence=f", *words).splitlines():
        t, link, port, length, seq, ack, window, stamp, reset, syn, *says = line.split("\t")
        numbers = [int(one or 0) for one in (length, seq, ack, window, stamp)]
        flags = reset in ("1", "True"), syn in ("1", "True"), any(says)
        found.append(Segment(float(t), link, port != "8080", *numbers, *flags))
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
    record = events.read(run / "events.jsonl")
    zero = next(event["epoch"] - event["t"] for event in record if "epoch" in event)
    capture = run / "capture.pcapng"
    segments = {name: analysed(capture, *(link, link, f"ip.addr == {ip}")) for name, (link, ip) in ENDS.items()}
    sent = {name: analysed(capture, f"to-{link}", "nic", f"ip.dst == {ip}") for name, (link, ip) in ENDS.items()}
    for name, some in sent.items():
        sent[name] = [replace(one, t=one.t - zero) for one in some if one.length]
    return Compared(measured, stories(record), segments, sent, without_link(record))


def without_link(record: Sequence[Event]) -> list[tuple[str, float, float]]:
    """A NIC, or `all` of them, and from when until when there was no link."""
    found, since = [], dict[str, float]()
    for event in record:
        nic, up = event.get("nic"), event.get("up")
        if event["event"] == "step" and event["do"] in ("all_links_down", "all_links_up"):
            nic, up = "all", event["do"] == "all_links_up"
        elif event["event"] != "wire":
            continue
        if not up:
            since[nic] = event["t"]
        elif nic in since:
            found.append((nic, since.pop(nic), event["t"]))
    return found


def of_sockets(sent: Sequence[Segment], story: Story) -> list[list[tuple[Segment, bool]]]:
    """What each socket of the server may have sent of data, as moves divide it, and whether no other can have.

    A NIC's socket sends by its own wire, the host's by any. Where two of them share a wire, frames of the first may
    leave behind the second's, and nothing in a frame tells whose it is.
    """
    moves = sorted(story.moves, key=lambda one: one["t"])
    ends = [(one["t"] - one["parts_ms"]["total"] / 1000 - AROUND_S, one["t"] + AROUND_S) for one in moves]
    begins = [0.0, *(began for began, _ in ends)]
    lasts = [*(ended for _, ended in ends), float("inf")]
    places = ["host", *(place(one["to"]) for one in moves)]
    found: list[list[tuple[Segment, bool]]] = [[] for _ in places]
    for one in sent:
        able = [n for n, where in enumerate(places) if where in ("host", one.link) and begins[n] <= one.t <= lasts[n]]
        assert able, f"{one} is nobody's"
        for n in able:
            found[n].append((one, len(able) == 1))
    return found


def with_links(story: Story, down: Sequence[tuple[str, float, float]]) -> list[bool]:
    """Of each socket of the server, whether its link, or the host's links, were there as long as it was."""
    moves = sorted(story.moves, key=lambda one: one["t"])
    times = [0.0, *(one["t"] for one in moves), float("inf")]
    places = ["host", *(place(one["to"]) for one in moves)]
    return [
        not any(
            (nic == "all" or where in ("host", nic)) and begin < until and since < back for nic, begin, back in down
        )
        for where, since, until in zip(places, times[:-1], times[1:], strict=True)
    ]


def again(sent: Sequence[Segment], highest: int = 0) -> int:
    """Segments that begin before the end of the highest one so far."""
    count = 0
    for one in sent:
        count += one.seq < highest
        highest = max(highest, one.end)
    return count


@pytest.mark.parametrize("traffic", ENDS)
def test_resets(compared: Compared, traffic: str) -> None:
    seen = sum(one.reset for one in compared.segments[traffic])
    assert seen == compared.measured[traffic]["resets"]
    assert bool(seen) is (traffic == "victim")


@pytest.mark.parametrize("traffic", ENDS)
def test_retransmissions_of_the_client(compared: Compared, traffic: str) -> None:
    sent = [one for one in compared.segments[traffic] if one.by_client and not one.reset]
    seen = sum(one.again for one in sent)
    assert seen == compared.measured[traffic]["client_retransmits"]
    if traffic == "upload":
        assert seen > 0, "nothing was lost, so nothing was compared"


def test_retransmissions_of_the_server(compared: Compared) -> None:
    for queue in ("queue0", "queue1", "queue2"):
        dropped = re.findall(r"bfifo .*?dropped (\d+)", compared.measured[queue]["output"])
        assert dropped == ["0"], f"{queue}: what a socket lost before its wire no capture has"
    story, sent = compared.stories["download"], compared.sent["download"]
    sockets = of_sockets(sent, story)
    kernels = [move["retransmits"] for move in story.moves]
    kernels.append(next(iter(story.closed.values()))["retransmits"])
    assert sum(kernels) == compared.measured["download"]["server_retransmits"] > 0
    highest, rows = 0, []
    for socket, count, whole in zip(sockets, kernels, with_links(story, compared.down), strict=True):
        certain, able = [one for one, alone in socket if alone], [one for one, _ in socket]
        rows.append((again(certain), count, again(able, highest), whole))
        highest = max([highest, *(one.end for one in able)])
    # What was in flight is restored as unsent, or as sent; and what goes into a link that is gone no wire sees.
    wrong = [(n, *row) for n, row in enumerate(rows) if not row[0] <= row[1] or (row[3] and row[1] > row[2])]
    assert not wrong, f"of {len(rows)} sockets"
    assert sum(own for own, *_ in rows) > 0, "nothing was lost, so nothing was compared"
    assert sum(most - own for own, _, most, _ in rows) > 0, "no move had anything in flight, so nothing was compared"
    assert sum(one.again for one in sent) == again(sent)


def test_stalls(compared: Compared) -> None:
    told = [one for one in compared.segments["download"] if one.by_client and not one.reset]
    advances = [one.t for before, one in pairwise(told) if one.ack > before.ack]
    longest = max(later - earlier for earlier, later in pairwise(advances)) * 1000
    assert longest > 400, "the links were not gone"
    assert abs(longest - compared.measured["download"]["longest_stall_ms"]) <= STALL_MS


def test_disorder_and_duplicates(compared: Compared) -> None:
    disorder = 0
    for name in ENDS:
        ahead, useless = received(compared.segments[name])
        measured = compared.measured[name]
        assert abs(ahead - measured["client_out_of_order"]) <= DROPS, name
        assert abs(useless - measured["client_duplicates"]) <= DROPS, name
        disorder += ahead
    assert disorder > 0


def received(segments: Iterable[Segment]) -> tuple[int, int]:
    """Of the server's: how many came ahead of a missing one, and how many were of no use, to a receiver as RFC 9293 and
    RFC 7323 have it.

    Of no use is what came in order before, and what its timestamp shows to be older than what was acknowledged already:
    frames of the link before, which those of the new one overtook. Linux makes an exception of an acknowledgement that
    says nothing new (net/ipv4/tcp_input.c, tcp_disordered_ack).
    """
    ahead = useless = expected = acknowledged = newest = told = window = 0
    kept: list[tuple[int, int]] = []
    for one in segments:
        if one.by_client:
            acknowledged = one.ack
        elif one.syn:
            expected, newest = one.seq + 1, one.stamp
        elif one.reset and one.seq == expected:
            break
        elif one.reset:
            useless += 1  # RFC 5961, section 3.2: only the exact number resets
        elif one.stamp < newest - 1:
            says_nothing = not one.length and one.seq == expected and one.ack == told and one.window <= window
            useless += not says_nothing
        else:
            newest = max(newest, one.stamp) if one.seq <= acknowledged <= one.end else newest
            window = one.window if one.ack > told or one.seq >= expected else window
            told = max(told, one.ack)
            if not one.length:
                useless += one.seq < expected  # a probe
            elif one.end <= expected:
                useless += 1
            elif one.seq > expected:
                ahead += 1
                kept = joined([*kept, (one.seq, one.end)])
            else:
                expected = one.end
                while kept and kept[0][0] <= expected:
                    expected = max(expected, kept.pop(0)[1])
    return ahead, useless


def joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """In order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for begin, end in sorted(ranges):
        if found and begin <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((begin, end))
    return found
