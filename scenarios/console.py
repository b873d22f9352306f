"""What a person sees of a run: what happens while it happens, then the result. Decides only how it looks.

On a terminal one line is updated in place; elsewhere (CI) every event of note is a line of its own, with no
colours.
"""

import io
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from scenarios import measure, steps
from scenarios.events import Event
from scenarios.measure import connection_of, connections_of
from scenarios.schema import Scenario
from scenarios.units import show_ms, show_size
from scenarios.verdict import Result

AROUND = 12
"""Events shown below a failed expectation, at most."""
_ABOUT = ("connection", "nic", "process", "client", "service", "switch", "until", "node", "command")
"""What a step is about; its other words are shown with their keys."""
_OF_ALL_STEPS = ("t", "who", "event", "index", "do", "at")
_COLOURS = {"pass": "32", "fail": "31", "error": "31", "skip": "33", "dim": "2", "bold": "1"}


class Console:
    """Shows one scenario's run and result."""

    def __init__(
        self, scenario: Scenario, out: TextIO = sys.stdout, live: bool | None = None, colours: bool | None = None
    ) -> None:
        """`live`: update a line in place; by default when `out` is a terminal. `colours`: by default then, too."""
        self.scenario, self._out = scenario, out
        self._live = out.isatty() if live is None else live
        self._colours = self._live if colours is None else colours
        self._names: dict[Any, str] = {}
        self._bytes: dict[str, dict[str, int]] = {}
        self._rate: dict[str, float] = {}
        self._mark: dict[str, tuple[float, int]] = {}
        self._nic: dict[str, str] = {}
        self._last, self._now, self._line = "bringing up", 0.0, ""

    def start(self) -> None:
        """The scenario's head line."""
        self._print(f"{self._paint('bold', self.scenario.scenario)}: {self.scenario.about}")

    def see(self, new: Sequence[Event]) -> None:
        """Take in new events and show them."""
        for event in self._together(new):
            self._now = max(self._now, float(event["t"]))
            if event["event"] == "progress":
                self._progress(event)
                continue
            if event["event"] == "move":
                self._nic[self._names.get(connection_of(event), "")] = event["to"]
            text = tell(event, self._names)
            if text:
                self._last = text
                if not self._live:
                    self._print(f"  {event['t']:8.3f} s  {text}")
        if self._live:
            self._update()

    def _together(self, new: Sequence[Event]) -> list[Event]:
        """The events, with what happened to many connections of one traffic alike told once."""
        found: dict[tuple[object, ...], Event] = {}
        for event in new:
            if event["event"] == "connected":
                for one in connections_of(event):
                    self._names[one] = event["traffic"]
        crowds = {name for name, traffic in self.scenario.traffic.items() if traffic.count > 1}
        for index, event in enumerate(new):
            name = self._names.get(connection_of(event), "")
            alike: tuple[object, ...] = (index,)
            # A crowd's client tells of its connections a moment after they have come about.
            many = name in crowds or (crowds and not name and connection_of(event))
            if many or event["event"] == "refused":
                alike = (name, *(event.get(key) for key in ("event", "kind", "from", "to", "cause", "reason")))
            if alike in found:
                found[alike] = found[alike] | {"times": found[alike].get("times", 1) + 1}
            else:
                found[alike] = event
        return list(found.values())

    def result(self, result: Result, events: Sequence[Event], folder: Path) -> None:
        """The result, with everything a person needs to believe or to doubt it."""
        if self._live:
            self._out.write("\r\x1b[K")
        for name in self.scenario.traffic:
            self._traffic(name, result["measurements"].get(name, {}))
        self._moves(events)
        for one in result["expectations"]:
            self._expectation(one, events)
        run = result["measurements"]["run"]
        up, down = show_ms(run["bring_up_ms"]), show_ms(run["tear_down_ms"])
        if result.get("reason"):
            self._print(f"  {self._paint(result['verdict'], result['verdict'])}: {result['reason']}")
        self._print(f"  brought up in {up}, torn down in {down}; seed {result['seed']}; files in {folder}")
        self._print(f"{self._paint(result['verdict'], result['verdict'].upper())} {self.scenario.scenario}")

    # ------------------------------------------------------------------------------------------- while it runs

    def _progress(self, event: Event) -> None:
        name, direction = event["traffic"], event["dir"]
        self._bytes.setdefault(name, {})[direction] = event["bytes"]
        total = sum(self._bytes[name].values())
        at, before = self._mark.setdefault(name, (event["t"], total))
        if event["t"] - at >= 0.5:
            self._rate[name] = (total - before) * 8 / (event["t"] - at) / 1e6
            self._mark[name] = (event["t"], total)

    def _update(self) -> None:
        parts = []
        for name, by_direction in self._bytes.items():
            rate, nic = self._rate.get(name), self._nic.get(name)
            text = f"{name} {show_size(sum(by_direction.values()))}"
            text += f" {rate:.0f} Mbit/s" if rate is not None else ""
            parts.append(text + (f" on {nic}" if nic else ""))
        line = f"  {self._now:6.1f} s  {', '.join([*parts, self._last])}"[: _width() - 1]
        if line != self._line:
            self._line = line
            self._out.write(f"\r\x1b[K{line}")
            self._out.flush()

    # ------------------------------------------------------------------------------------------- the result

    def _traffic(self, name: str, values: Mapping[str, Any]) -> None:
        if values.get("exit_status") is not None:
            words = [f"exit status {values['exit_status']}", f"took {show_ms(values['took_ms'])}"]
            words += [f"{values['connections'] or 0} connections", f"{_known(values['resets'])} resets"]
            self._print(f"  {name}: {', '.join(words)}" + (f", {values['error']}" if values["error"] else ""))
            return
        if values.get("bytes") is None:
            self._print(f"  {name}: {values.get('error') or 'nothing measured'}")
            return
        goodput = values["goodput_mbit"]
        words = [show_size(values["bytes"]), "intact" if values["intact"] else "NOT intact"]
        words += [f"{goodput:.0f} Mbit/s"] if goodput is not None else []
        words += [f"longest stall {show_ms(values['longest_stall_ms'])}"]
        words += [f"{_known(values['resets'])} resets", f"{_known(values['retransmits'])} retransmits"]
        if values["offloaded_share"] is not None and self.scenario.team.driver == "offload":
            words.append(f"{values['offloaded_share']:.0%} of the time offloaded")
        if values["first_difference"] is not None:
            words.append(f"first differs at byte {values['first_difference']}")
        if (values.get("connections") or 0) > 1:
            words.insert(0, f"{values['connections']} connections")
        if values.get("lost"):
            words.append(f"{values['lost']} lost")
        if values["error"]:
            words.append(values["error"])
        self._print(f"  {name}: {', '.join(words)}")

    def _moves(self, events: Sequence[Event]) -> None:
        rows: list[tuple[str, ...]] = [("moves", "time", "kind", "from → to", "cause", "took")]
        for name, story in measure.stories(events).items():
            rows += _many_moves(name, story.moves) if len(story.connected) > 1 else _single_moves(name, story.moves)
        if len(rows) == 1:
            return
        widths = [max(len(row[column]) for row in rows) for column in range(6)]
        for index, row in enumerate(rows):
            text = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
            self._print("  " + (self._paint("dim", text) if index == 0 else text))

    def _expectation(self, one: Mapping[str, Any], events: Sequence[Event]) -> None:
        sign = {"pass": "✓", "fail": "✗"}.get(one["verdict"], "–")
        seen = ", ".join(shown(name, value) for name, value in one["measured"].items())
        why = "; ".join(word for word in (one.get("reason"), seen) if word)
        self._print(f"  {self._paint(one['verdict'], sign)} {one['text']}" + (f"   ({why})" if why else ""))
        if one["verdict"] == "fail":
            for line in around(one["measured"], events):
                self._print(f"      {self._paint('dim', line)}")

    def _paint(self, what: str, text: str) -> str:
        return f"\x1b[{_COLOURS[what]}m{text}\x1b[0m" if self._colours else text

    def _print(self, text: str) -> None:
        if self._live:
            self._out.write("\r\x1b[K")
        self._out.write(text + "\n")
        self._out.flush()


