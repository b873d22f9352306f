"""Whether what an engine says has the form of docs/verbs.md.

Decides: that, before anybody acts on it. Never touches: what it means (agent.py, reload.py).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from typing import Any

from host_agent.connection import Connection, key_of
from host_agent.statistics import ADDED
from host_agent.told import sound
from host_agent.verbs import Malformed, Message

STATES = ("live", "frozen", "closing")
Fits = Callable[[Any], bool]


def _connection(value: Any) -> bool:
    try:
        one = Connection(*value)
        key_of(one)
    except (TypeError, ValueError, struct.error):
        return False
    return isinstance(one.src, str) and isinstance(one.dst, str)  # the key takes a number for an address, too


def _ends(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and isinstance(value[0], str) and isinstance(value[2], str)


def _mac(value: Any) -> bool:
    return isinstance(value, str) and len(value) == 12 and set(value) <= set("0123456789abcdefABCDEF")


def _number(value: Any) -> bool:
    return isinstance(value, int)


def _size(value: Any) -> bool:
    return isinstance(value, int) and value >= 0


def _text(value: Any) -> bool:
    return isinstance(value, str)


def _wire(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2 or not all(map(_size, value)):
        return False
    return bool(value[0] < 2**32 and value[1] < 2**31)


EVENTS: dict[str, dict[str, Fits]] = {
    "reply": {"re": _number},
    "link": {"up": _number},
    "accepted": {"connection": _connection},
    "closed": {"connection": _connection},
    "neighbour": {"connection": _connection, "next_hop": _mac},
    "path": {"connection": _connection, "mtu": _number},
    "upload_requested": {"connection": _connection, "reason": _text},
}
"""What the agent needs of each."""


def check(message: Message) -> None:
    """One message by itself. Raises Malformed."""
    if message.verb != "reply" and (message.channels or message.contexts is not None):
        raise Malformed(f"{message.verb} with descriptors")
    for name, fits in EVENTS.get(message.verb, {}).items():
        _need(message.verb, message.fields, name, fits)
    if message.verb == "link" and "wire" in message.fields:
        _need("link", message.fields, "wire", _wire)


def check_reply(asked: Message, reply: Message) -> None:
    """A reply to what was asked. Raises Malformed."""
    verb, fields = asked.verb, reply.fields
    if "error" in fields:
        _need(verb, fields, "error", _text)
    if ("error" in fields or verb != "save") and (reply.channels or reply.contexts is not None):
        raise Malformed(f"reply to {verb}: descriptors that nobody asked for")
    if "error" in fields:
        if verb == "query":  # nobody can go on with one that does not say what it holds
            raise Malformed(f"reply to query: {fields['error']}")
        return
    match verb:
        case "save":
            _check_saved(reply, _check_refused(verb, fields, len(asked.fields["connections"])))
        case "restore":
            _check_refused(verb, fields, len(asked.fields["places"]))
        case "thaw":
            _check_refused(verb, fields, len(asked.fields["connections"]))
        case "query":
            for one in _list(verb, fields, "connections"):
                _need(verb, one, "connection", _connection)
                _need(verb, one, "state", STATES.__contains__)
        case "statistics":
            _need(verb, fields, "statistics", _counts)
            for one in _list(verb, fields, "connections"):
                _need(verb, one, "connection", _ends)  # many are told of every few seconds, and only as names
                for name in (*ADDED, *(name for name in ("last_seen",) if name in one)):
                    _need(verb, one, name, _number)


def _check_refused(verb: str, fields: dict[str, Any], asked: int) -> int:
    """How many are not refused."""
    refused = _list(verb, fields, "refused")
    for one in refused:
        _need(verb, one, "at", lambda at: isinstance(at, int) and 0 <= at < asked)
        _need(verb, one, "error", _text)
    if len({one["at"] for one in refused}) != len(refused):
        raise Malformed(f"reply to {verb}: it refuses one of them twice")
    return asked - len(refused)


def _check_saved(reply: Message, count: int) -> None:
    saved = _list("save", reply.fields, "saved")
    for one in saved:
        if not sound(one):
            raise Malformed(f"save: {one!r:.60} is not what is to be told of one that is saved")
    size = sum(one[0] for one in saved)
    if not len(saved) == len(reply.channels) == count:
        raise Malformed(f"reply to save: {count} to be saved, {len(saved)} saved, {len(reply.channels)} channels")
    if reply.contexts is None or size > os.fstat(reply.contexts).st_size:
        raise Malformed(f"reply to save: {size} bytes of contexts announced that did not come")


def _list(verb: str, fields: dict[str, Any], name: str) -> list[Any]:
    found = fields.get(name)
    if not isinstance(found, list):
        raise Malformed(f"reply to {verb}: `{name}` is no list")
    return found


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_number, value.values()))


def _need(verb: str, fields: Any, name: str, fits: Fits) -> None:
    if not isinstance(fields, dict) or name not in fields:
        raise Malformed(f"{verb}: `{name}` is missing")
    if not fits(fields[name]):
        raise Malformed(f"{verb}: `{name}` is {fields[name]!r:.60}")
