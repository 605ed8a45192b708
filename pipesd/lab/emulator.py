"""What a link does to messages, as arithmetic over moments that the caller gives: no clock, no socket.

A message occupies the link for ``message_s`` and its bytes at the rate of the moment, then travels for
``delay_s`` while the next one may follow. Messages wait for each other and arrive in order. Luck and drawn
rates follow from the seed alone: rates from the moment, luck from how many messages there were before.
"""

import math
import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from pipesd.errors import UsageError
from pipesd.lab.cycle import Cycle

_S_MAX = 86_400.0
_CHANGES_EVERY_S_MIN = 1e-3
_BYTES_PER_S_MIN = 1e-3

Pair = tuple[float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkPhase:
    """What one direction of a link is like for a while. Raises ``UsageError`` if a field is impossible."""

    duration_s: float
    delay_s: float
    message_s: float
    bytes_per_s: float

    def __post_init__(self) -> None:
        check_duration("duration_s", self.duration_s)
        check_number("delay_s", self.delay_s, 0.0, _S_MAX)
        check_number("message_s", self.message_s, 0.0, _S_MAX)
        check_number("bytes_per_s", self.bytes_per_s, _BYTES_PER_S_MIN, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkModel:
    """One direction of a link. Raises ``UsageError`` if a field is impossible."""

    delay_s: float = 0.0
    """What a message travels, while the next one may follow."""

    message_s: float = 0.0
    """How long a message occupies the link, its bytes aside (alpha)."""

    bytes_per_s: float = math.inf
    """At first, and for good unless rates are given or drawn."""

    jitter_s: float = 0.0
    """Each message travels longer by something between nothing and this, all equally likely."""

    loss: float = 0.0
    """How likely a message is to be lost and sent again, 0..1; it then travels ``loss_delay_s`` longer."""

    loss_delay_s: float = 0.2

    outages: tuple[Pair, ...] = ()
    """(start_s, end_s), in order: nothing leaves meanwhile, and what was half sent goes on afterwards."""

    rates: tuple[Pair, ...] = ()
    """(from_s, bytes_per_s), in order: the rate from then on."""

    changes_every_s: float = 0.0
    """Each time so much has passed, a rate is drawn from ``drawn_bytes_per_s``; 0 is never."""

    drawn_bytes_per_s: Pair | None = None
    """Lowest and highest; all between are equally likely."""

    phases: tuple[LinkPhase, ...] = ()
    """By turns, again and again, from 0 on; then ``delay_s``, ``message_s`` and ``bytes_per_s`` count for
    nothing. Drawn rates count instead of theirs."""

    def __post_init__(self) -> None:
        for name in ("delay_s", "message_s", "jitter_s", "loss_delay_s"):
            check_number(name, getattr(self, name), 0.0, _S_MAX)
        check_number("loss", self.loss, 0.0, 1.0)
        check_number("bytes_per_s", self.bytes_per_s, _BYTES_PER_S_MIN, math.inf)
        check_outages("outages", self.outages)
        _check_rates(self.rates)
        check_changes("changes_every_s", self.changes_every_s)
        if (self.drawn_bytes_per_s is None) != (self.changes_every_s == 0):
            raise UsageError("changes_every_s: goes together with drawn_bytes_per_s; give both or neither")
        if self.drawn_bytes_per_s is not None:
            check_drawn("drawn_bytes_per_s", self.drawn_bytes_per_s, _BYTES_PER_S_MIN)
        if self.rates and (self.phases or self.drawn_bytes_per_s is not None):
            other = "phases" if self.phases else "drawn_bytes_per_s"
            raise UsageError(f"rates: cannot be given together with {other}; leave one out")

    @property
    def is_plain(self) -> bool:
        """Whether every message is treated alike."""
        is_lucky = not self.jitter_s and not (self.loss and self.loss_delay_s)
        changes = self.rates or self.phases or self.drawn_bytes_per_s is not None
        return is_lucky and not self.outages and not changes

    def occupancy_s(self, message_bytes: int) -> float:
        """How long a message keeps others from leaving, at the first rate, without an outage or phases."""
        return self.message_s + message_bytes / self.bytes_per_s


class LinkEmulator:
    """One direction of a link at work; moments are seconds since it began and never go back."""

    def __init__(self, model: LinkModel, seed: int = 0) -> None:
        self.free_at = 0.0
        """When the next message may begin to leave."""

        self._occupancy_s = model.occupancy_s
        self._delay_s = model.delay_s
        self._rates = _rates_of(model, seed)
        self._course = None if model.is_plain else _Course(model, self._rates, seed)

    def send(self, now: float, message_bytes: int) -> tuple[float, float]:
        """Take a message: when the link is free again, and when the message arrives."""
        course = self._course
        if course is None:
            begins_at = self.free_at if self.free_at > now else now
            free_at = self.free_at = begins_at + self._occupancy_s(message_bytes)
            return free_at, free_at + self._delay_s
        free_at = self.free_at = course.leave(max(self.free_at, now), message_bytes)
        return free_at, course.arrive(free_at + course.travel_s(free_at))

    def bytes_per_s(self, moment: float) -> float:
        """The rate then."""
        return self._rates.at(moment)[0]

    def end(self, now: float) -> float:
        """Take the end of all messages: when it arrives. It has no length, and no luck of its own."""
        self.free_at = max(self.free_at, now)
        if self._course is None:
            return self.free_at + self._delay_s
        self.free_at = self._course.wait_open(self.free_at)
        return self._course.arrive(self.free_at + self._course.delay_s(self.free_at))


def both_ways(up: LinkModel, down: LinkModel, seed: int = 0) -> tuple[LinkEmulator, LinkEmulator]:
    """A link: edge to cloud, and cloud to edge, each with luck of its own."""
    return LinkEmulator(up, 2 * seed), LinkEmulator(down, 2 * seed + 1)


class _Course:
    """What messages meet on a link that does not treat them all alike."""

    def __init__(self, model: LinkModel, rates: "_Rates", seed: int) -> None:
        self._model = model
        self._luck = random.Random(f"luck {seed}")
        self._phases = _phases_of(model)
        self._rates = rates
        self._borders = [moment for outage in model.outages for moment in outage]
        self._arrived_at = 0.0

    def leave(self, at: float, message_bytes: int) -> float:
        """When a message has left that begins to."""
        at = self._work(at, self._phases.at(at).message_s, is_bytes=False)
        return self._work(at, message_bytes, is_bytes=True)

    def wait_open(self, at: float) -> float:
        """The first moment from ``at`` on that is in no outage."""
        return self._work(at, 0.0, is_bytes=False)

    def delay_s(self, at: float) -> float:
        """What a message travels at least that has left then."""
        return self._phases.at(at).delay_s

    def travel_s(self, at: float) -> float:
        """How long the next message travels; takes two numbers from its luck, whatever the model is."""
        late, lost = self._luck.random(), self._luck.random()
        travel_s = self.delay_s(at) + self._model.jitter_s * late
        return travel_s + self._model.loss_delay_s if lost < self._model.loss else travel_s

    def arrive(self, at: float) -> float:
        """When a message arrives that would at ``at``, were there none before it."""
        self._arrived_at = max(self._arrived_at, at)
        return self._arrived_at

    def _work(self, at: float, amount: float, *, is_bytes: bool) -> float:
        """When so many bytes or seconds of occupancy are through that begin at ``at``."""
        while True:
            is_open, until = self._is_open(at)
            speed = 1.0 if is_open else 0.0
            if is_open and is_bytes:
                speed, changes_at = self._rates.at(at)
                until = min(until, changes_at)
            done = at + amount / speed if speed else math.inf
            if done <= until:
                return done
            amount = max(0.0, amount - (until - at) * speed)
            at = until

    def _is_open(self, at: float) -> tuple[bool, float]:
        """Whether messages leave, and until when that holds."""
        place = bisect_right(self._borders, at)
        return place % 2 == 0, self._borders[place] if place < len(self._borders) else math.inf


class _Rates(Protocol):
    def at(self, moment: float) -> Pair:
        """The rate, and until when it holds."""
        ...


class _GivenRates:
    """The first rate, then those given."""

    def __init__(self, first: float, rates: Sequence[Pair]) -> None:
        self._moments = [moment for moment, _ in rates]
        self._rates = [first, *(rate for _, rate in rates)]

    def at(self, moment: float) -> Pair:
        """The rate, and until when it holds."""
        place = bisect_right(self._moments, moment)
        return self._rates[place], self._moments[place] if place < len(self._moments) else math.inf


class _PhasedRates:
    """Those of the phases."""

    def __init__(self, phases: Cycle[LinkPhase]) -> None:
        self._phases = phases

    def at(self, moment: float) -> Pair:
        """The rate, and until when it holds."""
        return self._phases.at(moment).bytes_per_s, self._phases.until(moment)


class _DrawnRates:
    """A rate for each stretch of time, drawn from the seed and the number of the stretch."""

    def __init__(self, every_s: float, lowest_and_highest: Pair, seed: int) -> None:
        self._every_s = every_s
        self._lowest, self._highest = lowest_and_highest
        self._seed = seed
        self._known = -1, 0.0

    def at(self, moment: float) -> Pair:
        """The rate, and until when it holds."""
        number = int(moment // self._every_s)
        while (number + 1) * self._every_s <= moment:  # the division may have been rounded down
            number += 1
        if self._known[0] != number:
            self._known = number, self._drawn(number)
        return self._known[1], (number + 1) * self._every_s

    def _drawn(self, number: int) -> float:
        share = random.Random(f"rate {self._seed} {number}").random()
        return self._lowest + (self._highest - self._lowest) * share


def _rates_of(model: LinkModel, seed: int) -> _Rates:
    if model.drawn_bytes_per_s is not None:
        return _DrawnRates(model.changes_every_s, model.drawn_bytes_per_s, seed)
    return _PhasedRates(_phases_of(model)) if model.phases else _GivenRates(model.bytes_per_s, model.rates)


def _phases_of(model: LinkModel) -> Cycle[LinkPhase]:
    for_good = LinkPhase(
        duration_s=_S_MAX, delay_s=model.delay_s, message_s=model.message_s, bytes_per_s=model.bytes_per_s
    )
    return Cycle([(phase.duration_s, phase) for phase in model.phases or (for_good,)])


# -- what is possible -------------------------------------------------------------------------------------


def check_number(name: str, value: float, low: float, high: float) -> None:
    """Raise ``UsageError`` unless ``value`` is within; both ends belong to it."""
    if not low <= value <= high:
        bounds = f"at least {low:g}" + (f" and at most {high:g}" if math.isfinite(high) else "")
        raise UsageError(f"{name}: must be {bounds}, not {value}")


def check_outages(name: str, outages: Sequence[Pair]) -> None:
    """Raise ``UsageError`` unless they are spans of time, one behind the other."""
    before = 0.0
    for start, end in outages:
        if not before <= start < end < math.inf:
            raise UsageError(
                f"{name}: must each begin at 0 or later, end after that, and follow the one before, "
                f"not ({start}, {end})"
            )
        before = end


def check_changes(name: str, every_s: float) -> None:
    """Raise ``UsageError`` unless it is 0, for never, or a length of time."""
    if every_s != 0:
        check_duration(name, every_s)


def check_duration(name: str, duration_s: float) -> None:
    """Raise ``UsageError`` unless it is a length of time."""
    check_number(name, duration_s, _CHANGES_EVERY_S_MIN, _S_MAX)


def check_drawn(name: str, lowest_and_highest: Pair, low: float) -> None:
    """Raise ``UsageError`` unless rates can be drawn between the two; none may be below ``low``."""
    lowest, highest = lowest_and_highest
    if not low <= lowest <= highest < math.inf:
        raise UsageError(
            f"{name}: must be the lowest and the highest rate, both finite and at least {low:g}, "
            f"not ({lowest}, {highest})"
        )


def _check_rates(rates: Sequence[Pair]) -> None:
    before = -math.inf
    for moment, rate in rates:
        if not max(before, 0.0) <= moment < math.inf or moment == before:
            raise UsageError(f"rates: must begin at 0 or later, and one after the other, not at {moment}")
        check_number("rates", rate, _BYTES_PER_S_MIN, math.inf)
        before = moment
