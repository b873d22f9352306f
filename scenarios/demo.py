"""A narrated run: what happens, and the first time something does, what to look at. Decides the words."""

import shutil
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from scenarios.console import Console
from scenarios.events import Event
from scenarios.schema import Scenario
from scenarios.steps import QUIET

WORDS = {
    "network": "The network stands: a server, its NICs, a switch and clients, each in a network namespace of its own.",
    "up": "Every process is there: the switch's controller, an engine in the server and in each NIC, the agent.",
    "connected": "A client's TCP connection is accepted by the server's own TCP. So far it is a connection like any.",
    "offload": "Its whole TCP context moves onto a NIC: that NIC's TCP answers now, and the server's sees nothing.",
    "step": "Now the scenario's own fault or command.",
    "link_down": "The carrier is gone. What was on its way there is lost, and the switch chooses other members.",
    "reload": "The context moves to another NIC in the middle of the stream. The client may notice a pause, no more.",
    "stray": "Frames came by a NIC that does not hold the connection: the switch chose it, and the context follows.",
    "upload": "The context goes back to the server's own TCP.",
    "rehash": "No link fails: the switch alone sends the connection another way.",
    "done": "The client has it all. Now the ends are compared, byte counts and SHA-256, and the expectations judged.",
}


class Narrator:
    """Shows a run as the console does, with a sentence the first time something happens."""

    def __init__(self, scenario: Scenario, out: TextIO = sys.stdout) -> None:
        """Says nothing yet."""
        self._console, self._out = Console(scenario, out, live=False), out
        self._told: set[str] = set()

    def begin(self, file: Path) -> None:
        """The head of the scenario's file, which draws what it is about."""
        lines = [line for line in file.read_text().splitlines() if "yaml-language-server" not in line]
        head = lines[: next((place for place, line in enumerate(lines) if not line.startswith("#")), 0)]
        self._out.write("\n".join([*(line.removeprefix("#").removeprefix(" ") for line in head), "", ""]))

    def see(self, new: Sequence[Event]) -> None:
        """Explain, then show."""
        for event in new:
            for key in keys(event):
                if key in WORDS and key not in self._told:
                    self._told.add(key)
                    width = min(100, shutil.get_terminal_size().columns - 1)
                    text = textwrap.fill(WORDS[key], width, initial_indent="» ", subsequent_indent="  ")
                    self._out.write(f"\n{text}\n")
            self._console.see([event])
        self._out.flush()


def keys(event: Event) -> list[str]:
    """What of it may be explained."""
    if event["event"] == "step" and event["do"] in QUIET:
        return []
    found = [str(event["event"])]
    if event["event"] == "move":
        found.append("stray" if event["cause"] == "stray" else str(event["kind"]))
    elif event["event"] == "step":
        found.append(str(event["do"]))
    return found
