"""The JSON Schema and the page of the language: as the models have it, with nothing left out."""

import re
import sys
from pathlib import Path

import jsonschema
import pytest
import yaml
from pydantic import BaseModel

from scenarios import aggregates, conditions, language, schema, vocabulary
from scenarios.cli import LIBRARY
from scenarios.load import LoadError, load
from scenarios.steps import STEPS

sys.path.insert(0, str(Path(__file__).parent))
from damage import damages

FILES = sorted(LIBRARY.glob("*.yaml"))
PAGE = language.PAGE.read_text()
REMEDY = "run `python -m scenarios.language`"


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    jsonschema.Draft202012Validator.check_schema(language.json_schema())
    return jsonschema.Draft202012Validator(language.json_schema())


def test_the_committed_files_are_those_of_the_models():
    assert language.SCHEMA.read_text() == language.schema_text(), REMEDY
    assert language.filled(PAGE) == PAGE, REMEDY


def models() -> set[type[BaseModel]]:
    kinds = {value for value in vars(schema).values() if isinstance(value, type) and issubclass(value, BaseModel)}
    return (kinds | set(STEPS.values())) - {schema.Strict}


def test_no_key_step_condition_or_measurement_is_missing_on_the_page():
    for model in models():
        for key in model.model_fields:
            assert f"`{key}`" in PAGE, (model, key)
            assert key == "do" or language.texts(model).get(key), f"{model.__name__}.{key} has no text"
    words = [*STEPS, *aggregates.AGGREGATES]
    words += [f"{word}({'NIC' if word in conditions.OF_NIC else 'TRAFFIC'})" for word in conditions.CONDITIONS]
    for names in (*vocabulary.SUBJECTS.values(), *vocabulary.LISTS.values()):
        words += [name.removesuffix("_ms").removesuffix("_mbit") for name in names]
    words += [word for table, _ in vocabulary.TABLES.values() for word in table]
    for word in words:
        assert re.search(f"`{re.escape(word)}[` ]", PAGE), word


def test_no_table_of_the_page_is_unknown_or_left_out():
    assert set(re.findall(r"<!-- table: (.*?) -->", PAGE)) == set(language.tables())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_file_of_the_library_is_right_by_the_schema(validator, file: Path):
    assert [error.message for error in validator.iter_errors(yaml.safe_load(file.read_text()))] == []


def test_the_editor_finds_what_the_words_alone_tell(validator):
    """Nothing that the schema refuses is right; and it refuses most of what is wrong in the words."""
    found: dict[str, list[bool]] = {}
    for file in FILES[::7]:
        for damage in list(damages(file.stem, file.read_text()))[::5]:
            try:
                data = yaml.safe_load(damage.text)
                load(damage.text, "f.yaml")
                assert validator.is_valid(data), (damage.kind, damage.what)
            except LoadError:
                found.setdefault(damage.kind, []).append(not validator.is_valid(data))
            except yaml.YAMLError:
                continue
    for kind in ("misspelt", "removed", "type", "unit", "no unit"):
        assert sum(found[kind]) >= 0.9 * len(found[kind]), (kind, found[kind])


def test_the_line_for_editors_leads_to_the_schema():
    for file in FILES:
        line = re.search(r"^# yaml-language-server: \$schema=(\S+)$", file.read_text(), re.MULTILINE)
        assert line, f"{file.name} has no line for editors"
        assert (file.parent / line.group(1)).resolve() == language.SCHEMA
