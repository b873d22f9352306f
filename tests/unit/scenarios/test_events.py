"""Events: one write of one line each, read back whole."""

import json
import os
import time

from scenarios import events


def emitter(path):
    return events.Emitter("me", os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), zero=time.monotonic() - 5)


def test_form(tmp_path):
    emitter(tmp_path / "e")("done", traffic="download", bytes=3)
    (line,) = (tmp_path / "e").read_text().splitlines()
    event = json.loads(line)
    assert list(event) == ["t", "who", "event", "traffic", "bytes"]
    assert 5 <= event["t"] < 6
    assert (event["who"], event["event"]) == ("me", "done")


def test_no_line_is_longer_than_one_write_can_be(tmp_path):
    emit = emitter(tmp_path / "e")
    emit("error", reason="é" * 10_000)
    emit("error", reason=["x"] * 10_000)
    lines = (tmp_path / "e").read_bytes().splitlines(keepends=True)
    assert all(len(line) <= events.LONGEST for line in lines)
    assert json.loads(lines[0])["reason"] == "é" * 500
    assert json.loads(lines[1])["too_long"] > events.LONGEST


def test_tail_waits_for_whole_lines_and_leaves_out_what_is_none(tmp_path):
    path = tmp_path / "e"
    path.write_text("")
    tail = events.Tail(path)
    assert tail.read() == []
    with path.open("a") as file:
        file.write('{"t":1,"event":"a"}\nhello\n[]\n{"event":"no time"}\n{"t":2,"ev')
        file.flush()
        assert [event["event"] for event in tail.read()] == ["a"]
        file.write('ent":"b"}\n')
        file.flush()
        assert [event["event"] for event in tail.read()] == ["b"]
    tail.close()


def test_a_process_that_is_killed_takes_nobody_elses_event_along(tmp_path):
    """A write that SIGKILL meets may end at a page's border; what the next process tells is behind it in the line."""
    path = tmp_path / "e"
    path.write_bytes(b'{"t": 0.5, "who": "nic0", "event": "mov')
    tail = events.Tail(path)
    emitter(path)("done", of={"t": 1})
    assert [event["event"] for event in (*tail.read(), *events.read(path))] == ["done", "done"]
    tail.close()


def test_read_sorts_by_time_and_survives_a_cut_line(tmp_path):
    path = tmp_path / "e"
    path.write_text('{"t":2,"event":"b"}\n{"t":1,"event":"a"}\n{"t":3,"even')
    assert [event["event"] for event in events.read(path)] == ["a", "b"]
