"""Damaged scenario files, made systematically from right ones: every key removed, misspelt, with a value of the wrong
type or unit, out of range, or referring to nothing. Each knows the line that its complaint must name."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from scenarios import schema
from scenarios.steps import STEPS

FREE = {("traffic",), ("services",), ("team", "features"), ("network", "rates")}
"""Mappings whose keys are names."""
QUANTITY = re.compile(r"\d+(?:\.\d+)?(us|ms|s|B|KB|KiB|MB|MiB|GB|kbit|mbit|gbit|/s|%)")
REFERRING = {
    "client",
    "service",
    "connection",
    "nic",
    "to",
    "node",
    "until",
    "process",
    "switch",
    "team",
    "captures",
    "expect",
}


@dataclass(frozen=True)
class Damage:
    """One damaged file. `line` is where it is damaged."""

    kind: str
    what: str
    text: str
    line: int


def damages(name: str, text: str) -> Iterator[Damage]:
    """All damages of one right file."""
    root = yaml.compose(text, Loader=yaml.SafeLoader)
    yield from _mapping(name, text, root, (), root.start_mark.line + 1)


def _mapping(name: str, text: str, node: yaml.MappingNode, place: tuple, head: int) -> Iterator[Damage]:
    """`head`: the line that a complaint about the whole mapping names."""
    required = _required(node, place)
    for index, (key, value) in enumerate(node.value):
        if key.value == "<<":
            continue
        here, line = (*place, key.value), key.start_mark.line + 1
        what = f"{name}: {'.'.join(map(str, here))}"
        if place not in FREE:
            yield Damage("misspelt", what, _put(text, key, key.value[0] + key.value), line)
        if key.value in required:
            first = not place and index == 0  # then the mapping begins with the next key
            yield Damage("removed", what, _without(text, node, key, value), head + first)
        yield Damage("type", what, _put(text, value, "[[1]]" if isinstance(value, yaml.ScalarNode) else "7"), line)
        yield from _values(what, text, value, here, line)
        if isinstance(value, yaml.MappingNode) and here != ("matrix",):
            yield from _mapping(name, text, value, here, line)
        elif isinstance(value, yaml.SequenceNode):
            for number, one in enumerate(value.value):
                if isinstance(one, yaml.MappingNode):
                    yield from _mapping(name, text, one, (*here, number), one.start_mark.line + 1)
                elif here[0] in ("expect", "captures"):
                    yield from _values(f"{what}[{number}]", text, one, here, one.start_mark.line + 1)


def _values(what: str, text: str, value: yaml.Node, place: tuple, line: int) -> Iterator[Damage]:
    if not isinstance(value, yaml.ScalarNode) or place[-1] in ("about", "command", "scenario"):
        return
    if found := QUANTITY.fullmatch(value.value):
        yield Damage("unit", what, _put(text, value, value.value.removesuffix(found.group(1)) + "parsec"), line)
        yield Damage("no unit", what, _put(text, value, value.value.removesuffix(found.group(1))), line)
    elif value.tag.endswith(":int"):
        yield Damage("range", what, _put(text, value, "-1"), line)
        yield Damage("range", what, _put(text, value, str(10**20)), line)
    elif place[-1] in REFERRING:
        yield Damage("reference", what, _put(text, value, _lost(value.value)), line)
    elif value.tag.endswith(":str") and place[-1] not in ("listen", "app"):
        yield Damage("word", what, _put(text, value, "nosuch"), line)


def _lost(written: str) -> str:
    """The same with its first name changed into one of nothing."""
    if "(" in written and "." not in written.partition("(")[0]:
        return re.sub(r"\([a-z0-9_]+", "(nosuch", written, count=1)
    return re.sub(r"[a-z][a-z0-9_]*", "nosuch", written, count=1) if "." not in written else re.sub(
        r"\b[a-z][a-z0-9_]*\.", "nosuch.", written, count=1
    )  # fmt: skip


def _required(node: yaml.MappingNode, place: tuple) -> set[str]:
    match place:
        case ():
            model = schema.Scenario
        case ("traffic", _):
            model = schema.Traffic
        case ("services", _):
            model = schema.Service
        case ("timeline", _):
            model = STEPS[next(value.value for key, value in node.value if key.value == "do")]
        case _:
            return set()
    return {key for key, field in model.model_fields.items() if field.is_required()}


def _put(text: str, node: yaml.Node, value: str) -> str:
    end = node.end_mark.index
    while text[end - 1] in "\n " and end > node.start_mark.index:  # of a block, its last line break
        end -= 1
    if not isinstance(node, yaml.ScalarNode) and not node.flow_style:
        return text[: node.start_mark.index] + value + text[end:]
    return text[: node.start_mark.index] + value + text[node.end_mark.index :]


def _without(text: str, node: yaml.MappingNode, key: yaml.Node, value: yaml.Node) -> str:
    begin, end = key.start_mark.index, value.end_mark.index
    if node.flow_style:
        rest = re.match(r"\s*,\s*", text[end:])
        if rest:
            return text[:begin] + text[end + rest.end() :]
        return re.sub(r",\s*$", "", text[:begin]) + text[end:]
    while end < len(text) and text[end - 1] != "\n":
        end += 1
    # An empty line stays, so that those behind it keep their numbers.
    lines = text[:begin].rpartition("\n")[0]
    return lines + "\n" * (1 + text[begin:end].count("\n")) + text[end:]
