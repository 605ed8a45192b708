"""The experiments of the report on PipeSD's paper: which there are, as data, and all of them played at once.

Each is played by the pure sessions on a heap of events, in as many processes as there are cores. Nothing
depends on the order or on the process: the same grid gives the same figures.
"""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import count, product

import msgspec

from pipesd.engines.choose import cores
from pipesd.engines.traces import SHIPPED, SHIPPED_SETS, Trace, read_trace, shipped_trace
from pipesd.lab.answers import UPTIME_S
from pipesd.lab.jobs import working
from pipesd.lab.metrics import Figures
from pipesd.lab.published import TABLE_1
from pipesd.lab.run import Experiment, simulate
from pipesd.lab.scenarios import COMPARED, SCENARIOS, Scenario
from pipesd.lab.stages import play_virtually
from pipesd.planner.policies import ABLATIONS
from pipesd.timeline import Side, TimelineObserver
from pipesd.trace_events import Event, merge

BASELINES = ("vanilla", "hsl", "edgellm", "edgellm-full")
POLICIES = ("cloud-only", *BASELINES, "pipesd")
"""Those of the tables, in their order."""

RIVALS = BASELINES[:3]
"""Those that the paper compares with; the fastest of them is the best baseline."""

WIRES = ("ids", "full-distribution")

PASSES_SHARE = 1.10
"""How many of the best baseline's passes thresholds of the grid may take."""

CODE = "humaneval"
Changes = tuple[tuple[str, float], ...]

_BESIDE_CODE: Mapping[str, Changes] = {
    "vanilla": (("n", 4),),
    "hsl": (("r2", 0.7),),
    "edgellm": (("r1", 0.5),),
    "edgellm-full": (("r1", 0.5),),
}
"""The paper's settings for mathematics, taken for chat too; those for code are the presets."""

_QUICK_PROMPTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One experiment, by which its figures are found."""

    trace: str
    scenario: Scenario
    policy: str
    changed: Changes = ()
    wire: str = "ids"
    prompt_tokens: int = 0
    """How long its prompts are made; 0: as recorded."""


def case(trace: str, scenario: Scenario, policy: str, *, wire: str = "ids", prompt_tokens: int = 0) -> Case:
    """A policy as the tables have it: with the settings that the paper gives a baseline for such a text."""
    changed = () if kind_of(trace) == CODE else _BESIDE_CODE.get(policy, ())
    return Case(
        trace=trace,
        scenario=scenario,
        policy=policy,
        changed=changed,
        wire=wire,
        prompt_tokens=prompt_tokens,
    )


def kind_of(trace: str) -> str:
    """``chat`` of ``q2_k/chat``."""
    return trace.rpartition("/")[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Something that is varied while all else stays as it is in the first scenario."""

    name: str
    axis: str
    usual: float
    """In that scenario; 0: it differs from prompt to prompt."""

    at: tuple[float, ...]

    def place(self, value: float) -> tuple[Scenario, int]:
        """The scenario and the length of prompts in which it has this value."""
        name = f"s1-{self.name}-{value:g}"
        match self.name:
            case "round-trip":
                return replace(_S1, name=name, delay_ms=value / 2), 0
            case "draft":
                return replace(_S1, name=name, draft_ms=value), 0
            case "pass":
                return replace(_S1, name=name, pass_ms=value), 0
            case "bandwidth":
                return replace(_S1, name=name, up_bits_per_s=value * 1e6), 0
            case _:
                return _S1, int(value)


_S1 = SCENARIOS["s1"]

BANDWIDTH = Sweep(name="bandwidth", axis="uplink, Mbit/s", usual=20.0, at=(10.0, 20.0, 40.0, 80.0))

