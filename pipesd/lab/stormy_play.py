"""A trip in virtual time, through the production actors, in a storm or without one."""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

from pipesd.actors.edge_runtime import EdgeRuntime
from pipesd.actors.link import Link
from pipesd.actors.runtime import Hooks
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge_rules import edge_rules
from pipesd.engines.scripted import ScriptedDraft
from pipesd.errors import LinkError, PipeSDError
from pipesd.lab.clock import run_virtually
from pipesd.lab.faults import FaultModel
from pipesd.lab.link import memory_link
from pipesd.lab.phased import PhasedCompute
from pipesd.lab.storm import Storm
from pipesd.lab.stormy_cloud import CHUNK_TOKENS, ENDS_EVERY, CloudHost
from pipesd.lab.stormy_trip import Talk, Trip
from pipesd.lab.stormy_user import DEADLINE_S, TRY_AGAIN_S, Part, User
from pipesd.session.commands import AnnounceReady, NoteAway, SendFrame
from pipesd.session.events import DeadlineReached, FrameReceived
from pipesd.session.line import BREACHES
from pipesd.wire.frames import AnyFrame, Bye, Fault, Resumed

logger = logging.getLogger("pipesd.lab")

WEIGHTS = {"cut": 45.0, "stall": 30.0, "restart": 15.0, "engine": 10.0}

AMBUSHES = {"Prompt": 0.4, "Cancel": 0.4, "Resume": 0.1, "Restore": 0.1}
"""Share of the frames, by name, soon after which one fault more strikes."""

SOON_WAYS = 4.0
"""Soon is at once, or within so many times what a message travels."""

DOWN_S_MAX = 1.0
"""A cloud that was killed is back within so long."""

ROLLING = 1 / 3
"""Share of the restarts in which another cloud takes over at once, and the old one ends in good order."""

STALL_S = (0.05, 2.0)
"""Shortest and longest stall."""

SHORT_S, LONG_S = (0.2, 0.6), (10.0, 30.0)
"""Silence after which the other side is asked for a sign of life, and given up."""

_DRAIN_S = 0.5
_STOP_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """Which faults come."""

    every_s: float
    """The mean time from one to the next."""

    weights: Mapping[str, float] = field(default_factory=lambda: dict(WEIGHTS))
    ambushes: Mapping[str, float] = field(default_factory=lambda: dict(AMBUSHES))


@dataclass(slots=True)
class TripRecord:
    """What came of a trip."""

    parts: list[Part] = field(default_factory=list)
    drawn: int = 0
    """Faults that came in all, with those that found no connection, or a cloud that was down."""

    faults: Counter[str] = field(default_factory=Counter)
    """Those that took effect, by kind."""

    ambushes: Counter[str] = field(default_factory=Counter)
    """How many of them came on purpose, by the frame that they came soon after, or as a reader left."""

    line: Counter[str] = field(default_factory=Counter)
    """What became of connections and sessions."""

    away_s: float = 0.0
    """How long there was no connection that could be used."""

    lasted_s: float = 0.0
    problems: list[str] = field(default_factory=list)
    """What ended a conversation that should have gone on."""


def play_trip(trip: Trip, weather: Weather | None) -> TripRecord:
    """Play it, in this weather or without any faults; the same call gives the same record."""
    record = TripRecord()
    try:
        run_virtually(_played(trip, weather, record))
    except Exception as error:  # what is wrong with pipesd must not hide what else is
        logger.debug("! trip %d", trip.number, exc_info=True)
        record.problems.append(f"a fault of pipesd ({type(error).__name__}: {error})")
    return record


async def _played(trip: Trip, weather: Weather | None, record: TripRecord) -> None:
    async with asyncio.TaskGroup() as hands:
        play = _Play(trip, weather, record, hands)
        try:
            await play.run()
        finally:
            play.close()


