"""Expectations: what they mean, what is refused, that nothing is ever executed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scenarios import expect
from scenarios.grammar import ExpectationError

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
    "seen": {"exit_status": 1, "output": "from 2s and 'c1'"},
}


SUBJECTS = {"download": "traffic", "upload": "traffic", "run": "run", "nic0": "nic", "s1": "switch", "seen": "command"}


def judge(text: str) -> expect.Outcome:
    return expect.evaluate(expect.parse(text, SUBJECTS), MEASURED)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("download.intact", "pass"),
        ("nic0.frames_in == 7 and nic0.bytes_in < 1KB", "pass"),
        ("s1.moved <= 0.4", "fail"),
        ("""seen.exit_status == 1 and seen.output == "from 2s and 'c1'\"""", "pass"),
        ("seen.output == 'from'", "fail"),
        ("seen.output != ''", "pass"),
        ("not download.intact", "fail"),
        ("download.resets == 0", "pass"),
        ("1 <= download.reloads <= 2", "pass"),
        ("2 <= download.reloads <= 3", "fail"),
        ("download.intact and 1 <= download.reloads <= 2", "pass"),
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
        ("download.reloads > 0 - 1", "pass"),
        ("download.moves - download.reloads >= 0", "pass"),
        ("max(download.reloads - download.moves) < 0", "pass"),
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
        ("downlod.intact", "`downlod` is no traffic, NIC or switch of this scenario; did you mean `download`?"),
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
        ("1 == 1", "`1 == 1` measures nothing; leave it out, or name a measurement"),
        ("True", "`True` measures nothing; name a measurement such as download.intact"),
        ("download.intact or True", "`True` measures nothing"),
        ("download.intact and 1s <= 2s", "`1000ms <= 2000ms` measures nothing"),
        ("all(download.intact) and max(64KiB) > 1mbit / 1mbit * 3B", "`max(65536B) > 1mbit / 1mbit * 3B` measures"),
        ("download.reloads == download.reloads", "`download.reloads == download.reloads` compares it with itself"),
        ("run.bring_up + 1s >= run.bring_up + 1s", "`run.bring_up + 1000ms >= run.bring_up + 1000ms` compares it"),
        ("download.reloads > -1", "`download.reloads > -1` always holds, for nothing measured is below 0"),
        ("0 <= download.reloads <= 2", "`0 <= download.reloads` always holds"),
        ("-2 == download.reloads", "`-2 == download.reloads` never holds"),
        ("download.bytes < 0B", "`download.bytes < 0B` never holds"),
        ("any(longest_stall >= 0s)", "`longest_stall >= 0ms` always holds"),
        ("count(resets >= 1) >= 0", "`count(resets >= 1) >= 0` always holds"),
        ("0 > max(resets) + 2 * download.moves", "`0 > max(resets) + 2 * download.moves` never holds"),
        ("download.intact is True", "`download.intact is True` is not part of the language"),
        ("download.reloads in [1, 2]", "`download.reloads in [1, 2]` is not part of the language"),
        ("download.reloads ** 9 > 1", "`download.reloads ** 9` is not part of the language"),
        ("len(download) > 1", "`len(download)` is not part of the language"),
        ("duration(2000) > download.longest_stall", "write quantities as 2s, 64KiB, 150mbit"),
        ("download.__class__ == 1", "`download.__class__` is no measurement"),
        ("download.intact.__class__", "`download.intact.__class__` is no measurement"),
        ("(lambda: 1)() == 1", "`(lambda: 1)()` is not part of the language"),
        ("'x' == 'x'", "`'x' == 'x'` measures nothing"),
        ("'x'", "`'x'` is a text, not true or false; compare it, for example `'x' == 'x'`"),
        ("seen.output == 3", "a text cannot be compared with a number"),
        ("'a' <= seen.output", "`'a' <= seen.output`: a text is compared by == or != only"),
        ("seen.output + 'a' == 'ba'", "`+` needs numbers, not a text"),
        ("seen.output == b'a'", "`b'a'` is not part of the language"),
        ("download.intact = 1", "not an expectation; write for example `1 <= download.reloads <= 2`"),
        ("", "not an expectation; write for example"),
        ("(" * 200 + ")" * 200, "longer than 300 characters"),
        ("-" * 250 + "download.intact", "`-` needs numbers, not true or false"),
    ],
)
def test_refused(text, reason):
    with pytest.raises(ExpectationError) as error:
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
    except ExpectationError:
        return
    assert expect.evaluate(expectation, MEASURED).verdict in ("pass", "fail")


MANY = {
    "a": {"intact": True, "resets": 0, "longest_stall_ms": 10.0, "bytes": 100, "causes": {"stray": 1}, "stalls_ms": []},
    "b": {"intact": True, "resets": 2, "longest_stall_ms": 90.0, "bytes": 300, "causes": {}, "stalls_ms": [6.0, 90.0]},
    "run": {},
    "c": {
        "each": {"longest_stall_ms": [float(n) for n in range(1, 101)], "reloads": [0, 1] * 50, "moves": [1, 1] * 50}
    },
}
for words in (MANY["a"], MANY["b"]):
    words["each"] = {"longest_stall_ms": [5.0], "reloads": [1], "moves": [2], "bytes": [7]}


