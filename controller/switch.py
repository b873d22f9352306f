"""One switch as the controller knows it: ports, learned MACs, LAGs. Each event returns the messages to
send, in order.

It never touches Ryu, sockets or clocks: `app` brings the events and sends the messages.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from controller.hashing import Connection
from controller.lag import Lag
from controller.pipeline import Change, Rules, base_rules, diff, lag_rules, station_rules


class Switch:
    """`ports` maps a port number to whether it is up; `places` a MAC to its host port or its LAG's name."""

    def __init__(self, name: str, lags: Iterable[Lag]) -> None:
        self.name = name
        self.lags = {lag.name: lag for lag in lags}
        self.ports: dict[int, bool] = {}
        self.places: dict[str, int | str] = {}
        self._lag_of_port = {port: lag.name for lag in self.lags.values() for port in lag.members}

    def connected(self, ports: Mapping[int, bool]) -> list[Change]:
        """The switch is (again) there, with these ports and no flows: everything it needs."""
        self.ports = dict(ports)
        for name, lag in self.lags.items():
            self.lags[name] = lag.with_active(port for port, up in ports.items() if up)
        self._forget_lost_stations()
        return diff({}, self.rules())

    def port_changed(self, port: int, up: bool) -> list[Change]:
        """A port came up or went down. A member's change computes what depends on it alone, for speed."""
        if self.ports.get(port) == up:
            return []
        lag = self.lag_at(port)
        if lag is not None:
            self.ports[port] = up
            self.lags[lag.name] = lag.with_port(port, up)
            return diff(lag_rules(lag), lag_rules(self.lags[lag.name]))
        before = self.rules()
        self.ports[port] = up
        self._forget_lost_stations()
        return diff(before, self.rules())

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
        """Send one connection out by another member. Raises ValueError if there is no such active member."""
        old = self.lag(lag_name)
        self.lags[lag_name] = old.with_move(conn, port)
        return diff(lag_rules(old), lag_rules(self.lags[lag_name]))

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
        """All flows of this switch."""
        hosts = [port for port, up in self.ports.items() if up and port not in self._lag_of_port]
        rules = base_rules(self.lags.values(), hosts)
        for mac, place in self.places.items():
            rules |= self._station(mac, place)
        for lag in self.lags.values():
            rules |= lag_rules(lag)
        return rules

    def _station(self, mac: str, place: int | str) -> Rules:
        return station_rules(mac, place if isinstance(place, int) else self.lags[place])

    def _forget_lost_stations(self) -> None:
        """A station behind a dead host port may turn up anywhere. Behind a LAG it is known for good."""
        self.places = {
            mac: place for mac, place in self.places.items() if isinstance(place, str) or self.ports.get(place)
        }
