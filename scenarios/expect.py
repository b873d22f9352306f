"""Expectations: a small language of comparisons over measurements; decides whether they hold.

    download.intact
    1 <= download.reloads <= 2
    download.longest_stall <= 2s and download.goodput >= 150mbit
    all(resets == 0) and p99(crowd.each.longest_stall) <= 500ms

Inside `all`, `any`, `count`, `sum`, `min`, `max`, `mean`, `median` and `p50` to `p99` a name without a dot means that
measurement of every traffic, and lists may stand: one value for each connection, move or stall.

Pure. The text is parsed by Python's own parser and then only the node types below are accepted; nothing is
ever evaluated by Python. Everything that can be wrong is found when the scenario is loaded: unknown names, a
duration compared with a bare number, a size with a rate. A measurement that is missing fails the expectation
and says so.
"""

import ast
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

from scenarios import grammar, vocabulary
from scenarios.aggregates import AGGREGATES, OF_NONE, OF_TRUTHS, NothingMeasuredError, brief, each, listed, maker
from scenarios.grammar import ExpectationError
from scenarios.spelling import near, nearest
from scenarios.vocabulary import Kind

LONGEST = 300
"""Characters in one expectation; keeps the parser's recursion small."""

_ARITHMETIC: dict[type[ast.operator], tuple[str, Callable[[Any, Any], Any]]] = {
    ast.Add: ("+", operator.add),
    ast.Sub: ("-", operator.sub),
    ast.Mult: ("*", operator.mul),
    ast.Div: ("/", operator.truediv),
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}


_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {ast.Lt: ast.Gt, ast.LtE: ast.GtE, ast.Gt: ast.Lt, ast.GtE: ast.LtE}
"""The comparison with its sides changed."""


@dataclass(frozen=True)
class Expectation:
    """A parsed expectation: its text, its tree, and the measurements it names (`download.reloads` → path)."""

    text: str
    tree: ast.expr
    names: Mapping[str, "Named"]


@dataclass(frozen=True)
class Named:
    """A name in an expectation: the paths of what it means, and whether that is one value or a list of values."""

    paths: tuple[tuple[str, ...], ...]
    one: bool


@dataclass(frozen=True)
class Outcome:
    """What became of an expectation: the values it saw, and why when it is not the comparison itself."""

    text: str
    measured: Mapping[str, object]
    verdict: Literal["pass", "fail"]
    reason: str = ""


Subjects = Mapping[str, str]
"""What an expectation may be about: its name → its kind, one of `vocabulary.SUBJECTS`."""


def parse(text: str, subjects: Subjects) -> Expectation:
    """Read one expectation about these subjects. Raises ExpectationError."""
    if len(text) > LONGEST:
        raise ExpectationError(f"longer than {LONGEST} characters; write it as several expectations")
    tree = grammar.parsed(text)
    names: dict[str, Named] = {}
    kind = _kind(tree, subjects, names)
    if kind != "truth":
        example = f"{text} == 'x'" if kind == "text" else f"{text} >= 1"
        raise ExpectationError(f"`{text}` is a {kind}, not true or false; compare it, for example `{example}`")
    if not names:
        raise ExpectationError(f"`{text}` measures nothing; name a measurement such as {_example(subjects)}")
    return Expectation(text, tree, names)


def evaluate(expectation: Expectation, measurements: Mapping[str, Any]) -> Outcome:
    """Judge one expectation over `measurements` (subject → measurement → value)."""
    values: dict[str, Any] = {}
    measured: dict[str, object] = {}
    for name, named in expectation.names.items():
        found = [_look_up(path, measurements) for path in named.paths]
        values[name] = found[0] if named.one else [one for part in found for one in listed(part)]
        # Shown under the measurement's full name, which says the unit.
        measured |= {".".join(path): brief(value) for path, value in zip(named.paths, found, strict=True)}
    missing = [name for name, value in measured.items() if value is None]
    if missing:
        return Outcome(expectation.text, measured, "fail", f"not measured: {', '.join(missing)}")
    try:
        holds = _value(expectation.tree, values)
    except ZeroDivisionError:
        return Outcome(expectation.text, measured, "fail", "division by zero")
    except NothingMeasuredError as error:
        return Outcome(expectation.text, measured, "fail", str(error))
    return Outcome(expectation.text, measured, "pass" if holds else "fail")


