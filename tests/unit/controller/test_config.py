"""The configuration: what is right is understood, what is wrong is one line and exit status 2."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from controller.checks import Mistake
from controller.config import load, parse

ROOT = Path(__file__).parents[3]
RIGHT: dict[str, Any] = {
    "listen": "127.0.0.1:6653",
    "socket": "/run/controller.sock",
    "switches": [
        {
            "dpid": 1,
            "name": "s1",
            "hash": "layer3+4",
            "seed": 3,
            "rebalance": "modulo",
            "lags": [{"name": "team0", "ports": [1, 2, 3]}],
        }
    ],
}


def test_a_right_configuration() -> None:
    config = parse(RIGHT)
    assert (config.host, config.port, config.socket) == ("127.0.0.1", 6653, "/run/controller.sock")
    assert config.control is None
    assert parse(RIGHT | {"control": "/run/switch.ctl"}).control == "/run/switch.ctl"
    lag = config.switches[1].lags["team0"]
    assert (lag.members, lag.seed, lag.number, lag.active) == ((1, 2, 3), 3, 1, frozenset())


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (["listen"], "6653", "listen: expected ADDRESS:PORT"),
        (["listen"], "a:99999", "listen: expected ADDRESS:PORT"),
        (["listne"], "x", "unknown key 'listne'"),
        (["socket"], 5, "socket: expected a text"),
        (["switches"], [], "at least one"),
        (["switches", 0], 4, r"switches\[0\]: expected an object"),
        (["switches", 0, "dpid"], 0, r"switches\[0\].dpid: expected a whole number from 1"),
        (["switches", 0, "seed"], 65536, "from 0 to 65535"),
        (["switches", 0, "hash"], "layer9", "'layer9' is not known"),
        (["switches", 0, "hash"], ["layer3+4"], "is not known"),
        (["switches", 0, "rebalance"], "consistent", "'consistent' is not known"),
        (["switches", 0, "updelay_s"], -1, "updelay_s: expected seconds from 0 to 3600"),
        (["switches", 0, "fill_s"], True, "fill_s: expected seconds"),
        (["switches", 0, "lags", 0, "ports"], list(range(1, 18)), "at most 16 ports, not 17"),
        (["switches", 0, "lags", 0, "ports"], [], "at least one port"),
        (["switches", 0, "lags", 0, "ports"], [1, 1], "port 1 is there twice"),
        (["switches", 0, "lags", 0, "ports"], [True], "whole number"),
        (["switches", 0, "lags", 0, "name"], "", "expected a text"),
        (["switches", 0, "lags", 0], {"name": "x"}, "the key 'ports' is missing"),
    ],
)
def test_what_is_wrong_is_named(path: list[Any], value: object, says: str) -> None:
    document = copy.deepcopy(RIGHT)
    *parents, last = path
    place = document
    for step in parents:
        place = place[step]
    place[last] = value
    with pytest.raises(Mistake, match=says) as caught:
        parse(document)
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(Mistake, match="No such file"):
        load(str(tmp_path / "nowhere.json"))
    (tmp_path / "half.json").write_text("{")
    with pytest.raises(Mistake, match="not JSON"):
        load(str(tmp_path / "half.json"))


def test_the_command_says_so_in_one_line_and_exits_2(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text(json.dumps({**RIGHT, "listen": 1}))
    command = [sys.executable, "-m", "controller", "--config", str(tmp_path / "c.json")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "listen: expected a text" in done.stderr


def test_the_cookie_tells_configurations_apart_and_only_what_decides_the_flows() -> None:
    cookie = parse(RIGHT).cookies[1]
    assert 0 < cookie < 2**63
    backwards = {**RIGHT, "switches": [dict(reversed(RIGHT["switches"][0].items()))]}
    assert parse(backwards).cookies[1] == cookie
    changes: list[tuple[dict[str, Any], bool]] = [({"seed": 4}, False), ({"hash": "layer2"}, False)]
    for change, same in (*changes, ({"updelay_s": 3}, True)):
        other = parse({**RIGHT, "switches": [{**RIGHT["switches"][0], **change}]})
        assert (other.cookies[1] == cookie) is same
