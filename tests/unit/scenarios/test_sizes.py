"""Sizes of many connections: drawn alike at both ends, as the distribution has it."""

import pytest

from scenarios.load import LoadError, load
from scenarios.sizes import LARGEST, draw, total

TEXT = """\
scenario: s
about: A.
services: {files: {listen: 8080}}
traffic:
  t: {client: c1, service: files, count: 10, WHAT}
expect: [t.intact]
"""


def sizes(size, count=2000, seed=1) -> list[int]:
    return [draw(size, seed, "send", index) for index in range(count)]


def test_a_number_is_itself():
    assert sizes(7, 3) == [7, 7, 7]
    assert total(7, 1, "send", 3) == 21


@pytest.mark.parametrize("size", [{"uniform": [10, 20]}, {"exponential": 1000}, {"pareto": 1000}])
def test_drawn_by_seed_and_summed_alike(size):
    assert sizes(size) == sizes(size)
    assert sizes(size) != sizes(size, seed=2)
    assert draw(size, 1, "send", 3) != draw(size, 1, "receive", 4)
    assert total(size, 1, "send", 50) == sum(sizes(size, 50))


def test_each_is_of_its_kind():
    assert set(sizes({"uniform": [10, 20]})) == set(range(10, 21))
    exponential, pareto = sizes({"exponential": 1000}), sorted(sizes({"pareto": 1000}))
    assert 900 < sum(exponential) / len(exponential) < 1100
    assert min(exponential) >= 1
    assert pareto[len(pareto) // 2] < 700 < 1000 < pareto[-1] <= 1000 * LARGEST


@pytest.mark.parametrize(
    ("what", "complaint"),
    [
        ("receive: {pareto: 0B}", "f:5: traffic.t.receive: the mean is at least 1B"),
        ("receive: {}", "f:5: traffic.t.receive: give it one of `uniform: [1KiB, 1MB]`, `exponential: 64KiB`"),
        ("receive: {uniform: [2B, 1B]}", "f:5: traffic.t.receive: `uniform` is the least and the most"),
        ("receive: {unifrom: [1B, 2B]}", "f:5: traffic.t.receive.unifrom: unknown key; did you mean `uniform`?"),
        ("receive: {uniform: [1B, 2]}", "f:5: traffic.t.receive.uniform[1]: `2` has no unit"),
        ("send: 1B, requests: 3", "f:5: traffic.t: has `requests`; give it `send`, a request's size, and `receive`"),
        ("send: 1B, receive: 1B, requests: 3, pace: 1mbit", "f:5: traffic.t: has `requests`, which have a tempo"),
        ("send: 1B, think: 1s", "f:5: traffic.t: `think` is the time between two requests"),
    ],
)
def test_mistakes(what, complaint):
    with pytest.raises(LoadError) as error:
        load(TEXT.replace("WHAT", what), "f")
    assert [line.startswith(complaint) for line in error.value.lines] == [True], error.value.lines
