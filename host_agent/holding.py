"""The connections that one engine holds: live, frozen while their context is elsewhere, or ended but not yet done.

Decides: the order within one save or restore, and when a connection is done. Never touches: the agent (engine.py),
records, policy.

    restore, accepted --> live --save--> frozen --discard--> nothing
                           ^                |
                           '-----thaw-------'
    live --both ends of stream, or a reset--> closing --60 s, or a SYN that re-uses the identifier--> nothing
      '----FIN-WAIT-2, and for 60 s nobody to read what the peer may send--> closing

A frozen connection keeps its socket, its channel and what the relay held: whoever asked for the context may refuse it,
or die. A closing one has no socket any more, but late segments still come here, for here is its TIME-WAIT.
"""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from host_agent import kernel, repair, segment
from host_agent.connection import Connection
from host_agent.context import BadContext, Context
from host_agent.held import Ended, Held, NotHere, Saved
from host_agent.left import Left
from host_agent.limits import Limits, Refused
from host_agent.listener import reset
from host_agent.loop import EDGE, Loop
from host_agent.relay import Pipes, Relay, StreamBroken, stream_of
from host_agent.restoring import Restoring
from host_agent.steering import Steering
from host_agent.tcp_info import CLOSED, FIN_WAIT2, LAST_ACK, info, state, unsent
from host_agent.upkeep import Upkeep

TIME_WAIT = 60.0  # seconds; include/net/tcp.h, TCP_TIMEWAIT_LEN
FIN_TIMEOUT = 60.0  # seconds; include/net/tcp.h, TCP_FIN_TIMEOUT
LOOK_EVERY = 0.2  # seconds between two looks at the memory that sockets take, where it is limited
ORDERLY = ("finished", "abandoned")
_CHANNEL_NEWS = EDGE & ~select.EPOLLOUT
_TCP_NEWS = _CHANNEL_NEWS | select.EPOLLPRI

Tell = Callable[[str, Connection, dict[str, Any]], None]


