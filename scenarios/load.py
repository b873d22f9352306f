"""A scenario file's text → its cases, checked, or every complaint about it as `file:line: path: reason`.

Reads files, starts nothing. A file is one case, or with a `matrix` one for each combination of its values. Words are
checked first (`schema`), then what names refer to (`references`); all complaints of a stage are reported, in the order
of the file.
"""

import hashlib
import json
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from scenarios import complain, matrix, references
from scenarios.references import Complaint, Place
from scenarios.schema import Scenario
from scenarios.spelling import near

MOST = 20_000
"""Values in one file: aliases of aliases soon make more of them than any machine can check."""


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
    origin: Place | None = None
    """Where in the file it is written; None: on the command line."""

    @classmethod
    def parse(cls, written: str) -> "Override":
        """Raises LoadError when there is no `=`, no key or no YAML value."""
        key, equals, value = written.partition("=")
        try:
            if not equals or not all(key.split(".")):
                raise ValueError("write KEY=VALUE, for example network.rate=100mbit")
            return cls(written, matrix.place_of(key), _value(value, written, key))
        except (ValueError, RecursionError, yaml.YAMLError) as error:
            raise LoadError([f"--set {written}: {_yaml_reason(error)}"]) from None

    def apply(self, data: Any) -> None:
        """Put the value into the file's plain data. Raises LoadError when the path leads nowhere."""
        *way, last = self.place
        try:
            named = data.get(way[0], {}) if way[:1] in (["traffic"], ["services"]) and way[1:] else None
            if named and way[1] not in named:
                for meant in near(str(way[1]), list(named)):
                    raise LoadError([f"--set {self.written}: `{way[1]}` is not there; did you mean `{meant}`?"])
            for word in way:
                data = data.setdefault(word, {}) if isinstance(data, dict) else data[word]
            data[last] = self.value
        except (TypeError, AttributeError, IndexError, KeyError):
            raise LoadError([f"--set {self.written}: `{show(self.place)}` leads nowhere in this scenario"]) from None


@dataclass(frozen=True)
class Case:
    """One scenario to run. Its name is the file's, or with a matrix `rehash[nics=3,hash=layer2]`."""

    scenario: Scenario
    text: str
    """A file that is this case alone."""
    digest: str
    """The same for the same words."""


def cases_of_file(path: Path | str, overrides: Sequence[str] = ()) -> list[Case]:
    """Read and check one file. Raises LoadError, also when there is no such file."""
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        help_ = "; see `teambed list` for those that come along" if isinstance(error, FileNotFoundError) else ""
        raise LoadError([f"{path}: cannot be read: {error.strerror}{help_}"]) from None
    except UnicodeDecodeError:
        raise LoadError([f"{path}: is not text in UTF-8"]) from None
    return cases(text, str(path), overrides)


def load_file(path: Path | str, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of one file; the first case of a matrix. Raises LoadError."""
    return cases_of_file(path, overrides)[0].scenario


def load(text: str, name: str, overrides: Sequence[str] = ()) -> Scenario:
    """The scenario of one text; `name` is what complaints call the file. Raises LoadError."""
    return cases(text, name, overrides)[0].scenario


def cases(text: str, name: str, overrides: Sequence[str] = ()) -> list[Case]:
    """Check one file's text; `name` is what complaints call the file. Raises LoadError."""
    parsed = [Override.parse(written) for written in overrides]
    root, data = _read(text, name)
    try:
        combinations = matrix.expand(data.get("matrix", {}), {one.place for one in parsed})
    except matrix.MatrixError as error:
        raise LoadError(_lines([(("matrix", *error.place), str(error))], name, root, ())) from None
    found: list[Case] = []
    complaints: list[str] = []
    for combination in combinations:
        chosen = [Override("", one.place, one.value, ("matrix", one.key, one.index)) for one in combination.choices]
        here = deepcopy(data)
        for override in (*parsed, *chosen):
            override.apply(here)
        if combination.choices:
            here["matrix"] = {one.key: [one.value] for one in combination.choices}
        else:
            here.pop("matrix", None)
        try:
            scenario = _checked(here, name, root, [*parsed, *chosen])
        except LoadError as error:
            complaints += [line for line in error.lines if line not in complaints]
            continue
        scenario = scenario.model_copy(update={"scenario": scenario.scenario + combination.suffix})
        digest = hashlib.sha256(json.dumps(here, sort_keys=True, default=str).encode()).hexdigest()[:16]
        alone = text if here == data else yaml.safe_dump(here, sort_keys=False, allow_unicode=True)
        found.append(Case(scenario, alone, digest))
    if complaints:
        raise LoadError(complaints)
    return found


def _checked(data: Any, name: str, root: yaml.Node, overrides: Sequence[Override]) -> Scenario:
    try:
        scenario = Scenario.model_validate(data)
        found = references.complaints(scenario)
    except ValidationError as error:
        found = complain.complaints(error)
        scenario = None
    if found or scenario is None:
        raise LoadError(_lines(found, name, root, overrides))
    return scenario


def show(place: Place) -> str:
    """`("timeline", 0, "nic")` → `timeline[0].nic`."""
    text = ""
    for word in place:
        text += f"[{word}]" if isinstance(word, int) else f".{word}" if text else word
    return text


def _read(text: str, name: str) -> tuple[yaml.Node, Any]:
    """The text's nodes, which know their lines, and its plain data. Raises LoadError."""
    try:
        loader = yaml.SafeLoader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise LoadError([f"{name}:{line}: not YAML: {_yaml_reason(error)}"]) from None
    loader.name = name
    try:
        root = loader.get_single_node()
        if root is None:
            raise LoadError([f"{name}:1: is empty; a scenario begins with `scenario: NAME`"])
        _written_out(root, (), {})
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


def _value(text: str, written: str, key: str) -> Any:
    """One YAML value of a --set. Raises LoadError, ValueError, RecursionError, YAMLError."""
    loader = yaml.SafeLoader(text)
    loader.name = f"--set {written}"
    try:
        root = loader.get_single_node()
        if root is None:
            return None
        _written_out(root, (key,), {})
        return loader.construct_document(root)
    finally:
        loader.dispose()


def _yaml_reason(error: Exception) -> str:
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character U+{error.character:04X} has no place in a text"
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, yaml.MarkedYAMLError):
        return " ".join((error.problem or error.context or "cannot be read").split())
    return " ".join(str(error).split()) or type(error).__name__


