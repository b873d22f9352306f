"""Verdicts: pass only when every expectation passed and the run came to its end."""

import json

import pytest

from scenarios.load import load
from scenarios.verdict import WITHOUT_A_WORD, judge

TEXT = """\
scenario: s
about: a
seed: 3
services: {files: {listen: 80}}
traffic: {download: {client: c1, service: files, receive: 10B}}
expect: [download.intact, download.moves == 0]
"""
SCENARIO = load(TEXT, "s.yaml")
WHO = {"src": "10.0.0.11", "sport": 40000, "dst": "10.0.0.1", "dport": 80}


def ev(t, event, **keys):
    return {"t": t, "who": "x", "event": event} | keys


def run(*more, finished=True, received=10):
    facts = {"traffic": "download", "first_difference": None, "error": None}
    return [
        ev(0, "traffic", traffic="download", send=0, receive=10),
        ev(1, "connected", traffic="download", **WHO),
        *more,
        ev(2, "served", **facts, sent_bytes=10, sent_sha256="x", received_bytes=0, received_sha256="y"),
        ev(
            2,
            "done",
            **facts,
            sent_bytes=0,
            sent_sha256="y",
            received_bytes=received,
            received_sha256="x",
            retransmits=0,
        ),
        *([ev(3, "finished")] if finished else []),
    ]


def test_pass():
    result = judge(SCENARIO, run(), {"kernel": "k"})
    assert result["verdict"] == "pass"
    assert "reason" not in result
    assert (result["scenario"], result["seed"], result["environment"]) == ("s", 3, {"kernel": "k"})
    assert result["expectations"] == [
        {"text": "download.intact", "measured": {"download.intact": True}, "verdict": "pass", "reason": ""},
        {"text": "download.moves == 0", "measured": {"download.moves": 0}, "verdict": "pass", "reason": ""},
    ]
    assert json.loads(json.dumps(result)) == result


def test_fail():
    result = judge(SCENARIO, run(received=9), {})
    assert result["verdict"] == "fail"
    assert [one["verdict"] for one in result["expectations"]] == ["fail", "pass"]


def test_nothing_measured_is_no_pass():
    result = judge(SCENARIO, [ev(3, "finished")], {})
    assert result["verdict"] == "fail"
    assert result["expectations"][0]["reason"] == "not measured: download.intact"


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        (run(ev(1.5, "error", reason="agent was ended by SIGKILL")), "agent was ended by SIGKILL"),
        (run(ev(1.5, "interrupted")), "interrupted"),
        (run(finished=False), WITHOUT_A_WORD),
        ([], WITHOUT_A_WORD),
    ],
)
def test_a_run_that_broke_off_is_an_error_whatever_it_measured(events, reason):
    result = judge(SCENARIO, events, {})
    assert (result["verdict"], result["reason"]) == ("error", reason)
    assert {one["verdict"] for one in result["expectations"]} == {"skip"}
