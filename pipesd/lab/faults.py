"""Faults of a link: which strike when, and what they do to a message. All of it follows from a seed.

What any network may do is ``HONEST``: pipesd survives it, and its text stays right. Within a stream TCP
repeats, loses and changes nothing; ``TAMPERING`` stands for a hostile or broken box in between. With TLS it
is never believed: the connection breaks, as if it had been cut. Without TLS what is noticed costs the
connection. But a frame that was struck may be well formed still, with another token or without its question:
then the text is wrong, or an answer is waited for in vain.
"""

import math
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipesd.errors import UsageError
from pipesd.lab.emulator import Pair, check_duration, check_number

HONEST = ("cut", "reset", "stall", "half-close", "delay")
"""``cut``: both ends lose the connection, and what was on its way. ``reset``: the same, behind a part of a
message. ``stall``: for a while nothing passes, not even that an end went away. ``half-close``: one direction
ends in good order, and swallows what still comes. ``delay``: a message is late, and those behind it wait."""

TAMPERING = ("duplicate", "truncate", "garbage")
"""``duplicate``: a stretch of a message comes twice. ``truncate``: a stretch is missing. ``garbage``: random
bytes are put into a message, or bits of a stretch are flipped. A stretch is not all of a message, unless that
is one byte: a message of a single frame cannot go missing or come again as a whole."""

KINDS = HONEST + TAMPERING

Direction = Literal["up", "down"]

_WAYS: tuple[Direction, Direction] = ("up", "down")


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkFault:
    """One fault, with whatever luck there is in it."""

    at_s: float
    """When it comes, from the beginning of the storm."""

    kind: str
    direction: Direction
    """Up is from the edge to the cloud. What takes both directions takes no notice."""

    pick: float
    """Which of the links there are, 0..1 without 1."""

    lasts_s: float
    """How long a stall or a delay is; 0 for the others."""

    place: float
    """Where in a message, 0..1 without 1."""

    noise: bytes
    """Random bytes without a zero, as many as the stretch that is repeated, missing or changed."""

    inserts: bool
    """Whether garbage comes between the bytes there are; otherwise it flips bits of theirs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultModel:
    """How often which faults come. Raises ``UsageError`` if a field is impossible."""

    every_s: float
    """The mean time from one to the next; the times are exponential."""

    weights: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(HONEST, 1.0))
    """How often each kind comes, beside the others."""

    seed: int = 0

    stall_s: Pair = (0.05, 2.0)
    """Shortest and longest; all between are equally likely."""

    delay_s: Pair = (0.01, 0.5)
    """Shortest and longest; all between are equally likely."""

    stretch_bytes_max: int = 16

    def __post_init__(self) -> None:
        check_duration("every_s", self.every_s)
        for kind, weight in self.weights.items():
            check_number(f"weights: {kind}", weight, 0.0, math.inf)
        if not 0 < sum(self.weights.values()) < math.inf:
            raise UsageError("weights: must be finite and not all 0; give one kind a weight at least")
        for name in ("stall_s", "delay_s"):
            shortest, longest = getattr(self, name)
            check_duration(name, shortest)
            check_duration(name, longest)
            if longest < shortest:
                raise UsageError(f"{name}: the longest must not be below the shortest")
        check_number("stretch_bytes_max", self.stretch_bytes_max, 1, 1 << 16)

    def faults(self) -> Iterator[LinkFault]:
        """All of them, in order and without end: the same ones whenever it is called."""
        luck = random.Random(f"faults {self.seed}")
        kinds, weights = list(self.weights), list(self.weights.values())
        at_s = 0.0
        while True:
            at_s += luck.expovariate(1 / self.every_s)
            yield self._drawn(at_s, luck.choices(kinds, weights)[0], luck)

    def fault(self, kind: str, at_s: float, number: int) -> LinkFault:
        """One beside that sequence, for who picks kind and moment; its luck follows from ``number``."""
        return self._drawn(at_s, kind, random.Random(f"fault {self.seed} {number}"))

    def _drawn(self, at_s: float, kind: str, luck: random.Random) -> LinkFault:
        """Takes as much from its luck whatever the kind is."""
        direction = luck.choice(_WAYS)
        pick, share, place = luck.random(), luck.random(), luck.random()
        stretch = luck.randint(1, self.stretch_bytes_max)
        shortest, longest = {"stall": self.stall_s, "delay": self.delay_s}.get(kind, (0.0, 0.0))
        return LinkFault(
            at_s=at_s,
            kind=kind,
            direction=direction,
            pick=pick,
            lasts_s=shortest + (longest - shortest) * share,
            place=place,
            noise=bytes(luck.choices(range(1, 256), k=self.stretch_bytes_max))[:stretch],
            inserts=luck.random() < 0.5,
        )


def spoilt(fault: LinkFault, message: bytes) -> bytes:
    """What is left of a message that one of the kinds strikes that change messages; may be nothing."""
    length = len(message)
    if fault.kind == "reset":
        return message[: 1 + int(fault.place * (length - 1))] if length > 1 else b""
    stretch = min(len(fault.noise), max(1, length - 1))
    start = int(fault.place * (length - stretch + 1))
    end = start + stretch
    if fault.kind == "duplicate":
        return message[:end] + message[start:]
    if fault.kind == "truncate":
        return message[:start] + message[end:]
    assert fault.kind == "garbage", f"{fault.kind} changes no message"
    if fault.inserts:
        return message[:start] + fault.noise + message[start:]
    flipped = bytes(byte ^ bits for byte, bits in zip(message[start:end], fault.noise, strict=False))
    return message[:start] + flipped + message[end:]


def kinds_from(text: str) -> tuple[str, ...]:
    """The kinds that a list with commas names. Raises ``UsageError`` for what is none."""
    kinds = tuple(dict.fromkeys(kind.strip() for kind in text.split(",")))
    for kind in kinds:
        if kind not in KINDS:
            raise UsageError(f"fault-kinds: {kind!r} is not known; choose among {', '.join(KINDS)}")
    return kinds
