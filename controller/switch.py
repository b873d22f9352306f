"""One switch as the controller knows it: ports, learned MACs, LAGs. Each event returns the messages to
send, in order.

It never touches Ryu, sockets or clocks: `app` brings the events with their time (seconds, any zero), sends the
messages, and calls `tick` when `due` says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from controller import recover
from controller.aggregator import Aggregator
from controller.hashing import Connection
from controller.holddown import HoldDown
from controller.lag import Lag
from controller.pipeline import Change, Rules, base_rules, diff, lag_rules, station_rules


class Timing(NamedTuple):
    """In seconds: the two hold-downs, and how often a returned member of a resilient LAG gets a bucket."""

    updelay_s: float = 0.0
    downdelay_s: float = 0.0
    fill_s: float = 0.1


class Switch:
    """`ports` maps a port number to whether it is up; `places` a MAC to its host port or its LAG's name."""

    def __init__(self, name: str, lags: Iterable[Lag], timing: Timing = Timing()) -> None:  # noqa: B008 (a value)
        self.name = name
        lags = list(lags)
        self.ends = {lag.name: Aggregator(lag.members, lag.lacp) for lag in lags}
        self.lags = {lag.name: lag.with_collecting(self.ends[lag.name].collecting()) for lag in lags}
        self.ports: dict[int, bool] = {}
        self.places: dict[str, int | str] = {}
        self.timing = timing
        self.met_with = self.lags
        """The LAGs as they were, or as the switch had them, when it was met last."""
        self.known = False  # whether this process has ever met the switch
        self.nowhere: set[int] = set()  # members that lead to a switch which could not pass on what it gets
        self._hold = HoldDown(timing.updelay_s, timing.downdelay_s)
        self._fit: set[int] = set()  # ports that nothing keeps from carrying frames, but for a hold-down
        self._fill_due: dict[str, float] = {}
        self._expected: set[int] = set()  # on their way up when their LAG came up from nothing: no latecomers
        self._lag_of_port = {port: lag.name for lag in self.lags.values() for port in lag.members}
        self._lag_rules: dict[str, Rules] = {name: lag_rules(lag) for name, lag in self.lags.items()}

    def connected(self, ports: Mapping[int, bool], found: Rules | None = None, now: float = 0.0) -> list[Change]:
        """The switch is (again) there with these ports. `found` are its flows, if this controller's or one like it
        made them: what is there and right stays untouched.

        At the first meeting they also tell the state. Members in no bucket have to come up like any other, while there
        are others.
        """
        found = found or {}
        recovering = bool(found) and not self.known
        if recovering:
            self.places = recover.stations(self.lags.values(), found)
            self.lags = {name: recover.lag_as_found(lag, found) for name, lag in self.lags.items()}
        self.known = True
        self.met_with = dict(self.lags)
        self.ports = dict(ports)
        for lag in self.lags.values():
            self._meet_members(lag, recovering, now)
        self._fit = {port for port, is_up in ports.items() if is_up and self._allows(port)}
        lags = [lag for lag in self.lags.values() if lag.active]
        usable = self._fit - {port for lag in lags for port in lag.members if port not in lag.active | lag.drained}
        self._hold.start(usable)
        for port in self._fit - usable:
            self._hold.seen(port, True, now)
        for name in self.lags:
            self._settle(name, now)
            self._lag_rules[name] = lag_rules(self.lags[name])
            self._plan_fill(self.lags[name], now)
        self._forget_lost_stations()
        return diff(found, self.rules())

    def port_changed(self, port: int, up: bool, now: float = 0.0) -> list[Change]:
        """A port came up or went down. A member's change computes what depends on it alone, for speed."""
        if self.ports.get(port) == up:
            return []
        lag = self.lag_at(port)
        if lag is not None:
            self.ports[port] = up
            self._expected.discard(port)
            self.ends[lag.name].link(port, up, now)
            return self._settle(lag.name, now)
        before = self.rules()
        self.ports[port] = up
        self._hold.seen(port, up, now, at_once=True)
        self._forget_lost_stations()
        return diff(before, self.rules())

    def heard(self, port: int, frame: bytes, now: float) -> list[Change]:
        """A frame of a slow protocol (LACP, marker) came in there."""
        lag = self.lag_at(port)
        if lag is None or not self.ports.get(port):
            return []
        self.ends[lag.name].heard(port, frame, now)
        return self._settle(lag.name, now)

    def to_send(self) -> list[tuple[int, bytes]]:
        """Frames that are to go out by these ports now, told once."""
        frames = [frame for end in self.ends.values() for frame in end.frames]
        for end in self.ends.values():
            end.frames.clear()
        return frames

    def news(self) -> list[dict[str, Any]]:
        """What is to be told of LACP, once."""
        news = [{**item, "lag": name} for name, end in self.ends.items() for item in end.news]
        for end in self.ends.values():
            end.news.clear()
        return news

    def why_not(self, port: int) -> str | None:
        """Why a member carries nothing, or None when it does."""
        lag = self.lags[self._lag_of_port[port]]
        if port in lag.active:
            return None
        if not self.ports.get(port):
            return "carrier"
        if port in self.nowhere:
            return "beyond"
        if (why := self.ends[lag.name].why_not(port)) is not None:
            return why
        if port in lag.drained:
            return "drained"
        return "min_links" if port in self._hold.usable else "updelay"

    def led(self, port: int, somewhere: bool, now: float = 0.0) -> list[Change]:
        """The switch that this member leads to can pass frames on to the LAG's own members, or no longer."""
        self.nowhere = self.nowhere - {port} if somewhere else self.nowhere | {port}
        return self._settle(self._lag_of_port[port], now)

    def tick(self, now: float) -> list[Change]:
        """What is due by now: timers of LACP, probes, the end of a hold-down, a bucket for a returned member."""
        self._hold.tick(now)
        changes = []
        for name in self.lags:
            changes += self._settle(name, now)
            if self._fill_due.get(name, now + 1) <= now:
                del self._fill_due[name]
                changes += self._change(self.lags[name].filled(), now)
        return changes

    def due(self) -> float | None:
        """When `tick` has something to do, or None."""
        times = [*self._fill_due.values(), self._hold.due(), *(end.due() for end in self.ends.values())]
        return min((time for time in times if time is not None), default=None)

    def held(self) -> list[int]:
        """Ports whose change is being waited for."""
        return self._hold.held()

    def learned(self, port: int, mac: str) -> list[Change]:
        """A frame from `mac` came in by `port`; nothing to send if that was known or the port is gone."""
        place = self._lag_of_port.get(port, port)
        old = self.places.get(mac)
        if old == place or not self.ports.get(port):
            return []
        self.places[mac] = place
        before = {} if old is None else self._station(mac, old)
        return diff(before, self._station(mac, place))

    def moved(self, lag_name: str, conn: Connection, port: int) -> list[Change]:
        """Send one connection out by another member. Raises ValueError if there is no such live member."""
        lag = self.lag(lag_name).with_move(conn, port)
        if not self.ports.get(port):
            raise ValueError(f"{lag_name}: port {port} is down")
        return self._change(lag)

    def changed(
        self,
        lag_name: str,
        seed: int | None = None,
        policy: str | None = None,
        rebalance: str | None = None,
        now: float = 0.0,
    ) -> list[Change]:
        """Other settings for a LAG from now on."""
        return self._change(self.lag(lag_name).with_settings(seed, policy, rebalance), now)

    def drained(self, lag_name: str, port: int, out: bool, now: float = 0.0) -> list[Change]:
        """Take a member out of the LAG, or let it in again, whatever its link. Raises ValueError."""
        lag = self.lag(lag_name).with_drained(port, out)
        return self._change(lag.with_active(self._hold.usable), now)

    def lag(self, name: object) -> Lag:
        """The LAG of that name. Raises ValueError."""
        if not isinstance(name, str) or name not in self.lags:
            raise ValueError(f"{self.name}: no LAG {name!r} (there are: {', '.join(self.lags) or 'none'})")
        return self.lags[name]

    def lag_at(self, port: int) -> Lag | None:
        """The LAG that this port is a member of, up or down, or None for a host port."""
        name = self._lag_of_port.get(port)
        return None if name is None else self.lags[name]

    def rules(self) -> Rules:
        """All flows and groups of this switch."""
        hosts = [port for port, up in self.ports.items() if up and port not in self._lag_of_port]
        rules = base_rules(self.lags.values(), hosts)
        for mac, place in self.places.items():
            rules |= self._station(mac, place)
        for lag in self._lag_rules.values():
            rules |= lag
        return rules

    def _settle(self, name: str, now: float) -> list[Change]:
        """Bring a LAG in line with the ports that are usable."""
        lag, end = self.lags[name], self.ends[name]
        end.run(now)
        for port in lag.members:
            up = bool(self.ports.get(port))
            fit = up and self._allows(port)
            if fit != (port in self._fit):
                self._fit ^= {port}
                # The switch leaves a port without carrier by itself, but no other, so that cannot wait.
                self._hold.seen(port, fit, now, at_once=port in self._expected if fit else up)
        waiting = self._fit.intersection(lag.members) - self._hold.usable
        if waiting and not lag.with_active(self._hold.usable).active:
            # Nobody else could carry anything: better a link that may flap, also one that has waited for a while.
            for port in waiting:
                self._hold.seen(port, True, now, at_once=True)
        return self._change(self._with_usable(lag).with_collecting(end.collecting()), now)

    def _with_usable(self, lag: Lag) -> Lag:
        """A resilient LAG lets a member that returns wait for its buckets; not those that LACP or a probe lets come one
        after the other when the LAG begins."""
        after = lag.with_active(self._hold.usable)
        if after.active and not lag.active:
            self._expected |= {port for port in lag.members if self.ports.get(port)} - lag.drained
        elif (after.active - lag.active) & self._expected:
            after = after.evened()
        self._expected -= after.active
        return after

    def _meet_members(self, lag: Lag, recovering: bool, now: float) -> None:
        """Tell the LAG's slow protocols of its links, and where an earlier run of this program was with them."""
        end = self.ends[lag.name]
        for port in lag.members:
            up = bool(self.ports.get(port))
            end.link(port, up, now)
            if recovering and up:
                end.resume(port, (lag.collecting or {}).get(port), port in lag.active | lag.drained, now)
        end.run(now)

    def _allows(self, port: int) -> bool:
        """Neither LACP nor a probe nor what is beyond it keeps the port from carrying frames."""
        name = self._lag_of_port.get(port)
        return port not in self.nowhere and (name is None or self.ends[name].why_not(port) is None)

    def _change(self, lag: Lag, now: float = 0.0) -> list[Change]:
        if lag is self.lags[lag.name]:
            return []
        before, after = self._lag_rules[lag.name], lag_rules(lag)
        self.lags[lag.name], self._lag_rules[lag.name] = lag, after
        self._plan_fill(lag, now)
        return diff(before, after)

    def _plan_fill(self, lag: Lag, now: float) -> None:
        if lag.filled() is lag:
            self._fill_due.pop(lag.name, None)
        else:
            self._fill_due.setdefault(lag.name, now + self.timing.fill_s)

    def _station(self, mac: str, place: int | str) -> Rules:
        return station_rules(mac, place if isinstance(place, int) else self.lags[place])

    def _forget_lost_stations(self) -> None:
        """A station behind a dead host port may turn up anywhere. Behind a LAG it is known for good."""
        self.places = {
            mac: place for mac, place in self.places.items() if isinstance(place, str) or self.ports.get(place)
        }
