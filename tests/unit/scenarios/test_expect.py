"""Expectations: what they mean, what is refused, that nothing is ever executed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import expect

MEASURED = {
    "download": {
        "intact": True,
        "bytes": 100_000_000,
        "goodput_mbit": 180.5,
        "resets": 0,
        "reloads": 1,
        "moves": 2,
        "longest_stall_ms": 31.5,
        "retransmits": None,
        "offloaded_share": 0.99,
        "causes": {"link_down": 1, "policy": 1},
    },
    "run": {"bring_up_ms": 1500.0, "tear_down_ms": None},
    "nic0": {"frames_in": 7, "bytes_in": 900},
    "s1": {"moved": 0.5},
}


SUBJECTS = {"download": "traffic", "upload": "traffic", "run": "run", "nic0": "nic", "s1": "switch"}


def judge(text: str) -> expect.Outcome:
    return expect.evaluate(expect.parse(text, SUBJECTS), MEASURED)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("download.intact", "pass"),
        ("nic0.frames_in == 7 and nic0.bytes_in < 1KB", "pass"),
        ("s1.moved <= 0.4", "fail"),
        ("not download.intact", "fail"),
        ("download.resets == 0", "pass"),
        ("1 <= download.reloads <= 2", "pass"),
        ("2 <= download.reloads <= 3", "fail"),
        ("download.longest_stall <= 2s", "pass"),
        ("download.longest_stall <= 31.5ms", "pass"),
        ("download.longest_stall < 31.5ms", "fail"),
        ("download.longest_stall > 31400us", "pass"),
        ("download.longest_stall_ms < 32", "pass"),
        ("download.goodput >= 150mbit", "pass"),
        ("download.goodput >= 0.2gbit", "fail"),
        ("download.goodput_mbit >= 150", "pass"),
        ("download.bytes == 100MB", "pass"),
        ("download.bytes == 100000000", "pass"),
        ("download.bytes > 95MiB and download.intact", "pass"),
        ("download.resets > 0 or download.reloads == 1", "pass"),
        ("download.moves - download.reloads == 1", "pass"),
        ("download.longest_stall * 2 < 64ms", "pass"),
        ("download.longest_stall / 1s < 0.04", "pass"),
        ("download.bytes / 1MB == 100", "pass"),
        ("download.reloads > -1", "pass"),
        ("download.causes.link_down == 1", "pass"),
        ("download.causes.stray == 0", "pass"),
        ("run.bring_up <= 2s", "pass"),
        ("download.reloads / download.resets > 0", "fail"),
    ],
)
def test_verdicts(text, verdict):
    assert judge(text).verdict == verdict


def test_what_was_measured_is_told():
    outcome = judge("download.longest_stall <= 10ms and download.reloads == 1")
    assert outcome.verdict == "fail"
    assert outcome.measured == {"download.longest_stall_ms": 31.5, "download.reloads": 1}


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("download.retransmits == 0", "download.retransmits"),
        ("download.retransmits != 0", "download.retransmits"),
        ("download.intact or download.retransmits == 0", "download.retransmits"),
        ("not download.retransmits > 5", "download.retransmits"),
        ("upload.intact", "upload.intact"),
        ("upload.causes.stray == 0", "upload.causes.stray"),
        ("run.tear_down < 9s", "run.tear_down_ms"),
    ],
)
def test_a_missing_measurement_never_passes(text, missing):
    outcome = judge(text)
    assert outcome.verdict == "fail"
    assert outcome.reason == f"not measured: {missing}"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("downlod.intact", "`downlod` is no traffic of this scenario; did you mean `download`?"),
        ("download.reload == 0", "`download.reload` is no measurement; did you mean `reloads`?"),
        ("download", "`download` alone is no measurement; there is"),
        ("download.causes.gremlins == 0", "`gremlins` is no cause of a move; there is"),
        (
            "download.longest_stall <= 2",
            "a duration is compared with a bare number; give the number a unit, for example 2s",
        ),
        (
            "download.goodput >= 100",
            "a rate is compared with a bare number; give the number a unit, for example 150mbit",
        ),
        ("download.longest_stall <= 2MB", "a duration cannot be compared with a size"),
        ("download.bytes >= 2s", "a size cannot be compared with a duration"),
        ("download.intact == 1", "a truth cannot be compared with a number"),
        ("download.bytes + 1s > 0B", "a size cannot be compared with a duration"),
        ("download.bytes * 2MB > 0", "a size * a size means nothing here"),
        ("download.reloads", "`download.reloads` is a count, not true or false; compare it"),
        ("download.reloads and download.intact", "`and` joins comparisons, not a count"),
        ("not download.reloads", "`not` joins comparisons, not a count"),
        ("download.longest_stall <= 2sec", "`sec` in `2sec` is no unit; use"),
        ("1 == 1", "`1 == 1` measures nothing; name a measurement such as download.intact"),
        ("download.intact is True", "`download.intact is True` is not part of the language"),
        ("download.reloads in [1, 2]", "`download.reloads in [1, 2]` is not part of the language"),
        ("download.reloads ** 9 > 1", "`download.reloads ** 9` is not part of the language"),
        ("len(download) > 1", "`len(download)` is not part of the language"),
        ("duration(2000) > download.longest_stall", "calls are not part of an expectation"),
        ("download.__class__ == 1", "`download.__class__` is no measurement"),
        ("download.intact.__class__", "`download.intact.__class__` is no measurement"),
        ("(lambda: 1)() == 1", "`(lambda: 1)()` is not part of the language"),
        ("'x' == 'x'", "`'x'` is not part of the language"),
        ("download.intact = 1", "not an expectation; write for example `1 <= download.reloads <= 2`"),
        ("", "not an expectation; write for example"),
        ("(" * 200 + ")" * 200, "longer than 300 characters"),
        ("-" * 250 + "download.intact", "`-` needs numbers, not true or false"),
    ],
)
def test_refused(text, reason):
    with pytest.raises(expect.ExpectationError) as error:
        expect.parse(text, SUBJECTS)
    assert str(error.value).startswith(reason)
    assert "\n" not in str(error.value)


WORDS = st.sampled_from(
    [
        *("download", "upload", "run", "intact", "reloads", "longest_stall", "causes", "stray", "."),
        *("(", ")", "[", "]", "{", "}", ",", ":", "==", "<=", "<", "and", "or", "not", "+", "-", "*", "/"),
        *("**", "%", "1", "0", "2s", "64KiB", "1e9", "__class__", "__import__", "('os')", "lambda", "x"),
        *("if", "else", "for", "in", "is", "await", "yield", ":=", "'", '"', "\\", "#", "@", ";", "="),
    ]
)


@given(st.lists(WORDS, max_size=14).map(" ".join) | st.lists(WORDS, max_size=14).map("".join) | st.text(max_size=60))
def test_any_text_is_judged_or_refused(text):
    """Neither a crash nor anything else than a verdict comes out of any text."""
    try:
        expectation = expect.parse(text, SUBJECTS)
    except expect.ExpectationError:
        return
    assert expect.evaluate(expectation, MEASURED).verdict in ("pass", "fail")
