"""One stream of bytes between an edge and a cloud: the ``Link`` protocol, and TCP or TLS behind it.

Nothing above this file knows sockets. ``lab.link`` offers the same in memory.
"""

import asyncio
import os
import secrets
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

from pipesd.actors.listener import Bounds, taking_in
from pipesd.errors import ConfigError, LinkError

READ_BYTES = 1 << 16

UNSENT_LOW: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
"""Where it exists, the kernel takes no more before it has sent what it has: one batch at most waits in it."""

CLOSED_HERE = "the connection was closed here"


_NONCE_BYTES = 18


def fresh_nonce() -> str:
    """Drawn at random, for the proof of who calls over a link."""
    return secrets.token_urlsafe(_NONCE_BYTES)


class Link(Protocol):
    """An ordered, reliable stream. One task may send while another receives."""

    @property
    def address(self) -> str:
        """From where the other side has connected; empty if that means nothing."""

    async def send(self, data: bytes) -> None:
        """Wait until the stream has taken ``data``. Raises ``LinkError`` if it is broken."""

    async def receive(self) -> bytes:
        """Wait for more bytes; empty at the end. Raises ``LinkError`` if the stream is broken."""

    async def end(self) -> None:
        """Send no more; what was sent arrives, and then the end does. Receiving goes on, but with TLS what
        still comes is dropped."""

    def abort(self, reason: str = CLOSED_HERE) -> None:
        """Close both directions at once; whoever waits gets ``LinkError`` with ``reason``."""


@dataclass(frozen=True, slots=True)
class Tls:
    """How a server speaks TLS."""

    context: ssl.SSLContext
    handshake_s: float
    shutdown_s: float

    @property
    def settings(self) -> dict[str, Any]:
        """For a connection that was accepted."""
        return {
            "ssl": self.context,
            "ssl_handshake_timeout": self.handshake_s,
            "ssl_shutdown_timeout": self.shutdown_s,
        }


class TcpLink:
    """A link over a connected TCP stream."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._ended = False
        self._cut_reason: str | None = None
        peer = writer.get_extra_info("peername")
        self._address = str(peer[0]) if peer else ""
        # With 0, asyncio's TLS would wait for ever: it pauses at what it calls high water, not above it.
        writer.transport.set_write_buffer_limits(high=1, low=0)
        connection = writer.get_extra_info("socket")
        with suppress(OSError):  # a link that is broken already says so when it is used
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if UNSENT_LOW is not None:
                connection.setsockopt(socket.IPPROTO_TCP, UNSENT_LOW, 1)

    @property
    def address(self) -> str:
        """The peer's."""
        return self._address

    async def send(self, data: bytes) -> None:
        """Wait until the kernel has taken ``data``."""
        with _broken_is_lost():
            self._require_open()
            self._writer.write(data)
            await self._writer.drain()

    async def receive(self) -> bytes:
        """Wait for more bytes; empty at the end."""
        with _broken_is_lost():
            data = await self._reader.read(READ_BYTES)
        if self._cut_reason is not None:
            raise LinkError(self._cut_reason)
        return data

    async def end(self) -> None:
        """Send no more."""
        if self._ended:
            return
        with _broken_is_lost():
            self._require_open()
            self._ended = True
            if self._writer.can_write_eof():
                self._writer.write_eof()
            else:
                self._writer.close()

    def abort(self, reason: str = CLOSED_HERE) -> None:
        """Close both directions at once."""
        self._cut_reason = self._cut_reason or reason
        self._writer.transport.abort()

    def _require_open(self) -> None:
        if self._ended or self._writer.is_closing():  # asyncio and uvloop would raise RuntimeError
            raise LinkError(self._cut_reason or CLOSED_HERE)


@contextmanager
def _broken_is_lost() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        error.__traceback__ = None  # in its frames is the stream, which keeps it: a circle with large buffers
        raise LinkError(f"the connection was lost ({_reason(error)})") from error


async def open_tcp_link(host: str, port: int, timeout_s: float, tls: ssl.SSLContext | None = None) -> TcpLink:
    """Connect. Raises ``LinkError`` if nobody answers within ``timeout_s``, or not as TLS wants it."""
    try:
        async with asyncio.timeout(timeout_s):
            return TcpLink(*await asyncio.open_connection(host, port, ssl=tls))
    except TimeoutError:
        raise LinkError(
            f"{host}:{port} did not answer within {timeout_s:g} s; check the address and the network"
        ) from None
    except ssl.SSLError as error:
        raise LinkError(
            f"{host}:{port} cannot be trusted, or speaks no TLS ({_tls_reason(error)}); check tls_ca"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: no such host name can exist
        raise LinkError(
            f"cannot connect to {host}:{port} ({_reason(error)}); is pipesd-cloud running there?"
        ) from error


@asynccontextmanager
async def listening(
    host: str,
    port: int,
    accept: Callable[[Link], None],
    tls: Tls | None = None,
    bounds: Bounds | None = None,
) -> AsyncIterator[tuple[str, int]]:
    """Hand every connection to ``accept`` while the context lasts; gives the address, port 0 resolved.

    With TLS they are handed over after the handshake. Raises ``ConfigError`` if the address cannot be used.
    """

    how = {} if tls is None else tls.settings

    async def serve(connection: socket.socket) -> None:
        with suppress(LinkError), _broken_is_lost():  # TLS did not come about, or the link itself says it
            reader = asyncio.StreamReader()
            protocol = asyncio.StreamReaderProtocol(reader)
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection, **how)
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            accept(TcpLink(reader, writer))
            await writer.wait_closed()

    async with AsyncExitStack() as stack:
        try:
            address = await stack.enter_async_context(taking_in(host, port, serve, bounds))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"listen: cannot listen on {host}:{port} ({_reason(error)}); choose another address or port"
            ) from error
        yield address


def _tls_reason(error: ssl.SSLError) -> str:
    said = getattr(error, "verify_message", "") or error.reason or "the handshake failed"
    return str(said).replace("_", " ").lower()


def _reason(error: OSError | ValueError) -> str:
    """The system's own words, without the address asyncio adds to them."""
    if isinstance(error, ssl.SSLError):
        return _tls_reason(error)
    if isinstance(error, ValueError):
        return "the host name is impossible"
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error) or type(error).__name__
    return os.strerror(error.errno)
