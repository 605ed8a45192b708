"""Experiments: recorded prompts under a policy, in a scenario, over a wire, by one of two clocks.

``pipesd-lab run`` is the command. Whatever the policy, scenario, wire and clock, the text
must be the target's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal, get_args

import msgspec

from pipesd.config import EdgeConfig
from pipesd.edge_rules import policy_of
from pipesd.engines.traces import Trace, TracePrompt, agreement
from pipesd.errors import EngineError, UsageError
from pipesd.lab.answers import Record
from pipesd.lab.heap import play_on_heap
from pipesd.lab.metrics import Figures, Setting, measured
from pipesd.lab.scenarios import Scenario
from pipesd.lab.stages import Play, play_draft_alone, play_in_wall_time, play_virtually
from pipesd.lab.wires import draft_bytes
from pipesd.planner.policies import POLICIES, SETTINGS, check_effect, policy_named
from pipesd.values import Objective, Verify

Clock = Literal["virtual", "wall"]

BASIS = "replayed and modelled"

_IDS_NAMED = 3
_EDGE_KEYS = (*SETTINGS, "window_tokens")
_ALIASES = {"n": "upper_tokens"}
KEYS = (*_EDGE_KEYS, *_ALIASES, "verify")
"""What ``--set`` can change of a policy; ``n`` is a baseline's word for ``upper_tokens``."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """What is played. Raises ``UsageError`` or ``ConfigError`` if something in it is impossible."""

    trace: Trace
    scenario: Scenario
    policy: str = "pipesd"
    changed: Mapping[str, object] = field(default_factory=dict)
    """Settings against the policy, by the names in ``KEYS``."""

    wire: str = "ids"
    clock: Clock = "virtual"
    seed: int = 0
    objective: Objective | None = None
    """What thresholds are tuned for, on the heap; None: nobody tunes."""

    @cached_property
    def play(self) -> Play:
        """The same for a stage."""
        if self.clock not in get_args(Clock):
            raise UsageError(f"clock: must be {' or '.join(get_args(Clock))}, not {self.clock!r}")
        if unknown := [name for name in self.changed if name not in KEYS]:
            raise UsageError(f"{unknown[0]}: is no setting of a policy; the keys are {', '.join(KEYS)}")
        preset = policy_named(self.policy)
        check_effect(preset, self.changed)
        draft_bytes(self.wire, 0)  # raises for an unknown wire
        changed = {_ALIASES.get(name, name): value for name, value in self.changed.items()}
        verify = _verify(changed.pop("verify", preset.verify))
        tuning = {"tuner": "edge", "objective": self.objective} if self.objective else {"tuner": "off"}
        edge = EdgeConfig(engine="replay", policy=self.policy, **tuning, **changed)  # type: ignore[arg-type]
        policy_of(edge)
        return Play(
            trace=self.trace,
            scenario=self.scenario,
            edge=edge,
            verify=verify,
            wire=self.wire,
            seed=self.seed,
        )

    @property
    def setting(self) -> Setting:
        """The same in words."""
        return Setting(
            policy=self.policy,
            scenario=self.scenario.name,
            wire=self.wire,
            clock=self.clock,
            seed=self.seed,
            basis=BASIS if self.clock == "virtual" else f"{BASIS}; in wall time",
            changed=tuple(self.changed.items()),
        )


def run(experiment: Experiment) -> Figures:
    """Play it through the production actors. Raises ``EngineError`` if a text is not the target's."""
    play = experiment.play
    if POLICIES[play.edge.policy].writers == "edge":
        return figures_of(experiment, play_draft_alone(play))
    return figures_of(
        experiment, play_virtually(play) if experiment.clock == "virtual" else play_in_wall_time(play)
    )


def simulate(experiment: Experiment) -> Figures:
    """The same figures as ``run`` by the virtual clock, from the pure sessions under a heap of events."""
    play = experiment.play
    alone = POLICIES[play.edge.policy].writers == "edge"
    return figures_of(experiment, play_draft_alone(play) if alone else play_on_heap(play))


def figures_of(experiment: Experiment, record: Record) -> Figures:
    """What its record comes to. Raises ``EngineError`` if a text is not the target's."""
    play = experiment.play
    verified = POLICIES[play.edge.policy].writers != "edge"
    if verified:
        for prompt, answer in zip(play.trace.prompts, record.answers, strict=True):
            if tuple(answer.tokens) != prompt.target:
                raise EngineError(
                    f"the text of {prompt.id} is not the recorded target's, so its figures mean nothing; "
                    "this is a fault of pipesd, or two prompts of the trace cannot be told apart"
                )
    pace_ms = play.scenario.draft_pace_ms(agreement(play.trace.prompts))
    return measured(record, experiment.setting, pace_ms, verified=verified)


def chosen(trace: Trace, ids: Sequence[str]) -> Trace:
    """The trace with these prompts only; all without any. Raises ``UsageError`` for an unknown one."""
    known: dict[str, TracePrompt] = {prompt.id: prompt for prompt in trace.prompts}
    for each in ids:
        if each not in known:
            some = ", ".join(list(known)[:_IDS_NAMED])
            raise UsageError(
                f"prompt: {each!r} is none of the {len(known)} that were recorded; "
                f"give the id of one, such as {some}"
            )
    return replace(trace, prompts=tuple(known[each] for each in ids)) if ids else trace


def settings_from(pairs: Sequence[str]) -> dict[str, object]:
    """What ``--set key=value`` says. Raises ``UsageError`` for an unknown key or an unreadable value."""
    changed: dict[str, object] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or name not in KEYS:
            raise UsageError(f"set: {pair!r} must be KEY=VALUE with one of the keys {', '.join(KEYS)}")
        if _ALIASES.get(name, name) in {_ALIASES.get(other, other) for other in changed}:
            raise UsageError(f"set: {_ALIASES.get(name, name)} is given twice; give it once")
        try:
            changed[name] = msgspec.json.decode(text) if text[:1].isdigit() or text[:1] in "-." else text
        except msgspec.DecodeError:
            raise UsageError(f"set: {text!r} is no value for {name}") from None
    return changed


def _verify(value: object) -> Verify:
    if value not in get_args(Verify):
        raise UsageError(f"verify: must be one of {', '.join(get_args(Verify))}, not {value!r}")
    return value  # type: ignore[return-value]
