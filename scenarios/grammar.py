"""An expectation's text → a tree of Python's syntax; decides how quantities are written.

Pure. What may stand in the tree, and what it means, is `expect`'s.
"""

import ast
import re

from scenarios import units
from scenarios.vocabulary import Kind

_QUANTITY = re.compile(r"'[^']*'|\"[^\"]*\"|(?<![\w.])\d+(?:\.\d+)?([A-Za-z]\w*)")
"""A number with its unit; texts in quotes are passed by."""
_OWN = {"duration": "ms", "size": "B", "rate": "mbit"}
"""The units that measurements are in."""


class ExpectationError(ValueError):
    """An expectation that means nothing: one line for its author."""


def parsed(text: str) -> ast.expr:
    """The tree of an expectation, in which numbers with units are calls of their kinds. Raises ExpectationError."""
    text = _numbers(text)
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpectationError("not an expectation; write for example `1 <= download.reloads <= 2`") from None


def _numbers(text: str) -> str:
    """Turn `2s`, `64KiB`, `150mbit` into `duration(2000)` and so on, which `quantity` knows."""

    def plain(found: re.Match[str]) -> str:
        number, unit = found.group(0), found.group(1)
        if unit is None:
            return number
        for kind in (units.DURATION, units.SIZE, units.RATE):
            if unit in kind.units:
                # In the measurements' own units: milliseconds, bytes, Mbit/s.
                scale = {"duration": 1000, "size": 1, "rate": 1}[kind.name]
                value = kind.parse(number) * scale / (1_000_000 if kind is units.RATE else 1)
                return f"{kind.name}({value})"
        raise ExpectationError(f"`{unit}` in `{number}` is no unit; use s, ms, us, B, KiB, MB, kbit, mbit …")

    if re.search(r"\b(duration|size|rate)\s*\(", text):
        raise ExpectationError("write quantities as 2s, 64KiB, 150mbit")
    return _QUANTITY.sub(plain, text)


def quantity(node: ast.expr) -> tuple[Kind, float] | None:
    """The literal that _numbers wrote for a number with a unit."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and len(node.args) == 1):
        return None
    argument = node.args[0]
    if isinstance(argument, ast.Constant) and node.func.id in ("duration", "size", "rate") and not node.keywords:
        return node.func.id, float(argument.value)  # type: ignore[return-value, arg-type]
    return None


def path(node: ast.expr) -> tuple[str, ...] | None:
    """`a.b.c` → ("a", "b", "c"); None for anything else."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute):
        head = path(node.value)
        return head and (*head, node.attr)
    return None


def measures(node: ast.expr) -> bool:
    """Whether a name of a measurement is in it."""
    below = node.args if isinstance(node, ast.Call) else ast.iter_child_nodes(node)
    return path(node) is not None or any(isinstance(one, ast.expr) and measures(one) for one in below)


def written(node: ast.expr) -> str:
    """A part of an expectation, as its author would write it."""
    quantities = "|".join(_OWN)
    return re.sub(
        rf"({quantities})\(([\d.e+]+)\)", lambda m: f"{float(m.group(2)):.15g}{_OWN[m.group(1)]}", ast.unparse(node)
    )
