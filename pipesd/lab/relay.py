"""A modelled link between real sockets, in wall time: whatever passes meets ``lab.emulator`` on its way.

Each connection is a link of its own, all with the same luck; outages and changes of rate go by one clock,
which starts at the first connection. Run it on a ``precise_loop``.
"""

import asyncio
import logging
import os
import selectors
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import cast

from pipesd.actors.link import READ_BYTES
from pipesd.actors.listener import BACKLOG
from pipesd.actors.runtime import Crew, crew
from pipesd.errors import ConfigError
from pipesd.lab.emulator import LinkEmulator, LinkModel, both_ways
from pipesd.lab.storm import Storm
from pipesd.lab.way import Charge, Way

Address = tuple[str, int]

CONNECT_TIMEOUT_S = 10.0

CONNECTIONS_MAX = 256
"""Two sockets each; ``select``, with which a precise loop waits, can tell 1,024 apart."""

_SOCKET_BYTES = 1 << 16
_RESET = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)

_log = logging.getLogger("pipesd.lab")


def precise_loop() -> asyncio.AbstractEventLoop:
    """A loop whose timers keep to a fraction of a millisecond; epoll and uvloop count whole ones."""
    return asyncio.SelectorEventLoop(selectors.SelectSelector())


def charge_bytes() -> Charge:
    """Every message counts as many bytes as it has."""
    return len


@asynccontextmanager
async def relaying(  # noqa: PLR0913 - two addresses, and what a link is like
    listen: Address,
    upstream: Address,
    up: LinkModel,
    down: LinkModel,
    *,
    seed: int = 0,
    charge: Callable[[], Charge] = charge_bytes,
    storm: Storm | None = None,
) -> AsyncIterator[Address]:
    """Relay every connection to ``upstream`` while the context lasts; gives the address, port 0 resolved.

    ``charge`` makes, for each connection, what says how many bytes a message upward counts as; the faults of
    ``storm`` strike connections. Raises ``ConfigError`` if the address cannot be used. That an upstream does
    not answer is logged.
    """
    loop = asyncio.get_running_loop()
    if not isinstance(loop, asyncio.SelectorEventLoop):
        raise RuntimeError("a relay needs the timers of precise_loop; those of uvloop come too early")
    async with crew() as hands:
        relay = _Relay(hands, upstream, lambda: both_ways(up, down, seed), charge, storm)
        try:
            server = await loop.create_server(lambda: _End(relay.accept), *listen, backlog=BACKLOG)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"listen: cannot listen on {listen[0]}:{listen[1]} ({_reason(error)}); "
                "choose another address or port"
            ) from error
        try:
            yield server.sockets[0].getsockname()[:2]
        finally:
            server.close()
            relay.close()
    await asyncio.sleep(0)  # what was reset is closed in the next turn of the loop


class _End(asyncio.BufferedProtocol):
    """One of the two sockets of a connection. It reads nothing before it is joined to the other."""

    _transport: asyncio.Transport

    def __init__(self, made: "Callable[[_End], None] | None" = None) -> None:
        self._made = made
        self._room = bytearray(READ_BYTES)
        self._other: _End | None = None
        self._stop: Callable[[], None] = _nothing
        self._is_ended = False
        self.lost = asyncio.Event()

    def join(self, other: "_End", outgoing: Way, incoming: Way, stop: Callable[[], None]) -> None:
        """What is read here goes out, what comes in is written here, and neither end outlives the other.

        ``stop`` lets nothing pass any more.
        """
        self._other = other
        self._outgoing, self._incoming, self._stop = outgoing, incoming, stop
        outgoing.begin()

    def reset(self) -> None:
        """Close the socket in such a way that its peer sees a lost connection, not an end in good order."""
        if self.lost.is_set():
            return
        self._stop()
        with suppress(OSError):
            linger = socket.SOL_SOCKET, socket.SO_LINGER, _RESET
            self._transport.get_extra_info("socket").setsockopt(*linger)
        self._transport.abort()

    def read_on(self, is_wanted: bool) -> None:
        """Read the next message, or none for now."""
        if is_wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def write(self, data: bytes) -> None:
        """Pass on what has arrived."""
        self._transport.write(data)

    def write_end(self) -> None:
        """Nothing more will arrive. If that holds for both ends, the connection is over in good order."""
        self._is_ended = True
        try:
            self._transport.write_eof()
        except OSError as error:  # the peer is gone, and no read has said so yet
            self._break(error)
            self.reset()
            return
        if self._other is not None and self._other._is_ended:
            self._close()
            self._other._close()

    def _close(self) -> None:
        self._stop()
        self._transport.close()

    def _break(self, error: Exception | None) -> None:
        self._stop()
        if error is not None and self._other is not None:
            self._other.reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the socket's buffers small, so that who sends too much feels it."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.pause_reading()
        self._transport.set_write_buffer_limits(high=0)
        connection = transport.get_extra_info("socket")
        with suppress(OSError):  # a connection that is broken already says so when it is used
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
                connection.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BYTES)
        if self._made is not None:
            self._made(self)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Where to read to."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """A message was read."""
        self._outgoing.take(bytes(memoryview(self._room)[:nbytes]))

    def eof_received(self) -> bool:
        """The peer sends no more; it may still read."""
        self._outgoing.take_end()
        return True

    def pause_writing(self) -> None:
        """The peer does not read what was written."""
        self._incoming.hold(True)

    def resume_writing(self) -> None:
        """It has."""
        self._incoming.hold(False)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed; by us if there is no ``exc``."""
        self.lost.set()
        self._break(exc)


