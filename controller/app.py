"""The Ryu app: brings a switch's messages to the pure `Switch` and sends what it returns; serves the local
API.

Decides nothing about forwarding. A port that changes is answered with one write to the switch, all
flow-mods and a barrier in it, before any event is written or any other work is done.
"""

# mypy: disallow-subclassing-any=False, disallow-untyped-decorators=False
# (Ryu has no types)

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, ClassVar

from controller.green import eventlet  # isort: skip  (before Ryu)
from ryu import cfg
from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls

from controller import api, openflow
from controller.config import Config
from controller.events import emit
from controller.hashing import Connection, connection
from controller.lag import Lag
from controller.pipeline import Change
from controller.switch import Switch

LOG = logging.getLogger("controller")
_BARRIER_DEADLINE_S = 5.0


class Link:
    """A configured switch, its OpenFlow connection if there is one, and the barriers it has yet to answer."""

    def __init__(self, switch: Switch) -> None:
        self.switch = switch
        self.ready = False
        self.datapath: Any = None
        self.ports: dict[int, bool] = {}  # collected while the switch describes them
        self.waiting: dict[int, Callable[[], None]] = {}

    def use(self, datapath: Any) -> None:
        """The switch has connected, for the first time or again."""
        self.datapath, self.ready = datapath, False
        self.ports.clear()
        self.waiting.clear()

    def send(self, changes: Iterable[Change], then: Callable[[], None] | None = None, wipe: bool = False) -> None:
        """One write for everything. `then` is called when the switch has answered the barrier behind it."""
        if self.datapath is None:
            return  # it gets the whole state when it connects
        buffer = openflow.encode_wipe(self.datapath) if wipe else bytearray()
        buffer += openflow.encode(self.datapath, changes)
        if then is not None:
            barrier, xid = openflow.encode_barrier(self.datapath)
            self.waiting[xid] = then
            buffer += barrier
        if buffer:
            self.datapath.send(buffer)


class Controller(app_manager.RyuApp):
    """Started by Ryu's AppManager with the configuration as its argument."""

    OFP_VERSIONS: ClassVar = [openflow.OFP_VERSION]

    def __init__(self, *args: Any, config: Config, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.links = {dpid: Link(switch) for dpid, switch in config.switches.items()}

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)
    def ports_described(self, ev: Any) -> None:
        """The switch has connected and tells its ports, in one or more replies."""
        began = time.monotonic()
        message = ev.msg
        link = self.links.get(message.datapath.id)
        if link is None:
            LOG.warning("switch with dpid %s is not in the configuration; ignored", message.datapath.id)
            return
        if link.datapath is not message.datapath:
            link.use(message.datapath)
        for desc in message.body:
            if openflow.is_real_port(desc.port_no):
                link.ports[desc.port_no] = openflow.port_is_up(desc)
        if message.flags & message.datapath.ofproto.OFPMPF_REPLY_MORE:
            return
        changes = link.switch.connected(link.ports)

        def done() -> None:
            link.ready = True
            emit("switch_ready", switch=link.switch.name)
            for lag in link.switch.lags.values():
                _emit_members(link.switch, lag, began)

        link.send(changes, then=done, wipe=True)

    @set_ev_cls(ofp_event.EventOFPPortStatus, MAIN_DISPATCHER)
    def port_changed(self, ev: Any) -> None:
        """A port came, went, or changed its state."""
        began = time.monotonic()
        message = ev.msg
        link = self._link(message.datapath)
        number = message.desc.port_no
        if link is None or not openflow.is_real_port(number):
            return
        switch = link.switch
        up = message.reason != message.datapath.ofproto.OFPPR_DELETE and openflow.port_is_up(message.desc)
        was, lag_before = switch.ports.get(number), switch.lag_at(number)
        changes = switch.port_changed(number, up)
        lag = switch.lag_at(number)
        if lag is not None and lag is not lag_before:
            settled = lag  # another change may come before the barrier's answer
            link.send(changes, then=lambda: _emit_members(switch, settled, began))
        else:
            link.send(changes)
        if was != up:
            emit("port", switch=switch.name, port=number, up=up)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def frame_seen(self, ev: Any) -> None:
        """A frame from a source that is not known at this port; the switch has forwarded it already."""
        message = ev.msg
        link = self._link(message.datapath)
        if link is None or len(message.data) < 12:
            return
        mac, port = message.data[6:12].hex(":"), message.match["in_port"]
        changes = link.switch.learned(port, mac)
        if changes:
            link.send(changes)
            emit("learned", switch=link.switch.name, mac=mac, port=port)

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)
    def barrier_answered(self, ev: Any) -> None:
        """Everything sent before that barrier is in force."""
        link = self._link(ev.msg.datapath)
        then = link.waiting.pop(ev.msg.xid, None) if link else None
        if then:
            then()

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def refused(self, ev: Any) -> None:
        """The switch refuses a message: a mistake of this program or a switch that cannot do it."""
        link = self._link(ev.msg.datapath)
        name = link.switch.name if link else "a switch"
        LOG.error("%s refuses a message: error type %s code %s", name, ev.msg.type, ev.msg.code)

    @set_ev_cls(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)
    def connection_lost(self, ev: Any) -> None:
        """The switch keeps its flows (fail_mode=secure); all are installed anew when it is back."""
        link = self._link(ev.datapath)
        if link is not None:
            link.datapath, link.ready = None, False

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One API request. Raises ValueError with one line for a person."""
        match request.get("do"):
            case "state":
                return {"switches": {link.switch.name: _state(link) for link in self.links.values()}}
            case "port_of":
                _, lag, conn = self._named(request)
                if (port := lag.port_of(conn)) is None:
                    raise ValueError(f"{lag.name}: no member is active")
                return {"port": port}
            case "move":
                link, lag, conn = self._named(request)
                return self._move(link, lag, conn, request.get("port"))
            case other:
                raise ValueError(f"do: {other!r} is not known (known: state, move, port_of)")

    def _move(self, link: Link, lag: Lag, conn: Connection, port: object) -> dict[str, Any]:
        if not link.ready:
            raise ValueError(f"{link.switch.name}: the switch is not connected")
        if not isinstance(port, int) or isinstance(port, bool):
            raise ValueError(f"port: expected a port number, not {port!r}")
        changes = link.switch.moved(lag.name, conn, port)
        confirmed = eventlet.Event()
        link.send(changes, then=confirmed.send)
        with eventlet.Timeout(_BARRIER_DEADLINE_S, False):
            confirmed.wait()
        if not confirmed.ready():
            raise ValueError(f"{link.switch.name}: the switch has not confirmed within {_BARRIER_DEADLINE_S} s")
        emit("moved", switch=link.switch.name, lag=lag.name, **conn._asdict(), port=port)
        return {}

    def _named(self, request: dict[str, Any]) -> tuple[Link, Lag, Connection]:
        links = {link.switch.name: link for link in self.links.values()}
        name = request.get("switch")
        if not isinstance(name, str) or name not in links:
            raise ValueError(f"switch: {name!r} is not known (known: {', '.join(links)})")
        conn = connection(*(request.get(key) for key in Connection._fields))
        return links[name], links[name].switch.lag(request.get("lag")), conn

    def _link(self, datapath: Any) -> Link | None:
        """The switch's link, unless this is a connection that a newer one has replaced."""
        link = self.links.get(datapath.id)
        return link if link is not None and link.datapath is datapath else None


