"""Scenarios with one fault made silent: its step replaced by a wait for what holds anyhow, all others as they are.

An expectation that still holds then has not been about that fault; a scenario of which all hold proves nothing. Where
the point of a scenario is a setting, that is what is made silent.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml

from scenarios.load import Override

LIBRARY = Path(__file__).resolve().parents[1] / "scenarios" / "library"
LOOKS = {"wait", "check_records", "run"}
"""Steps that make nothing happen, those of COMMANDS apart; all others are made silent one by one."""
COMMANDS = {"neighbour_change": [1], "path_mtu": [1]}
"""Where it is a command that makes it happen: which steps."""
SETTINGS = {
    "ageing": ["team.age=60s"],
    "at_once": ["team.capacity=100"],
    "by_service": ["services.files.offload=never", "services.console.offload=at_once"],
    "capacity": ["team.capacity=100"],
    "features": ["team.features={}"],
    "low_memory": ["team.memory=100MB"],
    "offload_by_time": ["team.offload=at_once", "services.large.offload=never", "services.plain.offload=at_once"],
    "wrong_wiring": ["network.swapped=[]"],
}
"""Where nothing happens to a scenario: what it is about, set to what does without it."""
UNDO = {
    "link_up": {"link_down", "link_flap"},
    "all_links_up": {"all_links_down"},
    "adapter_return": {"adapter_failure"},
    "heal": {"black_hole", "impair"},
    "take_back": {"take_out"},
    "switch_up": {"switch_down"},
    "add_nic": {"remove_nic"},
    "set_rate": {"set_rate"},
}
"""These mean nothing without what they undo."""
FOLLOWS = ("moved", "reloaded", "up", "down")
"""Conditions that wait for what follows from the step before."""
FOLLOWS_FROM = {"offload": ("offloaded", "uploaded"), "upload": ("uploaded",)}


def cases() -> Iterator[tuple[str, str]]:
    """Every case of every scenario that comes along: its name, which begins with the scenario's; the silenced text."""
    for file in sorted(LIBRARY.glob("*.yaml")):
        yield from silenced(file.stem, file.read_text())


def silenced(name: str, text: str) -> Iterator[tuple[str, str]]:
    """One file for each step that makes something happen, and for each setting."""
    steps = yaml.safe_load(text).get("timeline", [])
    for index, step in enumerate(steps):
        if step["do"] not in LOOKS or index in COMMANDS.get(name, ()):
            data = yaml.safe_load(text)
            data["timeline"] = _without(index, steps, f"connected({next(iter(data['traffic']))})")
            yield f"{name}-{index + 1}-{step['do']}", _text(f"{name}_{index + 1}", data)
    for index, written in enumerate(SETTINGS.get(name, ())):
        data = yaml.safe_load(text)
        Override.parse(written).apply(data)
        yield f"{name}-set-{index + 1}", _text(f"{name}_set_{index + 1}", data)


def _text(name: str, data: dict[str, Any]) -> str:
    return yaml.safe_dump(data | {"scenario": name}, sort_keys=False, allow_unicode=True)


def _without(silent: int, steps: Sequence[dict[str, Any]], anyhow: str) -> list[dict[str, Any]]:
    """The steps without that one, and without those that would wait in vain for what follows from it, or undo it."""
    vain = {silent}
    for index in range(silent + 1, len(steps)):
        do = steps[index]["do"]
        earlier = [one for one in range(index) if steps[one]["do"] not in LOOKS]
        if do == "wait":
            condition = steps[index]["until"].partition("(")[0]
            follows = condition in FOLLOWS and earlier[-1] in vain
            if follows or condition in FOLLOWS_FROM.get(steps[silent]["do"], ()):
                vain.add(index)
        elif do in UNDO and (undone := [one for one in earlier if steps[one]["do"] in UNDO[do]]) and undone[-1] in vain:
            vain.add(index)
    return [{"at": one["at"], "do": "wait", "until": anyhow} if i in vain else one for i, one in enumerate(steps)]
