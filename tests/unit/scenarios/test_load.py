"""Damaged scenarios: every mistake is named with file, line, path, reason and a remedy, one line each."""

# ruff: noqa: E501 (a complaint stays on one line here as it does on the screen)

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scenarios.load import LoadError, load, load_file
from scenarios.steps import STEPS

GOOD = """\
scenario: failover
about: A download survives.
network: {nics: 3, clients: 2, rate: 200mbit}
team:
  offload: {after: 64KiB}
services:
  files: {listen: 8080, app: builtin}
traffic:
  download: {client: c1, service: files, receive: 1MB}
captures: [c1]
timeline:
  - {at: 1s, do: link_down, nic: carrying(download)}
  - {at: 3s, do: link_up, nic: last}
expect:
  - download.intact
  - download.longest_stall <= 2s
"""


def complaints(text: str, overrides=()) -> list[str]:
    with pytest.raises(LoadError) as error:
        load(text, "f.yaml", overrides)
    assert str(error.value) == "\n".join(error.value.lines)
    return error.value.lines


def test_the_undamaged_one_is_right():
    scenario = load(GOOD, "f.yaml")
    assert scenario.network.rate == 200_000_000
    assert scenario.team.offload.after == 65536
    assert scenario.traffic["download"].receive == 1_000_000
    assert [step.at for step in scenario.timeline] == [1.0, 3.0]