class _Play:
    """One edge, its clouds, and the storm between them."""

    def __init__(
        self, trip: Trip, weather: Weather | None, record: TripRecord, hands: asyncio.TaskGroup
    ) -> None:
        self._trip = trip
        self._weather = weather
        self._record = record
        self._luck = random.Random(f"play {trip.seed}")
        self._links = 0
        config = _cloud_config(trip)
        self._hosts = [CloudHost(config, trip.scenario, hands, self._note_loss) for _ in range(trip.clouds)]
        for host in self._hosts:
            host.start()
        self._serving = self._hosts[0]
        self._storm: Storm | None = None
        if weather is not None:
            model = FaultModel(
                every_s=weather.every_s, weights=weather.weights, seed=trip.seed, stall_s=STALL_S
            )
            self._storm = Storm(model, {"restart": self._restart, "engine": self._fail_engine})

    async def run(self) -> None:
        """The whole trip; it ends in a stall, if there are faults."""
        async with AsyncExitStack() as stack:
            runtime = await self._connected(stack)
            async with asyncio.TaskGroup() as users:
                for talk in self._trip.talks:
                    users.create_task(self._converse(runtime, talk))
            if self._storm is not None:
                self._storm.strike("stall")
                self._storm.stop()

    async def _converse(self, runtime: EdgeRuntime, talk: Talk) -> None:
        try:
            await User(runtime, self._trip, self._record.parts.append, self._stall).converse(talk)
        except TimeoutError:
            self._record.problems.append(f"no end of an answer within {DEADLINE_S:g} s")
        except PipeSDError as error:
            self._record.problems.append(str(error))

    def close(self) -> None:
        """Leave nothing at work, and count what struck."""
        self._record.lasted_s = asyncio.get_running_loop().time()
        if self._storm is not None:
            self._storm.stop()
            self._record.drawn = self._storm.drawn
            for kind in ("cut", "stall"):
                self._record.faults[kind] = self._storm.injected[kind]
        for host in self._hosts:
            host.close()

    # -- the edge ---------------------------------------------------------------------------------------

    async def _connected(self, stack: AsyncExitStack) -> EdgeRuntime:
        """The edge, ready; its user starts it anew until the first connection comes about."""
        while (runtime := await self._started(stack)) is None:  # noqa: ASYNC110 - nobody says when
            await asyncio.sleep(TRY_AGAIN_S)
        return runtime

    async def _started(self, stack: AsyncExitStack) -> EdgeRuntime | None:
        engine = ScriptedDraft(ends_every=ENDS_EVERY)
        rules = replace(edge_rules(_edge_config(self._trip), engine.context_tokens), luck=self._trip.seed)
        drafting = PhasedCompute(self._trip.scenario.draft_pace, asyncio.get_running_loop().time)
        hooks = Hooks(observers=(_Watcher(self._record, self._ambush),))
        try:
            async with AsyncExitStack() as attempt:
                link = await self._dial(0)
                runtime = EdgeRuntime(
                    rules, link, engine, drafting, stop_s=_STOP_S, hooks=hooks, dial=self._dial
                )
                await attempt.enter_async_context(runtime.running())
                await runtime.wait_ready()
                stack.push_async_exit(attempt.pop_all())
        except LinkError:
            return None
        return runtime

    async def _dial(self, number: int) -> Link:
        """Connecting takes a way there and one back."""
        scenario = self._trip.scenario
        await asyncio.sleep(2 * scenario.delay_ms / 1e3)
        host, seed = self._hosts[number], self._trip.seed + self._links
        ours, theirs = memory_link(scenario.uplink, scenario.downlink, seed=seed, storm=self._storm)
        host.accept(theirs)
        self._links += 1
        self._serving = host
        return ours

    # -- faults -----------------------------------------------------------------------------------------

    def _restart(self) -> None:
        if not self._serving.is_up:
            return
        self._record.faults["restart"] += 1
        if self._luck.random() < ROLLING:
            self._serving.replace()
        else:
            self._serving.kill(self._luck.uniform(0.0, DOWN_S_MAX))

    def _fail_engine(self) -> None:
        self._serving.fail_engine()

    def _note_loss(self) -> None:
        self._record.faults["engine"] += 1

    def _stall(self) -> None:
        if self._storm is not None:
            self._record.ambushes["leave"] += 1
            self._storm.strike("stall")

    def _ambush(self, frame: AnyFrame) -> None:
        """Let another fault strike soon after this frame, now and then."""
        storm, weather, name = self._storm, self._weather, type(frame).__name__
        if storm is None or weather is None or self._luck.random() >= weather.ambushes.get(name, 0.0):
            return
        self._record.ambushes[name] += 1
        kind = self._luck.choices(list(weather.weights), list(weather.weights.values()))[0]
        within_s = self._luck.uniform(0.0, SOON_WAYS * self._trip.scenario.delay_ms / 1e3)
        soon_s = self._luck.choice((0.0, within_s))
        asyncio.get_running_loop().call_later(soon_s, storm.strike, kind)


class _Watcher:
    """Counts what becomes of the connection of an edge, and tells of the frames that it sends."""

    def __init__(self, record: TripRecord, on_sent: Callable[[AnyFrame], None]) -> None:
        self._record = record
        self._counted = record.line
        self._on_sent = on_sent
        self._away_since: float | None = None

    def observe(self, now: float, event: object, commands: Sequence[object]) -> None:
        """Look for frames and for the connection's coming and going."""
        if isinstance(event, FrameReceived) and isinstance(event.frame, Resumed):
            self._counted["taken up without its text" if event.frame.need else "taken up"] += 1
        if isinstance(event, FrameReceived):
            self._note_blame("cloud", event.frame)
        for command in commands:
            match command:
                case SendFrame(frame):
                    self._on_sent(frame)
                    self._note_blame("edge", frame)
                case AnnounceReady():
                    self._counted["connected"] += 1
                    self._record.away_s += 0.0 if self._away_since is None else now - self._away_since
                    self._away_since = None
                case NoteAway():
                    self._counted["tried in vain" if self._away_since is not None else _why(event)] += 1
                    self._away_since = now if self._away_since is None else self._away_since
                case _:
                    pass

    def _note_blame(self, side: str, frame: AnyFrame) -> None:
        """Nobody may take the other for a stranger: no fault in here changes what is said."""
        if isinstance(frame, Fault) and frame.code in BREACHES:
            self._record.problems.append(f"the {side} thought its peer broke the protocol: {frame.message}")


def _why(event: object) -> str:
    """What a connection ended by."""
    if isinstance(event, DeadlineReached):
        return "given up as silent"
    if isinstance(event, FrameReceived) and isinstance(event.frame, Bye):
        return "asked to move"
    return "lost"


def _edge_config(trip: Trip) -> EdgeConfig:
    ping_s, silent_s = SHORT_S if trip.short_patience else LONG_S
    return EdgeConfig(
        engine="scripted",
        policy=trip.policy,
        tuner="off",
        offline=trip.offline,
        cloud=",".join(f"127.0.0.1:{1 + number}" for number in range(trip.clouds)),
        ping_after_s=ping_s,
        silent_after_s=silent_s,
    )


def _cloud_config(trip: Trip) -> CloudConfig:
    ping_s, silent_s = SHORT_S if trip.short_patience else LONG_S
    return CloudConfig(
        engine="scripted",
        tuner="off",
        chunk_tokens=CHUNK_TOKENS,
        kv_sequences=trip.kv_sequences,
        window_tokens=trip.window_tokens,
        verify=trip.verify,
        lease_s=trip.lease_s,
        drain_s=_DRAIN_S,
        ping_after_s=ping_s,
        silent_after_s=silent_s,
    )
