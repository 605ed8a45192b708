from collections.abc import Sequence

import pytest

from pipesd.engines.alone import TextAlone, answer_alone, target_alone
from pipesd.engines.scripted import END_ID, ScriptedTarget
from pipesd.errors import EngineError, UsageError
from pipesd.values import Sampling, Slice

GREEDY = Sampling()
SAMPLED = Sampling(temperature=0.8)
PROMPT = list(range(10))


class Watched(ScriptedTarget):
    """Remembers what it was asked."""

    def __init__(self, *, chunk_tokens: int = 512, context_tokens: int = 100, ends_every: int = 0) -> None:
        super().__init__(chunk_tokens=chunk_tokens, context_tokens=context_tokens, ends_every=ends_every)
        self.passes: list[Slice] = []
        self.released: list[int] = []

    def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
        assert len(slices) == 1
        self.passes += slices
        return super().forward(slices)

    def release(self, sequence: int) -> None:
        self.released.append(sequence)
        super().release(sequence)


def test_the_prompt_goes_in_chunks_and_the_rest_token_by_token() -> None:
    target = Watched(chunk_tokens=4)
    text = list(target_alone(target, PROMPT, sampling=SAMPLED, seed=3, tokens_max=3, sequence=2))
    assert [(part.base, part.tokens, part.picks, part.prompt) for part in target.passes] == [
        (0, (0, 1, 2, 3), 0, True),
        (4, (4, 5, 6, 7), 0, True),
        (8, (8, 9), 1, True),
        (10, (text[0],), 1, False),
        (11, (text[1],), 1, False),
    ]
    assert {(part.sequence, part.sampling, part.seed) for part in target.passes} == {(2, SAMPLED, 3)}
    assert target.released == [2]


def test_a_prompt_of_whole_chunks_has_no_empty_one() -> None:
    target = Watched(chunk_tokens=5)
    list(target_alone(target, PROMPT, sampling=GREEDY, seed=0, tokens_max=1))
    assert [(part.base, len(part.tokens), part.picks) for part in target.passes] == [(0, 5, 0), (5, 5, 1)]


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_it_says_what_the_target_says_of_the_whole_text(sampling: Sampling) -> None:
    text = list(target_alone(Watched(chunk_tokens=3), PROMPT, sampling=sampling, seed=3, tokens_max=20))
    whole = Slice(0, 0, (*PROMPT, *text[:-1]), 20, True, sampling, 3)
    assert ScriptedTarget(ends_every=0).forward([whole]) == [tuple(text)]


@pytest.mark.parametrize(
    ("tokens_max", "length", "finish"),
    [(1, 1, "length"), (19, 19, "length"), (20, 20, "length"), (21, 20, "context"), (999, 20, "context")],
)
def test_it_ends_at_the_limit_or_with_a_full_context(tokens_max: int, length: int, finish: str) -> None:
    target = Watched(context_tokens=30)
    text, why = answer_alone(target, PROMPT, sampling=GREEDY, seed=0, tokens_max=tokens_max)
    assert (len(text), why) == (length, finish)
    assert target.released == [0]


def test_it_ends_with_an_end_id_even_at_the_limit() -> None:
    text, why = answer_alone(Watched(ends_every=10), PROMPT, sampling=GREEDY, seed=0, tokens_max=90)
    assert why == "stop"
    assert text.index(END_ID) == len(text) - 1
    again = answer_alone(Watched(ends_every=10), PROMPT, sampling=GREEDY, seed=0, tokens_max=len(text))
    assert again == (text, "stop")
    full = Watched(ends_every=10, context_tokens=len(PROMPT) + len(text))
    assert answer_alone(full, PROMPT, sampling=GREEDY, seed=0, tokens_max=999) == (text, "stop")


def test_the_reason_is_what_the_generator_returns() -> None:
    path = target_alone(Watched(), PROMPT, sampling=GREEDY, seed=0, tokens_max=1)
    next(path)
    with pytest.raises(StopIteration) as end:
        next(path)
    assert end.value.value == "length"


def test_a_reader_that_leaves_early_releases_the_sequence() -> None:
    target = Watched()
    path = target_alone(target, PROMPT, sampling=GREEDY, seed=0, tokens_max=50, sequence=1)
    next(path)
    assert target.released == []
    path.close()
    assert target.released == [1]


def test_a_failing_model_is_reported_and_the_sequence_released() -> None:
    class Failing(Watched):
        def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
            raise EngineError("out of memory; close something")

    target = Failing()
    with pytest.raises(EngineError, match="out of memory"):
        next(target_alone(target, PROMPT, sampling=GREEDY, seed=0, tokens_max=50))
    assert target.released == [0]


@pytest.mark.parametrize(
    ("length", "what"),
    [(0, "is empty; give"), (100, "100 tokens, .* room for 99; shorten"), (101, "101 tokens")],
)
def test_an_impossible_prompt_is_the_callers_fault_at_once(length: int, what: str) -> None:
    with pytest.raises(UsageError, match=what):
        target_alone(Watched(), [1] * length, sampling=GREEDY, seed=0, tokens_max=5)


