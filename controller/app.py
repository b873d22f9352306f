"""The Ryu app: brings a switch's messages to the pure `Switch` and sends what it returns; serves the local
API.

Decides nothing about forwarding. A port that changes is answered with one write to the switch, all messages
and a barrier in it, before any event is written or any other work is done; but one that died after a rest, for
the switch leaves it by itself (link.py). A switch that connects is asked for its flows and groups first: those
that are right stay untouched.
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
from types import FrameType
from typing import Any, ClassVar

from controller.green import eventlet  # isort: skip  (before Ryu)
from ryu import cfg
from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import CONFIG_DISPATCHER, DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls

from controller import api, openflow, revalidate, tracking
from controller.commands import Commands
from controller.config import Config
from controller.events import emit
from controller.lacpdu import ETH_TYPE
from controller.link import Link

LOG = logging.getLogger("controller")


class Controller(app_manager.RyuApp):
    """Started by Ryu's AppManager with the configuration as its argument."""

    OFP_VERSIONS: ClassVar = [openflow.OFP_VERSION]

    def __init__(self, *args: Any, config: Config, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.links = {dpid: Link(switch, config.cookies[dpid]) for dpid, switch in config.switches.items()}
        self.commands = Commands(self.links.values())
        self._ways = config.ways
        self._control = config.control
        if self._ways:
            for link in self.links.values():
                link.on_change = self._track

    @set_ev_cls(ofp_event.EventOFPPortDescStatsReply, CONFIG_DISPATCHER)
    def ports_described(self, ev: Any) -> None:
        """The switch has connected and tells its ports, in one or more replies."""
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
        if not message.flags & message.datapath.ofproto.OFPMPF_REPLY_MORE:
            link.meet()

    @set_ev_cls(ofp_event.EventOFPPortStatus, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def port_changed(self, ev: Any) -> None:
        """A port came, went, or changed its state."""
        message = ev.msg
        link, number = self._link(message.datapath), message.desc.port_no
        if link is not None and openflow.is_real_port(number):
            deleted = message.reason == message.datapath.ofproto.OFPPR_DELETE
            up = not deleted and openflow.port_is_up(message.desc)
            if not up and self._control is not None:
                revalidate.now(self._control)
            if up or self._ways:  # where members lead to another switch, that one can do nothing without us
                link.port_changed(number, up)
            else:
                link.port_died(number)

    @set_ev_cls(ofp_event.EventOFPPacketIn, MAIN_DISPATCHER)
    def frame_seen(self, ev: Any) -> None:
        """A frame from a source that is not known at this port, which the switch has forwarded already; or one of
        a slow protocol, which it has not."""
        message = ev.msg
        link, data = self._link(message.datapath), bytes(message.data)
        if link is None or len(data) < 14:
            return
        if int.from_bytes(data[12:14], "big") == ETH_TYPE:
            link.heard(message.match["in_port"], data)
        else:
            link.learned(message.match["in_port"], data[6:12].hex(":"))

    @set_ev_cls(ofp_event.EventOFPBarrierReply, MAIN_DISPATCHER)
    def barrier_answered(self, ev: Any) -> None:
        """Everything sent before that barrier is in force."""
        if (link := self._link(ev.msg.datapath)) is not None:
            link.answered(ev.msg.xid, [], more=False)

    @set_ev_cls(
        [ofp_event.EventOFPFlowStatsReply, ofp_event.EventOFPGroupDescStatsReply, ofp_event.EventOFPPortStatsReply],
        MAIN_DISPATCHER,
    )
    def told(self, ev: Any) -> None:
        """The answer to a question, in one or more replies."""
        message = ev.msg
        if (link := self._link(message.datapath)) is not None:
            more = bool(message.flags & message.datapath.ofproto.OFPMPF_REPLY_MORE)
            link.answered(message.xid, message.body, more)

    @set_ev_cls(ofp_event.EventOFPErrorMsg, [CONFIG_DISPATCHER, MAIN_DISPATCHER])
    def refused(self, ev: Any) -> None:
        """The switch refuses a message: a mistake of this program or a switch that cannot do it."""
        link = self._link(ev.msg.datapath)
        name = link.switch.name if link else "a switch"
        LOG.error("%s refuses a message: error type %s code %s", name, ev.msg.type, ev.msg.code)

    @set_ev_cls(ofp_event.EventOFPStateChange, DEAD_DISPATCHER)
    def connection_lost(self, ev: Any) -> None:
        """The switch keeps its flows (fail_mode=secure) and forwards by them."""
        if (link := self._link(ev.datapath)) is not None:
            link.lost()

    def _track(self) -> None:
        """Members that lead to another switch are used while that has somebody to give the frames to."""
        links = {link.switch.name: link for link in self.links.values()}
        for way, somewhere in list(tracking.due({name: link.switch for name, link in links.items()}, self._ways)):
            links[way.switch].led(way.port, somewhere)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """One API request. Raises ValueError with one line for a person."""
        return self.commands.answer(request)

    def _link(self, datapath: Any) -> Link | None:
        """The switch's link, unless this is a connection that a newer one has replaced."""
        link = self.links.get(datapath.id)
        return link if link is not None and link.datapath is datapath else None


def run(config: Config) -> int:
    """Serve until SIGTERM. Returns 2 if an address cannot be used."""
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(name)s: %(message)s")
    eventlet.hubs.use_hub()  # a new one: in a fork of the process that imported this, the old one's epoll is closed
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
