"""A restarted agent's first conversation: asks every engine what it holds, and sets records and engines right.

Decides: nothing; rebuild.py does. Never touches: sockets of connections.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Mapping

from host_agent.ageing import give_way
from host_agent.connection import Connection
from host_agent.decision import Record
from host_agent.peer import LIMIT, EnginePeer
from host_agent.rebuild import Rebuilt, rebuild
from host_agent.records import Assignment, RecordKeeper, Records, RecordsFull
from host_agent.replies import check_reply
from host_agent.verbs import Message, PeerGone

Thaw = Callable[[int, list[Connection]], None]


def ask_engines(
    peers: Mapping[int, EnginePeer], records: Records, other: Callable[[int, Message], None], thaw: Thaw
) -> Rebuilt:
    """other: takes what engines say beside their answers. thaw: has one let its frozen connections go on. Raises
    PeerGone when one does not answer, or says what cannot be."""
    held: dict[int, dict[Connection, str]] = {}
    for place, peer in peers.items():
        peer.send(Message("query", {"id": 0}))
        held[place] = _answer(place, peer, other)
        peer.taken_up(held[place])
    found = rebuild(records.all(), held)
    for connection, record in found.records.items():
        _put_right(records, connection, record)
    for place, peer in peers.items():
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


def _answer(place: int, peer: EnginePeer, other: Callable[[int, Message], None]) -> dict[Connection, str]:
    deadline = time.monotonic() + LIMIT
    readable = select.poll()
    readable.register(peer.fd, select.POLLIN)
    while True:
        readable.poll(1000 * max(0.0, deadline - time.monotonic()))
        for message in peer.receive():
            if message.verb == "reply":
                check_reply(Message("query"), message)
                return {Connection(*c["connection"]): c["state"] for c in message.fields["connections"]}
            other(place, message)
        if time.monotonic() > deadline:
            raise PeerGone("an engine does not say what it holds")