def _single_moves(name: str, moves: Sequence[measure.Event]) -> list[tuple[str, ...]]:
    return [_row(name, move["t"], move, _took(move)) for move in moves]


def _many_moves(name: str, moves: Sequence[measure.Event]) -> list[tuple[str, ...]]:
    """One row for all moves of a kind, with the first one's time and the longest one's duration."""
    alike: dict[tuple[str, ...], list[measure.Event]] = {}
    for move in moves:
        alike.setdefault(tuple(str(move[key]) for key in ("kind", "from", "to", "cause")), []).append(move)
    return [
        _row(f"{name}, {len(some)} ×", some[0]["t"], some[0], max((_took(move) or 0.0) for move in some))
        for some in alike.values()
    ]


def _row(name: str, at: float, move: measure.Event, took: float | None) -> tuple[str, ...]:
    return name, f"{at:.3f} s", move["kind"], f"{move['from']} → {move['to']}", move["cause"], show_ms(took)


def _took(move: measure.Event) -> float | None:
    took = move.get("parts_ms", {}).get("total")
    return None if took is None else float(took)


def told(scenario: Scenario, result: Result, events: Sequence[Event], folder: Path) -> str:
    """A result as a console without colours shows it."""
    out = io.StringIO()
    Console(scenario, out, live=False).result(result, events, folder)
    return out.getvalue()


