"""A scenario file's text → a checked Scenario, or every complaint about it as `file:line: path: reason`.

Reads files, starts nothing. Words are checked first (`schema`), then what names refer to (`references`); all
complaints of a stage are reported, in the order of the file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from scenarios import complain, references
from scenarios.references import Complaint, Place
from scenarios.schema import Scenario


class LoadError(Exception):
    """The scenario is wrong. `lines` holds one complaint each, ready to print."""

    def __init__(self, lines: Sequence[str]) -> None:
        # A key may hold anything, line breaks and a terminal's control characters too.
        self.lines = ["".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line) for line in lines]
        super().__init__("\n".join(self.lines))


@dataclass(frozen=True)
class Override:
    """One `--set KEY=VALUE`: `network.rate=100mbit`, `timeline.0.at=2s`."""

    written: str
    place: Place
    value: Any

    @classmethod
    def parse(cls, written: str) -> "Override":
        """Raises LoadError when there is no `=`, no key or no YAML value."""
        key, equals, value = written.partition("=")
        try:
            if not equals or not all(key.split(".")):
                raise ValueError("write KEY=VALUE, for example network.rate=100mbit")
            place = tuple(int(word) if word.isdecimal() else word for word in key.split("."))
            return cls(written, place, yaml.safe_load(value))
        except (ValueError, yaml.YAMLError) as error:
            raise LoadError([f"--set {written}: {_yaml_reason(error)}"]) from None

    def apply(self, data: Any) -> None:
        """Put the value into the file's plain data. Raises LoadError when the path leads nowhere."""
        *way, last = self.place
        try:
            for word in way:
                data = data.setdefault(word, {}) if isinstance(data, dict) else data[word]
            data[last] = self.value
        except (TypeError, AttributeError, IndexError, KeyError):
            raise LoadError([f"--set {self.written}: `{show(self.place)}` leads nowhere in this scenario"]) from None


def load_file(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """Read and check one file. Raises LoadError, also when there is no such file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise LoadError(
            [f"{path}: cannot be read: {error.strerror}; see `teambed list` for those that come along"]
        ) from None
    except UnicodeDecodeError:
        raise LoadError([f"{path}: is not text in UTF-8"]) from None
    return load(text, str(path), overrides)


def load(text: str, name: str, overrides: Sequence[str] = ()) -> Scenario:
    """Check one scenario's text; `name` is what complaints call the file. Raises LoadError."""
    parsed = [Override.parse(written) for written in overrides]
    root, data = _read(text, name)
    for override in parsed:
        override.apply(data)
    try:
        scenario = Scenario.model_validate(data)
        found = references.complaints(scenario)
    except ValidationError as error:
        found = complain.complaints(error)
        scenario = None
    if found or scenario is None:
        raise LoadError(_lines(found, name, root, parsed))
    return scenario


def show(place: Place) -> str:
    """`("timeline", 0, "nic")` → `timeline[0].nic`."""
    text = ""
    for word in place:
        text += f"[{word}]" if isinstance(word, int) else f".{word}" if text else word
    return text


def _read(text: str, name: str) -> tuple[yaml.Node, Any]:
    """The text's nodes, which know their lines, and its plain data. Raises LoadError."""
    loader = yaml.SafeLoader(text)
    loader.name = name
    try:
        root = loader.get_single_node()
        if root is None:
            raise LoadError([f"{name}:1: is empty; a scenario begins with `scenario: NAME`"])
        twice = _twice(root, ())
        if twice:
            raise LoadError([f"{name}:{line}: {show(place)}: is written twice" for line, place in twice])
        data = loader.construct_document(root)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise LoadError([f"{name}:{line}: not YAML: {_yaml_reason(error)}"]) from None
    except yaml.YAMLError as error:
        raise LoadError([f"{name}:1: not YAML: {_yaml_reason(error)}"]) from None
    except (RecursionError, ValueError) as error:
        raise LoadError([f"{name}:1: not YAML that can be read: {_yaml_reason(error)}"]) from None
    finally:
        loader.dispose()
    if not isinstance(data, dict):
        raise LoadError([f"{name}:1: is no scenario; one begins with `scenario: NAME`"])
    return root, data


def _yaml_reason(error: Exception) -> str:
    if isinstance(error, yaml.MarkedYAMLError):
        return " ".join((error.problem or error.context or "cannot be read").split())
    return " ".join(str(error).split()) or type(error).__name__


def _twice(node: yaml.Node, place: Place, above: frozenset[int] = frozenset()) -> list[tuple[int, Place]]:
    """Keys written twice in one mapping, which YAML's readers silently accept: (line, path)."""
    if id(node) in above:
        raise LoadError([f"{node.start_mark.name}:{node.start_mark.line + 1}: {show(place)}: contains itself"])
    above |= {id(node)}
    found: list[tuple[int, Place]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            word = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if word in seen:
                found.append((key.start_mark.line + 1, (*place, word)))
            seen.add(word)
            found += _twice(value, (*place, word), above)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _twice(value, (*place, index), above)
    return found


def _lines(found: Sequence[Complaint], name: str, root: yaml.Node, overrides: Sequence[Override]) -> list[str]:
    """Complaints as text, in the order of the file; those a --set brought about name it."""
    placed = []
    for place, reason in found:
        at = f"{show(place)}: " if place else ""
        by = next((o for o in overrides if place[: len(o.place)] == o.place), None)
        line = 0 if by else line_of(root, place)
        where = f"--set {by.written}" if by else f"{name}:{line}"
        placed.append((line, f"{where}: {at}{reason}"))
    return [text for _, text in sorted(placed, key=lambda one: one[0])]


def line_of(root: yaml.Node, place: Place) -> int:
    """The line (from 1) of the path's last word that is written in the file."""
    node, line = root, root.start_mark.line + 1
    for word in place:
        below = None
        if isinstance(node, yaml.MappingNode):
            below = next(((key, value) for key, value in node.value if key.value == str(word)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(word, int) and word < len(node.value):
            below = (node.value[word], node.value[word])
        if below is None:
            return line
        line, node = below[0].start_mark.line + 1, below[1]
    return line
