"""What the agent tells behind the moves is waited for."""

import json
from pathlib import Path
from typing import Any

from benchmarks.moves import Watch


class Bench:
    """The agent has told of a move, and tells of the link later."""

    def __init__(self, out: Path) -> None:
        self.out, self.children, self.looks = out, self, 0
        self.tells({"event": "move", "who": "agent", "t": 1.004})

    def tells(self, *events: dict[str, Any]) -> None:
        with (self.out / "events.jsonl").open("a") as file:
            file.writelines(f"{json.dumps(event)}\n" for event in events)

    def check(self) -> None:
        self.looks += 1
        if self.looks == 2:
            link: dict[str, Any] = {"who": "agent", "t": 1.001}
            self.tells(link | {"event": "link", "up": False}, link | {"event": "fault", "kind": "link"})


def test_a_link_that_is_told_of_behind_the_moves(tmp_path: Path) -> None:
    bench: Any = Bench(tmp_path)
    watch = Watch(bench)
    watch.until(b'"move"', 1, "the move")
    assert watch.seen(1.0) == 1.001