def _kind(node: ast.expr, subjects: Subjects, names: dict[str, Named], many: bool = False) -> Kind:
    """The kind of a tree's value, checking it on the way and collecting the measurements it names.

    `many`: inside an aggregate, where lists may stand.
    """
    if found := grammar.quantity(node):
        return found[0]
    if place := grammar.path(node):
        named, kind = _named(place, subjects, many)
        names[".".join(place)] = named
        return kind
    if isinstance(node, ast.Call):
        return _aggregate(node, subjects, names, many)
    match node:
        case ast.Constant(value=bool()):
            return "truth"
        case ast.Constant(value=int() | float()):
            return "number"
        case ast.Constant(value=str()):
            return "text"
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return _no_truth(_kind(operand, subjects, names, many), "-")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            return _only_truth(_kind(operand, subjects, names, many), "not")
        case ast.BoolOp(op=op, values=values):
            for value in values:
                _only_truth(_kind(value, subjects, names, many), "and" if isinstance(op, ast.And) else "or")
                _asks(value)
            return "truth"
        case ast.BinOp(op=op, left=left, right=right) if type(op) in _ARITHMETIC:
            return _combine(
                _ARITHMETIC[type(op)][0], _kind(left, subjects, names, many), _kind(right, subjects, names, many)
            )
        case ast.Compare(left=left, ops=ops, comparators=comparators) if all(type(op) in _COMPARISONS for op in ops):
            kinds = [_kind(side, subjects, names, many) for side in (left, *comparators)]
            for one, other in pairwise(kinds):
                _alike(one, other)
            if "text" in kinds and not all(isinstance(op, ast.Eq | ast.NotEq) for op in ops):
                raise ExpectationError(f"`{grammar.written(node)}`: a text is compared by == or != only")
            for sign, (one_side, other_side) in zip(ops, pairwise((left, *comparators)), strict=True):
                _asks(ast.Compare(one_side, [sign], [other_side]))
            return "truth"
    raise ExpectationError(
        f"`{ast.unparse(node)}` is not part of the language,"
        " which has names, numbers with units, + - * /, comparisons, and, or, not, all(…), any(…), max(…), p99(…)"
    )


def _aggregate(node: ast.Call, subjects: Subjects, names: dict[str, Named], many: bool) -> Kind:
    word = node.func.id if isinstance(node.func, ast.Name) else ast.unparse(node.func)
    if maker(word) is None:
        raise ExpectationError(f"`{ast.unparse(node)}` is not part of the language{nearest(word, AGGREGATES)}")
    if node.keywords or not node.args:
        raise ExpectationError(f"`{word}(…)` needs values, for example `{word}({_inside(word)})`")
    if many:
        raise ExpectationError(f"`{word}(…)` stands inside another one; write two expectations")
    kinds = [_kind(argument, subjects, names, many=True) for argument in node.args]
    for one, other in pairwise(kinds):
        _alike(one, other)
    if word in OF_TRUTHS:
        for kind in kinds:
            if kind != "truth":
                raise ExpectationError(f"`{word}(…)` needs comparisons, for example `{word}({_inside(word)})`")
        return "count" if word == "count" else "truth"
    return _no_truth(kinds[0], f"{word}(…)")


def _inside(word: str) -> str:
    return "resets == 0" if word in OF_TRUTHS else "longest_stall"


def _only_truth(kind: Kind, word: str) -> Kind:
    if kind != "truth":
        raise ExpectationError(f"`{word}` joins comparisons, not a {kind}")
    return kind


def _no_truth(kind: Kind, word: str) -> Kind:
    if kind in ("truth", "text"):
        raise ExpectationError(f"`{word}` needs numbers, not {'true or false' if kind == 'truth' else 'a text'}")
    return kind


