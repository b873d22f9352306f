"""JUnit XML as Jenkins' schema has it, which GitLab reads too: elements, attributes, order, and text of any kind."""

from xml.etree import ElementTree

import pytest

from scenarios.report.junit import Case, junit

# junit-10.xsd of Jenkins' xunit plug-in, as far as it concerns what is written: attributes, and children in order.
SHAPE = {
    "testsuites": ({"name", "time", "tests", "failures", "errors", "skipped"}, ["testsuite"]),
    "testsuite": ({"name", "tests", "failures", "errors", "time", "skipped", "timestamp"}, ["testcase"]),
    "testcase": ({"name", "classname", "time"}, ["skipped", "error", "failure", "system-out", "system-err"]),
    "failure": ({"message", "type"}, []),
    "error": ({"message", "type"}, []),
    "skipped": ({"message", "type"}, []),
    "system-out": (set(), []),
}


def result(verdict: str, **keys):
    held = {"text": "download.intact", "measured": {"download.intact": True}, "verdict": "pass"}
    broken = {"text": "download.resets == 0", "measured": {"download.resets": 2}, "verdict": "fail"}
    return {"scenario": f"s_{verdict}", "verdict": verdict, "expectations": [held, broken], "seed": 3} | keys


CASES = [
    Case(result("pass"), "all is well", 6.5, "2026-01-02T03:04:05Z"),
    Case(result("fail"), "  ✗ 1 <= download.resets & \x1b[31m]]>", 2.0, "2026-01-02T03:04:01Z"),
    Case(result("error", reason="agent died"), "…", 1.25),
    Case(result("skip", reason="needs netem"), "…", 0.25),
]


def check(element: ElementTree.Element) -> None:
    attributes, children = SHAPE[element.tag]
    assert set(element.attrib) <= attributes
    places = [children.index(child.tag) for child in element]
    assert places == sorted(places), f"{element.tag}: {[child.tag for child in element]}"
    for child in element:
        check(child)


def test_the_shape():
    root = ElementTree.fromstring(junit(CASES).encode())
    check(root)
    suite = root[0]
    counts = {key: suite.attrib[key] for key in ("tests", "failures", "errors", "skipped", "time", "timestamp")}
    assert counts == {
        **{"tests": "4", "failures": "1", "errors": "1", "skipped": "1", "time": "10.000"},
        "timestamp": "2026-01-02T03:04:01",  # the schema's ISO 8601 has no zone
    }
    assert [case.attrib["name"] for case in suite] == ["s_pass", "s_fail", "s_error", "s_skip"]
    assert {case.attrib["classname"] for case in suite} == {"teambed"}


def test_a_failure_says_what_does_not_hold_and_carries_the_consoles_text():
    failure = ElementTree.fromstring(junit(CASES).encode())[0][1][0]
    assert failure.tag == "failure"
    assert failure.attrib["message"] == "does not hold: download.resets == 0"
    assert failure.text == "  ✗ 1 <= download.resets & \ufffd[31m]]>", "XML cannot carry an escape"


@pytest.mark.parametrize(("index", "tag", "message"), [(2, "error", "agent died"), (3, "skipped", "needs netem")])
def test_what_did_not_run(index, tag, message):
    case = ElementTree.fromstring(junit(CASES).encode())[0][index]
    assert (case[0].tag, case[0].attrib["message"]) == (tag, message)


def test_no_scenario_at_all():
    check(ElementTree.fromstring(junit([]).encode()))