def run(config: Config) -> int:
    """Serve until SIGTERM. Returns 2 if an address cannot be used."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    where = f"{config.host}:{config.port}"
    try:
        _check_free(config.host, config.port)
        where = config.socket
        server = api.listen(config.socket)
    except OSError as error:
        print(f"controller: cannot listen on {where}: {error.strerror or error}", file=sys.stderr)
        return 2

    def stop(_number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(OSError):
            os.unlink(config.socket)
        os._exit(0)  # events are written unbuffered, so nothing is lost; unwinding green threads only takes time

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    cfg.CONF(args=[], project="controller", default_config_files=[], default_config_dirs=[])
    cfg.CONF.set_override("ofp_listen_host", config.host)
    cfg.CONF.set_override("ofp_tcp_listen_port", config.port)
    manager = app_manager.AppManager.get_instance()
    manager.load_apps([__name__])
    manager.instantiate_apps(config=config)
    eventlet.sleep(0)  # lets Ryu bind its port
    gc.freeze()  # a full collection over Ryu's modules takes 30 ms, in which no port could be answered
    emit("listening")
    api.serve(server, app_manager.lookup_service_brick("Controller").answer)
    return 0


def _check_free(host: str, port: int) -> None:
    """Ryu reports a port that is in use with a traceback, or shares it silently. Raises OSError instead."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        probe.listen(1)


def _emit_members(switch: Switch, lag: Lag, began: float) -> None:
    took_ms = round((time.monotonic() - began) * 1000, 3)
    active = [port for port in lag.members if port in lag.active]
    emit("members", switch=switch.name, lag=lag.name, active=active, took_ms=took_ms)


def _state(link: Link) -> dict[str, Any]:
    switch = link.switch
    lags = {
        lag.name: {
            "members": list(lag.members),
            "active": [port for port in lag.members if port in lag.active],
            "buckets": list(lag.buckets),
        }
        for lag in switch.lags.values()
    }
    moved = {str(conn): port for lag in switch.lags.values() for conn, port in lag.moved.items()}
    return {"ready": link.ready, "macs": dict(switch.places), "lags": lags, "moved": moved}