def around(names: Mapping[str, object], events: Sequence[Event]) -> list[str]:
    """The events that a failed expectation over these measurements is about, one line each, the last ones."""
    traffic = {name.partition(".")[0] for name in names}
    connections: dict[Any, str] = {
        c: e["traffic"] for e in events if e["event"] == "connected" for c in connections_of(e)
    }
    lines: dict[str, str] = {}
    for event in events:
        about = event.get("traffic") or connections.get(connection_of(event))
        text = tell(event, connections)
        if text and event["event"] != "progress" and (about is None or about in traffic):
            lines.pop(text, None)  # told again and again, it counts once, where it came last
            lines[text] = f"{event['t']:8.3f} s  {text}"
    return list(lines.values())[-AROUND:]


def tell(event: measure.Event, names: Mapping[Any, str]) -> str:
    """An event in words, empty for those that a person need not see. `names`: connection → traffic."""
    name = event.get("traffic") or names.get(connection_of(event), "a connection")
    if event.get("times", 1) > 1:
        name += f", {event['times']} ×"
    words: dict[str, Callable[[], str]] = {
        "up": lambda: "everything is up, traffic starts",
        "connected": lambda: _connected(name, event),
        "step": lambda: _step(event),
        "link": lambda: (
            f"{event['nic']}: the agent sees its link {'up' if event['up'] else 'down'}" if "nic" in event else ""
        ),
        "move": lambda: f"{name}: {event['kind']} {event['from']} → {event['to']} ({event['cause']})",
        "refused": lambda: f"{name}: a move was refused: {event.get('error') or event.get('reason')}",
        "lost": lambda: f"{name}: the connection is lost",
        "stranded": lambda: f"{name}: left on {event.get('nic')}: no NIC can carry frames",
        # A link's own fall is told already, as `link`.
        "fault": lambda: "" if event.get("kind") == "link" else f"{event.get('nic')}: {_failed(event)}",
        "miswired": lambda: _miswired(event),
        "rebuilt": lambda: f"the agent has {event.get('records')} records again",
        "restarted": lambda: f"{event['process']} is started again",
        "records_checked": lambda: _checked(event),
        "answered": lambda: "" if event.get("ok") else f"refused by command: {event.get('error')}",
        "done": lambda: f"{name}: done" + (f", {event['error']}" if event.get("error") else ""),
        "error": lambda: f"error: {event.get('reason')}",
        "interrupted": lambda: "interrupted",
        "killed": lambda: f"{event['process']}: {event['reason']}",
    }
    return words[event["event"]]() if event["event"] in words else ""


def _connected(name: str, event: measure.Event) -> str:
    if "sports" in event:
        return f"{name}: {len(event['sports'])} more connected"
    return f"{name}: connected from {event['src']}:{event['sport']}"


def _checked(event: measure.Event) -> str:
    if event["differences"]:
        return f"records and sockets differ, {event['differences']} times: {'; '.join(event['examples'])}"
    return f"records and sockets of {event['connections']} connections agree"


def _step(event: measure.Event) -> str:
    about = [str(event[key]) for key in _ABOUT if event.get(key)]
    words = {key: value for key, value in event.items() if key not in (*_ABOUT, *_OF_ALL_STEPS)}
    about += [f"{key} {steps.written(event['do'], key, value)}" for key, value in words.items()]
    return f"step {event['index'] + 1}: {event['do']} {' '.join(about)}".rstrip()


def shown(name: str, value: Any) -> str:
    """A measured value: `download.longest_stall = 1.24 s`."""
    if value is None:
        return f"{name} unknown"
    if isinstance(value, list):
        return f"{name.removesuffix('_ms')} = [{', '.join(shown(name, one).partition(' = ')[2] for one in value)}]"
    if isinstance(value, dict):
        parts = (
            f"{word} {shown(name if word != 'values' else '', one).partition(' = ')[2]}" for word, one in value.items()
        )
        return f"{name.removesuffix('_ms')}: {', '.join(parts)}"
    if name.endswith("_ms"):
        return f"{name.removesuffix('_ms')} = {show_ms(value)}"
    if isinstance(value, bool):
        return f"{name} = {'true' if value else 'false'}"
    return f"{name} = {value:g}" if isinstance(value, float) else f"{name} = {value}"


def _known(value: object) -> str:
    return "unknown" if value is None else str(value)


def _width() -> int:
    return shutil.get_terminal_size().columns


def _failed(event: measure.Event) -> str:
    if event.get("kind") == "adapter":
        return "the agent sees its adapter fail"
    return f"the agent finds its link dead, by {'LACP' if event.get('kind') == 'lacp' else 'the probe'}"


def _miswired(event: Mapping[str, Any]) -> str:
    """Agents tell by NIC; the switch sees the same from the other side."""
    if not event["who"].startswith("agent"):
        return ""
    wrong = [f"{', '.join(one['nics'])} to {one['system']}" for one in event["partners"] if not one["selected"]]
    return f"{event['who']}: wired wrongly: {'; '.join(wrong)}"