class Holding:
    """tell(event, connection, facts): closed, upload_requested. fault: refuses everything new, the applications' bytes
    too: what is not taken need not be sent again, nor moved."""

    def __init__(self, loop: Loop, steering: Steering, limits: Limits, tell: Tell, *, requests: bool = False):
        """requests: whether to ask for an upload; the host engine has nowhere to upload to."""
        self.fault = False
        self._loop, self._steering, self.limits, self._tell, self._requests = loop, steering, limits, tell, requests
        self._pipes = Pipes()
        self._connections: dict[Connection, Held] = {}
        self._busy: dict[Connection, Held] = {}
        self._closing: dict[Connection, Ended] = {}
        self._left = Left(loop)
        self.upkeep = Upkeep(self._connections, self._closing, steering)
        if limits.memory and requests:
            loop.after(LOOK_EVERY, self._look_at_memory)

    def recovered(self) -> None:
        """No fault any more: what was not taken is taken now."""
        self.fault = False
        self._left.close_all()
        for held in [one for one in self._connections.values() if not one.waits]:  # the release passes by what is held
            self._pump(held)

    def idle(self) -> bool:
        """Another turn for those that had more to carry than their share; False while some still have."""
        if not self._busy:  # almost always
            return True
        for held in list(self._busy.values()):
            self._pump(held)
        return not self._busy

    # -- bytes -------------------------------------------------------------------------------------------------------

    def take(self, connection: Connection, tcp: socket.socket, channel: socket.socket, *, waits: bool = False) -> Held:
        """Takes over a connection and its application's channel, neither of which blocks. waits: for its release."""
        tcp.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        before = self._connections.get(connection)
        if before is not None:  # it is away, or has ended, and nobody has said so yet: its name is another's now
            self._drop(before)
        held = Held(connection, tcp, channel, Relay(tcp, channel, self._pipes))
        self._closing.pop(connection, None)  # an old one of that name
        self._connections[connection] = held
        held.waits = waits
        if not waits:
            self._watch(held)
        return held

    def _watch(self, held: Held) -> None:
        """Not whether it can be written to, which is so at once and would be an event of each: see _fills."""
        self._loop.watch(held.tcp.fileno(), partial(self._from_tcp, held), _TCP_NEWS)
        self._loop.watch(held.channel.fileno(), partial(self._from_channel, held), _CHANNEL_NEWS)
        held.fills = False

    def _fills(self, held: Held) -> None:
        """Bytes wait for a sink: from now on it tells when it can be written to."""
        self._loop.widen(held.tcp.fileno(), _TCP_NEWS | select.EPOLLOUT)
        self._loop.widen(held.channel.fileno(), _CHANNEL_NEWS | select.EPOLLOUT)
        held.fills = True

    def _unwatch(self, held: Held) -> None:
        self._busy.pop(held.connection, None)
        if held.waits:
            held.waits = False
            return
        self._loop.unwatch(held.tcp.fileno())
        self._loop.unwatch(held.channel.fileno())

    def _from_channel(self, held: Held, mask: int) -> None:
        if self.fault and mask == select.EPOLLIN:
            return
        if mask & select.EPOLLHUP:
            # The application has closed both directions. The kernel would not wait for the peer's FIN for ever either,
            # but for it the connection has a reader: us.
            self._loop.after(FIN_TIMEOUT, partial(self._abandon, held))
        self._pump(held, held.relay.channel_ready, mask)

    def _abandon(self, held: Held) -> None:
        if self._connections.get(held.connection) is held and held.frozen is None and state(held.tcp) == FIN_WAIT2:
            self._end(held, "abandoned")

    def _from_tcp(self, held: Held, mask: int) -> None:
        if mask & select.EPOLLPRI:
            held.relay.inward.urgent = True
            if self._requests and not held.requested:
                held.requested = True
                self._tell("upload_requested", held.connection, {"reason": "urgent_data"})
        self._pump(held, held.relay.tcp_ready, mask)

    def _pump(self, held: Held, carry: Callable[..., bool] | None = None, *words: int) -> None:
        """carry(words): what the relay does, for one that is not busy; both directions otherwise."""
        if held.frozen is not None or self._connections.get(held.connection) is not held:
            return
        busy = bool(self._busy) and self._busy.pop(held.connection, None) is not None
        try:
            if held.relay.pump() if busy or carry is None else carry(*words):
                self._busy[held.connection] = held
        except StreamBroken as broken:
            self._end(held, str(broken))
            return
        if not (held.fills or held.waits) and (held.relay.outward.held or held.relay.inward.held):
            self._fills(held)
        if not held.relay.outward.done:
            return
        if held.relay.inward.done and not held.ending:
            held.ending = True
            self._steering.ending(held.connection)
        now = state(held.tcp)
        if now != CLOSED:
            held.last_state = now
        elif held.relay.done:
            # Only now: a socket closed earlier could not be asked whether its last bytes have arrived.
            self._end(held, "finished")

    def _end(self, held: Held, reason: str) -> None:
        facts = {
            "reason": reason,
            "retransmits": info(held.tcp).retransmits,
            "bytes_in": held.relay.inward.total,
            "bytes_out": held.relay.outward.total,
            "linger_s": TIME_WAIT,
        }
        self._release(held)
        if reason in ORDERLY:
            held.tcp.close()
            held.channel.close()
        else:
            reset(held.tcp)
            reset(held.channel)
        # Late segments still come here. Where the peer was the first to close, or has reset, no TIME-WAIT answers them,
        # and the kernel would do so with an RST.
        peer_is_done = reason.startswith("peer") or (reason == "finished" and held.last_state == LAST_ACK)
        self._steering.ended(held.connection, answers=not peer_is_done)
        first = None if held.first is None else held.first + held.relay.inward.total + 1
        this = self._closing[held.connection] = Ended(None if first is None else first % 2**32)
        self._loop.after(TIME_WAIT, lambda: self._forget(held.connection, this))
        self._tell("closed", held.connection, facts)

    def _release(self, held: Held) -> None:
        """No longer ours; its sockets are for the caller to close."""
        del self._connections[held.connection]
        if held.frozen is None:
            self._unwatch(held)
        held.relay.outward.drop()
        held.relay.inward.drop()

    def _forget(self, connection: Connection, this: Ended | None) -> None:
        if this is not None and self._closing.get(connection) is this:
            del self._closing[connection]
            self._steering.left([connection])

    def _make_way(self, connection: Connection) -> None:
        """A new connection has the identifier of one that has ended here."""
        ended = self._closing.get(connection)
        self._forget(connection, ended)
        if ended is not None and ended.rcv_nxt is not None:
            # Without timestamps the kernel's TIME-WAIT would keep the new one from being made. It ends with an RST
            # (RFC 9293, 3.10.7.4), if that has the right number.
            with suppress(OSError):
                segment.tell(connection, segment.RST, ended.rcv_nxt, 0, 0)

    # -- moves -------------------------------------------------------------------------------------------------------

    def save(self, wanted: Mapping[Connection, bytes | None]) -> Iterator[Saved | repair.CannotMove]:
        """Freezes them all, then reads one after the other; a frozen one is read once more. Who cannot move goes on.
        wanted: connections, and where the frames of each go, if this engine does not know."""
        refused = self._freeze(
            {one: held for one in wanted if (held := self._connections.get(one)) and held.frozen is None}, wanted
        )
        for connection in wanted:
            held = self._connections.get(connection)
            try:
                if held is None:
                    raise NotHere(f"{'it has ended' if connection in self._closing else 'no such connection'} here")
                if connection in refused:
                    raise refused[connection]
                yield self._read(held)
            except repair.CannotMove as refusal:
                if held is not None and held.waits:  # it stays, and who did not release it may never do so
                    self._begin(held)
                yield refusal

    def _freeze(
        self, live: dict[Connection, Held], next_hops: Mapping[Connection, bytes | None]
    ) -> dict[Connection, repair.CannotMove]:
        """Those that will not be."""
        for (connection, held), mac in zip(live.items(), self._steering.leaving(list(live)), strict=True):
            held.next_hop = mac or next_hops[connection] or held.next_hop
        whys = repair.freeze([held.tcp for held in live.values()])
        refused = {one: whys[held.tcp] for one, held in live.items() if held.tcp in whys} if whys else {}
        if refused:
            self._join([live.pop(connection) for connection in refused])
        self._steering.left(list(live))
        return refused

    def _read(self, held: Held) -> Saved:
        try:
            reading = repair.read(held.tcp, held.connection, held.next_hop, held.settings)
        except repair.CannotMove:
            if held.frozen is None:
                self._join([held])
                repair.thaw(held.tcp)
            raise
        outward, inward = held.relay.outward, held.relay.inward
        if held.frozen is None:
            self._unwatch(held)
            held.frozen = outward.take_held(), inward.take_held()
        context = reading.context.with_relayed(*held.frozen, app_ended=outward.done, peer_ended=inward.done)
        held.laden = bool(context.sent or context.unsent or context.received)
        packed = context.pack()
        return Saved(held.connection, held.told(reading, context, len(packed)), packed, held.channel.fileno())

    def _join(self, some: Sequence[Held]) -> None:
        for held in some:
            held.ending = False
        self._steering.joining({held.connection: held.next_hop for held in some})
        self._steering.joined([held.connection for held in some])

    def joined(self, connections: Iterable[Connection]) -> None:
        """From now on their frames may come by the wire, and those that waited for that carry bytes."""
        here = [held for one in connections if (held := self._connections.get(one)) and held.frozen is None]
        self._steering.joined([held.connection for held in here])
        for held in [one for one in here if one.waits]:
            self._begin(held)

    def _begin(self, held: Held) -> None:
        """What the application has for the peer comes first: its acknowledgement tells what a probe would ask for."""
        outward = held.relay.outward
        try:
            if not (self.fault or outward.done):
                outward.first()  # before it is watched, or that would tell of them
        except StreamBroken as broken:
            self._end(held, str(broken))
            return
        held.waits = False
        self._watch(held)
        if outward.held:
            self._fills(held)
        if held.asks and not (outward.total and unsent(held.tcp) == 0):
            repair.probe(held.tcp)
        if outward.done:
            self._pump(held)

    def thaw(self, connection: Connection) -> None:
        """A frozen connection goes on. Raises Refused."""
        held = self._connections.get(connection)
        if held is None or held.frozen is None:
            raise Refused("context", "no such frozen connection here")
        try:
            self._join([held])
            for flow, bytes_held in zip((held.relay.outward, held.relay.inward), held.frozen, strict=True):
                flow.put_back(bytes_held)
            repair.thaw(held.tcp)
        except (kernel.KernelError, OSError) as error:
            raise Refused("kernel", str(error)) from None
        held.frozen = None
        self._watch(held)
        self._pump(held)

    def discard(self, connections: Iterable[Connection]) -> None:
        """Frozen connections that live elsewhere now."""
        for connection in connections:
            held = self._connections.get(connection)
            if held is not None and held.frozen is not None:
                self._drop(held, self._left.add if self.fault and not held.laden else repair.discard)

    def _drop(self, held: Held, close: Callable[[socket.socket], None] = repair.discard) -> None:
        self._release(held)
        held.channel.close()
        close(held.tcp)

    def restore(self, some: Sequence[tuple[bytes, int]], how: Restoring) -> list[Refused | None]:
        """some: packed contexts, and their channels. None for each that lives here now, and has its channel; a refused
        one's is still the caller's, and nothing was sent of it."""
        if self.limits.memory and len(some) > 1:  # what is left of it, each but the last must have come to tell
            return [self.restore([one], how)[0] for one in some]
        answers: list[Refused | None] = []
        coming: dict[Connection, Context] = {}
        for packed, _ in some:
            try:
                context = self._admitted(packed, coming)
                coming[context.connection] = context
                answers.append(None)
            except Refused as refused:
                answers.append(refused)
        try:
            self._steering.joining({connection: context.next_hop for connection, context in coming.items()})
        except kernel.KernelError as error:
            self._steering.left(list(coming))
            if len(some) > 1:  # there may be room for some of them
                return [self.restore([one], how)[0] for one in some]
            return [answers[0] or Refused("kernel", str(error))]
        ready = iter(coming.values())
        for n, (_, channel) in enumerate(some):
            if answers[n] is None:
                answers[n] = self._resume(next(ready), channel, how)
        return answers

    def _admitted(self, packed: bytes, coming: Mapping[Connection, Context]) -> Context:
        """A context that there is room for, beside those that are coming. Raises Refused."""
        try:
            context = Context.unpack(packed)
        except BadContext as error:
            raise Refused("context", str(error)) from None
        connection = context.connection
        before = self._connections.get(connection)
        if connection in coming or (before is not None and before.frozen is None):
            raise Refused("context", "it lives here already")
        if before is not None:
            self._drop(before)  # it has been away, and nobody said that it was to be discarded
        taken = self.upkeep.memory() if self.limits.memory else 0
        self.limits.check(context, len(self._connections) + len(coming), taken, fault=self.fault)
        self._make_way(connection)
        return context

    def _resume(self, context: Context, channel: int, how: Restoring) -> Refused | None:
        connection = context.connection
        if (end := stream_of(channel)) is None:
            self._steering.left([connection])
            return Refused("context", "its channel is no socket")
        if context.app_ended and context.peer_ended:  # its last segment may be answered before it is looked at again
            self._steering.ending(connection)
        try:
            tcp = how.resumed(context)
        except repair.CannotRestore as error:
            end.detach()
            self._steering.left([connection])
            return Refused("kernel", str(error))
        held = self.take(connection, tcp, end, waits=how.wait)
        held.arrived(context)
        held.asks = how.wait and how.probe
        if held.relay.done:  # nobody else would tell the steering before the last segment comes
            self._pump(held)
        return None

    def invalidate(self, connection: Connection) -> None:
        """Its context is lost on purpose. The network hears nothing of it; the application does."""
        held = self._connections.get(connection)
        if held is None:
            self._make_way(connection)
            return
        self._steering.left([connection])
        self._release(held)
        repair.silence(held.tcp)
        reset(held.channel)
        self._tell("closed", connection, {"reason": "invalidated", "linger_s": 0.0})

    def _look_at_memory(self) -> None:
        for connection in self.upkeep.to_leave(self.limits.memory):
            self._tell("upload_requested", connection, {"reason": "low_memory"})
        self._loop.after(LOOK_EVERY, self._look_at_memory)
