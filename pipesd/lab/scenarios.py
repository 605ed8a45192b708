"""Named machines and links: what a draft step, a pass and a message cost there.

The names s1 to s4 are those of PipeSD (arXiv 2605.13319); the numbers are models, not measurements.
One of one's own comes from a file, see ``scenario_file``.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from pipesd.actors.compute import Pace
from pipesd.errors import UsageError
from pipesd.lab.cycle import Cycle
from pipesd.lab.emulator import (
    LinkModel,
    LinkPhase,
    Pair,
    check_changes,
    check_drawn,
    check_duration,
    check_number,
    check_outages,
)

_MS_MAX = 60_000.0
_BITS_PER_S_MIN = 1_000.0
_BITS_PER_BYTE = 8

RATES = {"up_bits_per_s": "up_range_bits_per_s", "down_bits_per_s": "down_range_bits_per_s"}
"""What holds for good, and what new rates are drawn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What is otherwise for a while; None: as it is without phases."""

    duration_s: float
    draft_ms: float | None = None
    up_bits_per_s: float | None = None
    down_bits_per_s: float | None = None
    delay_ms: float | None = None
    alpha_ms: float | None = None
    pass_ms: float | None = None
    pass_token_ms: float | None = None

    @property
    def changed(self) -> dict[str, float]:
        """The fields of the scenario that it sets."""
        values = {name: getattr(self, name) for name in _PHASED}
        return {name: value for name, value in values.items() if value is not None}


PHASE_KEYS = tuple(field.name for field in fields(Phase))
_PHASED = PHASE_KEYS[1:]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An edge, a cloud and the link between them. Raises ``UsageError`` if a field is impossible."""

    name: str
    draft_ms: float
    """One step of the draft model (gamma)."""

    up_bits_per_s: float
    """Edge to cloud; may be infinite. Counts for nothing if ``up_range_bits_per_s`` is given."""

    down_bits_per_s: float
    """Cloud to edge; may be infinite. Counts for nothing if ``down_range_bits_per_s`` is given."""

    delay_ms: float
    """What a message travels, each way, while the next one may follow."""

    alpha_ms: float
    """How long a message occupies the link, its bytes aside (alpha)."""

    pass_ms: float
    """One pass of the target model, its tokens aside (v0)."""

    pass_token_ms: float
    """Each token in a pass (v1)."""

    jitter_ms: float = 0.0
    """Each message travels longer by something up to this."""

    loss: float = 0.0
    """Share of the messages, 0..1, that are lost and sent again, which takes ``loss_delay_ms`` longer."""

    loss_delay_ms: float = 200.0

    outages_s: tuple[Pair, ...] = ()
    """(start, end), in order: nothing leaves meanwhile, in either direction."""

    changes_every_s: float = 0.0
    """How often new rates are drawn from the ranges; 0 is never."""

    up_range_bits_per_s: Pair | None = None
    """Lowest and highest, edge to cloud."""

    down_range_bits_per_s: Pair | None = None
    """Lowest and highest, cloud to edge."""

    phases: tuple[Phase, ...] = ()
    """By turns, again and again, from the beginning on."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("name: must not be empty")
        for name in (field.name for field in fields(self) if field.name.endswith("_ms")):
            check_number(name, getattr(self, name), 0.0, _MS_MAX)
        for name in RATES:
            check_number(name, getattr(self, name), _BITS_PER_S_MIN, math.inf)
        check_number("loss", self.loss, 0.0, 1.0)
        check_outages("outages_s", self.outages_s)
        self._check_ranges()
        self._check_phases()

    def _check_phases(self) -> None:
        for phase in self.phases:
            try:
                check_duration("duration_s", phase.duration_s)
                self._in_phase(phase)
            except UsageError as error:
                raise UsageError(f"phases: {error}") from None
            for fixed, drawn in RATES.items():
                if fixed in phase.changed and getattr(self, drawn):
                    raise UsageError(f"phases: {fixed} counts for nothing beside {drawn}; leave one out")

    def _in_phase(self, phase: Phase) -> "Scenario":
        changed: dict[str, Any] = phase.changed
        return replace(self, phases=(), **changed)

    @property
    def course(self) -> "Cycle[Scenario]":
        """What holds when: itself, or what it is in its phases."""
        return Cycle(self._spans)

    @property
    def _spans(self) -> "list[tuple[float, Scenario]]":
        phased = [(phase.duration_s, self._in_phase(phase)) for phase in self.phases]
        return phased or [(math.inf, self)]

    def _check_ranges(self) -> None:
        check_changes("changes_every_s", self.changes_every_s)
        ranges = {name: getattr(self, name) for name in RATES.values()}
        for name, span in ranges.items():
            if span is not None:
                check_drawn(name, span, _BITS_PER_S_MIN)
                if not self.changes_every_s:
                    raise UsageError(f"{name}: is drawn from every changes_every_s; give that too")
        if self.changes_every_s and not any(ranges.values()):
            raise UsageError(f"changes_every_s: needs {' or '.join(ranges)}; give one, or both")

    @property
    def draft_pace(self) -> Cycle[Pace]:
        """What a draft step costs."""
        return self._pace(lambda each: Pace(each.draft_ms / 1e3))

    @property
    def pass_pace(self) -> Cycle[Pace]:
        """What a pass costs: V(n) = v0 + v1·n."""
        return self._pace(lambda each: Pace(each.pass_ms / 1e3, each.pass_token_ms / 1e3))

    def _pace(self, pace_of: "Callable[[Scenario], Pace]") -> Cycle[Pace]:
        return Cycle([(seconds, pace_of(each)) for seconds, each in self._spans])

    @property
    def uplink(self) -> LinkModel:
        """Edge to cloud."""
        return self._link("up_bits_per_s", self.up_range_bits_per_s)

    @property
    def downlink(self) -> LinkModel:
        """Cloud to edge."""
        return self._link("down_bits_per_s", self.down_range_bits_per_s)

    def _link(self, rate: str, drawn: Pair | None) -> LinkModel:
        bits_per_s = getattr(self, rate)
        return LinkModel(
            delay_s=self.delay_ms / 1e3,
            message_s=self.alpha_ms / 1e3,
            bytes_per_s=bits_per_s / _BITS_PER_BYTE,
            jitter_s=self.jitter_ms / 1e3,
            loss=self.loss,
            loss_delay_s=self.loss_delay_ms / 1e3,
            outages=self.outages_s,
            changes_every_s=self.changes_every_s if drawn else 0.0,
            drawn_bytes_per_s=(drawn[0] / _BITS_PER_BYTE, drawn[1] / _BITS_PER_BYTE) if drawn else None,
            phases=tuple(
                LinkPhase(
                    duration_s=seconds,
                    delay_s=each.delay_ms / 1e3,
                    message_s=each.alpha_ms / 1e3,
                    bytes_per_s=getattr(each, rate) / _BITS_PER_BYTE,
                )
                for seconds, each in (self._spans if self.phases else ())
            ),
        )

    def draft_pace_ms(self, agreement: float) -> float:
        """Per token, of a drafter that is never held up and whose drafts are right so often, 0..1.

        A right draft costs a step; a wrong one the trip to a verdict and back, bytes neglected. A yardstick
        rather than a bound; of phases it is the mean over time. Raises ``UsageError`` if ``agreement`` is
        impossible.
        """
        check_number("agreement", agreement, 0.0, 1.0)
        if self.phases:
            whole_s = sum(phase.duration_s for phase in self.phases)
            return sum(seconds * each.draft_pace_ms(agreement) / whole_s for seconds, each in self._spans)
        way_ms = self.alpha_ms + self.delay_ms
        correction_ms = way_ms + self.pass_ms + 2 * self.pass_token_ms + way_ms
        return agreement * self.draft_ms + (1 - agreement) * correction_ms


def scenario_named(name: str) -> Scenario:
    """The scenario of this name. Raises ``UsageError``, which lists those there are."""
    if name not in SCENARIOS:
        raise UsageError(f"scenario: {name!r} is not known; choose one of {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


_S1 = Scenario(
    name="s1",
    draft_ms=43.0,
    up_bits_per_s=20e6,
    down_bits_per_s=200e6,
    delay_ms=15.0,
    alpha_ms=0.2,
    pass_ms=25.0,
    pass_token_ms=1.0,
)

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        _S1,
        replace(_S1, name="s2", draft_ms=70.0),
        replace(_S1, name="s3", draft_ms=140.0),
        replace(
            _S1,
            name="s4",
            changes_every_s=20.0,
            up_range_bits_per_s=(10e6, 80e6),
            down_range_bits_per_s=(150e6, 280e6),
        ),
        replace(_S1, name="far", delay_ms=60.0),
        replace(_S1, name="fast", draft_ms=15.0),
        replace(
            _S1,
            name="wifi-4g",
            phases=(
                Phase(duration_s=30.0, up_bits_per_s=40e6, down_bits_per_s=100e6, delay_ms=5.0),
                # Of the order of what Ofcom measured of 4G late in 2014: 14 Mbit/s up, 15 down, and 53 ms
                # there and back; a faster way down, a busier one up that has to wait for its turn, and a
                # cloud that is further away.
                Phase(duration_s=30.0, up_bits_per_s=10e6, down_bits_per_s=30e6, delay_ms=35.0, alpha_ms=2.0),
            ),
        ),
        replace(
            _S1,
            name="throttled",
            phases=(Phase(duration_s=30.0), Phase(duration_s=30.0, draft_ms=86.0)),
        ),
    )
}
"""A laptop, a phone, a small board, a laptop whose link changes, a far cloud, a fast edge; a laptop that is
carried out of its Wi-Fi and back, and one that gets too hot."""

COMPARED = ("s1", "s2", "s3", "s4", "far", "fast")
"""Those of tables. The others are for what adapts itself while they change."""
