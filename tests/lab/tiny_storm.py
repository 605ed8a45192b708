"""Few short trips, played once for all tests; and a fault of pipesd to be planted."""

import random
from functools import cache
from typing import Any

import pytest

from pipesd.engines.scripted import ScriptedTokenizer
from pipesd.lab.jobs import working
from pipesd.lab.scenarios import SCENARIOS
from pipesd.lab.stormy import FaultFindings, FaultStudy, storms
from pipesd.lab.stormy_trip import PROMPT_MARK, Talk, Trip, Turn
from pipesd.session.ledger import Ledger
from pipesd.values import Sampling
from pipesd.wire.frames import PROTOCOL_VERSION, Hello


def turn(tokens_max: int = 20, *words: int, **changed: Any) -> Turn:
    fixed: dict[str, Any] = {
        "prompt": (PROMPT_MARK, *(words or (5, 6))),
        "tokens_max": tokens_max,
        "seed": 1,
        "again": False,
        "leaves_after": None,
        "leaves_in_stall": False,
        "think_s": 0.1,
    }
    return Turn(**{**fixed, **changed})


def trip_of(*talks: Talk, **changed: Any) -> Trip:
    fixed: dict[str, Any] = {
        "number": 0,
        "seed": 3,
        "scenario": SCENARIOS["s1"],
        "talks": talks,
        "offline": "wait",
        "sampling": Sampling(),
        "policy": "pipesd",
        "verify": "piggyback",
        "short_patience": False,
        "lease_s": 300.0,
        "clouds": 1,
        "kv_sequences": 4,
        "window_tokens": 64,
    }
    return Trip(**{**fixed, **changed})


def retold(times: int, seed: int = 0) -> Talk:
    """Turns of which each takes the one before back, and says a word more."""
    luck, words, turns = random.Random(seed), [7], []
    for number in range(times):
        words.append(luck.randint(1, 255))
        turns.append(turn(20, *words, again=number > 0))
    return tuple(turns)


@cache
def tiny_storm() -> FaultFindings:
    with working(1) as pool:
        return storms(FaultStudy(generations=12, every_s=0.8, seed=7), pool)


def believe_a_draft(monkeypatch: pytest.MonkeyPatch) -> None:
    """An edge that takes an unverified draft for confirmed when its connection is lost."""
    unsend = Ledger.unsend

    def believe(self: Ledger) -> None:
        unsend(self)
        if self.suffix:
            self._text.append([self.suffix.pop(0)], prompt=False)
            self.confirmed += 1

    monkeypatch.setattr(Ledger, "unsend", believe)


def hello() -> Hello:
    """Of an edge whose draft has the vocabulary of the target of trips."""
    return Hello(PROTOCOL_VERSION, "a test", len(ScriptedTokenizer().vocabulary))
