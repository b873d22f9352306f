"""A scenario and its run's events → the result: measurements, expectations, verdict.

Pure; what it returns is `result.json`. A run that broke off has the verdict `error` whatever it measured.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scenarios import expect
from scenarios.measure import Event, measure
from scenarios.references import subjects_of
from scenarios.schema import Scenario

Result = dict[str, Any]

WITHOUT_A_WORD = "the run ended without a word; see logs/runner.log"


def judge(scenario: Scenario, events: Sequence[Event], environment: Mapping[str, Any]) -> Result:
    """The result of one run, ready for JSON. `reason` is there when the run did not come to its end, or never began."""
    measurements = measure(events)
    skipped = next((event for event in events if event["event"] == "skipped"), None)
    reason = str(skipped["reason"]) if skipped else broke_off(events)
    why = "the run was skipped" if skipped else "the run broke off"
    expectations: list[dict[str, Any]] = []
    subjects = subjects_of(scenario)
    for text in scenario.expect:
        if reason:
            expectations.append({"text": text, "measured": {}, "verdict": "skip", "reason": why})
            continue
        outcome = expect.evaluate(expect.parse(text, subjects), measurements)
        expectations.append(
            {
                "text": text,
                "measured": dict(outcome.measured),
                "verdict": outcome.verdict,
                "reason": outcome.reason,
            }
        )
    failed = any(one["verdict"] != "pass" for one in expectations)
    verdict = "error" if reason else "fail" if failed else "pass"
    if skipped:
        verdict = "fail" if skipped["strict"] else "skip"
    result: Result = {"scenario": scenario.scenario, "verdict": verdict}
    if reason:
        result["reason"] = reason
    return result | {
        "measurements": measurements,
        "expectations": expectations,
        "environment": dict(environment),
        "seed": scenario.seed,
    }


def broke_off(events: Sequence[Event]) -> str:
    """Why the run did not come to its end, one line; empty when it did."""
    for event in events:
        if event["event"] == "error":
            return str(event.get("reason", "unknown"))
    if any(event["event"] == "interrupted" for event in events):
        return "interrupted"
    if not any(event["event"] == "finished" for event in events):
        return WITHOUT_A_WORD
    return ""
