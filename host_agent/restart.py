"""A restarted agent's first conversation: asks every engine what it holds, and sets records and engines right.

Decides: nothing; rebuild.py does. Never touches: sockets of connections.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from host_agent.ageing import give_way
from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.engines import Engines
from host_agent.peer import LIMIT, EnginePeer
from host_agent.rebuild import Rebuilt, rebuild
from host_agent.records import Assignment, RecordKeeper, Records, RecordsFull
from host_agent.replies import check_reply
from host_agent.verbs import Malformed, Message, PeerGone

Thaw = Callable[[int, list[Connection]], None]


def ask_engines(engines: Engines, records: Records, other: Callable[[int, Message], None], thaw: Thaw) -> Rebuilt:
    """other: takes what engines say beside their answers. thaw: has one let its frozen connections go on.

    An engine that does not answer by LIMIT, or says what cannot be, is absent, as one that dies meanwhile. Raises
    OtherVersion, before anything is changed."""
    held: dict[int, dict[Connection, str]] = {}
    peers, asked, began = engines.peers, set[EnginePeer](), time.monotonic()
    while waiting := {place: peer for place, peer in peers.items() if place not in held}:
        for place, peer in waiting.items():
            try:
                answer = _answer(place, peer, other)
                if answer is not None:
                    held[place] = answer
                    peer.taken_up(answer)
                elif peer not in asked:  # who speaks another version hangs up, but has said so before
                    asked.add(peer)
                    peer.send(Message("query", {"id": 0}))
                elif time.monotonic() > began + LIMIT:
                    raise Malformed("it does not say what it holds")
            except PeerGone as gone:
                engines.start_without(place, gone, began)
        _await([peer.fd for place, peer in peers.items() if place not in held], began + LIMIT)
    found = rebuild(records.all(), held)
    for connection, record in found.records.items():
        _put_right(records, connection, record)
    for place, peer in peers.items():
        with suppress(PeerGone):  # its own descriptor tells, and then it is as any that dies
            for verb, told in (("release", found.join), ("discard", found.discard)):
                if connections := [connection for one, connection in told if one == place]:
                    peer.send(Message(verb, {"connections": connections}))
            thaw(place, [connection for one, connection in found.thaw if one == place])
    return found


def _put_right(records: RecordKeeper, connection: Connection, wanted: Record) -> None:
    """In place where there is a record, so that no frame counted meanwhile is lost."""
    record = records.get(connection)
    if record is None:
        try:
            records.put(connection, wanted)
        except RecordsFull:  # others can be made anew, but this one leads strays to a NIC
            for other in give_way(records.all(), 1 + records.capacity // 16):
                records.delete(other)
            records.put(connection, wanted)
    elif (record.nic, record.offloaded, record.stage) != (wanted.nic, wanted.offloaded, wanted.stage):
        nic, offloaded = wanted.nic, wanted.offloaded
        records.assign([Assignment(connection, record.epoch, nic, offloaded, wanted.stage, moved=True)])


def _answer(place: int, peer: EnginePeer, other: Callable[[int, Message], None]) -> dict[Connection, str] | None:
    """What it holds, if it has said so by now. Raises PeerGone."""
    for message in peer.receive():
        if message.verb == "reply":
            check_reply(Message("query"), message)
            return {Connection(*c["connection"]): c["state"] for c in message.fields["connections"]}
        other(place, message)
    return None


def _await(descriptors: Sequence[int], until: float) -> None:
    """That one of them can be read, if there are any."""
    readable = select.poll()
    for one in descriptors:
        readable.register(one, select.POLLIN)
    if descriptors:
        readable.poll(1000 * max(0.0, until - time.monotonic()))
