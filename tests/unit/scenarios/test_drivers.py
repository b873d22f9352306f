"""Other teams than ours: what of a scenario is refused there, and what the ends speak."""

import pytest

from scenarios import configs, drivers
from scenarios.load import LoadError, load
from scenarios.needs import lacking
from scenarios.references import topology_of
from scenarios.schema import Scenario

GOOD = """\
scenario: compared
about: Another team.
network: {nics: 3, clients: 2}
team: {driver: DRIVER}
services:
  files: {listen: 8080}
traffic:
  download: {client: c1, service: files, receive: 1MB}
captures: [c1, nic0]
timeline:
  - {at: 1s, do: link_down, nic: carrying(download)}
  - {at: 2s, do: link_up, nic: last}
expect:
  - download.intact and download.retransmits <= 500
"""
BONDS = ("ovs_active_backup", "ovs_balance_tcp", "linux_bonding")


def written(driver: str, before: str = "", after: str = "") -> Scenario:
    assert before in GOOD
    return load(GOOD.replace(before, after, 1).replace("DRIVER", driver), "f.yaml")


@pytest.mark.parametrize("driver", ["offload", *BONDS])
def test_the_same_file_serves_all_of_them(driver: str) -> None:
    scenario = written(driver)
    assert (topology_of(scenario).bond is None) == (driver == "offload")
    assert ("nic0" in topology_of(scenario).nodes) == (driver == "offload")
    assert configs.links(topology_of(scenario))["nic0"] == (
        ("nic0", "wire") if driver == "offload" else ("server", "nic0")
    )


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        ("team: {", "team: {on_fault: upload, ", "f.yaml:4: team.on_fault: is of our team"),
        ("team: {", "team: {min_links: 2, ", "f.yaml:4: team.min_links: is of our team"),
        ("network: {", "network: {shape: two_teams, ", "f.yaml:3: network.shape: another team than ours"),
        ("network: {", "network: {shape: two_switches, ", "f.yaml:3: network.shape: another team than ours"),
        ("network: {", "network: {probe: 100ms, ", "f.yaml:3: network.probe: `driver: "),
        ("8080}", "8080, offload: never}", "f.yaml:6: services.files.offload: `driver: "),
        ("8080}", "8080}\n  web: {listen: 80, app: '127.0.0.1:80'}", "f.yaml:7: services.web.app: with `driver: "),
        ("8080}", "8080}\n  web: {listen: 80, app: '10.0.0.1:81'}", "f.yaml:7: services.web.app: with `driver: "),
        (
            "do: link_up, nic: last",
            "do: upload, connection: download",
            "f.yaml:12: timeline[1]: `upload` makes no sense",
        ),
        ("do: link_up", "do: adapter_failure", "f.yaml:12: timeline[1]: `adapter_failure` makes no sense"),
        ("do: link_up, nic: last", "do: kill, process: nic0", "f.yaml:12: timeline[1]: there is no `nic0` to kill"),
        ("do: link_up, nic: last", "do: kill, process: agent", "f.yaml:12: timeline[1]: there is no `agent` to kill"),
        (
            "do: link_up, nic: last",
            "do: wait, until: offloaded(download)",
            "f.yaml:12: timeline[1]: `offloaded(download)` is never told",
        ),
        (
            "traffic:\n",
            "traffic:\n  upload: {client: c2, service: files, send: 1MB}\n",
            "f.yaml:12: timeline[0]: `carrying(download)` is the busiest wire's NIC",
        ),
        ("download.intact", "download.reloads == 0", "f.yaml:14: expect[0]: `download.reloads` is not known"),
        ("download.intact", "all(strays == 0)", "f.yaml:14: expect[0]: `download.strays` is not known"),
        ("download.intact", "nic0.block_414 == 0", "f.yaml:14: expect[0]: `nic0.block_414` is not known"),
        (
            "download.intact",
            "max(download.each.moves) == 0",
            "f.yaml:14: expect[0]: `download.each.moves` is not known",
        ),
        ("download.intact", "run.aged == 0", "f.yaml:14: expect[0]: `run.aged` is not known"),
    ],
)
@pytest.mark.parametrize("driver", BONDS)
def test_what_makes_no_sense_there_is_one_line(driver: str, before: str, after: str, complaint: str) -> None:
    with pytest.raises(LoadError) as error:
        written(driver, before, after)
    (line,) = error.value.lines
    assert line.startswith(complaint)
    assert driver in line or "another team than ours" in line


@pytest.mark.parametrize("step", ["rehash, connection: download", "set_switch, seed: 7", "take_out, nic: nic0"])
def test_active_backup_has_no_lag_that_could_choose(step: str) -> None:
    after = f"do: {step}"
    with pytest.raises(LoadError, match="the switch has no LAG"):
        written("ovs_active_backup", "do: link_up, nic: last", after)
    assert written("ovs_balance_tcp", "do: link_up, nic: last", after)
    with pytest.raises(LoadError, match="speaks no LACP"):
        written("ovs_active_backup", "network: {", "network: {lacp: active, ")


def test_what_both_ends_speak() -> None:
    lags = {}
    for driver in BONDS:
        scenario = written(driver)
        made = configs.controller(scenario, topology_of(scenario), "127.0.0.1:1", "/run/x")
        lags[driver] = made["switches"][0]["lags"]
    ports = {"name": "team0", "ports": [1, 2, 3]}
    assert lags == {"ovs_active_backup": [], "ovs_balance_tcp": [ports | {"lacp": "active"}], "linux_bonding": [ports]}
    asked = load(
        GOOD.replace("DRIVER", "linux_bonding, lacp: passive").replace("nics: 3", "nics: 3, lacp: active"), "f.yaml"
    )
    assert (drivers.bond_of(asked).lacp, drivers.switch_lacp(asked)) == ("passive", "active")  # type: ignore[union-attr]


def test_a_kernel_without_bonding_is_told() -> None:
    assert "lacks bonding" in lacking(written("linux_bonding"), ["bonding"])
    assert not lacking(written("ovs_balance_tcp"), ["bonding"])