@pytest.mark.parametrize(
    ("before", "after", "complaint"),
    [
        # words
        ("nics: 3", "nic: 3", "f.yaml:3: network.nic: unknown key; did you mean `nics`?"),
        ("captures:", "capture:", "f.yaml:10: capture: unknown key; did you mean `captures`?"),
        ("after: 64KiB", "aftr: 64KiB, after: 1B", "f.yaml:5: team.offload.aftr: unknown key; did you mean `after`?"),
        ("app: builtin", "ap: builtin", "f.yaml:7: services.files.ap: unknown key; did you mean `app`?"),
        ("receive: 1MB", "recieve: 1MB", "f.yaml:9: traffic.download.recieve: unknown key; did you mean `receive`?"),
        ("nic: last", "nik: last, nic: last", "f.yaml:13: timeline[1].nik: unknown key; did you mean `nic`?"),
        ("about: A", "abuot: A", None),
        ("do: link_up", "do: linkup", "f.yaml:13: timeline[1].do: `linkup` is no step; did you mean `link_up`?"),
        ("do: link_up, ", "", "f.yaml:13: timeline[1]: `do` is missing; there is " + ", ".join(STEPS)),
        ("at: 3s, ", "", "f.yaml:13: timeline[1]: `at` is missing"),
        ("{after: 64KiB}", "nevr", "f.yaml:5: team.offload: `nevr` is not possible; did you mean `never`?"),
        ("{after: 64KiB}", "{}", "f.yaml:5: team.offload: `after` is missing"),
        ("scenario: failover", "scenario: Fail-over",
         "f.yaml:1: scenario: `Fail-over` is not a name; use small letters, digits and _, at most 32, a letter first"),
        ("  files: {", "  Files: {",
         "f.yaml:7: services.Files: `Files` is not a name; use small letters, digits and _, at most 32, a letter first"),
        ("app: builtin", "app: nginx",
         "f.yaml:7: services.files.app: `nginx` is no application; write `builtin` or where yours listens, HOST:PORT"),
        # quantities and types
        ("rate: 200mbit", "rate: 200", "f.yaml:3: network.rate: `200` has no unit; write 200kbit or 200mbit or 200gbit"),
        ("at: 1s", "at: 1", "f.yaml:12: timeline[0].at: `1` has no unit; write 1us or 1ms or 1s"),
        ("1MB", "1mb", "f.yaml:9: traffic.download.receive: `mb` is no unit of a size; use B, KB, KiB, MB, MiB, GB, GiB"),
        ("nics: 3", "nics: three", "f.yaml:3: network.nics: must be a whole number, not the text `three`"),
        ("nics: 3", "nics: '3'", "f.yaml:3: network.nics: must be a whole number, not the text `3`"),
        ("nics: 3", "nics: 2.5", "f.yaml:3: network.nics: must be a whole number, not the number `2.5`"),
        ("nics: 3", "nics: yes", "f.yaml:3: network.nics: must be a whole number, not the truth value `true`"),
        ("nics: 3", "nics:", "f.yaml:3: network.nics: must be a whole number, not nothing"),
        ("listen: 8080", "listen: 80800", "f.yaml:7: services.files.listen: 80800 is out of range; use at most 65535"),
        ("listen: 8080", "listen: 8080, ports: 80", "f.yaml:7: services.files.ports: 80 is no range of ports; write for"
         " example 30000-30009"),
        ("listen: 8080", "listen: 8080, ports: 8081-8082", "f.yaml:7: services.files.ports: the built-in application has"
         " one port only"),
        ("listen: 8080", "listen: 0", "f.yaml:7: services.files.listen: 0 is out of range; use at least 1"),
        ("captures: [c1]", "captures: c1", "f.yaml:10: captures: must be a list, not the text `c1`"),
        ("  - {at: 1s", "  - x\n  - {at: 1s", "f.yaml:12: timeline[0]: "),
        # names that refer to nothing
        ("nics: 3", "nics: 0", "f.yaml:3: network.nics: a team has 1 to 16 NICs, not 0"),
        ("nics: 3", "nics: 300", "f.yaml:3: network.nics: a team has 1 to 16 NICs, not 300"),
        ("clients: 2", "clients: 201", "f.yaml:3: network.clients: a network has 1 to 200 clients, not 201"),
        ("rate: 200mbit", "rate: 1kbit", "f.yaml:3: network.rate: a link's rate is 1 Mbit/s to 100 Gbit/s, not 1,000 bit/s"),
        ("client: c1", "client: c3", "f.yaml:9: traffic.download.client: `c3` is no client of this network; there is c1, c2"),
        ("service: files", "service: file",
         "f.yaml:9: traffic.download.service: `file` is no service of this scenario; did you mean `files`?"),
        ("captures: [c1]", "captures: [c1, c7]",
         "f.yaml:10: captures[1]: `c7` is no link of this network; there is c1, c2, nic0, nic1, nic2"),
        ("nic: last", "nic: nic3", "f.yaml:13: timeline[1].nic: `nic3` is no NIC of this network; there is nic0, nic1, nic2, any, last"),
        ("carrying(download)", "carrying(downlaod)",
         "f.yaml:12: timeline[0].nic: `downlaod` is no traffic of this scenario; did you mean `download`?"),
        ("carrying(download)", "carrying", "f.yaml:12: timeline[0].nic: `carrying` needs a connection: `carrying(download)`"),
        ("carrying(download)", "last(download)",
         "f.yaml:12: timeline[0].nic: `last` takes no connection; there is carrying(…), other(…)"),
        ("carrying(download)", "carying(download)",
         "f.yaml:12: timeline[0].nic: `carying` takes no connection; did you mean `carrying(download)`?"),
        ("carrying(download)", "NIC 1",
         "f.yaml:12: timeline[0].nic: `NIC 1` is not a name; write a NIC such as nic0, or carrying(TRAFFIC)"),
        ("do: link_up, nic: last", "do: rehash, connection: d",
         "f.yaml:13: timeline[1].connection: `d` is no traffic of this scenario; there is download"),
        ("do: link_up, nic: last", "do: rehash, connection: download, to: nic9",
         "f.yaml:13: timeline[1].to: `nic9` is no NIC of this network; there is nic0, nic1, nic2, any, last"),
        ("do: link_up, nic: last", "do: wait, until: quiet(download)",
         "f.yaml:13: timeline[1].until: `quiet(download)` is no condition; "
         "write one of connected(TRAFFIC), offloaded(TRAFFIC), uploaded(TRAFFIC), done(TRAFFIC), moved(TRAFFIC), "
         "reloaded(TRAFFIC), received(TRAFFIC) >= SIZE, sent(TRAFFIC) >= SIZE, up(NIC), down(NIC)"),
        ("do: link_up, nic: last", "do: wait, until: recieved(download) >= 1MB",
         "f.yaml:13: timeline[1].until: `recieved(download) >= 1MB` is no condition; "
         "did you mean `received(download) >= 1MB`?"),
        ("do: link_up, nic: last", "do: wait, until: received(download)",
         "f.yaml:13: timeline[1].until: `received(download)` is no condition; write `received(download) >= 10MB`"),
        ("do: link_up, nic: last", "do: wait, until: received(download) >= 10",
         "f.yaml:13: timeline[1].until: `10` has no unit; write 10B or 10KB or 10KiB or 10MB or 10MiB or 10GB or 10GiB"),
        ("do: link_up, nic: last", "do: wait, until: down(nic7)",
         "f.yaml:13: timeline[1].until: `nic7` is no NIC of this network; there is nic0, nic1, nic2, last"),
        ("do: link_up, nic: last", "do: wait, until: done(upload)",
         "f.yaml:13: timeline[1].until: `upload` is no traffic of this scenario; there is download"),
        ("receive: 1MB", "at: 1s",
         "f.yaml:9: traffic.download: carries nothing; give it `send` or `receive`, for example `receive: 100MB`"),
        ("download.intact", "download.intcat", "f.yaml:15: expect[0]: `download.intcat` is no measurement; did you mean `intact`?"),
        ("<= 2s", "<= 2",
         "f.yaml:16: expect[1]: a duration is compared with a bare number; give the number a unit, for example 2s"),
        ("app: builtin", "app: 127.0.0.1:80",
         "f.yaml:9: traffic.download.service: without a `command` traffic speaks to the built-in application only; `files` is 127.0.0.1:80"),
        ("app: builtin", "command: nginx", "f.yaml:7: services.files.command: the built-in application needs no command;"
         " say where yours listens: `app: 127.0.0.1:PORT`"),
        ("  files: {listen: 8080", "  more: {listen: 8080}\n  files: {listen: 8080",
         "f.yaml:8: services.files.listen: port 8080 is already taken by `more`"),
        ("  download: {", "  run: {client: c1, service: files, send: 1B}\n  download: {",
         "f.yaml:9: traffic.run: `run` means something else in expectations; choose another name"),
        ("receive: 1MB", "command: ls",
         "f.yaml:9: traffic.download.service: `files` is the built-in application, which speaks to teambed's own clients only;"
         " say where another one listens: `app: 127.0.0.1:PORT`"),
        ("receive: 1MB", "receive: 1MB, command: ls, pace: 1mbit",
         "f.yaml:9: traffic.download: has a `command`, which makes its own traffic; leave out `pace`, `receive`"),
        ("app: builtin}\ntraffic:\n  download: {client: c1, service: files, receive: 1MB}",
         "app: 'a:1'}\ntraffic:\n  download: {client: c1, service: files, command: 'curl {adress} {print} ${out}'}",
         "f.yaml:9: traffic.download.command: `{adress}` stands for nothing; did you mean `{address}`?"),
        # LACP and probes
        ("rate: 200mbit", "lacp: active", "f.yaml:4: team.lacp: LACP is off here and on at the other end: no link would ever carry a frame"),
        ("64KiB}", "64KiB}\n  lacp: active", "f.yaml:3: network.lacp: LACP is off here and on at the other end: no link would ever carry a frame"),
        ("rate: 200mbit}\nteam:", "lacp: passive}\nteam:\n  lacp: passive",
         "f.yaml:5: team.lacp: both ends are passive: neither would begin; make one of them active"),
        ("rate: 200mbit", "min_links: 4", "f.yaml:3: network.min_links: a team here has 3 NICs: write 1 to 3"),
        ("rate: 200mbit", "probe: 1ms", "f.yaml:3: network.probe: the time between two probes is 10ms to 60s"),
        # the whole of the team
        ("64KiB}", "64}", "f.yaml:5: team.offload.after: `64` has no unit; write 64B or 64KB or 64KiB or 64MB or 64MiB or 64GB or 64GiB"),
        ("64KiB}", "64KiB}\n  on_fault: relaod", "f.yaml:6: team.on_fault: `relaod` is not possible; did you mean `reload`?"),
        ("64KiB}", "64KiB}\n  choice: random",
         "f.yaml:6: team.choice: `random` is not possible; there is least_loaded, round_robin, by_hash"),
        ("64KiB}", "64KiB}\n  capacity: 0", "f.yaml:6: team.capacity: 0 is out of range; use at least 1"),
        ("64KiB}", "64KiB}\n  features: {nic7: [ipv4]}",
         "f.yaml:6: team.features.nic7: `nic7` is no NIC of this network; there is nic0, nic1, nic2"),
        ("64KiB}", "64KiB}\n  features: {nic1: [ipv4, sacks]}",
         "f.yaml:6: team.features.nic1[1]: `sacks` is not possible; did you mean `sack`?"),
        ("64KiB}", "64KiB}\n  features: {nic1: [sack]}",
         "f.yaml:6: team.features.nic1: neither ipv4 nor ipv6: no connection could ever go there; leave the NIC out instead"),
        ("64KiB}", "64KiB}\n  reload_after: {frame: 3}",
         "f.yaml:6: team.reload_after.frame: unknown key; did you mean `frames`?"),
        ("64KiB}", "64KiB}\n  age: 0s", "f.yaml:6: team.age: a record that ages at once is of no use; write for example 30s"),
        ("app: builtin", "offload: {aftr: 1B, after: 1B}",
         "f.yaml:7: services.files.offload.aftr: unknown key; did you mean `after`?"),
        ("app: builtin", "team: team1", "f.yaml:7: services.files.team: `team1` is no team of this network; there is team0"),
        ("rate: 200mbit", "rates: {nic3: 1gbit}", "f.yaml:3: network.rates: no NIC 'nic3'; there are nic0, nic1, nic2"),
        ("receive: 1MB", "receive: 1MB, count: 20000",
         "f.yaml:9: traffic.download.count: 20000 is out of range; use at most 10000"),
        ("receive: 1MB", "receive: 1MB, count: 10, rate: 500",
         "f.yaml:9: traffic.download.rate: `500` is not a rate of arrivals; write for example 500/s"),
        ("receive: 1MB", "receive: 1MB, rate: 500/s",
         "f.yaml:9: traffic.download: `rate` is that of arrivals and needs many connections: give it a `count`"),
        ("receive: 1MB", "receive: 1MB, idle: 1s, pace: 1mbit",
         "f.yaml:9: traffic.download: has `pace` and `idle`; a connection is either paced or idle"),
        ("receive: 1MB", "receive: 1MB, half_close: peer",
         "f.yaml:9: traffic.download.half_close: `peer` is not possible; there is client, server"),
        # steps
        ("do: link_up, nic: last", "do: link_flap, nic: last, times: 0",
         "f.yaml:13: timeline[1].times: 0 is out of range; use at least 1"),
        ("do: link_up, nic: last", "do: adapter_return, nic: last",
         "f.yaml:13: timeline[1]: no adapter fails before this; `link_up` brings back a link"),
        ("do: link_up, nic: last", "do: upload, connection: download, nic: nic1",
         "f.yaml:13: timeline[1].nic: unknown key; there is at, do, connection"),
        ("do: link_up, nic: last", "do: offload, connection: downlaod",
         "f.yaml:13: timeline[1].connection: `downlaod` is no traffic of this scenario; did you mean `download`?"),
        ("do: link_up, nic: last", "do: reload, connection: download, nic: nic7",
         "f.yaml:13: timeline[1].nic: `nic7` is no NIC of this network; there is nic0, nic1, nic2, any, last"),
        ("do: link_up, nic: last", "do: kill, process: agent, after: 1",
         "f.yaml:13: timeline[1].after: `1` has no unit; write 1us or 1ms or 1s"),
        ("do: link_up, nic: last", "do: run, node: c9, command: ls",
         "f.yaml:13: timeline[1].node: `c9` is no node of this network; there is server, nic0, nic1, nic2, c1, c2, s1"),
        ("do: link_up, nic: last", "do: kill, process: agnet",
         "f.yaml:13: timeline[1].process: `agnet` is no process of this run; did you mean `agent`?"),
        ("do: link_up, nic: last", "do: kill, process: agent-team1",
         "f.yaml:13: timeline[1].process: `agent-team1` is no process of this run; did you mean `agent`?"),
        ("do: link_up, nic: last", "do: heal",
         "f.yaml:13: timeline[1]: give it either `nic`, for a NIC's wire, or `client`, for a client's link"),
        ("do: link_up, nic: last", "do: impair, client: c7, loss: 1%",
         "f.yaml:13: timeline[1].client: `c7` is no client of this network; there is c1, c2"),
        ("do: link_up, nic: last", "do: impair, nic: nic0",
         "f.yaml:13: timeline[1]: impairs nothing; give it `loss`, `corrupt` or `delay`, for example `loss: 1%`"),
        ("do: link_up, nic: last", "do: impair, nic: nic0, loss: 1",
         "f.yaml:13: timeline[1].loss: `1` is not a share; write for example 1%"),
        ("do: link_up, nic: last", "do: impair, nic: nic0, delay: 1ms, jitter: 2ms",
         "f.yaml:13: timeline[1]: `jitter` is more than `delay`; a frame cannot arrive before it was sent"),
        ("do: link_up, nic: last", "do: set_rate, nic: nic0, rate: 1kbit",
         "f.yaml:13: timeline[1].rate: a link's rate is 1 Mbit/s to 100 Gbit/s, not 1,000 bit/s"),
        ("do: link_up, nic: last", "do: set_switch",
         "f.yaml:13: timeline[1]: sets nothing; give it `hash`, `seed` or `rebalance`"),
        ("do: link_up, nic: last", "do: switch_down, switch: s7",
         "f.yaml:13: timeline[1].switch: `s7` is no switch of this network; there is s1"),
        ("do: link_up, nic: last", "do: syn_flood, client: c1, service: file",
         "f.yaml:13: timeline[1].service: `file` is no service of this scenario; did you mean `files`?"),
        ("do: link_up, nic: last", "do: run, node: server, command: ls, name: download",
         "f.yaml:13: timeline[1].name: `download` means something else in expectations; choose another name"),
        # expectations
        ("download.intact", "seen.output == ''", "f.yaml:15: expect[0]: `seen` is no traffic, NIC or switch of this scenario; there is download, run, nic0, nic1, nic2, s1"),
        ("download.longest_stall <= 2s", "download.resets >= 0",
         "f.yaml:16: expect[1]: `download.resets >= 0` always holds, for nothing measured is below 0; leave it out"),
        ("download.intact", "download.intact == download.intact",
         "f.yaml:15: expect[0]: `download.intact == download.intact` compares it with itself, so it measures nothing; leave it out"),
        # YAML
        ("nics: 3", "nics: 3, nics: 4", "f.yaml:3: network.nics: is written twice"),
        ("captures: [c1]", "about: again", "f.yaml:10: about: is written twice"),
        ("{nics: 3", "{nics: [3", "f.yaml:3: not YAML: "),
        ("about:", "\tabout:", "f.yaml:2: not YAML: found character '\\t' that cannot start any token"),
        ("about: A download survives.", "about: !!python/object:os.system {}", "f.yaml:2: not YAML: could not determine a"),
        ("about: A download survives.", "about: A down\x1dload", "f.yaml:2: not YAML: the character U+001D has no place in a text"),
        ("about: A download survives.", "about: *nobody", "f.yaml:2: not YAML: found undefined alias 'nobody'"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_line(before, after, complaint):
    assert before in GOOD
    lines = complaints(GOOD.replace(before, after, 1))
    if complaint is None:
        return
    assert len(lines) == 1
    assert lines[0].startswith(complaint) if complaint.endswith((" ", " a")) else lines[0] == complaint


def test_off_needs_no_quotes():
    """YAML reads it as false."""
    found = load(GOOD.replace("nics: 3", "nics: 3, lacp: off"), "f.yaml")
    assert found.network.lacp == "off"


def test_all_mistakes_are_told_in_the_order_of_the_file():
    text = GOOD.replace("nics: 3", "nics: x").replace("at: 3s", "at: 3").replace("about:", "abuot:")
    assert [line.split(": ")[0] for line in complaints(text)] == [
        "f.yaml:2",
        "f.yaml:3",
        "f.yaml:13",
    ]
    text = GOOD.replace("client: c1", "client: c9").replace("nic: last", "nic: nic9").replace("2s\n", "2\n")
    assert [line.split(": ")[0] for line in complaints(text)] == ["f.yaml:9", "f.yaml:13", "f.yaml:16"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "[]", "just text", "3", "a: 1\n---\nb: 2\n", "&a [*a]"])
def test_what_is_no_scenario_at_all(text):
    (line,) = complaints(text)
    assert line.startswith("f.yaml:")


@pytest.mark.parametrize(
    ("word", "complaint"),
    [
        ("[{0}, {0}]", "f.yaml:26: e12: is more than 20,000 values with its aliases written out"),
        ("{{<<: [{0}, {0}]}}", "f.yaml:26: e12.<<: is more than 20,000 values with its aliases written out"),
        ("{{x: [1, *{1}]}}", "f.yaml:14: e0.x[1]: contains itself"),
    ],
    ids=["lists", "merged", "itself"],
)
def test_aliases_of_aliases_are_refused_where_they_grow_too_many(word, complaint):
    """However many they would be, at once."""
    laughs = [f"e{n}: &e{n} " + word.format(f"*e{n - 1}" if n else "{x: 1}", f"e{n}") for n in range(60)]
    assert complaints(GOOD.replace("expect:", "\n".join(laughs) + "\nexpect:")) == [complaint]


def test_so_are_those_of_a_set():
    laughs = [f"&e{n} [{f'*e{n - 1}, ' * 2 if n else 'x'}]" for n in range(40)]
    for value, complaint in ((f"[{', '.join(laughs)}]", "more than 20,000 values"), ("&a [*a]", "contains itself")):
        (line,) = complaints(GOOD, [f"about={value}"])
        assert line.startswith(f"--set about={value}")
        assert complaint in line
    (line,) = complaints(GOOD, ["about=" + "[" * 5000])
    assert line.startswith("--set about=[[")


def test_what_a_key_holds_never_breaks_the_line():
    (line,) = complaints(GOOD.replace("nics: 3", '"a\\n\\e[31mb": 3'))
    assert line.startswith("f.yaml:3: network.a��[31mb: unknown key; there is ")


def test_every_missing_key_is_told():
    lines = complaints("scenario: x\n")
    words = {line.split("`")[1] for line in lines if line.endswith("is missing")}
    assert words == {"about", "services", "traffic", "expect"}


def test_set():
    scenario = load(GOOD, "f.yaml", ["network.rate=1gbit", "seed=7", "timeline.0.at=2s", "team.offload=never"])
    assert (scenario.network.rate, scenario.seed, scenario.timeline[0].at) == (10**9, 7, 2.0)
    assert scenario.team.offload == "never"


def test_set_adds_what_the_file_does_not_have():
    services = "services:\n  files: {listen: 8080, app: builtin}\n"
    scenario = load(GOOD.replace(services, ""), "f.yaml", ["services.files.listen=8080"])
    assert scenario.services["files"].listen == 8080


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (
            "network.rate=200",
            "--set network.rate=200: network.rate: `200` has no unit; write 200kbit or 200mbit or 200gbit",
        ),
        ("network.nic=2", "--set network.nic=2: network.nic: unknown key; did you mean `nics`?"),
        ("network.nics=99", "--set network.nics=99: network.nics: a team has 1 to 16 NICs, not 99"),
        ("rate", "--set rate: write KEY=VALUE, for example network.rate=100mbit"),
        ("=3", "--set =3: write KEY=VALUE, for example network.rate=100mbit"),
        (
            "traffic.downlod.receive=1MB",
            "--set traffic.downlod.receive=1MB: `downlod` is not there; did you mean `download`?",
        ),
        ("timeline.7.at=2s", "--set timeline.7.at=2s: `timeline[7].at` leads nowhere in this scenario"),
        ("about.x=2", "--set about.x=2: `about.x` leads nowhere in this scenario"),
    ],
)
def test_set_wrong(override, complaint):
    assert complaints(GOOD, [override]) == [complaint]


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(LoadError) as error:
        load_file(tmp_path / "none.yaml")
    (line,) = error.value.lines
    assert line.startswith(f"{tmp_path}/none.yaml: cannot be read: No such file or directory; ")


