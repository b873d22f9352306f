"""One traffic's measurements: what arrived, what it cost, where it lived."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from scenarios.measure.arrivals import Arrivals
from scenarios.measure.faults import Fault
from scenarios.measure.moves import PARTS, collateral, first_byte_after_fault, moves
from scenarios.measure.stories import Connection, Event, Story, connection_of
from scenarios.vocabulary import REFUSALS


def traffic(story: Story, faults: Sequence[Fault]) -> dict[str, Any]:
    """All of them."""
    done, served = story.done or {}, story.served or {}
    bytes_moved = (
        done["received_bytes"] + served["received_bytes"]
        if "received_bytes" in done and "received_bytes" in served
        else None
    )
    client = done.get("retransmits")
    kinds = Counter(move["kind"] for move in story.moves)
    known = bool(story.connected)
    server = _sum(_server_retransmits(story).values())
    return {
        "intact": _intact(story),
        "exit_status": done.get("exit_status"),
        "took_ms": done.get("took_ms"),
        "bytes": bytes_moved,
        "goodput_mbit": _goodput(story, bytes_moved),
        "resets": story.resets["resets"] if story.resets else None,
        "moves": len(story.moves) if known else None,
        "offloads": kinds["offload"] if known else None,
        "uploads": kinds["upload"] if known else None,
        "reloads": kinds["reload"] if known else None,
        "causes": dict(Counter(move["cause"] for move in story.moves)) if known else None,
        "connections": len(story.connected) if known else None,
        "broken": done.get("broken"),
        "lost": len(story.lost) if known else None,
        "stranded": len(story.stranded) if known else None,
        "refused": len(story.refused) if known else None,
        "refusals": dict(Counter(_refusal(event) for event in story.refused)) if known else None,
        "longest_stall_ms": _longest_stall(story),
        "first_byte_after_fault_ms": first_byte_after_fault(story, faults),
        "longest_move_ms": max((_took(move) for move in story.moves), default=None),
        "collateral": collateral(story) if known else None,
        "retransmits": _sum([client, server]),
        "client_retransmits": client,
        "server_retransmits": server,
        "client_out_of_order": done.get("out_of_order"),
        "client_duplicates": done.get("duplicates"),
        "offloaded_share": _offloaded_share(story),
        "host_segments_while_offloaded": _recorded(story, "host_segments_while_offloaded"),
        "strays": _recorded(story, "strays"),
        "first_difference": _first([done.get("first_difference"), served.get("first_difference")]),
        "error": _first([done.get("error"), served.get("error")]),
        "stalls_ms": _stalls(story),
        "responses_ms": story.responses if story.asked.get("requests") else None,
        "each": _each(story),
        "each_move": _each_move(story, faults),
    }


def _stalls(story: Story) -> list[float] | None:
    """Of a single connection, both directions, in the order of their ends; of many they are not told."""
    if len(story.connected) != 1:
        return None
    stalls = [stall for direction in story.directions for stall in Arrivals(story.progress[direction]).stalls]
    return [round((end - begin) * 1000, 3) for begin, end in sorted(stalls, key=lambda stall: stall[1])]


def _each(story: Story) -> dict[str, list[Any] | None] | None:
    """One list for each word; None where one connection did not tell."""
    if not story.ends or not story.ends.keys() <= story.connected.keys():
        return None
    all_moves, reloads = (
        Counter(map(connection_of, story.moves)),
        Counter(connection_of(move) for move in story.moves if move["kind"] == "reload"),
    )
    server, owned = _server_retransmits(story), _owned(story)
    lists: dict[str, list[Any]] = {
        "intact": _each_intact(story),
        "bytes": [end.bytes for end in story.ends.values()],
        "goodput_mbit": [
            round(end.bytes * 8 / max(1e-6, end.ended - story.connected[one]) / 1e6, 6)
            for one, end in story.ends.items()
        ],
        "longest_stall_ms": [end.longest_stall_ms for end in story.ends.values()],
        "client_retransmits": [end.retransmits for end in story.ends.values()],
        "server_retransmits": [server[one] for one in story.ends],
        "client_out_of_order": [end.out_of_order for end in story.ends.values()],
        "client_duplicates": [end.duplicates for end in story.ends.values()],
        "resets": [_resets(story, one) for one in story.ends],
        "moves": [all_moves[one] for one in story.ends],
        "reloads": [reloads[one] for one in story.ends],
        "offloaded_share": [owned[one].share if one in owned else None for one in story.ends],
    }
    return {name: None if None in values else values for name, values in lists.items()}


def _each_move(story: Story, faults: Sequence[Fault]) -> dict[str, list[float]]:
    """One list for each part of a move, of the moves in which it is known."""
    found = moves(story, faults)
    lists = {f"{part}_ms": [move.parts[part] for move in found if part in move.parts] for part in PARTS}
    return lists | {"total_ms": [round(move.total_ms, 3) for move in found]}


def _refusal(event: Event) -> str:
    """The kind of a refusal, as `vocabulary.REFUSALS` has it: `feature:ipv6` → `feature_ipv6`."""
    reason = str(event.get("reason", "")).replace("feature:", "feature_")
    word = reason.partition(":")[0].partition(" ")[0]
    return word if word in REFUSALS else "other"


def _intact(story: Story) -> bool | None:
    """Whether both directions arrived whole; None when an end says nothing."""
    done, served, asked = story.done, story.served, story.asked
    if done and "exit_status" in done:
        return bool(done["exit_status"] == 0)
    if (done and done.get("error")) or (served and served.get("error")):
        return False
    if done is None or served is None:
        return None
    count = asked.get("count", 1)
    if count > 1 and not count == len(story.connected) == done["connections"] == served["connections"]:
        return False
    return all(
        near["sent_bytes"] == far["received_bytes"] == wanted
        and near["sent_sha256"] == far["received_sha256"]
        and far["first_difference"] is None
        for near, far, wanted in (
            (done, served, asked.get("send_bytes", 0) or asked["send"] * count),
            (served, done, asked.get("receive_bytes", 0) or asked["receive"] * count),
        )
    )


def _each_intact(story: Story) -> list[bool | None]:
    """Each end names the connections that were not whole there, unless they were too many; one alone is the traffic."""
    if story.asked.get("count", 1) == 1:
        return [_intact(story) for _ in story.ends]
    done, served = story.done or {}, story.served or {}
    if done.get("wrong") is None or served.get("wrong") is None:
        return [None for _ in story.ends]
    wrong = {*done["wrong"], *served["wrong"]}
    found = [None if end.index is None else end.index not in wrong for end in story.ends.values()]
    # An application that was ended before its time has not judged all of them.
    return found if found.count(True) <= served["connections"] - len(served["wrong"]) else [None for _ in found]


def _goodput(story: Story, bytes_moved: int | None) -> float | None:
    if not story.connected or story.done is None or bytes_moved is None:
        return None
    seconds = story.done["t"] - min(story.connected.values())
    return round(bytes_moved * 8 / seconds / 1e6, 3) if seconds > 0 else None


def _longest_stall(story: Story) -> float | None:
    """Over the directions that were asked for; None when the receiving end of one has reported nothing."""
    if not story.directions or any(not story.progress[direction] for direction in story.directions):
        return None
    return max(float(event["gap_ms"]) for direction in story.directions for event in story.progress[direction])


def _resets(story: Story, one: Connection) -> int | None:
    """None where the client did not tell of each."""
    told = story.resets or {}
    return int(told["of"].get(str(one[1]), 0)) if "of" in told else None


def _server_retransmits(story: Story) -> dict[Connection, int | None]:
    """Of the sockets that moves left behind, and the last one; None where one of them did not tell."""
    found: dict[Connection, list[int | None]] = {one: [] for one in story.connected}
    for one in found:
        found[one].append(story.closed[one].get("retransmits") if one in story.closed else None)
    for move in story.moves:
        if (who := connection_of(move)) in found:
            found[who].append(move.get("retransmits"))
    return {one: _sum(parts) for one, parts in found.items()}


def _sum(parts: Iterable[int | None]) -> int | None:
    """None where one is missing, or there is none."""
    known = list(parts)
    return None if not known or None in known else sum(int(one) for one in known if one is not None)


@dataclass(frozen=True)
class _Owned:
    """How long a connection lived, and how long of that a NIC owned it; seconds."""

    owned: float
    lived: float

    @property
    def share(self) -> float | None:
        return round(self.owned / self.lived, 4) if self.lived > 0 else None


def _owned(story: Story) -> dict[Connection, _Owned]:
    """A NIC owns a connection from an offload until an upload or the end."""
    if story.done is None:
        return {}
    moves: dict[Connection | None, list[Event]] = {}
    for move in sorted(story.moves, key=lambda event: float(event["t"])):
        moves.setdefault(connection_of(move), []).append(move)
    end, found = float(story.done["t"]), {}
    for connection, start in story.connected.items():
        # One connection ends with its client; of many, each when its engine was done with it.
        closed = story.closed.get(connection) if len(story.connected) > 1 else None
        over = max(start, min(end, float(closed["t"]))) if closed else end
        found[connection] = _Owned(_owned_s(moves.get(connection, []), start, over), over - start)
    return found


def _offloaded_share(story: Story) -> float | None:
    """By time, all connections together."""
    every = _owned(story).values()
    return _Owned(sum(one.owned for one in every), sum(one.lived for one in every)).share


def _owned_s(moves: Iterable[Event], start: float, end: float) -> float:
    """Seconds during which a NIC owned a connection that lived from `start` to `end`."""
    owned, since = 0.0, None
    for move in moves:
        at = min(max(move["t"], start), end)
        if move["kind"] == "upload" and since is not None:
            owned, since = owned + at - since, None
        elif move["kind"] != "upload" and since is None:
            since = at
    return owned + (end - since if since is not None else 0.0)


def _recorded(story: Story, key: str) -> int | None:
    """The sum over all connections; None while one is missing."""
    if not story.connected or story.records.keys() != story.connected.keys():
        return None
    return _sum(record.get(key) for record in story.records.values())


def _took(move: Event) -> float:
    return float(move.get("parts_ms", {}).get("total", 0.0))


def _first(values: Iterable[Any]) -> Any:
    return next((value for value in values if value is not None), None)