def _asks(node: ast.expr) -> None:
    """What holds, or does not, whatever is measured asks for nothing. Raises ExpectationError."""
    text = grammar.written(node)
    if not grammar.measures(node):
        raise ExpectationError(f"`{text}` measures nothing; leave it out, or name a measurement")
    if not isinstance(node, ast.Compare) or len(node.ops) > 1:  # each part of a chain has been looked at
        return
    left, (op,), (right,) = node.left, node.ops, node.comparators
    if ast.dump(left) == ast.dump(right):
        raise ExpectationError(f"`{text}` compares it with itself, so it measures nothing; leave it out")
    if _bound(left) is not None:  # written the other way round
        left, right, op = right, left, _TURNED.get(type(op), type(op))()
    bound = _bound(right)
    if bound is None or bound > 0 or not _never_below_0(left):
        return
    outcomes = {_COMPARISONS[type(op)](measured, bound) for measured in (0, 1)}
    if len(outcomes) == 1:
        how = "always holds" if outcomes == {True} else "never holds"
        raise ExpectationError(f"`{text}` {how}, for nothing measured is below 0; leave it out")


def _never_below_0(node: ast.expr) -> bool:
    """No measurement is; nor are sums of them, and what aggregates make of them."""
    match node:
        case ast.Call(func=ast.Name(id=word), args=arguments):
            return word == "count" or all(map(_never_below_0, arguments))
        case ast.BinOp(op=ast.Add() | ast.Mult() | ast.Div(), left=left, right=right):
            return _never_below_0(left) and _never_below_0(right)
    bound = _bound(node)
    return grammar.path(node) is not None or (bound is not None and bound >= 0)


