"""Captures of several links in one file: what tshark reads of it, order, comments, and captures that are cut off."""

import shutil
import struct
import subprocess
from pathlib import Path

import pytest

from scenarios.report.captures import comments, put_together
from scenarios.report.pcapng import Capture, NoCaptureError, merge
from tests.unit.scenarios.test_measure_moves import WHO, ev, move

FRAME = bytes(range(60))


def pcap(*times: float, order: str = "<", nano: bool = False, frame: bytes = FRAME) -> bytes:
    """A capture with one frame at each time."""
    magic, unit = (0xA1B23C4D, 1e9) if nano else (0xA1B2C3D4, 1e6)
    data = struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, 128, 1)
    for t in times:
        data += struct.pack(f"{order}IIII", int(t), round(t % 1 * unit), len(frame), 1500) + frame
    return data


def read(path: Path) -> list[list[str]]:
    """Interface, time, lengths and comment of each packet, by tshark."""
    if not shutil.which("tshark"):
        pytest.skip("this machine lacks tshark")
    fields = ["frame.interface_name", "frame.time_epoch", "frame.cap_len", "frame.len", "frame.comment"]
    words = [word for field in fields for word in ("-e", field)]
    done = subprocess.run(["tshark", "-r", path, "-T", "fields", *words], capture_output=True, text=True, check=True)
    return [line.split("\t") for line in done.stdout.splitlines()]


def write(path: Path, captures, said=()) -> Path:
    path.write_bytes(b"".join(merge(captures, said, "about")))
    return path


def test_packets_of_all_links_by_time_with_comments(tmp_path):
    one = Capture("c1", "c1's link", pcap(100.000001, 100.5))
    two = Capture("nic0", "nic0's wire", pcap(100.25, 100.75, order=">"))
    three = Capture("nic1", "nic1's wire", pcap(100.1234567, nano=True, frame=FRAME[:59]))
    said = [(100.2, "link_down nic0"), (99.0, "before"), (100.24, "reload nic0 → nic1"), (101.0, "the end")]
    found = read(write(tmp_path / "a.pcapng", [one, two, three], said))
    assert found == [
        ["c1", "100.000001000", "60", "1500", "before"],
        ["nic1", "100.123456700", "59", "1500", ""],
        ["nic0", "100.250000000", "60", "1500", "link_down nic0,reload nic0 → nic1"],
        ["c1", "100.500000000", "60", "1500", ""],
        ["nic0", "100.750000000", "60", "1500", "the end"],
    ]


def test_a_record_that_is_cut_off_is_left_out(tmp_path):
    whole = pcap(1.0, 2.0)
    for cut in (1, 50, 70):
        found = read(write(tmp_path / f"{cut}.pcapng", [Capture("c1", "", whole[:-cut])]))
        assert [row[1] for row in found] == ["1.000000000"]


def test_what_is_no_capture_is_refused():
    for data in (b"", b"short", bytes(100)):
        with pytest.raises(NoCaptureError, match="c1: not a pcap file"):
            list(merge([Capture("c1", "", data)], [], ""))


EVENTS = [
    ev(0.5, "scenario", scenario="s", epoch=1000.5),
    ev(1.0, "connected", traffic="download", **WHO),
    ev(1.5, "step", index=1, do="link_down", nic="nic0"),
    ev(1.6, "link", "agent", nic="nic0", up=False),
    move(1.7, "reload", "link_down", "nic0", "nic1"),
    ev(1.8, "progress", traffic="download", dir="receive", bytes=1, gap_ms=1.0),
]


def test_comments_are_the_consoles_words():
    assert comments(EVENTS) == [
        (1001.5, "step 2: link_down nic0"),
        (1001.6, "nic0: the agent sees its link down"),
        (1001.7, "download: reload nic0 → nic1 (link_down)"),
    ]
    assert comments(EVENTS[1:]) == [], "nobody knows how the clocks stood to each other"


def test_of_thousands_of_moves_the_faults_are_told():
    assert [words for _, words in comments([*EVENTS, *EVENTS[4:5] * 3000])] == [
        "step 2: link_down nic0",
        "nic0: the agent sees its link down",
    ]


def test_a_runs_single_captures_become_one(tmp_path):
    folder = tmp_path / "captures"
    folder.mkdir()
    (folder / "c1.pcap").write_bytes(pcap(1001.0, 1001.55))
    (folder / "nic0.pcap").write_bytes(b"")
    put_together(tmp_path, "s", comments(EVENTS))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capture.pcapng"]
    assert [row[0] for row in read(tmp_path / "capture.pcapng")] == ["c1", "c1"]
    before = (tmp_path / "capture.pcapng").read_bytes()
    put_together(tmp_path, "s", [])
    assert (tmp_path / "capture.pcapng").read_bytes() == before, "an archived run has its file already"


def test_a_file_that_cannot_be_written_is_named_and_nothing_of_it_stays(tmp_path):
    (tmp_path / "captures").mkdir()
    (tmp_path / "captures" / "c1.pcap").write_bytes(pcap(1001.0))
    (tmp_path / "capture.pcapng").mkdir()
    with pytest.raises(IsADirectoryError) as told:
        put_together(tmp_path, "s", [])
    assert told.value.filename == str(tmp_path / "capture.pcapng")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["capture.pcapng", "captures"]
