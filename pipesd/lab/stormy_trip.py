"""Trips: what is asked of an edge whose connections break, and under which rules. Drawn from a seed."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace

from pipesd.lab.scenarios import Scenario
from pipesd.values import Offline, PolicyName, Sampling, Verify

PROMPT_MARK = 0
"""The first token of every prompt, and of no other text: where prompts begin can be seen in a text."""

GO_ON = (PROMPT_MARK, ord("!"))
"""What an answer that a fault has ended is asked to go on with."""

_BYTES = range(1, 256)
_PROMPT_TOKENS = ((1, 40), (1, 40), (1, 40), (65, 150))
"""Some have several chunks."""

_MORE_TOKENS = (1, 5)
_AGAIN, _LEFT = 0.3, 0.25

_ANSWER_TOKENS = (8, 48)
_THINK_S_MAX = 1.0

_GREEDY = Sampling()
_WARM = (Sampling(0.8), Sampling(1.0, top_k=20), Sampling(1.2, top_p=0.9))


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """A prompt of a conversation."""

    prompt: tuple[int, ...]
    tokens_max: int
    seed: int
    """Of the noise of sampling."""

    again: bool
    """Whether it takes the turn before it back, prompt and answer: the prompt says the same, and more."""

    leaves_after: int | None
    """How many tokens its reader takes before cancelling; None: all there are."""

    leaves_in_stall: bool
    """Whether the link stalls as the reader leaves."""

    think_s: float
    """How long its user thinks first."""


Talk = tuple[Turn, ...]
"""A conversation."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One edge, what is asked of it, and who serves it."""

    number: int
    seed: int
    """Of everything that is luck in it."""

    scenario: Scenario
    talks: tuple[Talk, ...]
    """At once."""

    offline: Offline
    sampling: Sampling
    policy: PolicyName
    verify: Verify
    short_patience: bool
    """Whether a stall may last longer than silence is borne, on both sides."""

    lease_s: float
    clouds: int
    kv_sequences: int
    window_tokens: int
    """Of the cloud: so many drafts may wait for it."""

    @property
    def whole(self) -> int:
        """How many answers are to be read to their ends."""
        return sum(turn.leaves_after is None for talk in self.talks for turn in talk)


def trips(answers: int, scenario: Scenario, seed: int) -> list[Trip]:
    """Trips in which so many answers are to be read to their ends, and others are left early."""
    drawn: list[Trip] = []
    while (missing := answers - sum(trip.whole for trip in drawn)) > 0:
        drawn.append(_shortened(_trip(len(drawn), scenario, seed), missing))
    return drawn


def _shortened(trip: Trip, most: int) -> Trip:
    """With at most so many answers that are read to their ends."""
    talks = []
    for talk in trip.talks:
        kept = tuple(_until(talk, most))
        most -= sum(turn.leaves_after is None for turn in kept)
        talks.append(kept)
    return replace(trip, talks=tuple(talk for talk in talks if talk))


def _until(talk: Talk, most: int) -> Iterator[Turn]:
    for turn in talk:
        if most <= 0:
            return
        most -= turn.leaves_after is None
        yield turn


def _trip(number: int, scenario: Scenario, seed: int) -> Trip:
    luck = random.Random(f"trip {seed} {number}")
    is_warm = luck.random() < 0.5
    return Trip(
        number=number,
        seed=luck.getrandbits(62),
        scenario=scenario,
        offline=luck.choices(("wait", "draft", "stop"), (9, 7, 4))[0],
        sampling=luck.choice(_WARM) if is_warm else _GREEDY,
        policy=luck.choices(("pipesd", "cloud-only"), (9, 1))[0],
        verify=luck.choice(("piggyback", "piggyback", "on_request", "eager")),
        short_patience=luck.random() < 0.3,
        lease_s=luck.choice((300.0, 300.0, 300.0, 0.2)),
        clouds=luck.choice((1, 1, 1, 2)),
        kv_sequences=luck.choice((4, 4, 1)),
        talks=tuple(_talk(luck) for _ in range(luck.choice((1, 1, 3)))),
        window_tokens=luck.choice((64, 64, 8)),
    )


def _talk(luck: random.Random) -> Talk:
    turns: list[Turn] = []
    for _ in range(luck.randint(4, 8)):
        turns.append(_turn(luck, turns[-1] if turns and luck.random() < _AGAIN else None))
    return tuple(turns)


def _turn(luck: random.Random, retold: Turn | None) -> Turn:
    """A turn; instead of the one before it, if that is ``retold`` with some words more."""
    begun, lengths = (
        (retold.prompt, _MORE_TOKENS) if retold else ((PROMPT_MARK,), luck.choice(_PROMPT_TOKENS))
    )
    tokens_max = luck.randint(*_ANSWER_TOKENS)
    leaves = luck.random() < _LEFT
    return Turn(
        prompt=(*begun, *luck.choices(_BYTES, k=luck.randint(*lengths))),
        tokens_max=tokens_max,
        seed=luck.getrandbits(62),
        again=retold is not None,
        leaves_after=luck.randint(0, tokens_max // 2) if leaves else None,
        leaves_in_stall=luck.random() < 0.3,
        think_s=luck.uniform(0.0, _THINK_S_MAX),
    )