def _bound(node: ast.expr) -> float | None:
    """A plain number, with a unit or not."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        below = _bound(node.operand)
        return None if below is None else -below
    if found := grammar.quantity(node):
        return found[1]
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, int | float) else None


def _alike(one: Kind, other: Kind) -> None:
    """Both sides of a comparison must be of one kind; counts and sizes also compare with bare numbers."""
    if one == other or ({one, other} <= {"count", "size", "number"} and {one, other} != {"count", "size"}):
        return
    for kind, example in (("duration", "2s"), ("rate", "150mbit")):
        if kind in (one, other) and {one, other} & {"number", "count"}:
            raise ExpectationError(
                f"a {kind} is compared with a bare number; give the number a unit, for example {example}"
            )
    raise ExpectationError(f"a {one} cannot be compared with a {other}")


def _combine(sign: str, one: Kind, other: Kind) -> Kind:
    _no_truth(one, sign)
    _no_truth(other, sign)
    if sign in "+-":
        _alike(one, other)
        return one if other == "number" else other
    plain = ("number", "count")
    if other in plain:
        return "number" if one in plain else one
    if sign == "*" and one in plain:
        return other
    if sign == "/" and one == other:
        return "number"
    raise ExpectationError(f"a {one} {sign} a {other} means nothing here")


def _named(path: tuple[str, ...], subjects: Subjects, many: bool) -> tuple[Named, Kind]:
    """What a name means. Raises ExpectationError."""
    if many and path[0] not in subjects:
        traffic = [name for name, kind in subjects.items() if kind == "traffic"]
        if path[0] not in {*vocabulary.LISTS, *vocabulary.TABLES} and not _measurement("traffic", path):
            known = _shown(vocabulary.TRAFFIC)
            near = nearest(path[0], [*subjects, *known])
            raise ExpectationError(f"`{path[0]}` is neither traffic of this scenario nor a measurement{near}")
        if not traffic:
            raise ExpectationError(f"`{path[0]}` is a measurement of traffic, and this scenario has none")
        found = [_resolve((name, *path), subjects) for name in traffic]
        return Named(tuple(place for place, _, _ in found), one=False), found[0][1]
    place, kind, single = _resolve(path, subjects)
    if not single and not many:
        name, (one, other) = ".".join(path), ("all", "count") if kind == "truth" else ("max", "p99")
        raise ExpectationError(f"`{name}` is a list; say what of it, for example `{one}({name})` or `{other}({name})`")
    return Named((place,), one=single), kind


def _resolve(path: tuple[str, ...], subjects: Subjects) -> tuple[tuple[str, ...], Kind, bool]:
    """`download.longest_stall` → (("download", "longest_stall_ms"), "duration", True); False: it is a list.

    Raises ExpectationError.
    """
    head, *rest = path
    if head not in subjects:
        what = f"`{head}` is no traffic, NIC or switch of this scenario"
        traffic = [name for name, kind in subjects.items() if kind == "traffic"]
        if traffic and _measurement("traffic", path):
            raise ExpectationError(f"{what}; did you mean `{traffic[0]}.{head}`?")
        raise ExpectationError(f"{what}{nearest(head, list(subjects))}")
    if subjects[head] == "traffic" and len(rest) == 2 and rest[0] in vocabulary.TABLES:
        words, called = vocabulary.TABLES[rest[0]]
        if rest[1] not in words:
            raise ExpectationError(f"`{rest[1]}` is no {called}{nearest(rest[1], words)}")
        return path, "count", True
    if subjects[head] == "traffic" and len(rest) == 2 and rest[0] in vocabulary.LISTS:
        listed = vocabulary.LISTS[rest[0]]
        found = vocabulary.resolve(listed, rest[1])
        if found is None:
            raise ExpectationError(f"`{'.'.join(path)}` is no measurement{nearest(rest[1], _shown(listed))}")
        return (head, rest[0], found[0]), found[1], False
    known = _measurement(subjects[head], tuple(rest))
    if known is None:
        asked = ".".join(rest)
        what = f"`{'.'.join(path)}` is no measurement" if rest else f"`{head}` alone is no measurement"
        if len(rest) == 2 and (meant := near(rest[0], [*vocabulary.TABLES, *filter(None, vocabulary.LISTS)])):
            raise ExpectationError(f"{what}; did you mean `{head}.{meant[0]}.{rest[1]}`?")
        raise ExpectationError(f"{what}{nearest(asked, _shown(vocabulary.SUBJECTS[subjects[head]]))}")
    return (head, known[0]), known[1], known[0] not in vocabulary.LISTS[""]


def _measurement(subject: str, rest: tuple[str, ...]) -> tuple[str, Kind] | None:
    """The measurement of that kind of subject, by its full name."""
    names = vocabulary.SUBJECTS[subject] | (vocabulary.LISTS[""] if subject == "traffic" else {})
    return vocabulary.resolve(names, rest[0]) if len(rest) == 1 else None


def _shown(names: Mapping[str, object]) -> list[str]:
    return [name.removesuffix("_ms").removesuffix("_mbit") for name in names]


def _example(subjects: Subjects) -> str:
    traffic = [name for name, kind in subjects.items() if kind == "traffic"]
    return f"{traffic[0]}.intact" if traffic else "run.bring_up"


def _look_up(path: tuple[str, ...], measurements: Mapping[str, Any]) -> object:
    found: Any = measurements
    for word in path:
        found = found.get(word) if isinstance(found, Mapping) else None
    if found is None and len(path) == 3 and isinstance(measurements.get(path[0], {}).get(path[1]), Mapping):
        return 0  # they were counted; none was of this kind
    return found


def _value(node: ast.expr, measured: Mapping[str, Any]) -> Any:
    """The value of a tree that _kind accepted."""
    if found := grammar.quantity(node):
        return found[1]
    if place := grammar.path(node):
        return measured[".".join(place)]
    match node:
        case ast.Constant(value=value):
            return value
        case ast.Call(func=ast.Name(id=word), args=arguments):
            made, values = maker(word), [v for one in arguments for v in listed(_value(one, measured))]
            if made is None or (not values and word not in OF_NONE):
                raise NothingMeasuredError(f"`{ast.unparse(node)}`: there is nothing to measure")
            return made(values)
        case ast.UnaryOp(op=op, operand=operand):
            sign: Callable[[Any], Any] = operator.neg if isinstance(op, ast.USub) else operator.not_
            return each(sign, _value(operand, measured))
        case ast.BoolOp(op=op, values=operands):
            join = all if isinstance(op, ast.And) else any
            return each(lambda *sides: join(sides), *(_value(one, measured) for one in operands))
        case ast.BinOp(op=sum_, left=left, right=right):
            return each(_ARITHMETIC[type(sum_)][1], _value(left, measured), _value(right, measured))
        case ast.Compare(left=left, ops=ops, comparators=comparators):

            def compare(*sides: Any) -> bool:
                pairs = zip(ops, sides, sides[1:], strict=False)
                return all(_COMPARISONS[type(op)](one, other) for op, one, other in pairs)

            return each(compare, *(_value(side, measured) for side in (left, *comparators)))
    raise AssertionError(f"parse() let {ast.dump(node)} through")
