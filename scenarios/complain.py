"""What pydantic found wrong with a scenario → complaints in words that its author can act on.

Pure. A complaint is the path in the file and the reason; `load` adds the line.
"""

from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from scenarios import schema
from scenarios.references import Complaint, Place
from scenarios.spelling import near, nearest
from scenarios.steps import STEPS

_TAGS = {"offload_after", "offload_word", "distribution", "size", "[key]"}
"""Words in pydantic's places that name a branch of the model and are not in the file."""

_WANTED = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a mapping, key: value",
    "model_type": "a mapping, key: value",
    "model_attributes_type": "a mapping, key: value",
}


def complaints(error: ValidationError) -> list[Complaint]:
    """Every complaint of a failed validation, in pydantic's order."""
    errors = error.errors(include_url=False)
    # A key that is missing because it is misspelt is one mistake, not two.
    misspelt = {
        (one["loc"][:-1], meant[0])
        for one in errors
        if one["type"] == "extra_forbidden" and (meant := near(str(one["loc"][-1]), _keys(one["loc"])))
    }
    return [
        _complaint(one)
        for one in errors
        if one["type"] != "missing" or (one["loc"][:-1], str(one["loc"][-1])) not in misspelt
    ]


def _complaint(found: ErrorDetails) -> Complaint:
    place = _place(found["loc"])
    kind, context, given = found["type"], found.get("ctx", {}), found["input"]
    if kind == "missing":
        return place[:-1], f"`{place[-1]}` is missing"
    if kind == "extra_forbidden":
        return place, f"unknown key{nearest(str(place[-1]), _keys(found['loc']))}"
    if kind == "union_tag_not_found":
        return place, f"`do` is missing; there is {', '.join(STEPS)}"
    if kind == "union_tag_invalid":
        return (*place, "do"), f"`{context['tag']}` is no step{nearest(str(context['tag']), list(STEPS))}"
    if kind == "value_error":
        return place, str(context["error"])
    if kind == "literal_error":
        choices = [choice.strip("' ") for choice in context["expected"].replace(" or ", ", ").split(", ")]
        return place, f"`{_short(given)}` is not possible{nearest(str(given), choices)}"
    if kind == "string_pattern_mismatch":
        return place, _pattern(place, given)
    if kind in ("greater_than_equal", "less_than_equal", "less_than"):
        limits = {"ge": "at least", "le": "at most", "lt": "less than"}
        limit = next(f"{words} {context[key]}" for key, words in limits.items() if key in context)
        return place, f"{given} is out of range; use {limit}"
    if kind == "too_short":
        return place, "is empty; it needs at least one entry"
    if kind in _WANTED:
        return place, f"must be {_WANTED[kind]}, not {_called(given)}"
    return place, found["msg"][:1].lower() + found["msg"][1:]


def _place(loc: tuple[int | str, ...]) -> Place:
    if loc[:1] == ("timeline",) and len(loc) > 2 and loc[2] in STEPS:
        loc = (*loc[:2], *loc[3:])
    return tuple(word for word in loc if word not in _TAGS)


def _keys(loc: tuple[int | str, ...]) -> list[str]:
    """The keys that the mapping around pydantic's place `loc` may have."""
    model: type[BaseModel] = schema.Scenario
    match loc[:-1]:
        case ("network",):
            model = schema.Network
        case ("team",):
            model = schema.Team
        case ("team", "offload", *_):
            model = schema.OffloadAfter
        case ("team", "reload_after"):
            model = schema.ReloadAfter
        case ("services", _, "offload", *_):
            model = schema.OffloadAfter
        case ("services", _):
            model = schema.Service
        case ("traffic", _, "send" | "receive", *_):
            model = schema.Distribution
        case ("traffic", _):
            model = schema.Traffic
        case ("timeline", _, step):
            model = STEPS[str(step)]
    return list(model.model_fields)


def _pattern(place: Place, given: Any) -> str:
    if place[-1] == "app":
        return f"`{_short(given)}` is no application; write `builtin` or where yours listens, HOST:PORT"
    return f"`{_short(given)}` is not a name; use small letters, digits and _, at most 32, a letter first"


def _short(given: Any) -> str:
    text = " ".join(str(given).split())
    return text if len(text) <= 40 else text[:39] + "…"


def _called(given: Any) -> str:
    """What a value is, for a person: `the text \\`3\\``, `nothing`, `a list`."""
    if given is None:
        return "nothing"
    if isinstance(given, bool):
        return f"the truth value `{str(given).lower()}`"
    if isinstance(given, (int, float)):
        return f"the number `{given}`"
    if isinstance(given, str):
        return f"the text `{_short(given)}`"
    return "a list" if isinstance(given, list) else "a mapping" if isinstance(given, dict) else f"`{_short(given)}`"