def _written_out(node: yaml.Node, place: Place, sizes: dict[int, int | None]) -> int:
    """How many values a node is with every alias written out; each node is looked at once. Raises LoadError."""
    if id(node) not in sizes:
        sizes[id(node)] = None  # not known yet
        below: Sequence[tuple[str | int, yaml.Node]] = ()
        if isinstance(node, yaml.MappingNode):
            below = [(key.value if isinstance(key, yaml.ScalarNode) else "?", value) for key, value in node.value]
        elif isinstance(node, yaml.SequenceNode):
            below = list(enumerate(node.value))
        sizes[id(node)] = 1 + sum(_written_out(one, (*place, word), sizes) for word, one in below)
    size = sizes[id(node)]
    if size is None or size > MOST:
        why = "contains itself" if size is None else f"is more than {MOST:,} values with its aliases written out"
        raise LoadError([f"{node.start_mark.name}:{node.start_mark.line + 1}: {show(place)}: {why}"])
    return size


def _twice(node: yaml.Node, place: Place) -> list[tuple[int, Place]]:
    """Keys written twice in one mapping, which YAML's readers silently accept: (line, path)."""
    found: list[tuple[int, Place]] = []
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            word = key.value if isinstance(key, yaml.ScalarNode) else "?"
            if word in seen:
                found.append((key.start_mark.line + 1, (*place, word)))
            seen.add(word)
            found += _twice(value, (*place, word))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            found += _twice(value, (*place, index))
    return found


def _lines(found: Sequence[Complaint], name: str, root: yaml.Node, overrides: Sequence[Override]) -> list[str]:
    """Complaints as text, in the order of the file; those a --set brought about name it."""
    placed: dict[tuple[int, str, str], str] = {}
    for place, reason in found:
        by = next((o for o in reversed(overrides) if _brought(o, place, root)), None)
        if by and by.origin:
            place, by = (*by.origin, *place[len(by.place) :]), None
        at = f"{show(place)}: " if place else ""
        line = 0 if by else line_of(root, place)
        where = f"--set {by.written}" if by else f"{name}:{line}"
        # What is written once and used by several (`&`, `*`) is wrong once.
        placed.setdefault((line, str(place[-1:]), reason), f"{where}: {at}{reason}")
    return [placed[key] for key in sorted(placed, key=lambda key: key[0])]


def _brought(override: Override, place: Place, root: yaml.Node) -> bool:
    """Whether what is complained of is in the file only by this override."""
    if place[: len(override.place)] == override.place:
        return True
    return override.place[: len(place)] == place and not _written(root, place)


def line_of(root: yaml.Node, place: Place) -> int:
    """The line (from 1) of the path's last word that is written in the file."""
    return ([root.start_mark.line + 1] + [key.start_mark.line + 1 for key in _way(root, place)])[-1]


def _written(root: yaml.Node, place: Place) -> bool:
    return len(_way(root, place)) == len(place)


def _way(node: yaml.Node, place: Place) -> list[yaml.Node]:
    """The keys, or entries of lists, that are in the file of a path from this node."""
    way: list[yaml.Node] = []
    for word in place:
        below = None
        if isinstance(node, yaml.MappingNode):
            # The last one: what is merged in (`<<`) stands before what the mapping itself says.
            below = next(((key, value) for key, value in reversed(node.value) if key.value == str(word)), None)
        elif isinstance(node, yaml.SequenceNode) and isinstance(word, int) and word < len(node.value):
            below = (node.value[word], node.value[word])
        if below is None:
            break
        way.append(below[0])
        node = below[1]
    return way
