"""What the other processes are told: today's scenarios tell them what they always did, new words add their keys."""

import subprocess

from scenarios import configs
from scenarios.load import load
from scenarios.references import topology_of

HEAD = "scenario: s\nabout: A.\n"
REST = (
    "services: {files: {listen: 8080}}\ntraffic: {t: {client: c1, service: files, receive: 1MB}}\nexpect: [t.intact]\n"
)


def agent(team: str = "", services: str = "{files: {listen: 8080}}", network: str = "", number: int = 0):
    text = HEAD + (f"team: {team}\n" if team else "") + (f"network: {network}\n" if network else "")
    scenario = load(text + REST.replace("{files: {listen: 8080}}", services, 1), "s.yaml")
    topology = topology_of(scenario)
    return configs.agent(scenario, topology, topology.teams[number], "/run/t")


def test_the_defaults_are_the_agents_own():
    told = agent()
    assert set(told) == {"control", "pins", "offload", "host", "nics"}
    assert told["offload"] == {"after_bytes": 65536}
    assert told["nics"][1] == {"name": "nic1", "socket": "/run/t/nic1.sock", "bus": "bus1"}


def test_offload_rules():
    assert agent("{offload: never}")["offload"] == {"after_bytes": None}
    assert agent("{offload: at_once}")["offload"] == {"after_bytes": 0}
    assert agent("{offload: {after: 1KiB}}")["offload"] == {"after_bytes": 1024}
    assert agent("{offload: {after: 500ms}}")["offload"] == {"after_bytes": None, "after_s": 0.5}
    services = "{files: {listen: 8080, offload: never}, more: {listen: 81, offload: {after: 2s}}, rest: {listen: 82}}"
    assert agent("{offload: at_once}", services)["offload"] == {
        "after_bytes": 0,
        "services": {"8080": {"after_bytes": None}, "81": {"after_bytes": None, "after_s": 2.0}},
    }


def test_only_what_differs_is_told():
    words = (
        "{on_fault: upload, choice: by_hash, fail_back: rebalance, reload_after: {frames: 3}, age: 30s, trace: true}"
    )
    told = agent(words)
    assert {key: told[key] for key in ("on_fault", "choice", "fail_back", "reload_after", "age_s", "trace")} == {
        "on_fault": "upload",
        "choice": "by_hash",
        "fail_back": "rebalance",
        "reload_after": {"frames": 3, "seconds": 0.0},
        "age_s": 30.0,
        "trace": True,
    }


def test_lacp_probes_and_delays_are_told_to_both_ends():
    network = "{lacp: active, lacp_rate: slow, min_links: 2, probe: 100ms, updelay: 1s, fill: 20ms}"
    text = HEAD + f"network: {network}\nteam: {{lacp: passive, min_links: 2, probe: 50ms}}\n" + REST
    scenario = load(text, "s.yaml")
    topology = topology_of(scenario)
    (switch,) = configs.controller(scenario, topology, "127.0.0.1:6653", "/run/c")["switches"]
    (lag,) = switch["lags"]
    assert lag["ports"] == [1, 2, 3]
    assert {key: lag[key] for key in lag.keys() - {"name", "ports"}} == {
        **{"lacp": "active", "lacp_rate": "slow", "min_links": 2, "probe_s": 0.1}
    }
    assert (switch["updelay_s"], switch["downdelay_s"], switch["fill_s"]) == (1.0, 0.0, 0.02)
    told = configs.agent(scenario, topology, topology.team, "/run/t")
    assert (told["lacp"], told["min_links"], told["probe_s"]) == ({"mode": "passive", "rate": "fast"}, 2, 0.05)


def test_two_teams_have_an_agent_each():
    services = "{files: {listen: 8080}, more: {listen: 81, team: team1}}"
    first, second = (agent("", services, "{shape: two_teams, nics: 2}", number) for number in (0, 1))
    assert ("team" in first, second["team"]) == (False, "team1")
    assert [nic["name"] for nic in second["nics"]] == ["nic2", "nic3"]
    assert not {first["control"], first["pins"], first["host"]["socket"]} & {
        second["control"],
        second["pins"],
        second["host"]["socket"],
    }


