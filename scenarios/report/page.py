"""A run's result and events → one HTML page that needs nothing else. Pure, but for its template's file.

The page has no script and loads nothing: drawings are SVG in it, what is pointed at is told by SVG's own titles.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from scenarios import console
from scenarios.measure import stories
from scenarios.measure.faults import faults
from scenarios.measure.moves import PARTS, moves
from scenarios.measure.stories import Event, connections_of
from scenarios.report import moves as bars
from scenarios.report import network, series, svg, timeline
from scenarios.report.templates import template
from scenarios.steps import QUIET
from scenarios.units import show_ms, show_size

TOLD = 200
"""Lines of what happened, at most."""
Row = dict[str, Any]


TEMPLATE = "page.html.j2"


def prepare() -> None:
    """Reads what a page is made from, so that it is soon made when it is wanted."""
    template(TEMPLATE)


def page(result: Mapping[str, Any], events: Sequence[Event], about: str) -> str:
    """The whole page."""
    measured, topology = result["measurements"], _first(events, "topology")
    traffic, broken = stories(events), faults(events)
    nics = [nic for team in topology["teams"].values() for nic in team] if topology else []
    grid = series.bins(events)
    marks = _marks(events, {fault.t for fault in broken})
    every = bars.rows({name: moves(story, broken) for name, story in traffic.items()})
    clients = {name: str(story.asked["client"]) for name, story in traffic.items()}
    drawn = bool(topology) and any(event["event"] == "up" for event in events)
    cut = [float(event["t"]) for event in events if event["event"] == "wire" and not event["up"]]
    panels = timeline.panels(series.throughput(events, grid), series.held(events, grid), series.records(events, grid))
    return template(TEMPLATE).render(
        result=result,
        reason=result.get("reason"),
        about=about,
        started=(_first(events, "scenario") or {}).get("started"),
        network=network.draw(topology, clients, measured, broken) if topology else None,
        timeline=timeline.draw(grid, panels, [mark[:3] for mark in marks], cut) if drawn else None,
        marks=marks,
        moves=bars.draw(every) if every else None,
        moved=sum(row.times for row in every),
        left_out=max(0, len(every) - bars.ROWS),
        together=any(row.times > 1 for row in every),
        parts=[part for part in PARTS if any(part in row.parts for row in every)],
        legend=[(nic, svg.colour_of(index)) for index, nic in enumerate(nics[: svg.COLOURS])],
        others=len(nics) - svg.COLOURS,
        traffic=[_traffic(name, measured[name]) for name in traffic],
        nics=[_nic(nic, measured[nic]) for nic in nics],
        switches=[_switch(name, measured[name]) for name in (topology or {}).get("switches", [])],
        expectations=[_expectation(one) for one in result["expectations"]],
        told=_told(events)[-TOLD:],
        environment=_environment(result["environment"]),
    )


def _first(events: Sequence[Event], kind: str) -> Event | None:
    return next((event for event in events if event["event"] == kind), None)


def _marks(events: Sequence[Event], broken: set[float]) -> list[tuple[float, int, bool, str]]:
    """Steps that change something: when, its number, whether it is a fault, its words."""
    found: list[tuple[float, int, bool, str]] = []
    for index, event in enumerate(events):
        if event["event"] == "step" and event["do"] not in QUIET:
            # A link's fall is told right behind its step.
            behind = [one for one in events[index + 1 : index + 4] if one["event"] == "wire" and not one["up"]]
            fault = float(event["t"]) in broken or (bool(behind) and behind[0].get("nic") == event.get("nic"))
            words = console.tell(event, {}).partition(": ")[2].strip()
            found.append((float(event["t"]), len(found) + 1, fault, words))
    return found


def _traffic(name: str, values: Mapping[str, Any]) -> Row:
    intact = {True: "yes", False: "NO", None: "unknown"}[values["intact"]]
    share = values["offloaded_share"]
    return {
        "name": name,
        "connections": _known(values["connections"]),
        "bytes": "–" if values["bytes"] is None else show_size(values["bytes"]),
        "intact": intact,
        "goodput": _known(values["goodput_mbit"], ".3g"),
        "stall": show_ms(values["longest_stall_ms"]),
        "first_byte": show_ms(values["first_byte_after_fault_ms"]),
        "resets": _known(values["resets"]),
        "retransmits": f"{_known(values['client_retransmits'])} / {_known(values['server_retransmits'])}",
        "odd": f"{_known(values['client_out_of_order'])} / {_known(values['client_duplicates'])}",
        "moves": _known(values["moves"]),
        "offloaded": "–" if share is None else f"{share:.0%}",
        "error": values["error"],
    }


def _nic(name: str, values: Mapping[str, Any]) -> Row:
    sizes = {key: values[key] for key in ("bytes_in", "bytes_out")}
    row = {key: _known(value, ",") for key, value in values.items() if key not in sizes}
    return {**row, "name": name} | {key: "–" if size is None else show_size(size) for key, size in sizes.items()}


def _switch(name: str, values: Mapping[str, Any]) -> Row:
    share = values["busiest_share"]
    return {
        "name": name,
        "to": _known(values["frames_to_members"], ","),
        "from": _known(values["frames_from_members"], ","),
        "busiest": "–" if share is None else f"{share:.0%}",
        "choices": values["choices"],
        "moved": f"{values['moved']:.0%}",
        "had_to_move": f"{values['had_to_move']:.0%}",
        "collateral": f"{values['collateral_ratio']:.0%}",
    }


def _expectation(one: Mapping[str, Any]) -> Row:
    seen = [console.shown(name, value) for name, value in one["measured"].items()]
    return {**one, "seen": [word for word in (one.get("reason"), *seen) if word]}


def _told(events: Sequence[Event]) -> list[tuple[str, str]]:
    """What happened, in the console's words; what is told again and again is told once."""
    names = {c: event["traffic"] for event in events if event["event"] == "connected" for c in connections_of(event)}
    lines: dict[str, str] = {}
    for event in events:
        text = console.tell(event, names)
        if text and text not in lines:
            lines[text] = f"{event['t']:.3f}"
    return [(at, text) for text, at in lines.items()]


def _environment(environment: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows = [(key, str(environment[key])) for key in ("kernel", "machine", "cpus") if key in environment]
    rows += [(name, str(version)) for name, version in environment.get("versions", {}).items()]
    missing = environment.get("capabilities", {}).get("missing", [])
    return [*rows, ("capabilities missing", ", ".join(missing) or "none")] if environment else []


def _known(value: Any, form: str = "") -> str:
    return "–" if value is None else format(value, form)