_SWEEPS = (
    Sweep(
        name="round-trip",
        axis="round trip, ms",
        usual=30.0,
        at=(0, 10, 20, 30, 50, 75, 100, 150, 200, 250, 300),
    ),
    Sweep(
        name="prompt", axis="prompt length, tokens", usual=0.0, at=(64, 128, 256, 512, 1_024, 2_048, 4_096)
    ),
    Sweep(
        name="draft", axis="draft step, ms", usual=43.0, at=(10, 15, 20, 25, 30, 43, 55, 70, 100, 140, 200)
    ),
    Sweep(name="pass", axis="pass v0, ms", usual=25.0, at=(10, 15, 25, 40, 60, 80, 100, 120, 150, 200)),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What is played, and how much of it."""

    traces: tuple[str, ...] = SHIPPED_SETS
    """Of the tables; those that are not there are left out, and named."""

    scenarios: tuple[str, ...] = COMPARED
    studied: tuple[str, ...] = SHIPPED
    """The traces that thresholds, wires and sweeps are tried on."""

    r1: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5, 0.7, 0.85, 0.95, 0.98, 0.99)
    r2: tuple[float, ...] = (0.0, 0.3, 0.5, 0.7, 0.9, 0.98, 0.99, 0.999)
    upper_tokens: tuple[int, ...] = (8, 16, 32)
    sweeps: tuple[Sweep, ...] = _SWEEPS
    bandwidth: Sweep = BANDWIDTH
    drawn: str = "HumanEval/12"
    """The prompt whose answer is drawn as a timeline."""

    prompts_max: int | None = None
    """Of each trace; None: all."""

    seed: int = 0
    """Of the link's luck."""

    @property
    def here(self) -> tuple[str, ...]:
        """The traces of the tables that are there."""
        return tuple(name for name in self.traces if shipped_trace(name).exists())

    @property
    def places(self) -> tuple[Scenario, ...]:
        """The scenarios themselves."""
        return tuple(SCENARIOS[name] for name in self.scenarios)

    @property
    def compared(self) -> tuple[tuple[str, str], ...]:
        """The scenarios and traces of the tables that the paper has figures for."""
        pairs = TABLE_1.values
        return tuple((name, trace) for name, trace in pairs if name in self.scenarios and trace in self.here)

    def tuned(self, trace: str, scenario: Scenario) -> Iterator[Case]:
        """Pipesd with every combination of thresholds."""
        for r1, r2, upper_tokens in product(self.r1, self.r2, self.upper_tokens):
            changed: Changes = (("r1", r1), ("r2", r2), ("upper_tokens", upper_tokens))
            yield Case(trace=trace, scenario=scenario, policy="pipesd", changed=changed)


GRID = Grid()


def quick(grid: Grid) -> Grid:
    """The same with few prompts, for a look."""
    return replace(grid, prompts_max=_QUICK_PROMPTS)


# -- all cases ----------------------------------------------------------------------------------------------


def cases(grid: Grid) -> list[Case]:
    """Every case once."""
    found = (*_of_the_tables(grid), *_of_thresholds(grid), *_of_the_wire(grid), *_of_sweeps(grid))
    return list(dict.fromkeys(found))


def _of_the_tables(grid: Grid) -> Iterator[Case]:
    for trace, scenario, policy in product((*grid.here, *grid.studied), grid.places, POLICIES):
        yield case(trace, scenario, policy)


def _of_thresholds(grid: Grid) -> Iterator[Case]:
    for trace, scenario in product(grid.studied, grid.places):
        yield from grid.tuned(trace, scenario)


def _of_the_wire(grid: Grid) -> Iterator[Case]:
    for trace, policy, wire in product(grid.studied, (*POLICIES, *ABLATIONS), WIRES):
        yield case(trace, _S1, policy, wire=wire)
    for (name, trace), policy, wire in product(grid.compared, POLICIES, WIRES):
        yield case(trace, SCENARIOS[name], policy, wire=wire)
    for mbps, policy, wire in product(grid.bandwidth.at, POLICIES, WIRES):
        yield case(CODE, grid.bandwidth.place(mbps)[0], policy, wire=wire)


def _of_sweeps(grid: Grid) -> Iterator[Case]:
    for sweep in grid.sweeps:
        for trace, value, policy in product(grid.studied, sweep.at, POLICIES):
            scenario, prompt_tokens = sweep.place(value)
            yield case(trace, scenario, policy, prompt_tokens=prompt_tokens)


# -- playing them -------------------------------------------------------------------------------------------


@cache
def trace_named(name: str, prompts_max: int | None = None, prompt_tokens: int = 0) -> Trace:
    """A trace that comes with pipesd, or some of its prompts, made so long."""
    whole = read_trace(shipped_trace(name))
    trace = replace(whole, prompts=whole.prompts[:prompts_max])
    return padded(trace, prompt_tokens) if prompt_tokens else trace


def padded(trace: Trace, prompt_tokens: int) -> Trace:
    """The same answers to prompts of this length, 2 or more: repeated in front, or without their beginning.

    The first token numbers them, so that no two are the same.
    """
    marks = sorted(trace.header.pieces)[: len(trace.prompts)]
    prompts = (
        msgspec.structs.replace(
            prompt, prompt_tokens=(mark, *_ending(prompt.prompt_tokens, prompt_tokens - 1))
        )
        for mark, prompt in zip(marks, trace.prompts, strict=True)
    )
    return replace(trace, prompts=tuple(prompts))


def _ending(tokens: tuple[int, ...], length: int) -> tuple[int, ...]:
    return (tokens * math.ceil(length / len(tokens)))[-length:]


def experiment(case: Case, grid: Grid) -> Experiment:
    """What a case is, in the words of the lab."""
    return Experiment(
        trace=trace_named(case.trace, grid.prompts_max, case.prompt_tokens),
        scenario=case.scenario,
        policy=case.policy,
        changed=dict(case.changed),
        wire=case.wire,
        seed=grid.seed,
    )


def play(grid: Grid, on_progress: Callable[[int], None] = lambda _: None, *, processes: int = 0) -> "Results":
    """Play every case in so many processes, 0: one for each core; ``on_progress`` hears how many are done."""
    wanted, done = cases(grid), count(1)
    with working(processes or cores(), lambda: on_progress(next(done))) as pool:
        found = pool.do([partial(_play_one, grid, each) for each in wanted])
    return Results(grid, dict(zip(wanted, found, strict=True)))


def _play_one(grid: Grid, case: Case) -> Figures:
    return simulate(experiment(case, grid))


def timeline(case: Case, grid: Grid) -> list[Event]:
    """What both sides do while the answer to ``grid.drawn`` is written, through the production actors."""
    whole = trace_named(case.trace)
    prompt = next(each for each in whole.prompts if each.id == grid.drawn)
    play = replace(experiment(case, grid).play, trace=replace(whole, prompts=(prompt,)))
    edge, cloud = _Seen("edge"), _Seen("cloud", UPTIME_S)
    play_virtually(replace(play, observers=((edge.observer,), (cloud.observer,))))
    return merge([edge.events(), cloud.events()])


class _Seen:
    """What an observer writes, in memory."""

    def __init__(self, side: Side, offset_s: float = 0.0) -> None:
        self._out = io.BytesIO()
        self.observer = TimelineObserver(self._out, side, offset_s=offset_s)

    def events(self) -> list[Event]:
        """All of it; nothing can follow."""
        self.observer.close()
        return msgspec.json.decode(self._out.getvalue(), type=list[Event])


# -- what was played ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Results:
    """The figures of a grid, by case."""

    grid: Grid
    figures: Mapping[Case, Figures]

    def of(
        self, trace: str, scenario: Scenario, policy: str, *, wire: str = "ids", prompt_tokens: int = 0
    ) -> Figures:
        """Those of a policy as the tables have it."""
        return self.figures[case(trace, scenario, policy, wire=wire, prompt_tokens=prompt_tokens)]

    def best(self, trace: str, scenario: Scenario, *, prompt_tokens: int = 0) -> Figures:
        """The fastest baseline."""
        found = (self.of(trace, scenario, policy, prompt_tokens=prompt_tokens) for policy in RIVALS)
        return min(found, key=lambda figures: figures.tpt_ms)

    def ratio(self, trace: str, scenario: Scenario, *, prompt_tokens: int = 0) -> float:
        """The time of pipesd over that of the best baseline."""
        best = self.best(trace, scenario, prompt_tokens=prompt_tokens)
        return self.of(trace, scenario, "pipesd", prompt_tokens=prompt_tokens).tpt_ms / best.tpt_ms

    def speedup(self, trace: str, scenario: Scenario, policy: str, *, wire: str = "ids") -> float:
        """How many times as fast pipesd is."""
        slower, faster = (self.of(trace, scenario, each, wire=wire).tpt_ms for each in (policy, "pipesd"))
        return slower / faster

    def tuned(self, trace: str, scenario: Scenario) -> list[Figures]:
        """Pipesd with every combination of thresholds."""
        return [self.figures[each] for each in self.grid.tuned(trace, scenario)]

    def fastest(self, trace: str, scenario: Scenario, passes_max: float) -> Figures | None:
        """Among those with so many passes per 100 tokens, the one that takes the least time."""
        fitting = [each for each in self.tuned(trace, scenario) if each.passes_per_100 <= passes_max]
        return min(fitting, key=lambda figures: figures.tpt_ms, default=None)

    def thriftiest(self, trace: str, scenario: Scenario, tpt_max_ms: float) -> Figures | None:
        """Among those at least so fast, the one that takes the least energy."""
        fitting = [each for each in self.tuned(trace, scenario) if each.tpt_ms <= tpt_max_ms]
        return min(fitting, key=lambda figures: figures.energy_j_per_100, default=None)
