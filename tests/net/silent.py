"""Scenarios with their faults made silent: each fault's step replaced by a wait for what holds anyhow.

An expectation that still holds then has not been about the fault; a scenario of which all hold proves nothing.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FAULTS = {
    *("link_down", "link_flap", "all_links_down", "adapter_failure", "black_hole", "impair", "set_rate"),
    *("remove_nic", "add_nic", "rehash", "set_switch", "take_out", "switch_down", "change_router_mac"),
    *("offload", "reload", "upload", "kill", "syn_flood"),
}
"""Steps that make something happen. Those that undo them, that look, wait, or run a command are none; but where nothing
else happens, a command is what makes it happen."""
UNDO = {
    "link_up": {"link_down", "link_flap"},
    "all_links_up": {"all_links_down"},
    "adapter_return": {"adapter_failure"},
    "heal": {"black_hole", "impair"},
    "take_back": {"take_out"},
    "switch_up": {"switch_down"},
    "add_nic": {"remove_nic"},
}
"""These mean nothing without what they undo."""
FOLLOWS = ("moved", "reloaded", "uploaded", "up", "down")
"""Conditions that wait for what follows from some fault, whichever it is."""
FOLLOWS_FROM = {"offload": ("offloaded", "uploaded"), "upload": ("uploaded",), "reload": ("reloaded",)}


def silenced(text: str) -> Iterator[tuple[str, str]]:
    """One scenario for each kind of fault in it, by the fault's word: with all steps of that kind made silent."""
    data = yaml.safe_load(text)
    kinds = [step["do"] for step in data.get("timeline", []) if step["do"] in FAULTS]
    kinds = kinds or [step["do"] for step in data.get("timeline", []) if step["do"] == "run"]
    for kind in dict.fromkeys(kinds):
        yield kind, yaml.safe_dump(_without(data, kind), sort_keys=False, allow_unicode=True)


def _without(data: dict[str, Any], kind: str) -> dict[str, Any]:
    left = {step["do"] for step in data["timeline"] if step["do"] in FAULTS - {kind}}
    steps = []
    for step in data["timeline"]:
        undoes = UNDO.get(step["do"])
        condition = step["until"].partition("(")[0] if step["do"] == "wait" else ""
        vain = condition in FOLLOWS_FROM.get(kind, ()) or (condition in FOLLOWS and not left)
        if step["do"] == kind or (undoes and not undoes & left) or vain:
            silent = {"at": step["at"], "do": "wait", "until": f"connected({next(iter(data['traffic']))})"}
            steps.append(silent)
        else:
            steps.append(step)
    return data | {"scenario": f"{data['scenario']}_{kind}"[:32], "timeline": steps}


def library() -> Iterator[tuple[str, str, str]]:
    """Every fault of every scenario that comes along: scenario, kind of fault, the silenced file's text."""
    folder = Path(__file__).resolve().parents[2] / "scenarios" / "library"
    for file in sorted(folder.glob("*.yaml")):
        for kind, text in silenced(file.read_text()):
            yield file.stem, kind, text
