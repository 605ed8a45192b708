"""The edges of the soak, who check every token, and the strangers beside them. A seed says what they do.

An edge connects, talks in several sessions at once, leaves, and comes back with other settings. What it is
told must be what the target by itself says, as far as it goes; the first text that is not ends the soak.
"""

import asyncio
import itertools
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic as now

from benchmarks.soak_processes import PING_S, SILENT_S, Access
from pipesd import Edge, EdgeConfig, Generation, LinkError, RefusedError, Sampling, Session, connect
from pipesd.engines.alone import TextAlone
from pipesd.engines.scripted import WORDS, ScriptedTarget
from pipesd.observe import StatsObserver
from pipesd.session.commands import NoteAway
from pipesd.values import Finish, Offline

SESSIONS = 2
"""Of an edge, at once."""

LIFE_S = 5.0, 40.0
LEAVES_ABRUPTLY = 0.2
"""How often an edge is cancelled in the middle of it all, instead of leaving when its answers are over."""

TURNS_MAX = 6
THINK_S_MAX = 0.5
TAKES_BACK = 0.15
LEAVES_EARLY, GIVES_UP = 0.2, 0.1
PROMPT_WORDS = ((1, 4), (5, 40), (100, 250))
TOKENS_MAX = 200
ROOM_TOKENS = 3_500
"""A text that is longer is not gone on with; a word of a prompt has up to eight tokens."""

DRAFT_MS = 0.0, 10.0, 20.0, 20.0, 40.0
OFFLINE: tuple[Offline, ...] = "wait", "draft", "stop"
SAMPLINGS = Sampling(), Sampling(), Sampling(1.0), Sampling(0.7, top_p=0.9), Sampling(0.9, top_k=20)

HANG_S = 120.0
"""An answer that takes longer hangs, and so does a stranger whom the cloud keeps for longer."""

CONNECT_S, TRY_AGAIN_S = 3.0, 0.1
STRANGER_EVERY_S = 2.0


OF_THE_LINK = (
    "the other side closed the connection",
    "the connection was lost",
    "nothing was heard",
    "no greeting came within",
    "did not complete the greeting",
    "the other side has read nothing",
    "did not answer within",
    "cannot be trusted, or speaks no TLS",
    "cannot connect to",
)
"""Why a connection may be given up here. All else is a fault of pipesd, for TLS lets nothing be changed."""


class SoakError(Exception):
    """Something was found that must not be."""


