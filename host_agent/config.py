"""The agent's configuration: one JSON file, checked before anything starts.

Decides: what a valid configuration is. Never touches: anything but the file.

By dataclasses alone: a library that checks such files would be most of what an agent imports, and so most of the time
until it works.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, field, fields
from enum import Enum
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

from host_agent.policy import Choice, OnFault
from host_agent.records import MAX_NICS


class ConfigError(Exception):
    """One line: file, place, reason."""


def _may(
    default: Any = MISSING,
    *,
    of: tuple[str, ...] = (),
    least: float = -math.inf,
    above: float = -math.inf,
    most: float = math.inf,
) -> Any:
    """A key and what it may be: one of these words, or within these bounds; of a list, its length."""
    return field(default=default, metadata={"of": of, "least": least, "above": above, "most": most})


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    socket: str


@dataclass(frozen=True, kw_only=True)
class NicConfig:
    name: str
    bus: str
    socket: str


@dataclass(frozen=True, kw_only=True)
class OffloadRule:
    """When a connection is offloaded: after so many bytes in both directions (0: at once), or so many seconds,
    whichever comes first. Neither: never."""

    after_bytes: int | None = _may(None, least=0)
    after_s: float | None = _may(None, least=0)

    @property
    def never(self) -> bool:
        return self.after_bytes is None and self.after_s is None


@dataclass(frozen=True, kw_only=True)
class OffloadConfig(OffloadRule):
    """The team's rule, and those of single services by their port."""

    services: dict[int, OffloadRule] = field(default_factory=dict)

    def of(self, port: int) -> OffloadRule:
        return self.services.get(port, self)


@dataclass(frozen=True, kw_only=True)
class ReloadAfter:
    """How much evidence a reload wants: so many frames on another NIC, or so long since the first. Default: at once."""

    frames: int = _may(1, least=1)
    seconds: float = _may(0, least=0)


@dataclass(frozen=True, kw_only=True)
class LacpConfig:
    """mode: off (a static LAG), active, or passive (speaks only to one that does). rate: how often the switch is asked
    to speak, fast (every second, dead after 3) or slow (every 30 seconds, dead after 90)."""

    mode: str = _may("off", of=("off", "active", "passive"))
    rate: str = _may("fast", of=("fast", "slow"))


@dataclass(frozen=True, kw_only=True)
class AgentConfig:
    """name: as its events call it. control: path of the local API's socket.

    pins: where the host engine pinned the records. nics: in NIC order.
    min_links: with fewer active members none is. probe_s: seconds between two questions to the switch over every wire;
    None: it is asked nothing.
    age_s: seconds after which a silent connection's record goes. flood_per_s: half-open connections a second to one
    port that are a flood."""

    control: str
    pins: str
    host: EngineConfig
    nics: list[NicConfig] = _may(least=1, most=MAX_NICS)  # noqa: RUF009  (a field)
    name: str = "agent"
    team: str = "team0"
    offload: OffloadConfig
    on_fault: OnFault = OnFault.RELOAD
    choice: Choice = Choice.LEAST_LOADED
    fail_back: str = _may("none", of=("none", "rebalance"))
    reload_after: ReloadAfter = ReloadAfter()
    lacp: LacpConfig = LacpConfig()
    min_links: int = _may(1, least=1, most=MAX_NICS)
    probe_s: float | None = _may(None, least=0.01, most=60)
    age_s: float = _may(300.0, above=0)
    flood_per_s: float = _may(100.0, above=0)
    trace: bool = False

    @classmethod
    def load(cls, path: Path) -> AgentConfig:
        """Raises ConfigError."""
        try:
            return cls.of(json.loads(path.read_bytes()))
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except ValueError as error:
            raise ConfigError(f"{path}: {error}") from None

    @classmethod
    def of(cls, document: object) -> AgentConfig:
        """Raises ValueError: place and reason."""
        return _taken(cls, document, "")  # type: ignore[no-any-return]


def _taken(kind: Any, value: object, place: str) -> Any:
    """A value of the document as what it must be. Raises ValueError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _taken(arguments[0], value, place)
    if origin is list and isinstance(value, list):
        return [_taken(arguments[0], one, f"{place}.{n}") for n, one in enumerate(value)]
    if origin is dict and isinstance(value, Mapping) and all(key.isdecimal() for key in value):
        return {int(key): _taken(arguments[1], one, f"{place}.{key}") for key, one in value.items()}
    if isinstance(kind, type) and issubclass(kind, Enum) and value in [one.value for one in kind]:
        return kind(value)
    if hasattr(kind, "__dataclass_fields__") and isinstance(value, Mapping):
        return _object(kind, value, f"{place}." if place else "")
    if kind is float and type(value) is int:
        return float(value)
    if kind in (str, int, float, bool) and type(value) is kind and value == value:  # no number equals no NaN
        return value
    raise ValueError(f"{place}: {value!r:.60} is not what it must be")


def _object(kind: Any, document: Mapping[str, object], place: str) -> Any:
    hints, found = get_type_hints(kind), {}
    for key in document.keys() - hints.keys():
        raise ValueError(f"{place}{key}: no such key")
    for one in fields(kind):
        where = f"{place}{one.name}"
        if one.name in document:
            value = found[one.name] = _taken(hints[one.name], document[one.name], where)
            _check(one.metadata, value, where)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise ValueError(f"{where}: it is missing")
    return kind(**found)


def _check(may: Mapping[str, Any], value: Any, place: str) -> None:
    if not may or value is None:
        return
    if may["of"] and value not in may["of"]:
        raise ValueError(f"{place}: {value!r} is none of {', '.join(may['of'])}")
    size = len(value) if isinstance(value, list | str) else value
    if not may["of"] and not (may["least"] <= size <= may["most"] and size > may["above"]):
        raise ValueError(f"{place}: {size} is too {'many' if size > may['most'] else 'little'}")
