"""A matrix: which cases it makes, what they are called, and what is wrong with one."""

import pytest

from scenarios.load import LoadError, cases
from scenarios.matrix import MatrixError, expand

TEXT = """\
scenario: s
about: A.
network: {nics: 2}
matrix:
  network.nics: [2, 3]
  network.hash: [layer2, layer3+4]
services: {files: {listen: 8080}}
traffic: {t: {client: c1, service: files, receive: 1MB}}
expect: [t.intact]
"""


def names(written, given=frozenset()) -> list[str]:
    return [one.suffix for one in expand(written, given)]


def test_every_combination_in_the_files_order():
    assert names({"network.nics": [2, 4], "network.hash": ["layer2", "layer3+4"]}) == [
        *("[nics=2,hash=layer2]", "[nics=2,hash=layer3+4]", "[nics=4,hash=layer2]", "[nics=4,hash=layer3+4]"),
    ]


def test_without_one_there_is_one_case_without_a_suffix():
    assert names({}) == [""]


def test_names_are_fit_for_folders():
    assert names({"team.offload": ["never", {"after": "64KiB"}]}) == ["[offload=never]", "[offload=after-64KiB]"]
    assert names({"traffic.t.rate": ["500/s"], "team.trace": [True]}) == ["[rate=500-s,trace=true]"]
    assert names({"timeline.0.at": ["1s"], "timeline.1.at": ["2s"]}) == ["[timeline.0.at=1s,timeline.1.at=2s]"]


def test_what_is_given_varies_no_more():
    assert names({"seed": [1, 2], "network.nics": [2, 3]}, {("seed",)}) == ["[nics=2]", "[nics=3]"]


@pytest.mark.parametrize(
    ("written", "reason", "place"),
    [
        ([1], "must be a mapping of paths to lists", ()),
        ({"network.nics": 2}, "must be a list with at least one value", ("network.nics",)),
        ({"network.nics": []}, "must be a list with at least one value", ("network.nics",)),
        ({"network..nics": [1]}, "is no path of a word", ("network..nics",)),
        ({"scenario": ["a"]}, "is no path of a word", ("scenario",)),
        ({"seed": [1, 1]}, "two cases are called [seed=1]", ()),
        ({"seed": list(range(40)), "limit": list(range(40))}, "makes 1600 cases", ()),
        ({"about": ["a", "b" * 200]}, "makes a name of more than 200 characters", ()),
    ],
)
def test_one_that_means_nothing(written, reason, place):
    with pytest.raises(MatrixError) as error:
        expand(written)
    assert str(error.value).startswith(reason)
    assert error.value.place == place


def test_every_case_is_a_scenario_of_its_own():
    found = cases(TEXT, "f.yaml")
    assert [one.scenario.scenario for one in found][:2] == ["s[nics=2,hash=layer2]", "s[nics=2,hash=layer3+4]"]
    assert [(one.scenario.network.nics, one.scenario.network.hash) for one in found][-1] == (3, "layer3+4")
    assert len({one.digest for one in found}) == 4


def test_a_cases_own_file_is_that_case_alone():
    for case in cases(TEXT, "f.yaml", ["seed=7"]):
        (again,) = cases(case.text, "scenario.yaml")
        assert again == case
        assert again.scenario.seed == 7


def test_without_matrix_and_overrides_the_file_stays_as_it_is():
    text = TEXT.replace("matrix:\n  network.nics: [2, 3]\n  network.hash: [layer2, layer3+4]\n", "# why\n")
    (case,) = cases(text, "f.yaml")
    assert case.text == text
    assert cases(text, "other.yaml")[0].digest == case.digest
    assert cases(text, "f.yaml", ["seed=1"])[0].digest != case.digest


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("[2, 3]", "[2, 30]", "f.yaml:5: matrix.network.nics[1]: a team has 1 to 16 NICs, not 30"),
        ("layer2,", "layer5,", "f.yaml:6: matrix.network.hash[0]: `layer5` is not possible; did you mean `layer3+4`?"),
        ("network.nics: [2", "network.nic: [2", "f.yaml:5: matrix.network.nic[0]: unknown key; did you mean `nics`?"),
        ("[2, 3]", "2", "f.yaml:5: matrix.network.nics: must be a list with at least one value"),
    ],
)
def test_a_mistake_in_it_is_told_at_its_line(before, after, complaint):
    with pytest.raises(LoadError) as error:
        cases(TEXT.replace(before, after), "f.yaml")
    assert complaint in error.value.lines