@dataclass
class Absences:
    """Counts why edges gave connections up: an observer."""

    reasons: Counter[str] = field(default_factory=Counter)

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Count it."""
        for command in commands:
            if isinstance(command, NoteAway):
                reason = command.reason
                self.reasons[next((known for known in OF_THE_LINK if known in reason), reason)] += 1

    def faults(self) -> list[str]:
        """Those that no link can have caused."""
        return [reason for reason in self.reasons if reason not in OF_THE_LINK]


@dataclass
class Tally:
    """What has been done so far."""

    answers: Counter[str] = field(default_factory=Counter)
    """By how they ended."""

    edges: Counter[str] = field(default_factory=Counter)
    """By how they came and went."""

    strangers: Counter[str] = field(default_factory=Counter)
    sessions: int = 0
    tokens: int = 0
    sampled: int = 0
    """Of the tokens, those at a temperature above 0."""

    prompt_tokens: int = 0
    shown: int = 0
    """Drafts that were shown while no cloud was there."""

    absences: Absences = field(default_factory=Absences)


@dataclass
class Scene:
    """Where it takes place, and for how long."""

    cloud: tuple[str, int]
    """Where strangers come to."""

    relay: tuple[str, int]
    """Where edges come to."""

    access: Access
    until: float
    sessions_max: int
    tally: Tally = field(default_factory=Tally)
    steps: StatsObserver = field(default_factory=StatsObserver)
    """What the sides of all edges were told and decided, by name."""

    target: ScriptedTarget = field(default_factory=lambda: ScriptedTarget(context_tokens=8_192))
    sequences: "itertools.count[int]" = field(default_factory=itertools.count)

    def is_over(self) -> bool:
        """Whether nothing is to be begun any more."""
        return now() >= self.until or self.tally.sessions >= self.sessions_max

    def config(self, address: tuple[str, int], token: str, luck: random.Random) -> EdgeConfig:
        """An edge of this moment."""
        return EdgeConfig(
            cloud="{}:{}".format(*address),
            token=token,
            tls_ca=self.access.certificate,
            engine="scripted",
            tuner="off",
            draft_ms=luck.choice(DRAFT_MS),
            offline=luck.choice(OFFLINE),
            ping_after_s=PING_S,
            silent_after_s=SILENT_S,
            connect_timeout_s=CONNECT_S,
        )


# -- edges --------------------------------------------------------------------------------------------------


async def edge_after_edge(scene: Scene, luck: random.Random) -> None:
    """Connect, talk, leave, and again."""
    while not scene.is_over():
        life_s = luck.uniform(*LIFE_S)
        is_abrupt = luck.random() < LEAVES_ABRUPTLY
        config = scene.config(scene.relay, scene.access.token, luck)
        try:
            async with asyncio.timeout(life_s if is_abrupt else None):
                await _live(scene, config, luck, now() + life_s)
        except TimeoutError:
            scene.tally.edges["left abruptly"] += 1
        except LinkError:
            scene.tally.edges["could not connect"] += 1
            await asyncio.sleep(TRY_AGAIN_S)


async def _live(scene: Scene, config: EdgeConfig, luck: random.Random, until: float) -> None:
    async with connect(config, observers=[scene.steps, scene.tally.absences]) as edge:
        scene.tally.edges["came"] += 1
        async with asyncio.TaskGroup() as group:
            for _ in range(SESSIONS):
                group.create_task(_session_after_session(scene, edge, random.Random(luck.random()), until))


async def _session_after_session(scene: Scene, edge: Edge, luck: random.Random, until: float) -> None:
    while now() < until and not scene.is_over():
        scene.tally.sessions += 1
        async with edge.session() as session:
            speaker = Speaker(scene, session, edge.config.offline, luck)
            try:
                for _ in range(luck.randint(1, TURNS_MAX)):
                    if session.length < ROOM_TOKENS and not scene.is_over():
                        await speaker.take_turn()
                        await asyncio.sleep(luck.uniform(0.0, THINK_S_MAX))
            finally:
                speaker.leave()


class Speaker:
    """One conversation, and what the target by itself says in it."""

    def __init__(self, scene: Scene, session: Session, offline: Offline, luck: random.Random) -> None:
        self._tally = scene.tally
        self._session = session
        self._offline = offline
        self._luck = luck
        self._truth = TextAlone(scene.target, next(scene.sequences))

    async def take_turn(self) -> None:
        """Say something, and read the answer, or a part of it. Raises ``SoakError`` if it is wrong."""
        luck, length = self._luck, self._session.length
        base = luck.randint(0, length) if luck.random() < TAKES_BACK else length
        sampling, seed = luck.choice(SAMPLINGS), luck.getrandbits(32)
        tokens_max = luck.randint(1, TOKENS_MAX)
        answer = self._session.generate(
            self._prompt(), base=base, sampling=sampling, seed=seed, tokens_max=tokens_max
        )
        got: list[int] = []
        end = await self._read(answer, got)
        self._tally.answers[end] += 1
        if not answer.prompt_ids:  # it could not begin
            await asyncio.sleep(TRY_AGAIN_S)
            return
        path = self._truth.answer(
            base, answer.prompt_ids, sampling=sampling, seed=seed, tokens_max=tokens_max
        )
        right = list(itertools.islice(path, len(got)))
        if end == "whole":
            finish = answer.result.finish if answer.result is not None else None
            _require(_end_of(path) == finish, "an answer ended otherwise than the target's")
        _require(got == right, f"a text is not the target's own, but says {got} instead of {right}")
        _require(
            self._session.length == base + len(answer.prompt_ids) + len(got), "a text has another length"
        )
        self._tally.tokens += len(got)
        self._tally.sampled += 0 if sampling.greedy else len(got)
        self._tally.prompt_tokens += len(answer.prompt_ids)

    def leave(self) -> None:
        """The conversation is over."""
        self._truth.release()

    def _prompt(self) -> str:
        luck = self._luck
        return "".join(luck.choices(WORDS, k=luck.randint(*luck.choice(PROMPT_WORDS))))

    async def _read(self, answer: Generation, got: list[int]) -> str:
        """How it ends; what is confirmed goes to ``got``."""
        manner = self._luck.random()
        enough = self._luck.randint(1, 60) if manner < LEAVES_EARLY else None
        patience_s = self._luck.uniform(0.05, 1.0) if 0.0 <= manner - LEAVES_EARLY < GIVES_UP else None
        try:
            async with asyncio.timeout(patience_s or HANG_S):
                async for piece in answer:
                    if piece.verified:
                        got += piece.tokens
                    else:
                        self._tally.shown += len(piece.tokens)
                    if enough is not None and len(got) >= enough:
                        return "left early"
        except TimeoutError:
            _require(patience_s is not None, f"an answer has not come to its end within {HANG_S:g} s")
            return "given up"
        except LinkError:
            if self._offline != "stop":
                raise
            return "stopped, the cloud being away" if answer.prompt_ids else "not begun, the cloud being away"
        return "whole"


def _end_of(path: Generator[int, None, Finish]) -> Finish | None:
    """Why the target ends here; None if it does not."""
    try:
        next(path)
    except StopIteration as end:
        finish: Finish = end.value
        return finish
    return None


def _require(is_so: bool, otherwise: str) -> None:
    if not is_so:
        raise SoakError(otherwise)


# -- strangers ----------------------------------------------------------------------------------------------


async def strangers(scene: Scene, luck: random.Random) -> None:
    """One after another; some stay until they are shown out."""
    ways = {
        "garbage": lambda: _intrude(scene, luck.randbytes(luck.randint(1, 5_000))),
        "garbage in TLS": lambda: _intrude(scene, luck.randbytes(luck.randint(1, 5_000)), is_secure=True),
        "silent": lambda: _intrude(scene, b""),
        "silent in TLS": lambda: _intrude(scene, b"", is_secure=True),
        "connects and leaves": lambda: _intrude(scene, None),
        "wrong token": lambda: _pretend(scene, luck),
    }
    async with asyncio.TaskGroup() as group:
        while not scene.is_over():
            await asyncio.sleep(luck.expovariate(1 / STRANGER_EVERY_S))
            kind = luck.choice(list(ways))
            scene.tally.strangers[kind] += 1
            group.create_task(_shown_out(kind, ways[kind]()))


async def _shown_out(kind: str, visit: Awaitable[None]) -> None:
    try:
        async with asyncio.timeout(HANG_S):
            await visit
    except TimeoutError:
        raise SoakError(f"a stranger ({kind}) was kept for more than {HANG_S:g} s") from None


async def _intrude(scene: Scene, says: bytes | None, *, is_secure: bool = False) -> None:
    """Connect and say that, and stay until the cloud has closed; with None, close at once."""
    context = ssl.create_default_context(cafile=scene.access.certificate) if is_secure else None
    with suppress(OSError):  # it may show us the door at any moment
        reader, writer = await asyncio.open_connection(*scene.cloud, ssl=context)
        try:
            if says is not None:
                writer.write(says)
                await writer.drain()
                while await reader.read(1 << 16):
                    pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()


async def _pretend(scene: Scene, luck: random.Random) -> None:
    """Come as an edge, with a token that the cloud does not know."""
    try:
        async with connect(scene.config(scene.cloud, scene.access.unknown_token, luck)):
            raise SoakError("an edge with an unknown token was let in")
    except RefusedError as error:
        _require(error.code == "auth", f"an unknown token was refused for another reason: {error}")
