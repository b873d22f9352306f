"""The kinds of values a scenario file may hold: quantities with their units, names, seeds.

Pure. A value is in base units once read: seconds, bytes, bits per second, a share of one. What a kind may look like is
told to editors by its pattern.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, WithJsonSchema

from scenarios import units

_NUMBER = r"[0-9]+(\.[0-9]+)? ?"


def _quantity(pattern: str, *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"type": "string", "pattern": f"^{pattern}$", "examples": list(examples)})


DURATION = f"{_NUMBER}(us|ms|s)"
SIZE = f"{_NUMBER}(B|KB|KiB|MB|MiB|GB|GiB)"

Duration = Annotated[float, BeforeValidator(units.parse_duration), _quantity(DURATION, "1.5s", "200ms")]
Size = Annotated[int, BeforeValidator(units.parse_size), _quantity(SIZE, "64KiB", "100MB")]
Rate = Annotated[int, BeforeValidator(units.parse_rate), _quantity(f"{_NUMBER}(kbit|mbit|gbit)", "200mbit")]
Arrivals = Annotated[float, BeforeValidator(units.parse_arrivals), _quantity(f"{_NUMBER}/ ?s", "500/s")]
Share = Annotated[float, BeforeValidator(units.parse_share), _quantity(f"{_NUMBER}%", "1%", "0.1%")]
After = Annotated[int | float, BeforeValidator(units.parse_after), _quantity(f"({SIZE}|{DURATION})", "64KiB", "500ms")]
Ports = Annotated[
    tuple[int, int],
    BeforeValidator(units.parse_ports),
    WithJsonSchema({"type": "string", "pattern": "^[0-9]{1,5}-[0-9]{1,5}$", "examples": ["30000-30009"]}),
]
# YAML reads an unquoted `off` as false.
Lacp = Annotated[Literal["off", "active", "passive"], BeforeValidator(lambda given: "off" if given is False else given)]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class Strict(BaseModel):
    """Unknown words are errors and nothing is converted silently."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
