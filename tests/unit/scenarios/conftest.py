"""What the tests of traffic share."""

import pytest

from tests.unit.scenarios.ends import application


@pytest.fixture
def app(tmp_path):
    """The built-in application; yields where it listens and its events file."""
    record = tmp_path / "events.jsonl"
    with application(record) as listen:
        yield listen, record