class _Relay:
    """The connections that are relayed."""

    def __init__(
        self,
        hands: Crew,
        upstream: Address,
        emulators: Callable[[], tuple[LinkEmulator, LinkEmulator]],
        charge: Callable[[], Charge],
        storm: Storm | None,
    ) -> None:
        self._hands = hands
        self._upstream = upstream
        self._emulators = emulators
        self._charge = charge
        self._storm = storm
        self._clients: set[_End] = set()
        self._began: float | None = None
        self._is_closed = False

    def accept(self, client: _End) -> None:
        """Relay this connection."""
        is_full = len(self._clients) >= CONNECTIONS_MAX
        if self._is_closed or is_full:
            client.reset()
            if is_full:
                _log.warning("one connection more than the %d that can be; it was cut", CONNECTIONS_MAX)
            return
        if self._began is None:
            self._began = asyncio.get_running_loop().time()
        self._clients.add(client)
        self._hands.hire("pipesd relay", self._relay(client, self._began))

    def close(self) -> None:
        """Cut every connection, and accept no more."""
        self._is_closed = True
        for client in self._clients:
            client.reset()

    async def _relay(self, client: _End, began: float) -> None:
        try:
            upstream = await self._connect()
            if upstream is not None:
                await self._run(client, upstream, began)
        finally:
            client.reset()
            self._clients.discard(client)

    async def _connect(self) -> _End | None:
        host, port = self._upstream
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, upstream = await loop.create_connection(_End, host, port)
        except (OSError, ValueError) as error:  # ValueError: no such host name can exist
            _log.warning("cannot connect to %s:%s (%s)", host, port, _reason(error))
            return None
        return upstream

    async def _run(self, client: _End, upstream: _End, began: float) -> None:
        try:
            self._join(client, upstream, began)
            await client.lost.wait()
            await upstream.lost.wait()
        finally:
            upstream.reset()

    def _join(self, client: _End, upstream: _End, began: float) -> None:
        def cut() -> None:
            client.reset()
            upstream.reset()

        def stop() -> None:
            up.close()
            down.close()
            if exposed is not None:
                exposed.close()

        exposed = None if self._storm is None else self._storm.expose(upstream, client, cut)
        there, here = (upstream, client) if exposed is None else (exposed.up, exposed.down)
        rising, falling = self._emulators()
        up = Way(rising, client, there, began=began, charge=self._charge())
        down = Way(falling, upstream, here, began=began)
        if exposed is not None:
            exposed.up.on_shut, exposed.down.on_shut = up.shut, down.shut
        client.join(upstream, up, down, stop)
        upstream.join(client, down, up, stop)


def _nothing() -> None:
    """Nothing passes yet."""


def _reason(error: OSError | ValueError) -> str:
    """The system's own words, without the address asyncio adds to them."""
    if isinstance(error, ValueError):
        return "the host name is impossible"
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error) or f"no answer within {CONNECT_TIMEOUT_S:g} s"
    return os.strerror(error.errno)
