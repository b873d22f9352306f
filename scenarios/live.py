"""The words of the live shell: what a person can ask of a running network, and do to it. Decides nothing.

Each word is a method whose docstring is its help. A connection is named by its number in the last `records`, by its
traffic, or by its client's ADDRESS:PORT.
"""

import select
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from scenarios import local, tables
from scenarios.bench import Bench
from scenarios.events import Event
from scenarios.ports import Counts, Ports
from scenarios.processes import RunError
from topologies.commands import NetworkError
from topologies.model import Team, TopologyError

REDRAW_S = 0.5
MOST = 12
"""Records in the live table."""


class Live:
    """One shell on one bench that is up."""

    def __init__(self, bench: Bench, say: Callable[[str], None] = print) -> None:
        """Starts nothing."""
        self._bench, self._say = bench, say
        self._numbered: list[Event] = []
        self._counts: dict[str, Counts] = {}
        self._counted, self._died = 0.0, ""
        self._ports = Ports({nic.switch_port for nic in bench.topology.nics})

    def run(self) -> None:
        """The shell, until the user leaves it."""
        words = {name: self._safe(act) for name, act in self.words().items()}
        self._bench.network.shell(words, self.look)

    def words(self) -> dict[str, Callable[[Sequence[str]], None]]:
        """All of them, in the order of the help."""
        names = (
            "team",
            "records",
            "watch",
            "traffic",
            "offload",
            "reload",
            "upload",
            "unplug",
            "plug",
            "lacp",
            "groups",
        )
        return {name: getattr(self, name) for name in (*names, "pingall")}

    def look(self) -> None:
        """Take in what has happened; a process that died is told once."""
        try:
            self._bench.look()
        except RunError as died:
            if str(died) != self._died:
                self._say(f"!! {died}")
            self._died = str(died)

    def _safe(self, act: Callable[[Sequence[str]], None]) -> Callable[[Sequence[str]], None]:
        def safe(words: Sequence[str]) -> None:
            try:
                act(words)
            except (local.LocalError, NetworkError, TopologyError, RunError, ValueError) as error:
                self._say(str(error))

        safe.__doc__ = act.__doc__
        return safe

    # ------------------------------------------------------------------------------------------- asking

    def team(self, words: Sequence[str]) -> None:
        """team: the NICs of each team: link, member, engine, active, how many connections each holds"""
        self._none(words, "team")
        self._show(self._teams())

    def records(self, words: Sequence[str]) -> None:
        """records: the agent's records, numbered; `on` is who holds the connection, `arrives at` where frames come"""
        self._none(words, "records")
        self.look()
        self._numbered = self._bench.all_records()
        self._show(tables.records(self._numbered, self._names()))

    def watch(self, words: Sequence[str]) -> None:
        """watch: NICs, throughput and records, twice a second, until Enter"""
        self._none(words, "watch")
        if not sys.stdin.isatty():
            self._show([*self._teams(), *tables.records(self._bench.all_records(), self._names(), MOST)])
            return
        while True:
            self.look()
            lines = [*self._teams(), "", *tables.records(self._bench.all_records(), self._names(), MOST)]
            self._say("\x1b[H\x1b[2J" + "\n".join([*lines, "", "Enter ends it"]))
            if select.select([sys.stdin], [], [], REDRAW_S)[0]:
                sys.stdin.readline()
                return

    def lacp(self, words: Sequence[str]) -> None:
        """lacp: what the switches and the agents know of LACP, as in /proc/net/bonding"""
        self._none(words, "lacp")
        bench = self._bench
        for switch in bench.topology.switches:
            self._show(
                [f"{switch.name}:", local.ask(bench.cast.controller, {"do": "lacp", "switch": switch.name})["text"]]
            )
        for team in bench.topology.teams:
            answer = local.ask(bench.agent(team), {"do": "lacp"})
            self._show([f"{team.name}:", str(answer.get("text") or answer)])

    def groups(self, words: Sequence[str]) -> None:
        """groups: each switch's LAGs: policy, members, and how many of the hash's buckets lead to each"""
        self._none(words, "groups")
        for switch in self._bench.topology.switches:
            lags = local.ask(self._bench.cast.controller, {"do": "members", "switch": switch.name})["lags"]
            nics = {nic.port_no: nic.name for nic in self._bench.topology.nics if nic.switch == switch.name}
            self._show(tables.groups(switch.name, lags, nics))

    def pingall(self, words: Sequence[str]) -> None:
        """pingall: every client pings every team, once"""
        self._none(words, "pingall")
        for client in self._bench.topology.clients:
            for team in self._bench.topology.teams:
                argv = ["ping", "-c", "1", "-W", "1", team.ip4]
                process = self._bench.network.popen(client.name, argv, stdout=subprocess.DEVNULL)
                self._say(
                    f"{client.name} → {team.name} {team.ip4}: {'answered' if process.wait() == 0 else 'no answer'}"
                )

    # ------------------------------------------------------------------------------------------- acting

    def traffic(self, words: Sequence[str]) -> None:
        """traffic [NAME...]: start the file's traffic, all of it or by name; it goes on meanwhile"""
        known = self._bench.scenario.traffic
        for name in words or known:
            if name not in known:
                raise ValueError(f"no traffic {name!r}; there is {', '.join(known)}")
            self._bench.traffic_again(name)
            self._say(f"{name}: started")

    def offload(self, words: Sequence[str]) -> None:
        """offload CONNECTION [NIC]: from the host to a NIC, or to the one that the agent chooses"""
        self._command("offload", words)

    def reload(self, words: Sequence[str]) -> None:
        """reload CONNECTION [NIC]: from its NIC to another one"""
        self._command("reload", words)

    def upload(self, words: Sequence[str]) -> None:
        """upload CONNECTION: from its NIC to the host"""
        self._command("upload", words)

    def unplug(self, words: Sequence[str]) -> None:
        """unplug NIC: its link goes down"""
        self._bench.network.link_down(self._nic(words, "unplug"))

    def plug(self, words: Sequence[str]) -> None:
        """plug NIC: its link comes up"""
        self._bench.network.link_up(self._nic(words, "plug"))

    # ------------------------------------------------------------------------------------------- below

    def _show(self, lines: Sequence[str]) -> None:
        self._say("\n".join(lines))

    def _none(self, words: Sequence[str], word: str) -> None:
        if words:
            raise ValueError(f"{word} takes no words behind it")

    def _teams(self) -> list[str]:
        lines, rates = list[str](), self._rates()
        for team in self._bench.topology.teams:
            nics = local.ask(self._bench.agent(team), {"do": "team"})["nics"]
            records = local.ask(self._bench.agent(team), {"do": "records"})["records"]
            lines += [f"{team.name} {team.ip4} {team.ip6}", *tables.team(nics, records, rates)]
        return lines

    def _rates(self) -> tables.Rates:
        """Since the last look, which must be a while ago; the very first look waits a moment."""
        if not self._counts:
            self._count()
            time.sleep(REDRAW_S)
        before, since = dict(self._counts), self._counted
        self._count()
        seconds = self._counted - since
        return {
            nic.name: (
                (self._counts[nic.switch_port][2] - before[nic.switch_port][2]) * 8 / seconds,
                (self._counts[nic.switch_port][0] - before[nic.switch_port][0]) * 8 / seconds,
            )
            for nic in self._bench.topology.nics
            if nic.switch_port in before and seconds > 0
        }

    def _count(self) -> None:
        self._counted = time.monotonic()
        self._counts |= self._ports.look(self._counted, at_once=True)

    def _names(self) -> Mapping[Any, str]:
        return {one: name for name, ones in self._bench.known.connections.items() for one in ones}

    def _nic(self, words: Sequence[str], word: str) -> str:
        names = [nic.name for nic in self._bench.topology.nics]
        if len(words) != 1 or words[0] not in names:
            raise ValueError(f"write `{word} NIC`; there are {', '.join(names)}")
        return words[0]

    def _command(self, verb: str, words: Sequence[str]) -> None:
        if not words or len(words) > (1 if verb == "upload" else 2):
            raise ValueError(f"write `{verb} CONNECTION{'' if verb == 'upload' else ' [NIC]'}`; `records` shows them")
        nic = {"nic": self._nic(words[1:], f"{verb} CONNECTION")} if len(words) > 1 else {}
        for one in self._connections(words[0]):
            answer = local.ask(self._bench.agent(self._team_of(one)), {"do": verb, **one, **nic})
            self._say(f"{one['src']}:{one['sport']}: done, epoch {answer.get('epoch')}")

    def _connections(self, written: str) -> list[dict[str, Any]]:
        """Raises ValueError when it is none."""
        keys = ("src", "sport", "dst", "dport")
        if written.isdecimal() and 0 < int(written) <= len(self._numbered):
            return [{key: self._numbered[int(written) - 1][key] for key in keys}]
        self.look()
        alive = [{key: one[key] for key in keys} for one in self._bench.all_records()]
        names = self._names()
        found = [
            one
            for one in alive
            if written
            in (names.get(tuple(one.values())), f"{one['src']}:{one['sport']}", f"[{one['src']}]:{one['sport']}")
        ]
        if not found:
            raise ValueError(f"no connection {written!r}; name its number in `records`, its traffic, or ADDRESS:PORT")
        return found

    def _team_of(self, connection: Mapping[str, Any]) -> Team:
        return next(team for team in self._bench.topology.teams if connection["dst"] in (team.ip4, team.ip6))
