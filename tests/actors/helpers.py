"""Fakes and small tools for the tests of the shell."""

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

import pytest
import uvloop

from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.actors.connection import ConnectionLimits
from pipesd.actors.edge_runtime import EdgeRuntime
from pipesd.actors.link import Link, listening, open_tcp_link
from pipesd.actors.runtime import Hooks
from pipesd.errors import LinkError
from pipesd.vocabulary import Vocabulary
from pipesd.wire.codec import Decoder, encode
from pipesd.wire.frames import (
    PROTOCOL_VERSION,
    AnyFrame,
    CloudFrame,
    Draft,
    EdgeFrame,
    Hello,
    Open,
    Prompt,
    Verdict,
)
from tests.actors.rig import Plan, ToyDraft, ToyTarget, gateway, generate
from tests.session.world import GREEDY, VOCABULARY, target_path

T = TypeVar("T")

LoopFactory = Callable[[], asyncio.AbstractEventLoop]

PATIENCE_S = 10.0
"""Real seconds after which a test with real sockets has hung."""

HELLO = Hello(PROTOCOL_VERSION, "a test", len(VOCABULARY))

QUICK = Pace(0.0005)
ANSWER = target_path([1, 2], 20, context=10_000)

both_loops = pytest.mark.parametrize(
    "loop_factory", [asyncio.SelectorEventLoop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


def run_on(loop_factory: LoopFactory, main: Coroutine[Any, Any, T]) -> T:
    """Run with real sockets; a hang is a ``TimeoutError``."""

    async def bounded() -> T:
        async with asyncio.timeout(PATIENCE_S):
            return await main

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        return runner.run(bounded())


async def turns(number: int = 10) -> None:
    """Let all others go on for a while that takes no time."""
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Let all others go on until it holds; for what announces itself to nobody."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)


@asynccontextmanager
async def at_work(*works: Coroutine[Any, Any, None]) -> AsyncIterator[list[asyncio.Task[None]]]:
    """Tasks for the block; what they raise before its end is raised."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(work) for work in works]
        await turns()
        yield tasks
        for task in tasks:
            task.cancel()


@contextmanager
def uncollected() -> Iterator[None]:
    """No collector comes for what lies in circles, which may take it minutes elsewhere too."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class FakeLink:
    """A link whose other end is the test. ``hold`` keeps sends waiting; ``arrive`` gives bytes to receive."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.ended = False
        self.aborted = False
        self._arrived: asyncio.Queue[bytes | LinkError] = asyncio.Queue()
        self._open = asyncio.Event()
        self._open.set()

    def arrive(self, *news: bytes | LinkError) -> None:
        for each in news:
            self._arrived.put_nowait(each)

    @property
    def unread(self) -> int:
        return self._arrived.qsize()

    def hold(self) -> None:
        self._open.clear()

    def let_go(self) -> None:
        self._open.set()

    @property
    def address(self) -> str:
        return ""

    async def send(self, data: bytes) -> None:
        await self._open.wait()
        if self.aborted or self.ended:
            raise LinkError("the connection was lost (faked)")
        self.sent.append(data)

    async def receive(self) -> bytes:
        news = await self._arrived.get()
        if isinstance(news, LinkError) or not news:
            self._arrived.put_nowait(news)
        if isinstance(news, LinkError):
            raise news
        return news

    async def end(self) -> None:
        if self.aborted:
            raise LinkError("the connection was lost (faked)")
        self.ended = True

    def abort(self, reason: str = "the connection was lost (faked)") -> None:
        self.aborted = True
        self._open.set()
        self.arrive(LinkError(reason))


FrameT = TypeVar("FrameT", bound=AnyFrame)


class Talker(Generic[FrameT]):
    """One side of the protocol played by hand over any link."""

    def __init__(self, link: Link, heard: object) -> None:
        self.link = link
        self._decoder: Decoder[FrameT] = Decoder(heard)
        self._frames: list[FrameT] = []

    async def say(self, *frames: AnyFrame) -> None:
        await self.link.send(b"".join(encode(frame) for frame in frames))

    async def hear(self) -> FrameT:
        """The next frame; raises ``LinkError`` if the link ends before."""
        while not self._frames:
            data = await self.link.receive()
            if not data:
                raise LinkError("the other side ended")
            self._frames += self._decoder.feed(data)
        return self._frames.pop(0)

    async def hear_all(self) -> list[FrameT]:
        """Every frame up to the end, be it clean or not."""
        heard: list[FrameT] = []
        with suppress(LinkError):
            while True:
                heard.append(await self.hear())
        return heard


class RudePeer:
    """A plain socket with as small a receive buffer as there is; it can vanish with a reset."""

    def __init__(self) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        self._socket.setblocking(False)
        self._loop = asyncio.get_running_loop()

    @property
    def address(self) -> str:
        return ""

    async def connect(self, address: tuple[str, int]) -> None:
        await self._loop.sock_connect(self._socket, address)

    async def send(self, data: bytes) -> None:
        try:
            await self._loop.sock_sendall(self._socket, data)
        except OSError as error:
            raise LinkError("it was cut") from error

    async def receive(self) -> bytes:
        try:
            return await self._loop.sock_recv(self._socket, 1 << 16)
        except OSError as error:
            raise LinkError("it was cut") from error

    async def end(self) -> None:
        self._socket.shutdown(socket.SHUT_WR)

    def abort(self, reason: str = "") -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._socket.close()


@asynccontextmanager
async def rude_caller(address: tuple[str, int]) -> AsyncIterator[Talker[CloudFrame]]:
    """An edge by hand that vanishes with a reset at the end."""
    peer = RudePeer()
    try:
        await peer.connect(address)
        yield Talker(peer, CloudFrame)
    finally:
        peer.abort()


@asynccontextmanager
async def caller(address: tuple[str, int]) -> AsyncIterator[Talker[CloudFrame]]:
    """An edge by hand over a real socket; gone without ceremony at the end."""
    link = await open_tcp_link(*address, PATIENCE_S)
    try:
        yield Talker(link, CloudFrame)
    finally:
        link.abort()
        await turns()


# -- a cloud on a real socket, and peers of every kind -------------------------------------------------------


def quick_plan(**changes: Any) -> Plan:
    """Models and limits that let a test end within milliseconds."""
    limits = ConnectionLimits(queued_frames=16, stall_s=0.1, stop_s=0.1)
    return replace(Plan(draft_pace=QUICK, pass_pace=QUICK, limits=limits), **changes)


@asynccontextmanager
async def serving(plan: Plan) -> AsyncIterator[tuple[str, int]]:
    """A gateway; gives its address."""
    async with gateway(plan) as served, listening("127.0.0.1", 0, served.accept) as address:
        yield address


@asynccontextmanager
async def edge_at(plan: Plan, address: tuple[str, int]) -> AsyncIterator[EdgeRuntime]:
    """A real edge, ready."""
    link: Link = await open_tcp_link(*address, PATIENCE_S)
    engine = ToyDraft(always_right=plan.always_right)
    compute = ModelledCompute(plan.draft_pace)
    runtime = EdgeRuntime(plan.rules, link, engine, compute, stop_s=1.0, hooks=Hooks())
    async with runtime.running():
        await runtime.wait_ready()
        yield runtime


async def answer_of(plan: Plan, address: tuple[str, int]) -> list[int]:
    """What a real edge gets for an answer; ``ANSWER`` if all is well."""
    async with edge_at(plan, address) as runtime:
        return await generate(runtime, [1, 2], tokens_max=len(ANSWER))


async def wait_answering(talker: Talker[CloudFrame]) -> None:
    """Until the cloud is in the middle of a long answer."""
    asking = Prompt(0, 1, 0, (1, 2), GREEDY, 0, 5_000)
    await talker.say(HELLO, Open(0), asking, Draft(0, 1, 2, (), 34))
    while not isinstance(await talker.hear(), Verdict):
        pass


class BulkyTokenizer:
    vocabulary = Vocabulary([bytes(100)] * 1_000)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        return list(text.encode())


@dataclass
class BulkyTarget(ToyTarget):
    """A block of its vocabulary is 100 kB, for a request of a few bytes."""

    tokenizer = BulkyTokenizer()  # type: ignore[assignment]


@dataclass
class Insatiable:
    """Sends ``frame`` again and again, never reads, and ends when it is cut."""

    frame: EdgeFrame
    at_once: int
    sent: int = 0
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self, address: tuple[str, int]) -> None:
        async with rude_caller(address) as talker:
            with suppress(LinkError):
                await talker.say(HELLO)
                while True:
                    await talker.say(*[self.frame] * self.at_once)
                    self.sent += self.at_once
                    await asyncio.sleep(0)
        self.cut.set()
