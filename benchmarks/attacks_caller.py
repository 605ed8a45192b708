"""One side of a connection to a cloud, played by hand; for ``attacks.py``."""

import asyncio
import ssl
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import msgspec

from pipesd.access import AccessToken
from pipesd.actors.link import Link, TcpLink, fresh_nonce
from pipesd.engines.scripted import ScriptedTarget
from pipesd.errors import LinkError
from pipesd.session.proof import EdgeProof
from pipesd.wire import frames
from pipesd.wire.codec import Decoder, encode

STRANGER = "127.0.0.2"
PATIENCE_S = 20.0
VOCABULARY = len(ScriptedTarget().tokenizer.vocabulary)
NAMELESS = frames.Hello(frames.PROTOCOL_VERSION, "a stranger", VOCABULARY)
LET_IN = "let in"
SILENT_END = "ended without a word"
UNANSWERED = "no connection"


class Caller:
    """One connection, by hand."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self._decoder = Decoder[frames.CloudFrame](frames.CloudFrame)
        self._heard: deque[frames.CloudFrame] = deque()

    async def say(self, *said: frames.EdgeFrame) -> None:
        await self.link.send(b"".join(encode(frame) for frame in said))

    async def hear(self) -> frames.CloudFrame:
        """The next frame that is no ``Ping``. Raises ``LinkError`` if there is none."""
        while not self._heard:
            data = await self.link.receive()
            if not data:
                raise LinkError(SILENT_END)
            self._heard += (each for each in self._decoder.feed(data) if not isinstance(each, frames.Ping))
        return self._heard.popleft()

    async def last_word(self) -> str:
        """Listen until the cloud ends the connection, or lets us in; what it said last."""
        last = SILENT_END
        with suppress(LinkError):
            while last != LET_IN:
                last = in_words(await self.hear(), last)
        return last


def in_words(said: frames.CloudFrame, before: str) -> str:
    match said:
        case frames.Welcome():
            return LET_IN
        case frames.Refuse(code, message) | frames.Fault(_, code, message):
            return f"{type(said).__name__} {code}: {message}"
        case _:
            return before


@asynccontextmanager
async def calling(
    host: str, port: int, source: str = STRANGER, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Caller]:
    """A connection from ``source``, which is cut at the end. Raises ``LinkError``."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            streams = await asyncio.open_connection(host, port, local_addr=(source, 0), ssl=tls)
    except (OSError, TimeoutError):
        raise LinkError(UNANSWERED) from None
    link = TcpLink(*streams)
    try:
        yield Caller(link)
    finally:
        link.abort()


class Recorded:
    """A link that keeps what was sent over it."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.address = link.address
        self.receive, self.end, self.abort = link.receive, link.end, link.abort
        self.sent: list[bytes] = []

    async def send(self, data: bytes) -> None:
        self.sent.append(data)
        await self._link.send(data)


async def log_in(caller: Caller, token: str) -> str:
    """Prove a token; what the cloud says to it."""
    proof = EdgeProof(AccessToken.parse(token), fresh_nonce())
    await caller.say(msgspec.structs.replace(NAMELESS, credential=proof.first))
    answer = await caller.hear()
    if not isinstance(answer, frames.Challenge):
        return in_words(answer, SILENT_END)
    await caller.say(frames.Proof(proof.answer(answer.credential)))
    welcome = await caller.hear()
    if isinstance(welcome, frames.Welcome):
        proof.check(welcome.credential)
    return in_words(welcome, SILENT_END)
