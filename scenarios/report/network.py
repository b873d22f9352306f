"""The network of a run, drawn: clients, router, switches, NICs, server. Pure."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from markupsafe import Markup

from scenarios.measure.faults import Fault
from scenarios.measure.stories import Event
from scenarios.report import svg
from scenarios.report.svg import el, text
from scenarios.units import show_size

ROW = 34
FEW = 8
"""More clients than that are drawn as those with traffic, and one box for the others."""
CLIENT, NIC, SERVER = 10, 512, 740
"""Left edges; routers and switches stand between clients and NICs."""
CLIENT_W, BETWEEN_W, NIC_W, SERVER_W = 160, 76, 124, 130


def draw(
    topology: Event, traffic: Mapping[str, str], nics: Mapping[str, Mapping[str, Any]], faults: Sequence[Fault]
) -> Markup:
    """`traffic`: its name → its client. `nics`: their measurements."""
    order = [nic for team in topology["teams"].values() for nic in team]
    switch_of = {nic: switch for team in topology["teams"].values() for nic, switch in team.items()}
    clients = _clients(topology["clients"], traffic)
    rows = max(len(clients), len(order) + (len(topology["teams"]) - 1) * 0.6, 2)
    height = rows * ROW + 40
    client_y = _spread(len(clients), height)
    nic_y = dict(zip(order, _grouped(topology["teams"], height), strict=True))
    between = _between(topology, nic_y, switch_of, height)
    cut = {fault.nic for fault in faults}
    carried = {nic: (values.get("bytes_in") or 0) + (values.get("bytes_out") or 0) for nic, values in nics.items()}
    most = max([1, *carried.values()])
    pieces: list[Markup] = []
    for client, y in zip(clients, client_y, strict=True):
        x, to = between[client[1]]
        pieces.append(svg.line((CLIENT + CLIENT_W, y), (x, to), "wire"))
    for far, near in {**topology.get("uplinks", {}), **_reversed(topology.get("router", {}))}.items():
        (x, y), (to_x, to_y) = between[near], between[far]
        pieces.append(svg.line((x + BETWEEN_W, y), (to_x, to_y), "wire"))
    for index, nic in enumerate(order):
        x, y = between[switch_of[nic]]
        pieces += _nic(nic, index, nic_y[nic], (x + BETWEEN_W, y), carried.get(nic, 0), most, nic in cut)
    pieces += [_box(CLIENT, y, CLIENT_W, *client[2:]) for client, y in zip(clients, client_y, strict=True)]
    pieces += [_box(x, y, BETWEEN_W, name, _what(name, topology)) for name, (x, y) in between.items()]
    pieces += _server(topology, nic_y, height)
    return svg.drawing(height, "The network: clients, switches, NICs of the team, server", *pieces)


def _reversed(router: Mapping[str, str]) -> dict[str, str]:
    """Its switch → the router, as an uplink is told: what is farther from the clients first."""
    return {switch: name for name, switch in router.items()}


def _what(name: str, topology: Event) -> str:
    if name in topology.get("router", {}):
        return "router"
    members = {switch for team in topology["teams"].values() for switch in team.values()}
    return "LAG" if name in members | set(topology.get("uplinks", {}).values()) else ""


def _between(
    topology: Event, nic_y: Mapping[str, float], switch_of: Mapping[str, str], height: float
) -> dict[str, svg.Point]:
    """Routers and switches → left edge and middle, in columns from the clients to the NICs."""
    uplinks = topology.get("uplinks", {})
    core = [name for name in topology["switches"] if name not in uplinks]
    columns = [column for column in (list(topology.get("router", {})), core, list(uplinks)) if column]
    space = (NIC - CLIENT - CLIENT_W - BETWEEN_W * len(columns)) / (len(columns) + 1)
    found = {}
    for index, names in enumerate(columns):
        x = CLIENT + CLIENT_W + space * (index + 1) + BETWEEN_W * index
        for name, y in _beside(names, nic_y, switch_of, height).items():
            found[name] = (x, y)
    return found


def _clients(switch_of: Mapping[str, str], traffic: Mapping[str, str]) -> list[tuple[str, str, str, str]]:
    """Name, switch, and two lines of text, for each box; many clients without traffic are one box."""
    by_client: dict[str, list[str]] = {}
    for name, client in traffic.items():
        by_client.setdefault(client, []).append(name)
    shown = list(switch_of)
    if len(shown) > FEW:
        shown = [name for name in switch_of if name in by_client][:FEW]
    boxes = [(name, switch_of[name], name, _cut(", ".join(by_client.get(name, [])), 22)) for name in shown]
    if left := len(switch_of) - len(shown):
        boxes.append(("", next(iter(switch_of.values())), f"{left} more clients", ""))
    return boxes


def _spread(count: int, height: float) -> list[float]:
    return [height * (index + 1) / (count + 1) for index in range(count)]


def _grouped(teams: Mapping[str, Sequence[str]], height: float) -> list[float]:
    """NICs one under the other, with a space between teams."""
    places, y = [], 0.0
    for index, nics in enumerate(teams.values()):
        y += 0.6 * ROW if index else 0.0
        for _ in nics:
            places.append(y)
            y += ROW
    shift = (height - (y - ROW)) / 2
    return [place + shift for place in places]


def _beside(
    names: Sequence[str], nic_y: Mapping[str, float], switch_of: Mapping[str, str], height: float
) -> dict[str, float]:
    """Each switch beside the NICs that hang at it; several never on top of each other."""
    if len(names) == 1:
        return {names[0]: height / 2}
    wanted = {
        name: [nic_y[nic] for nic, switch in switch_of.items() if switch == name] or [height / 2] for name in names
    }
    middle = {name: sum(ys) / len(ys) for name, ys in wanted.items()}
    spread = dict(zip(sorted(names, key=lambda name: middle[name]), _spread(len(names), height), strict=True))
    close = any(two - one < 1.2 * ROW for one, two in pairwise(sorted(middle.values())))
    return spread if close else middle


def _nic(nic: str, index: int, y: float, begin: svg.Point, carried: int, most: int, cut: bool) -> list[Markup]:
    end = (NIC, y)
    colour = svg.colour_of(index)
    told = f"{nic}: {show_size(carried)} on its wire" + ("; this link failed in the run" if cut else "")
    width = 1.5 + 4.5 * carried / most
    wire = el(
        "line", svg.title(told), x1=begin[0], y1=begin[1], x2=end[0], y2=end[1], cls=f"s {colour}", stroke_width=width
    )
    bus = svg.line((NIC + NIC_W, y), (SERVER, y), "wire")
    box = el(
        "g",
        svg.title(told),
        svg.rect(NIC, y - 12, NIC_W, 24, cls="box", rx=4),
        svg.rect(NIC, y - 12, 6, 24, cls=f"f {colour}", rx=2),
        text(NIC + 14, y + 4, nic, "strong"),
        text(NIC + NIC_W - 8, y + 4, show_size(carried), "small", "end"),
    )
    mark = []
    if cut:
        x, at = begin[0] + (end[0] - begin[0]) * 0.72, begin[1] + (end[1] - begin[1]) * 0.72
        mark = [el("g", svg.title(told), text(x, at + 5, "✕", "fault cross", "middle"))]
    return [wire, bus, box, *mark]


def _box(x: float, y: float, width: float, name: str, more: str) -> Markup:
    lines = [text(x + 10, y + 4, name, "strong")]
    if more:
        lines.append(text(x + width - 8, y + 4, more, "small", "end"))
    return el("g", svg.rect(x, y - 13, width, 26, cls="box", rx=4), *lines)


def _server(topology: Event, nic_y: Mapping[str, float], height: float) -> list[Markup]:
    top, bottom = 8.0, height - 8
    pieces = [svg.rect(SERVER, top, SERVER_W, bottom - top, cls="box", rx=4)]
    pieces.append(text(SERVER + SERVER_W - 10, top + 18, topology["server"], "strong", "end"))
    for team, nics in topology["teams"].items():
        ys = [nic_y[nic] for nic in nics]
        low, high = min(ys) - 12, max(ys) + 12
        pieces.append(svg.line((SERVER + 14, low), (SERVER + 14, high), "bracket"))
        pieces.append(text(SERVER + 24, (low + high) / 2 + 4, team))
    return pieces


def _cut(words: str, length: int) -> str:
    return words if len(words) <= length else words[: length - 1] + "…"
