"""Pieces of SVG as text, safely escaped; scales and ticks. Pure."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

WIDTH = 880
"""Of every drawing, in its own units; the page scales them."""
COLOURS = 7
"""NICs with a colour of their own; what comes behind them shares one."""

Point = tuple[float, float]


def el(tag: str, *inside: object, **attributes: object) -> Markup:
    """One element. `cls` is class, `_` in a name is `-`; an attribute that is None is left out."""
    words = "".join(
        Markup(' {}="{}"').format(_name(key), _number(value)) for key, value in attributes.items() if value is not None
    )
    content = Markup("").join(escape(one) for one in inside)
    return Markup("<{0}{1}>{2}</{0}>").format(Markup(tag), Markup(words), content)


def drawing(height: float, label: str, *inside: object, width: float = WIDTH) -> Markup:
    """A whole SVG. `label`: what it shows, for those who cannot see it."""
    return el("svg", *inside, viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=label)


def text(x: float, y: float, words: object, cls: str = "", anchor: str | None = None) -> Markup:
    """One line of text; `anchor`: start, middle or end."""
    return el("text", escape(words), x=x, y=y, cls=cls or None, text_anchor=anchor)


def line(one: Point, other: Point, cls: str) -> Markup:
    """A straight line."""
    return el("line", x1=one[0], y1=one[1], x2=other[0], y2=other[1], cls=cls)


def rect(x: float, y: float, width: float, height: float, *inside: object, **attributes: object) -> Markup:
    """A rectangle; `inside` may be a title."""
    return el("rect", *inside, x=x, y=y, width=max(0.0, width), height=max(0.0, height), **attributes)


def path(points: Iterable[Point], cls: str, *inside: object, closed: bool = False) -> Markup:
    """A line through points, or the area that they enclose."""
    words = "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return el("path", *inside, d=f"M{words}{'Z' if closed else ''}", cls=cls)


def title(words: str) -> Markup:
    """What is shown when somebody points at the element that this stands in."""
    return el("title", escape(words))


def colour_of(index: int) -> str:
    """The class of the NIC with this place in the order of NICs."""
    return f"c{index + 1}" if index < COLOURS else "c0"


@dataclass(frozen=True)
class Scale:
    """From values to places in the drawing."""

    least: float
    most: float
    begin: float
    end: float

    def __call__(self, value: float) -> float:
        """Where a value lies."""
        share = (value - self.least) / (self.most - self.least) if self.most > self.least else 0.0
        return self.begin + share * (self.end - self.begin)

    def ticks(self, count: int = 6) -> Sequence[float]:
        """About so many round values within the scale."""
        step = _round_up((self.most - self.least) / max(1, count)) if self.most > self.least else 1.0
        first = math.ceil(self.least / step - 1e-9)
        return [index * step for index in range(first, math.floor(self.most / step + 1e-9) + 1)]


def _round_up(step: float) -> float:
    """1, 2 or 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(power * times for times in (1, 2, 5, 10) if power * times >= step * (1 - 1e-9))


def shown(value: float) -> str:
    """A tick's number."""
    return f"{value:,.10g}"


def _name(key: str) -> str:
    return {"cls": "class", "viewBox": "viewBox"}.get(key, key.replace("_", "-"))


def _number(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
