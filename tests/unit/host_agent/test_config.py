"""The agent's configuration: what is wrong with a file is said in one line."""

import json
from pathlib import Path

import pytest

from host_agent.config import AgentConfig, ConfigError
from host_agent.policy import Choice, OnFault

GOOD = {
    "control": "agent.sock",
    "pins": "/run/bpf",
    "host": {"socket": "host.sock"},
    "nics": [{"name": f"nic{n}", "bus": f"bus{n}", "socket": f"nic{n}.sock"} for n in range(3)],
    "offload": {"after_bytes": 65536},
}


def load(path: Path, text: str) -> AgentConfig:
    path.write_text(text)
    return AgentConfig.load(path)


def test_a_good_file(tmp_path: Path) -> None:
    config = load(tmp_path / "agent.json", json.dumps(GOOD))
    assert [nic.bus for nic in config.nics] == ["bus0", "bus1", "bus2"]
    assert config.offload.after_bytes == 65536
    assert config == AgentConfig.of(GOOD)
    assert (config.on_fault, config.choice, config.fail_back) == (OnFault.RELOAD, Choice.LEAST_LOADED, "none")


@pytest.mark.parametrize("after", [None, 0, 10**12])
def test_offload(tmp_path: Path, after: int | None) -> None:
    config = load(tmp_path / "agent.json", json.dumps(GOOD | {"offload": {"after_bytes": after}}))
    assert config.offload.after_bytes == after


def test_a_services_own_rule_comes_before_the_teams(tmp_path: Path) -> None:
    rules = {"after_bytes": 65536, "services": {"80": {"after_s": 0.5}, "22": {}}}
    offload = load(tmp_path / "agent.json", json.dumps(GOOD | {"offload": rules})).offload
    assert (offload.of(8080).after_bytes, offload.of(8080).after_s) == (65536, None)
    assert (offload.of(80).after_bytes, offload.of(80).after_s) == (None, 0.5)
    assert offload.of(22).never
    assert not offload.of(80).never


NIC = GOOD["nics"][0]
BAD = {
    "no JSON": ("{", ""),
    "no object": ("[]", ""),
    "empty": ("", ""),
    "missing": (json.dumps({k: v for k, v in GOOD.items() if k != "pins"}), "pins"),
    "unknown key": (json.dumps(GOOD | {"pin": "x"}), "pin"),
    "unknown key of a NIC": (json.dumps(GOOD | {"nics": [NIC | {"wire": "w"}]}), "nics.0.wire"),
    "no NIC": (json.dumps(GOOD | {"nics": []}), "nics"),
    "too many NICs": (json.dumps(GOOD | {"nics": [NIC] * 17}), "nics"),
    "negative": (json.dumps(GOOD | {"offload": {"after_bytes": -1}}), "offload.after_bytes"),
    "no number": (json.dumps(GOOD | {"offload": {"after_s": "soon"}}), "offload.after_s"),
    "no such policy": (json.dumps(GOOD | {"on_fault": "pray"}), "on_fault"),
    "not a number either": (json.dumps(GOOD | {"age_s": float("nan")}), "age_s"),
    "zero where it must be more": (json.dumps(GOOD | {"age_s": 0}), "age_s"),
    "no such word": (json.dumps(GOOD | {"lacp": {"mode": "on"}}), "lacp.mode"),
    "no number for a port": (json.dumps(GOOD | {"offload": {"services": {"http": {}}}}), "offload.services"),
    "wrong type": (json.dumps(GOOD | {"host": "host.sock"}), "host"),
}


@pytest.mark.parametrize(("text", "place"), BAD.values(), ids=BAD)
def test_a_bad_file(tmp_path: Path, text: str, place: str) -> None:
    path = tmp_path / "agent.json"
    with pytest.raises(ConfigError) as error:
        load(path, text)
    line = str(error.value)
    assert line.startswith(f"{path}: {place}")
    assert "\n" not in line


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"agent\.json: No such file or directory$"):
        AgentConfig.load(tmp_path / "agent.json")
