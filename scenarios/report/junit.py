"""Results → JUnit XML: one suite for a run, one case for each scenario. Pure.

The shape is that of Jenkins' schema, which GitLab reads as well: a case's `failure`, `error` or `skipped`, with the
console's text in it, then `system-out`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot carry."""


@dataclass(frozen=True)
class Case:
    """One scenario's result, with what the console said of it. `took`: seconds."""

    result: dict[str, Any]
    text: str
    took: float
    started: str | None = None


def junit(cases: Sequence[Case]) -> str:
    """The whole file."""
    verdicts = [case.result["verdict"] for case in cases]
    counts = {
        "tests": len(cases),
        "failures": verdicts.count("fail"),
        "errors": verdicts.count("error"),
        "skipped": verdicts.count("skip"),
        "time": f"{sum(case.took for case in cases):.3f}",
    }
    numbers = {key: str(value) for key, value in counts.items()}
    root = ElementTree.Element("testsuites", {"name": "teambed", **numbers})
    started = min((case.started for case in cases if case.started), default=None)
    stamp = {"timestamp": started.removesuffix("Z")} if started else {}  # UTC; the schema knows no zones
    suite = ElementTree.SubElement(root, "testsuite", {"name": "teambed", **numbers, **stamp})
    for case in cases:
        suite.append(_case(case))
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, encoding="unicode")}\n'


def _case(case: Case) -> ElementTree.Element:
    result = case.result
    names = {"name": result["scenario"], "classname": "teambed", "time": f"{case.took:.3f}"}
    found = ElementTree.Element("testcase", names)
    if result["verdict"] == "fail":
        failed = [one["text"] for one in result["expectations"] if one["verdict"] == "fail"]
        message = f"does not hold: {'; '.join(failed)}" if failed else str(result.get("reason", ""))
        _add(found, "failure", case.text, message=message, type="expectation")
    elif result["verdict"] in ("error", "skip"):
        tag = "error" if result["verdict"] == "error" else "skipped"
        _add(found, tag, case.text, message=str(result.get("reason", "")), type="run")
    _add(found, "system-out", case.text)
    return found


def _add(parent: ElementTree.Element, tag: str, text: str, **attributes: str) -> None:
    child = ElementTree.SubElement(parent, tag, {key: _clean(value) for key, value in attributes.items()})
    child.text = _clean(text)


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("�", text)