def test_a_file_that_is_not_text(tmp_path):
    (tmp_path / "x.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(LoadError, match="is not text in UTF-8"):
        load_file(tmp_path / "x.yaml")


LINES = GOOD.splitlines(keepends=True)
DAMAGE = st.tuples(st.integers(0, len(GOOD)), st.integers(0, 4), st.text("{}[]:,-&*!|>'\"\n\t #x1s.()", max_size=4))


@given(st.lists(DAMAGE, min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_any_damage_is_survived(damages):
    """Whatever stands in the file: a scenario or complaints of one line that name the file, never a crash."""
    text = GOOD
    for at, cut, put in damages:
        text = text[:at] + put + text[at + cut :]
    lines = None
    try:
        load(text, "f.yaml")
    except LoadError as error:
        lines = error.lines
    assert lines is None or lines
    for line in lines or ():
        assert line.startswith("f.yaml:")
        assert "\n" not in line


def test_a_word_for_traffic_where_there_is_none():
    text = GOOD[: GOOD.index("traffic:")] + "traffic: {}\ntimeline:\n  - {at: 1s, do: link_down, nic: carrying}\n"
    line = text.count("\n")
    with pytest.raises(LoadError) as error:
        load(text + "expect: [run.faults == 1]\n", "f.yaml")
    assert error.value.lines == [f"f.yaml:{line}: timeline[0].nic: `carrying` needs a connection: `carrying(TRAFFIC)`"]
