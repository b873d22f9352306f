"""`matrix:` → the combinations of its values, each with a name of its own; decides the names.

    matrix: {network.nics: [2, 4], network.hash: [layer2, layer3+4]}      →      NAME[nics=2,hash=layer2] and three more

Pure. A key is the path of a word of the scenario. A name is stable: it tells the values, not their order.
"""

import re
from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import product
from typing import Any

Place = tuple[str | int, ...]
MOST = 1000
"""Cases of one file."""
LONGEST = 200
"""Characters of what a case adds to its scenario's name; a folder's name has room for 255 bytes."""


class MatrixError(ValueError):
    """A matrix that means nothing: one line, and the place below `matrix`."""

    def __init__(self, reason: str, *place: str | int) -> None:
        self.place = place
        super().__init__(reason)


@dataclass(frozen=True)
class Choice:
    """One value of one key."""

    key: str
    index: int
    value: Any

    @property
    def place(self) -> Place:
        """The path of the word that it sets."""
        return place_of(self.key)


@dataclass(frozen=True)
class Combination:
    """One value of every key. `suffix` is what it adds to the scenario's name."""

    choices: tuple[Choice, ...]
    suffix: str


def place_of(key: str) -> Place:
    """`timeline.0.at` → ("timeline", 0, "at")."""
    return tuple(int(word) if word.isdecimal() else word for word in key.split("."))


def expand(written: Any, given: Set[Place] = frozenset()) -> list[Combination]:
    """All combinations, in the file's order; one with nothing where there is no matrix. Raises MatrixError.

    A word that is `given` on the command line varies no more.
    """
    if not isinstance(written, dict):
        raise MatrixError("must be a mapping of paths to lists, for example `network.nics: [2, 4]`")
    for key, values in written.items():
        if not isinstance(key, str) or not all(key.split(".")) or key.split(".")[0] in ("matrix", "scenario"):
            raise MatrixError("is no path of a word that may vary; write for example `network.nics`", str(key))
        if not isinstance(values, list) or not values:
            raise MatrixError("must be a list with at least one value", key)
    varied = {key: values for key, values in written.items() if place_of(key) not in given}
    count = 1
    for values in varied.values():
        count *= len(values)
    if count > MOST:
        raise MatrixError(f"makes {count} cases; at most {MOST} are possible")
    columns = [[Choice(key, index, value) for index, value in enumerate(values)] for key, values in varied.items()]
    found = [Combination(choices, _suffix(choices, list(varied))) for choices in product(*columns)]
    names = [one.suffix for one in found]
    for combination in found:
        if len(combination.suffix) > LONGEST:
            raise MatrixError(f"makes a name of more than {LONGEST} characters; vary fewer words, or shorter values")
        if names.count(combination.suffix) > 1:
            raise MatrixError(f"two cases are called {combination.suffix}; leave out the value that is there twice")
    return found


def _suffix(choices: Sequence[Choice], keys: Sequence[str]) -> str:
    """`[nics=2,hash=layer2]`, fit for a folder's name."""
    if not choices:
        return ""
    return "[" + ",".join(f"{_short(one.key, keys)}={_text(one.value)}" for one in choices) + "]"


def _short(key: str, keys: Sequence[str]) -> str:
    """The last word of a path, or all of it where two end alike."""
    last = key.rpartition(".")[2]
    return last if sum(one.rpartition(".")[2] == last for one in keys) == 1 and not last.isdecimal() else key


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return "-".join(f"{key}-{_text(one)}" for key, one in value.items())
    if isinstance(value, list):
        return "-".join(map(_text, value))
    text = "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return re.sub(r"[^A-Za-z0-9+._-]", "-", text)