def scenario(traffic: str, team: str = "{}"):
    text = f"team: {team}\n" + REST.replace("{t: {client: c1, service: files, receive: 1MB}}", traffic)
    return load(HEAD + text, "s.yaml")


def test_engines_are_told_capacity_and_features_when_given():
    one = scenario("{t: {client: c1, service: files, send: 1B}}")
    assert "--capacity" not in configs.nic_engine(one, topology_of(one), "nic1", "/r")
    one = scenario("{t: {client: c1, service: files, send: 1B}}", "{capacity: 5, features: {nic1: [ipv4, sack]}}")
    words = configs.nic_engine(one, topology_of(one), "nic1", "/r")
    assert words[-4:] == ["--capacity", "5", "--features", "ipv4,sack"]
    assert configs.nic_engine(one, topology_of(one), "nic0", "/r")[-2:] == ["--capacity", "5"]


def test_clients_are_told_what_is_asked_for():
    one = scenario("{t: {client: c1, service: files, send: 1KB, ipv6: true, count: 10, rate: 5/s, pace: 8mbit}}")
    words = configs.client(one, topology_of(one), "t", "client-t", "/out")
    assert words[words.index("--to") + 1] == "[fd00::1]:8080"
    for key, value in (("--count", "10"), ("--arrivals", "5.0"), ("--pace", "1000000.0")):
        assert words[words.index(key) + 1] == value
    one = scenario("{t: {client: c1, service: files, send: 9B, idle: 250ms, half_close: server}}")
    words = configs.client(one, topology_of(one), "t", "client-t", "/out")
    assert (words[words.index("--every") + 1], words[words.index("--half") + 1]) == ("0.25", "server")
    assert "--count" not in words


def test_an_application_may_have_more_ports():
    service = (
        "services: {web: {listen: 21, ports: 30000-30001, app: 'localhost:2121', command: 'serve {server} {out}'}}"
    )
    text = "scenario: s\nabout: a\nexpect: [page.intact]\n" + service
    one = load(text + "\ntraffic: {page: {client: c1, service: web, command: get}}\n", "s")
    topology = topology_of(one)
    words = configs.host_engine(one, topology, topology.team, "/run")
    listens = [words[place + 1] for place, word in enumerate(words) if word == "--listen"]
    assert listens == ["web:21=localhost:2121", "web:30000=localhost:30000", "web:30001=localhost:30001"]
    words = configs.client(one, topology, "page", "who", "/out")
    assert words[words.index("--ports") + 1 :][:2] == ["30000", "30001"]
    command = configs.application(one, topology, "web", "/run", "/out")
    assert command == "exec 1>&2; mkdir -p /run/apps/web; cd /run/apps/web; serve 10.0.0.1 /out"


def test_a_command_has_its_placeholders_filled_in_and_nothing_else():
    text = REST.replace("{listen: 8080}", "{listen: 80, app: 'h:1'}")
    command = "get {address} {server} {port} >{out}/x ${out} {print $1} {nobody}"
    one = load(HEAD + text.replace("receive: 1MB", f"ipv6: true, command: '{command}'"), "s")
    module, *words = configs.client(one, topology_of(one), "t", "client-t", "/out")
    assert module == "scenarios.command"
    assert words[words.index("--command") + 1] == (
        "cd /out; get [fd00::1]:80 fd00::1 80 >/out/x ${out} {print $1} {nobody}"
    )


def test_a_steps_command_that_may_fail_tells_of_it_and_does_not(tmp_path):
    """Whatever it is: its quotes, an `exit` and a here-document stay its own."""
    command = "cat <<END\nit's 'one'\nEND\necho more; exit 3"
    words = configs.command(command, str(tmp_path), str(tmp_path / "step-1"))
    assert subprocess.run(words, capture_output=True).returncode == 0
    assert (tmp_path / "step-1.out").read_text() == "it's 'one'\nmore\n"
    assert (tmp_path / "step-1.status").read_text() == "3\n"
    done = subprocess.run(configs.command(command, str(tmp_path), None), capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "it's 'one'\nmore\n")
