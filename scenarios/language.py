"""What the language of scenarios has, for editors and for people: the JSON Schema, and the tables of its page.

    python -m scenarios.language     writes scenarios/scenario.schema.json and the tables of docs/scenario-language.md

Decides only their form: what there is comes from the models' and the vocabulary's own texts. A test holds the files
equal to it.
"""

import ast
import inspect
import json
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

from scenarios import aggregates, conditions, schema, units, vocabulary
from scenarios.steps import STEPS

ROOT = Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "scenarios" / "scenario.schema.json"
PAGE = ROOT / "docs" / "scenario-language.md"


class _Words(GenerateJsonSchema):
    """With the keys' texts, and without defaults: they are in base units, which nobody may write."""

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        made = super().model_schema(schema)
        for name, text in texts(schema["cls"]).items():
            made["properties"][name]["description"] = text
        return made

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def texts(model: type[BaseModel]) -> dict[str, str]:
    """What stands below each key of a model, in its source. (Pydantic can read it too, but would at every start.)"""
    kinds = [kind for kind in reversed(model.__mro__) if issubclass(kind, BaseModel) and kind is not BaseModel]
    return {name: text for kind in kinds for name, text in _written(kind.__module__).get(kind.__name__, {}).items()}


@cache
def _written(module: str) -> dict[str, dict[str, str]]:
    """By class and key."""
    found: dict[str, dict[str, str]] = {}
    kinds = (one for one in ast.parse(inspect.getsource(sys.modules[module])).body if isinstance(one, ast.ClassDef))
    for kind in kinds:
        for key, below in zip(kind.body, kind.body[1:], strict=False):
            match key, below:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    found.setdefault(kind.name, {})[name] = inspect.cleandoc(text)
    return found


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    made: dict[str, Any] = _plain(schema.Scenario.model_json_schema(schema_generator=_Words))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "A teambed scenario"} | made


def _plain(node: Any, names: bool = False) -> Any:
    """Without what helps nobody; `names`: the keys are those of the language, not of JSON Schema."""
    if isinstance(node, list):
        return [_plain(one) for one in node]
    if not isinstance(node, dict):
        return node
    if not names and {"type": "null"} in node.get("anyOf", []):
        rest = [one for one in node["anyOf"] if one != {"type": "null"}]
        node = {key: value for key, value in node.items() if key != "anyOf"} | (
            rest[0] if len(rest) == 1 else {"anyOf": rest}
        )
    found = {
        key: _plain(value, names=not names and key in ("properties", "$defs"))
        for key, value in node.items()
        if names or key != "title"
    }
    if not names and isinstance(found.get("description"), str):
        found["description"] = _line(found["description"])
    return found


def tables() -> dict[str, str]:
    """The tables of docs/scenario-language.md, by their names."""
    models: dict[str, type[BaseModel]] = {
        "scenario": schema.Scenario,
        "network": schema.Network,
        "team": schema.Team,
        "services": schema.Service,
        "traffic": schema.Traffic,
        "sizes": schema.Distribution,
        "offload": schema.OffloadAfter,
        "reload_after": schema.ReloadAfter,
    }
    return {
        **{name: _keys(model) for name, model in models.items()},
        "steps": _steps(),
        "conditions": _conditions(),
        "units": _table("Quantity", "Units", {k.name: ", ".join(f"`{u}`" for u in k.units) for k in _KINDS}),
        **{f"of {name}": _measurements(words) for name, words in vocabulary.SUBJECTS.items()},
        **{f"of {name or 'lists'}": _measurements(words) for name, words in vocabulary.LISTS.items()},
        "tables": _table(
            "Table",
            "Words",
            {name: ", ".join(f"`{w}`" for w in words) for name, (words, _) in vocabulary.TABLES.items()},
        ),
        "aggregates": ", ".join(f"`{one}`" for one in aggregates.AGGREGATES),
    }


_KINDS = (units.DURATION, units.SIZE, units.RATE)


def _keys(model: type[BaseModel], skip: tuple[str, ...] = ()) -> str:
    rows = [
        (f"`{name}`", _form(field), "needed" if field.is_required() else "", _line(texts(model).get(name, "")))
        for name, field in model.model_fields.items()
        if name not in skip
    ]
    return _rows(("Key", "Value", "", "What it is"), rows)


def _steps() -> str:
    rows = []
    for word, step in STEPS.items():
        keys = [
            f"`{name}` {_form(field)}"
            + (", needed" if field.is_required() else "")
            + f": {_line(texts(step).get(name, ''))}"
            for name, field in step.model_fields.items()
            if name not in ("at", "do")
        ]
        rows.append((f"`{word}`", _line(step.__doc__ or ""), "<br>".join(keys)))
    return _rows(("Step", "What happens", "Its keys, besides `at`"), rows)


def _conditions() -> str:
    written = conditions.choices("TRAFFIC", "NIC").split(", ")
    return _table(
        "Condition", "Holds when", dict(zip((f"`{w}`" for w in written), conditions.CONDITIONS.values(), strict=True))
    )


def _measurements(words: Mapping[str, tuple[str, str]]) -> str:
    rows = [(f"`{name.removesuffix('_ms').removesuffix('_mbit')}`", kind, text) for name, (kind, text) in words.items()]
    return _rows(("Measurement", "Kind", "What it is"), rows)


def _form(field: Any) -> str:
    """What may be written there, in a word or in all words there are."""
    examples = [meta.json_schema.get("examples") for meta in field.metadata if hasattr(meta, "json_schema")]
    if examples and examples[0]:
        return f"such as `{examples[0][0]}`"
    return _of_type(field.annotation)


def _of_type(kind: Any) -> str:
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Annotated:
        for meta in arguments[1:]:
            if examples := getattr(meta, "json_schema", {}).get("examples"):
                return f"such as `{examples[0]}`"
        return _of_type(arguments[0])
    if origin is Literal:
        return ", ".join(f"`{one}`" for one in arguments)
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_of_type(one) for one in arguments if one is not NoneType))
    if origin is list:
        return f"a list of {_of_type(arguments[0])}"
    if origin is dict:
        return "a mapping"
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return "a mapping"
    return {int: "a number", float: "a number", str: "text", bool: "`true`, `false`"}.get(kind, "anything")


def _line(text: str) -> str:
    return " ".join(text.split())


def _table(left: str, right: str, rows: Mapping[str, str]) -> str:
    return _rows((left, right), list(rows.items()))


def _rows(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *(tuple(cell.replace("|", "\\|") for cell in row) for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def filled(page: str) -> str:
    """The page with its tables as they are now. Raises KeyError for a table that does not exist."""
    made = tables()

    def table(found: re.Match[str]) -> str:
        return f"<!-- table: {found.group(1)} -->\n{made[found.group(1)]}\n<!-- end -->"

    return re.sub(r"<!-- table: ([a-z_ ]+) -->\n.*?<!-- end -->", table, page, flags=re.DOTALL)


def schema_text() -> str:
    """The schema's file."""
    return json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    """Write both files."""
    SCHEMA.write_text(schema_text(), encoding="utf-8")
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
