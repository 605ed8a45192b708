"""What every engine must do, whatever model is behind it.

Each engine's own test calls ``check_draft_engine`` or ``check_target_engine``. An engine that takes long to
load may hand out the same one every time: the checks release what they used.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import pytest
from msgspec import structs

from pipesd.engines.alone import answer_alone
from pipesd.engines.base import DraftEngine, TargetEngine, Tokenizer
from pipesd.errors import EngineError
from pipesd.values import Proposal, Sampling, Slice

GREEDY = Sampling()
SAMPLED = Sampling(temperature=0.9, top_p=0.98)
SEED = 7
SEQUENCES = (0, 1, 2)
PATH = 12
"""Tokens of output that are looked at."""


def check_draft_engine(
    make: Callable[[], DraftEngine], prompt: Sequence[int] | None = None, *, greedy_only: bool = False
) -> None:
    """Raise ``AssertionError`` if the engine breaks the protocol; ``prompt``: a text that it knows well."""
    for check in DRAFT_CHECKS:
        engine = make()
        check(engine, list(prompt or _some_text(engine.tokenizer)), GREEDY)
        _release(engine)
    if not greedy_only:
        for check in DRAFT_CHECKS:
            engine = make()
            check(engine, list(prompt or _some_text(engine.tokenizer)), SAMPLED)
            _release(engine)


def check_target_engine(make: Callable[[], TargetEngine], prompt: Sequence[int] | None = None) -> None:
    """Raise ``AssertionError`` if the engine breaks the protocol; ``prompt``: a text that it knows well."""
    greedy_only = make().identity.greedy_only
    for check in TARGET_CHECKS:
        for sampling in (GREEDY,) if greedy_only else (GREEDY, SAMPLED):
            engine = make()
            check(_Target(engine, sampling), list(prompt or _some_text(engine.tokenizer)))
            _release(engine)
    if greedy_only:
        with pytest.raises(EngineError, match="temperature"):
            _Target(make(), SAMPLED).forward((0, 0, [1], 1))


def check_chunks_do_not_matter(make: Callable[[], TargetEngine], prompt: Sequence[int] | None = None) -> None:
    """For engines whose numerics do not depend on the size of a pass at all."""
    target = _Target(make(), GREEDY)
    text = list(prompt or _some_text(target.engine.tokenizer))
    at_once = target.prompt(0, text, len(text))
    for size in (1, 2, 3, len(text) - 1):
        assert target.prompt(1, text, size) == at_once, f"chunks of {size} give another token"
    _release(target.engine)


def check_more_texts_than_slots(engine: TargetEngine, texts: Sequence[Sequence[int]]) -> None:
    """For exact engines with fewer slots than ``texts``: passes over all of them say what each says alone."""
    alone = [answer_alone(engine, text, sampling=GREEDY, seed=SEED, tokens_max=PATH)[0] for text in texts]
    target = _Target(engine, GREEDY)
    for number, text in enumerate(texts):
        assert target.prompt(number, list(text)) == alone[number][0], "another first token"
    for at, count in ((0, 3), (3, 5), (8, 2)):
        parts = [
            (number, len(text) + at, said[at : at + count], count)
            for number, (text, said) in enumerate(zip(texts, alone, strict=True))
        ]
        assert target.forward(*parts) == [said[at + 1 : at + count + 1] for said in alone]
    for number in range(len(texts)):
        engine.release(number)


def _some_text(tokenizer: Tokenizer) -> list[int]:
    pieces = tokenizer.vocabulary.pieces
    known = [token for token in range(len(pieces)) if pieces[token]]
    return known[3:20]


def _release(engine: DraftEngine | TargetEngine) -> None:
    for sequence in SEQUENCES:
        engine.release(sequence)


def _wrong(token: int) -> int:
    return token - 1 if token > 0 else 1


# --- drafts ---


def _draft(engine: DraftEngine, sequence: int, sampling: Sampling, count: int = PATH) -> list[Proposal]:
    guesses = []
    for _ in range(count):
        guesses.append(engine.propose(sequence, sampling, SEED))
        engine.extend(sequence, [guesses[-1].token])
    return guesses


def _guesses_are_sane(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    assert engine.context_tokens >= len(prompt) + PATH, "too small a context for this check"
    engine.extend(0, prompt)
    for guess in _draft(engine, 0, sampling):
        assert 0 <= guess.token < len(engine.tokenizer.vocabulary), "a token outside the vocabulary"
        assert 0.0 < guess.confidence <= 1.0, "a confidence that is no probability"


def _proposing_does_not_advance(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    engine.extend(0, prompt)
    once = engine.propose(0, sampling, SEED)
    assert engine.propose(0, sampling, SEED) == once, "a second look gives another guess"
    engine.extend(1, prompt)
    assert _draft(engine, 1, sampling) == _draft(engine, 0, sampling), "a look left a trace"


def _truncating_forgets(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    engine.extend(0, prompt)
    path = _draft(engine, 0, sampling)
    for keep in (PATH - 1, 5, 1, 0):
        engine.truncate(0, len(prompt) + keep)
        engine.extend(0, [_wrong(path[keep].token), 1, 2])
        engine.propose(0, sampling, SEED)
        engine.truncate(0, len(prompt) + keep)
        assert engine.propose(0, sampling, SEED) == path[keep], "truncated tokens left a trace"
    assert _draft(engine, 0, sampling) == path, "the same tokens give another path"


def _truncating_to_more_does_nothing(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    engine.truncate(0, 3)
    engine.extend(0, prompt)
    before = engine.propose(0, sampling, SEED)
    engine.truncate(0, len(prompt))
    engine.truncate(0, len(prompt) + 5)
    assert engine.propose(0, sampling, SEED) == before, "truncating to more than there is changed the text"
    engine.truncate(0, 0)
    engine.extend(0, prompt)
    assert engine.propose(0, sampling, SEED) == before, "truncating to nothing left a trace"


def _pieces_make_a_whole(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    engine.extend(0, prompt)
    engine.extend(1, prompt[:1])
    engine.extend(1, [])
    engine.extend(1, prompt[1:-1])
    engine.extend(1, prompt[-1:])
    assert engine.propose(1, sampling, SEED) == engine.propose(0, sampling, SEED), "pieces give another text"


def _drafts_do_not_mix(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    other = prompt[::-1]
    engine.extend(2, prompt)
    alone = _draft(engine, 2, sampling, 4)
    engine.release(2)
    engine.extend(2, other)
    other_alone = _draft(engine, 2, sampling, 4)
    engine.release(2)
    engine.extend(0, prompt)
    engine.extend(1, other)
    for number in range(4):
        assert _draft(engine, 0, sampling, 1) == alone[number : number + 1], "another sequence was heard"
        assert _draft(engine, 1, sampling, 1) == other_alone[number : number + 1], "another was heard"
    engine.truncate(1, 1)
    engine.release(1)
    engine.truncate(0, len(prompt))
    assert _draft(engine, 0, sampling, 4) == alone, "going back in one sequence changed another"


def _releasing_forgets(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    engine.extend(0, prompt)
    path = _draft(engine, 0, sampling)
    engine.release(0)
    engine.release(0)
    engine.extend(0, prompt)
    assert _draft(engine, 0, sampling) == path, "a released sequence was not empty"


def _interrupting_nothing_does_nothing(engine: DraftEngine, prompt: list[int], sampling: Sampling) -> None:
    engine.extend(0, prompt)
    before = engine.propose(0, sampling, SEED)
    engine.interrupt()
    assert engine.propose(0, sampling, SEED) == before, "an interrupt between calls had an effect"


DRAFT_CHECKS = (
    _guesses_are_sane,
    _proposing_does_not_advance,
    _truncating_forgets,
    _truncating_to_more_does_nothing,
    _pieces_make_a_whole,
    _drafts_do_not_mix,
    _releasing_forgets,
    _interrupting_nothing_does_nothing,
)


# --- targets ---

Part = tuple[int, int, Sequence[int], int]
"""Sequence, base, tokens, picks: an output slice."""


class _Target:
    def __init__(self, engine: TargetEngine, sampling: Sampling) -> None:
        self.engine = engine
        self.sampling = sampling

    def forward(self, *parts: Part) -> list[list[int]]:
        picks = self.engine.forward([self._slice(part, prompt=False) for part in parts])
        assert [len(found) for found in picks] == [part[3] for part in parts], "another number of picks"
        return [list(found) for found in picks]

    def copied(self, source: int, part: Part) -> list[int]:
        """The picks of a slice that begins with a copy of another sequence."""
        (picks,) = self.engine.forward([structs.replace(self._slice(part, prompt=False), copy_of=source)])
        return list(picks)

    def prompt(self, sequence: int, text: list[int], chunk_tokens: int = 0) -> int:
        """The first token behind ``text``."""
        size = chunk_tokens or self.engine.identity.chunk_tokens
        picks: tuple[int, ...] = ()
        for start in range(0, len(text), size):
            chunk = text[start : start + size]
            last = int(start + len(chunk) == len(text))
            (picks,) = self.engine.forward([self._slice((sequence, start, chunk, last), prompt=True)])
            assert len(picks) == last, "another number of picks"
        return picks[0]

    def path(self, sequence: int, text: list[int], count: int = PATH) -> list[int]:
        """Token by token."""
        tokens = [self.prompt(sequence, text)]
        while len(tokens) < count:
            base = len(text) + len(tokens) - 1
            tokens += self.forward((sequence, base, tokens[-1:], 1))[0]
        return tokens

    def _slice(self, part: Part, *, prompt: bool) -> Slice:
        sequence, base, tokens, picks = part
        return Slice(sequence, base, tuple(tokens), picks, prompt, self.sampling, SEED)


def _identity_is_sane(target: _Target, prompt: list[int]) -> None:
    identity, size = target.engine.identity, len(target.engine.tokenizer.vocabulary)
    assert identity.model, "no name"
    assert identity.engine, "no kind"
    assert identity.context_tokens >= len(prompt) + PATH, "too small a context for this check"
    assert identity.chunk_tokens >= 1, "no chunk"
    known = (*identity.begin_ids, *identity.end_ids, *identity.control_ids)
    assert all(0 <= token < size for token in known), "unknown ids"
    assert all(0 <= token < size for token in target.path(0, prompt)), "a pick outside the vocabulary"


def _a_pass_is_many_steps(target: _Target, prompt: list[int]) -> None:
    path, start = target.path(0, prompt), len(prompt)
    for count in (1, 2, 5, 7):
        found = target.forward((0, start, path[:count], count))[0]
        assert found == path[1 : count + 1], f"a pass over {count} drafts picks otherwise"
    found = target.forward((0, start, path[:6], 2))[0]
    assert found == path[5:7], "fewer picks than tokens are not the last ones"
    assert target.forward((0, start, path[:6], 0)) == [[]], "picks that nobody wanted"
    assert target.forward((0, start + 6, path[6:7], 1))[0] == path[7:8], "a slice without picks was lost"


def _wrong_drafts_leave_no_trace(target: _Target, prompt: list[int]) -> None:
    path, start = target.path(0, prompt), len(prompt)
    for right in range(5):
        bad = [_wrong(path[right]), _wrong(path[right + 1]), path[right + 2]]
        found = target.forward((0, start, [*path[:right], *bad], right + 3))[0]
        assert found[:right] == path[1 : right + 1], "a later draft changed an earlier pick"
        found = target.forward((0, start + right, path[right : right + 3], 3))[0]
        assert found == path[right + 1 : right + 4], "wrong drafts left a trace"


def _any_base_reproduces(target: _Target, prompt: list[int]) -> None:
    path, start = target.path(0, prompt), len(prompt)
    for base in (PATH - 2, 4, 0, 2):
        target.forward((0, start, path[: PATH - 1], 1))
        found = target.forward((0, start + base, path[base : base + 1], 1))[0]
        assert found == path[base + 1 : base + 2], f"going back to {base} gives another token"
    assert target.path(0, prompt) == path, "the same prompt gives another path"


def _sequences_do_not_mix(target: _Target, prompt: list[int]) -> None:
    other = prompt[::-1]
    path, other_path = target.path(2, prompt), target.path(2, other)
    assert target.prompt(0, prompt) == path[0], "another sequence was heard"
    assert target.prompt(1, other) == other_path[0], "another sequence was heard"
    for at, after in pairwise(range(0, PATH - 1, 3)):
        found = target.forward(
            (1, len(other) + at, other_path[at:after], 3), (0, len(prompt) + at, path[at:after], 3)
        )
        assert found == [other_path[at + 1 : after + 1], path[at + 1 : after + 1]], "a pass mixed sequences"


def _a_sequence_may_occur_twice(target: _Target, prompt: list[int]) -> None:
    path, start = target.path(0, prompt), len(prompt)
    target.forward((0, start, [_wrong(path[0]), 1, 2], 0))
    found = target.forward((0, start, path[:2], 1), (0, start + 2, path[2:5], 3))
    assert found == [path[2:3], path[3:6]], "the second slice does not follow the first"
    bad = [path[0], _wrong(path[1]), 1]
    found = target.forward((0, start, bad, 0), (0, start + 1, path[1:4], 2), (0, start, path[:1], 1))
    assert found == [[], path[3:5], path[1:2]], "a slice does not cut back the one before"


def _released_sequences_start_anew(target: _Target, prompt: list[int]) -> None:
    path = target.path(0, prompt)
    target.engine.release(0)
    target.engine.release(0)
    other = target.path(1, prompt[::-1])
    assert target.path(0, prompt[::-1]) == other, "a released sequence was not empty"
    assert target.path(0, prompt) == path, "another text left a trace"
    target.engine.release(1)
    found = target.forward((0, len(prompt), path[:2], 2))
    assert found == [path[1:3]], "releasing one sequence changed another"


def _a_copy_is_a_sequence_of_its_own(target: _Target, prompt: list[int]) -> None:
    path, start = target.path(0, prompt), len(prompt)
    other_path = target.path(1, prompt[::-1])
    for kept in (0, 3):
        found = target.copied(0, (1, start + kept, path[kept : kept + 3], 3))
        assert found == path[kept + 1 : kept + 4], "a copy of a text picks otherwise"
    target.forward((1, start + 1, [_wrong(path[1]), 1, 2], 0))
    found = target.forward((0, start + PATH - 2, path[PATH - 2 : PATH - 1], 1))[0]
    assert found == path[PATH - 1 :], "what was done to a copy changed its source"
    target.path(0, prompt[::-1], 1)
    found = target.forward((1, start + 1, path[1:4], 3))[0]
    assert found == path[2:5], "what was done to the source changed its copy"
    assert target.copied(0, (2, start, other_path[:2], 2)) == other_path[1:3], "a new sequence is no copy"


def _interrupting_no_pass_does_nothing(target: _Target, prompt: list[int]) -> None:
    path = target.path(0, prompt)
    target.engine.interrupt()
    found = target.forward((0, len(prompt), path[:3], 3))
    assert found == [path[1:4]], "an interrupt between passes had an effect"


TARGET_CHECKS = (
    _identity_is_sane,
    _a_pass_is_many_steps,
    _wrong_drafts_leave_no_trace,
    _any_base_reproduces,
    _sequences_do_not_mix,
    _a_sequence_may_occur_twice,
    _released_sequences_start_anew,
    _a_copy_is_a_sequence_of_its_own,
    _interrupting_no_pass_does_nothing,
)