def test_an_impossible_limit_is_the_callers_fault_at_once() -> None:
    with pytest.raises(UsageError, match=r"^tokens_max: must be at least 1, not 0"):
        target_alone(Watched(), PROMPT, sampling=GREEDY, seed=0, tokens_max=0)


def test_the_longest_prompt_leaves_room_for_one_token() -> None:
    text, why = answer_alone(Watched(), [1] * 99, sampling=GREEDY, seed=0, tokens_max=5)
    assert (len(text), why) == (1, "context")


# --- several turns ---


def said(text: TextAlone, base: int, prompt: Sequence[int], *, tokens_max: int = 5) -> list[int]:
    return list(text.answer(base, prompt, sampling=GREEDY, seed=0, tokens_max=tokens_max))


def test_every_turn_is_what_a_fresh_text_of_the_same_tokens_would_be_answered() -> None:
    text = TextAlone(Watched(chunk_tokens=3), sequence=4)
    tokens: list[int] = []
    for prompt in (PROMPT, [7], [1, 2, 3, 4, 5]):
        answer = said(text, len(tokens), prompt)
        fresh = answer_alone(
            Watched(chunk_tokens=3), [*tokens, *prompt], sampling=GREEDY, seed=0, tokens_max=5
        )
        assert answer == fresh[0]
        tokens += [*prompt, *answer]


def test_a_turn_evaluates_what_is_new_and_nothing_twice() -> None:
    target = Watched(chunk_tokens=4)
    text = TextAlone(target)
    first = said(text, 0, [1, 2], tokens_max=2)
    target.passes.clear()
    second = said(text, 4, [5, 6, 7, 8, 9], tokens_max=1)
    assert [(part.base, part.tokens, part.picks, part.prompt) for part in target.passes] == [
        (3, (first[1],), 0, False),
        (4, (5, 6, 7, 8), 0, True),
        (8, (9,), 1, True),
    ]
    assert (
        second
        == answer_alone(Watched(), [1, 2, *first, 5, 6, 7, 8, 9], sampling=GREEDY, seed=0, tokens_max=1)[0]
    )


@pytest.mark.parametrize("base", range(9))
def test_a_turn_may_take_back_any_part_of_the_text(base: int) -> None:
    target = Watched(chunk_tokens=2)
    text = TextAlone(target)
    tokens = [1, 2, 3, *said(text, 0, [1, 2, 3])]
    answer = said(text, base, [9])
    expected = answer_alone(Watched(), [*tokens[:base], 9], sampling=GREEDY, seed=0, tokens_max=5)
    assert answer == expected[0]


def test_a_turn_may_come_while_the_answer_before_is_half_read() -> None:
    text = TextAlone(Watched())
    path = text.answer(0, PROMPT, sampling=GREEDY, seed=0, tokens_max=50)
    read = [next(path), next(path)]
    kept = [*PROMPT, read[0]]
    expected = answer_alone(Watched(), [*kept, 3], sampling=GREEDY, seed=0, tokens_max=5)
    assert said(text, len(kept), [3]) == expected[0]


def test_a_turn_goes_on_after_a_pass_that_failed() -> None:
    class Flaky(Watched):
        fails = False

        def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
            if self.fails:
                raise EngineError("interrupted")
            return super().forward(slices)

    target = Flaky(chunk_tokens=4)
    text = TextAlone(target)
    tokens = [*PROMPT, *said(text, 0, PROMPT)]
    target.fails = True
    with pytest.raises(EngineError, match="interrupted"):
        said(text, len(tokens), [1, 2, 3])
    target.fails = False
    expected = answer_alone(Watched(), [*tokens, 4, 5], sampling=GREEDY, seed=0, tokens_max=5)
    assert said(text, len(tokens), [4, 5]) == expected[0]


@pytest.mark.parametrize(
    ("base", "prompt", "tokens_max", "what"),
    [
        (13, [1], 5, r"^base: must be between 0 and 12, not 13$"),
        (-1, [1], 5, r"^base: must be between 0 and 12, not -1$"),
        (12, [], 5, "is empty; give"),
        (12, [1] * 88, 5, r"88 tokens, .* context of 100 has room for 87; shorten"),
        (12, [1], 0, r"^tokens_max: must be at least 1, not 0"),
    ],
)
def test_an_impossible_turn_leaves_the_text_as_it_was(
    base: int, prompt: list[int], tokens_max: int, what: str
) -> None:
    target = Watched()
    text = TextAlone(target)
    tokens = [*PROMPT, *said(text, 0, PROMPT, tokens_max=2)]
    target.passes.clear()
    with pytest.raises(UsageError, match=what):
        text.answer(base, prompt, sampling=GREEDY, seed=0, tokens_max=tokens_max)
    assert target.passes == []
    expected = answer_alone(Watched(), [*tokens, 6], sampling=GREEDY, seed=0, tokens_max=5)
    assert said(text, len(tokens), [6]) == expected[0]
    assert target.passes[0].base == len(tokens) - 1


def test_a_text_that_is_over_gives_its_sequence_back() -> None:
    target = Watched()
    text = TextAlone(target, sequence=3)
    said(text, 0, PROMPT)
    assert target.released == []
    text.release()
    assert target.released == [3]
