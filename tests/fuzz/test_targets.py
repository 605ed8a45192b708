"""Every target without atheris: what the fuzzer begins with, and what is near it, is borne."""

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.session import commands
from pipesd.wire import frames
from tests.fuzz import cloud_session, edge_session, handshake
from tests.fuzz.liar import Liar
from tests.fuzz.mutator import crossed, mutated
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS, blind_modules, play_of, weighed

EXAMPLES = 30


def test_every_target_has_seeds_that_fit() -> None:
    assert SEEDS.keys() == TARGETS.keys()
    lengths = {name: max(map(len, seeds())) for name, seeds in SEEDS.items()}
    assert all(lengths[name] <= target.bytes_max for name, target in TARGETS.items()), lengths


@pytest.mark.parametrize("name", TARGETS)
def test_what_the_fuzzer_begins_with_is_borne(name: str) -> None:
    play = play_of(name)
    with weighed(TARGETS[name]):
        for seed in SEEDS[name]():
            play(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_what_is_near_it_is_borne(name: str) -> None:
    play, seeds, size_max = play_of(name), list(SEEDS[name]()), TARGETS[name].bytes_max

    @given(st.data())
    @settings(derandomize=True, deadline=None, max_examples=EXAMPLES)
    def check(data: st.DataObject) -> None:
        def drawn(old: bytes, longest: int) -> bytes:
            fresh = data.draw(st.binary(max_size=4))
            at = data.draw(st.integers(0, len(old)))
            return (old[:at] + fresh + old[at + data.draw(st.integers(0, 3)) :])[:longest]

        luck = st.integers(0, 2**32 - 1)
        program = data.draw(st.sampled_from(seeds))
        for _ in range(data.draw(st.integers(1, 6))):
            program = mutated(program, size_max, data.draw(luck), drawn)
        other = data.draw(st.sampled_from(seeds))
        play(crossed(program, other, size_max, data.draw(luck)))

    with weighed(TARGETS[name]):
        check()


def test_liars_are_judged_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of what the fuzzer begins with, much gets as far as a verdict, with drafts accepted and not."""
    verdicts = Counter[str]()

    def note(liar: Liar, frame: frames.CloudFrame) -> None:
        sound(liar, frame)
        if isinstance(frame, frames.Verdict):
            verdicts.update(all=1, accepted=frame.accepted > 0, refused=frame.accepted < frame.judged)

    sound = Liar.note_heard
    monkeypatch.setattr(Liar, "note_heard", note)
    for seed in SEEDS["cloud_session"]():
        cloud_session.target(seed)
    assert verdicts["all"] > 25
    assert verdicts["accepted"] > 5


def test_a_hostile_cloud_is_believed_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    done = Counter[str]()

    def obey(table: edge_session.Table, command: Any) -> None:
        done[type(command).__name__] += 1
        sound(table, command)

    sound = edge_session.Table._obey
    monkeypatch.setattr(edge_session.Table, "_obey", obey)
    for seed in SEEDS["edge_session"]():
        edge_session.target(seed)
    needed = ("AnnounceReady", "EmitTokens", "DraftNext", "AbortStep", "FinishGeneration", "OpenLink")
    assert {name: done[name] for name in needed if done[name] < 5} == {}
    assert done[commands.CloseLink.__name__] > 0


def test_what_guides_the_fuzzer_is_there() -> None:
    blind = {name: blind_modules(target) for name, target in TARGETS.items()}
    assert "pipesd.engines.llama" in blind["codec"]
    assert "pipesd.wire.codec" not in blind["codec"]
    assert "pipesd.session.cloud_side" in blind["codec"]
    assert "pipesd.session.cloud_side" not in blind["handshake"]


def test_a_stranger_who_weighs_too_much_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handshake, "HELD_BYTES_MAX", 100)

    def play_all() -> None:
        for seed in SEEDS["handshake"]():
            handshake.target(seed)

    with weighed(TARGETS["handshake"]), pytest.raises(AssertionError, match="bytes are kept for a stranger"):
        play_all()