def judge_many(text: str, *traffic: str) -> expect.Outcome:
    subjects = dict.fromkeys(traffic or ("a", "b"), "traffic") | {"run": "run"}
    return expect.evaluate(expect.parse(text, subjects), MANY)


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("all(intact)", "pass"),
        ("all(resets == 0)", "fail"),
        ("all(resets <= 2 and intact)", "pass"),
        ("any(resets == 0)", "pass"),
        ("any(resets > 2)", "fail"),
        ("count(resets == 0) == 1", "pass"),
        ("sum(bytes) == 400B", "pass"),
        ("max(longest_stall) <= 90ms", "pass"),
        ("max(longest_stall) < 90ms", "fail"),
        ("min(a.longest_stall, b.longest_stall) == 10ms", "pass"),
        ("mean(bytes) == 200B and median(bytes) == 200B", "pass"),
        ("all(causes.stray <= 1)", "pass"),
        ("max(b.longest_stall - a.longest_stall) == 80ms", "pass"),
        ("max(b.stalls) == 90ms and min(b.stalls) == 6ms", "pass"),
        ("count(b.stalls > 50ms) == 1", "pass"),
        ("count(stalls > 50ms) == 1", "pass"),
        ("max(each.longest_stall) == 5ms", "pass"),
        ("not all(not intact)", "pass"),
    ],
)
def test_of_all_traffic(text, verdict):
    outcome = judge_many(text)
    assert outcome.verdict == verdict, outcome


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("p99(c.each.longest_stall) == 99ms", "pass"),
        ("p50(c.each.longest_stall) == 50ms", "pass"),
        ("p1(c.each.longest_stall) == 1ms", "pass"),
        ("p95(c.each.longest_stall_ms) == 95", "pass"),
        ("median(c.each.longest_stall) == 50.5ms", "pass"),
        ("all(c.each.longest_stall < 100ms)", "fail"),
        ("all(c.each.reloads <= c.each.moves)", "pass"),
        ("sum(c.each.reloads) == 50", "pass"),
        ("count(c.each.reloads == 1) == 50", "pass"),
    ],
)
def test_of_all_connections(text, verdict):
    outcome = judge_many(text, "c")
    assert outcome.verdict == verdict, outcome


def test_what_was_measured_is_told_by_traffic_and_of_long_lists_in_brief():
    assert judge_many("all(resets == 0)").measured == {"a.resets": 0, "b.resets": 2}
    brief = judge_many("max(c.each.longest_stall) < 1s", "c").measured
    assert brief == {"c.each.longest_stall_ms": {"values": 100, "min": 1.0, "median": 50.5, "max": 100.0}}


def test_nothing_to_measure_fails():
    for text in ("max(a.stalls) <= 1s", "all(a.stalls <= 1s)", "p99(a.stalls) <= 1s"):
        outcome = judge_many(text)
        assert (outcome.verdict, "there is nothing to measure" in outcome.reason) == ("fail", True)
    assert judge_many("sum(a.stalls) == 0ms and count(a.stalls > 1ms) == 0").verdict == "pass"
    assert judge_many("all(offloads == 1)").reason == "not measured: a.offloads, b.offloads"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("b.stalls <= 1s", "`b.stalls` is a list; say what of it, for example `max(b.stalls)` or `p99(b.stalls)`"),
        ("b.each.intact", "`b.each.intact` is a list; say what of it, for example `all(b.each.intact)` or `count("),
        ("all(resets)", "`all(…)` needs comparisons, for example `all(resets == 0)`"),
        ("max(intact)", "`max(…)` needs numbers, not true or false"),
        ("max(longest_stall) <= 2", "a duration is compared with a bare number"),
        ("max(longest_stall, bytes) > 1s", "a duration cannot be compared with a size"),
        ("all(max(resets) == 0)", "`max(…)` stands inside another one; write two expectations"),
        ("all(reset == 0)", "`reset` is neither traffic of this scenario nor a measurement; did you mean `resets`?"),
        ("all(each.reload == 0)", "`a.each.reload` is no measurement; did you mean `reloads`?"),
        ("al(resets == 0)", "`al(resets == 0)` is not part of the language; did you mean `all`?"),
        ("p100(b.stalls) == 1", "`p100(b.stalls)` is not part of the language; there is all, any, count"),
        ("max() > 1s", "`max(…)` needs values, for example `max(longest_stall)`"),
        ("max(key=resets) > 1", "`max(…)` needs values"),
        ("resets == 0", "`resets` is no traffic, NIC or switch of this scenario; did you mean `a.resets`?"),
        ("max(b.eech.resets) == 0", "`b.eech.resets` is no measurement; did you mean `b.each.resets`?"),
    ],
)
def test_refused_of_many(text, complaint):
    with pytest.raises(ExpectationError) as error:
        judge_many(text)
    assert complaint in str(error.value)


def test_a_measurement_of_all_traffic_where_there_is_none():
    with pytest.raises(ExpectationError, match="`resets` is a measurement of traffic, and this scenario has none"):
        expect.parse("all(resets == 0)", {"run": "run"})
