"""A configured switch and its OpenFlow connection, when there is one: sends what the pure `Switch` returns, waits
for barriers and answers, keeps the clock, and tells the events.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from controller import openflow
from controller.events import emit
from controller.green import eventlet
from controller.lag import Lag, moved_share
from controller.pipeline import FOR_LATER, Change
from controller.switch import Switch

_DEADLINE_S = 5.0
REST_S = 0.01
"""Seconds between the death of a port that the switch leaves by itself and what follows from it: 2 ms of a CPU, which
those want meanwhile whose connections it carried."""
Done = Callable[[list[Any]], None]


class Link:
    """`ready` once the switch has confirmed that it has all its flows. `cookie` marks them as this controller's."""

    def __init__(self, switch: Switch, cookie: int) -> None:
        self.switch = switch
        self.cookie = cookie
        self.ready = False
        self.datapath: Any = None
        self.ports: dict[int, bool] = {}  # as described, until the switch's flows are known too
        self._met = False
        self._waiting: dict[int, tuple[list[Any], Done]] = {}
        self._later: list[Change] = []
        self._died: list[int] = []
        self._alarm: Any = None
        self.on_change: Callable[[], None] = lambda: None
        """Called when the switch's state has changed."""

    # ------------------------------------------------------------------------------------- the connection

    def use(self, datapath: Any) -> None:
        """The switch has connected, for the first time or again."""
        self.datapath, self.ready, self._met = datapath, False, False
        self.ports.clear()
        self._forget()

    def lost(self) -> None:
        """The connection is gone."""
        self.datapath, self.ready, self._met = None, False, False
        self._forget()

    def _forget(self) -> None:
        """What was under way goes with the connection: the next one begins with all ports and flows."""
        self._waiting.clear()
        self._later.clear()
        self._died.clear()

    def meet(self) -> None:
        """The ports are known: ask for flows and groups, then bring them in line."""
        began = time.monotonic()
        self._question("flows", lambda flows: self._question("groups", lambda groups: self._meet(flows, groups, began)))

    def _meet(self, flows: list[Any], groups: list[Any], began: float) -> None:
        found = openflow.decode(flows, groups, self.cookie)
        changes = self.switch.connected(self.ports, found, time.monotonic())
        self._met = True

        def done(_: list[Any]) -> None:
            self.ready = True
            emit("switch_ready", switch=self.switch.name, kept=len(found or ()), changed=len(changes))
            for name, lag in self.switch.lags.items():
                old = self.switch.met_with[name]
                self._emit_members(lag, began, **({} if _map(old) == _map(lag) else _shares(old, lag)))

        self._send(changes, then=done, wipe=found is None)
        self._emit_news()
        self._set_alarm()
        self.on_change()

    def answered(self, xid: int, body: list[Any], more: bool) -> None:
        """A barrier's or a question's answer; with `more`, a part of it."""
        if xid not in self._waiting:
            return
        parts, then = self._waiting[xid]
        parts += body
        if not more:
            del self._waiting[xid]
            then(parts)

    def _question(self, what: str, then: Done) -> None:
        question, xid = openflow.encode_question(self.datapath, what)
        self._waiting[xid] = ([], then)
        self.datapath.send(question)

    def _send(self, changes: Iterable[Change], then: Done | None = None, wipe: bool = False) -> None:
        """One write for everything. `then` is called when the switch has answered the barrier behind it."""
        if self.datapath is None or not self._met:
            self.switch.to_send()  # lost, as on a wire
            return  # it gets all that it lacks when it connects
        buffer = openflow.encode_wipe(self.datapath) if wipe else bytearray()
        buffer += openflow.encode(self.datapath, changes, self.cookie)
        buffer += openflow.encode_frames(self.datapath, self.switch.to_send())  # told once it is so
        if then is not None:
            barrier, xid = openflow.encode_barrier(self.datapath)
            self._waiting[xid] = ([], then)
            buffer += barrier
        if buffer:
            self.datapath.send(buffer)

    # ------------------------------------------------------------------------------------------ what happens

    def port_changed(self, number: int, up: bool) -> None:
        """A port came up or went down."""
        if not self._met:
            self.ports[number] = up
            return
        self._bury()
        was = self.switch.ports.get(number)
        self._do(lambda now: self.switch.port_changed(number, up, now))
        if was != up:
            emit("port", switch=self.switch.name, port=number, up=up)

    def port_died(self, number: int) -> None:
        """A port went down, and for a moment the switch can do without us; but it is prepared for one death only."""
        if not self._met or not self.switch.ports.get(number) or set(self._died) - {number}:
            self.port_changed(number, False)
        elif not self._died:
            emit("port", switch=self.switch.name, port=number, up=False)
            self._died.append(number)
            eventlet.spawn_after(REST_S, self._bury)

    def _bury(self) -> None:
        died, self._died = self._died, []
        for number in died:
            self._do(partial(self.switch.port_changed, number, False))

    def led(self, port: int, somewhere: bool) -> None:
        """The switch that this member leads to can pass frames on, or no longer."""
        self._do(lambda now: self.switch.led(port, somewhere, now))

    def learned(self, port: int, mac: str) -> None:
        """A frame of that station came in there."""
        if self._met and (changes := self.switch.learned(port, mac)):
            self._send(changes)
            emit("learned", switch=self.switch.name, mac=mac, port=port)

    def heard(self, port: int, frame: bytes) -> None:
        """The other end of that port's link speaks a slow protocol."""
        if self._met:
            self._do(lambda now: self.switch.heard(port, frame, now))

    def _do(self, change: Callable[[float], list[Change]], then: Done | None = None) -> None:
        """Change the switch's state; tell what became of its LAGs once it has confirmed.

        What is only for the next fault follows in a second write: in a LAG of 16 it is most of the messages.
        """
        self._bury()
        self._send_later()  # in their order
        began, before, stood = time.monotonic(), dict(self.switch.lags), self._members()
        changes = change(began)
        after = dict(self.switch.lags)  # another change may come before the barrier's answer
        altered = [name for name, lag in after.items() if _map(lag) != _map(before[name])]
        stand = self._members() if altered else stood

        def done(_: list[Any]) -> None:
            self._emit_standing(stood, stand)
            for name in altered:
                self._emit_change(before[name], after[name], began)
            if then is not None:
                then([])

        urgent = [change for change in changes if change.key.table not in FOR_LATER]
        self._send(urgent, then=done if altered or then is not None else None)
        if self._met:
            # A full queue to the switch lets others run while `_send` waits: theirs may be here already.
            self._later += [change for change in changes if change.key.table in FOR_LATER]
            eventlet.spawn_n(self._send_later)
        self._emit_news()
        self._set_alarm()
        self.on_change()

    def _send_later(self) -> None:
        later, self._later = self._later, []
        if later:
            self._send(later)

    def _set_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if (due := self.switch.due()) is not None:
            self._alarm = eventlet.spawn_after(max(0.0, due - time.monotonic()), self._tick)

    def _tick(self) -> None:
        self._alarm = None
        self._do(self.switch.tick)

    # -------------------------------------------------------------------------------------- what is commanded

    def act(self, change: Callable[[float], list[Change]]) -> None:
        """Change the switch's state, at a time, and wait until the switch has confirmed. Raises ValueError."""
        confirmed = eventlet.Event()
        self._do(change, then=confirmed.send)
        self._await(confirmed)

    def ask(self, what: str) -> list[dict[str, Any]]:
        """What the switch says of its "flows", "groups" or "counters". Raises ValueError."""
        if not self.ready:
            raise ValueError(f"{self.switch.name}: the switch is not connected")
        told = eventlet.Event()
        self._question(what, told.send)
        return [openflow.readable(what, item) for item in self._await(told)]

    def _await(self, event: Any) -> Any:
        with eventlet.Timeout(_DEADLINE_S, False):
            return event.wait()
        raise ValueError(f"{self.switch.name}: the switch has not answered within {_DEADLINE_S:g} s")

    # ----------------------------------------------------------------------------------------------- events

    def _emit_change(self, old: Lag, new: Lag, began: float) -> None:
        if old.active != new.active:
            self._emit_members(new, began, **_shares(old, new))
        else:
            emit("buckets", switch=self.switch.name, lag=new.name, **_shares(old, new))

    def _emit_members(self, lag: Lag, began: float, **more: float) -> None:
        took_ms = round((time.monotonic() - began) * 1000, 3)
        active = [port for port in lag.members if port in lag.active]
        emit("members", switch=self.switch.name, lag=lag.name, active=active, took_ms=took_ms, **more)

    def _members(self) -> dict[int, str | None]:
        """Every member, and what keeps it from carrying anything."""
        return {port: self.switch.why_not(port) for lag in self.switch.lags.values() for port in lag.members}

    def _emit_standing(self, stood: dict[int, str | None], stand: dict[int, str | None]) -> None:
        for port, why in stand.items():
            if (why is None) != (stood[port] is None):
                lag = self.switch.lag_at(port)
                name = None if lag is None else lag.name
                emit("member", switch=self.switch.name, lag=name, port=port, usable=not why, why=why or stood[port])

    def _emit_news(self) -> None:
        for item in self.switch.news():
            emit(item.pop("event"), switch=self.switch.name, **item)


def _map(lag: Lag) -> tuple[object, ...]:
    """What decides by which member a connection leaves."""
    return lag.active, lag.buckets, lag.seed, lag.policy


def _shares(old: Lag, new: Lag) -> dict[str, float]:
    moved, had_to_move = moved_share(old, new)
    return {"moved": round(moved, 4), "had_to_move": round(had_to_move, 4)}
