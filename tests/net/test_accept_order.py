"""An application meets its clients in the order in which they connected, though each is to be offloaded at once."""

import subprocess
from pathlib import Path

import pytest

TEAMBED = Path(__file__).resolve().parents[2] / "teambed"

# Each guest says which one it is and does not wait; all of them hear in which order they were met.
DOOR = """import socket, sys
GUESTS = 800
role, host, port = sys.argv[1:]
if role == "meet":
    with socket.create_server((host, int(port)), backlog=GUESTS) as door:
        guests = [door.accept()[0] for _ in range(GUESTS)]
        met = b"".join([guest.recv(2) for guest in guests])
        for guest in guests:
            guest.sendall(met)
        door.accept()
else:
    guests = []
    for number in range(GUESTS):
        guests.append(socket.create_connection((host, int(port))))
        guests[-1].sendall(number.to_bytes(2, "big"))
    met = guests[0].makefile("rb").read(2 * GUESTS)
    numbers = [int.from_bytes(met[at : at + 2], "big") for at in range(0, len(met), 2)]
    wrong = [number for place, number in enumerate(numbers) if place != number]
    if wrong:
        sys.exit(f"{len(wrong)} of {GUESTS} are not where they should be, the first is number {wrong[0]}")
"""
SCENARIO = """
scenario: door
about: Many clients, one after the other, each of them offloaded at once.
network: {nics: 3, clients: 1}
team: {offload: at_once}
services:
  door: {listen: 9000, app: localhost:9000, command: "exec python DOOR meet 127.0.0.1 9000"}
traffic:
  guests: {client: c1, service: door, command: "python DOOR come {server} {port}"}
expect:
  - guests.intact
  - guests.offloads >= 600
"""


@pytest.mark.net
def test_clients_are_accepted_in_the_order_in_which_they_connect(tmp_path: Path) -> None:
    """A handshake that was held, for its connection was due already, let later ones pass."""
    door, scenario = tmp_path / "door.py", tmp_path / "door.yaml"
    door.write_text(DOOR)
    scenario.write_text(SCENARIO.replace("DOOR", str(door)))
    done = subprocess.run(
        [TEAMBED, "run", scenario, "--out", tmp_path / "out"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
