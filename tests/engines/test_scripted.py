from collections import Counter
from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from numpy.typing import NDArray
from scipy import stats

from pipesd import coupling
from pipesd.engines.alone import target_alone
from pipesd.engines.base import DraftEngine, TargetEngine
from pipesd.engines.contexts import rolled
from pipesd.engines.scripted import (
    END_ID,
    FIRST_WORD_ID,
    WORDS,
    ScriptedDraft,
    ScriptedTarget,
    ScriptedTokenizer,
)
from pipesd.errors import EngineError, UsageError
from pipesd.values import Proposal, Sampling, Slice
from tests.contracts.engines import check_chunks_do_not_matter, check_draft_engine, check_target_engine

GREEDY = Sampling()
SAMPLED = Sampling(temperature=1.0)
PROMPT = [10, 20, 30]

tokens = st.lists(st.integers(0, END_ID), min_size=1, max_size=12)
seeds = st.integers(0, 2**63 - 1)
steady = settings(derandomize=True, deadline=None, max_examples=100)


def path(target: TargetEngine, count: int, sampling: Sampling = GREEDY, seed: int = 0) -> list[int]:
    """The target's text, through end ids."""
    text = list(PROMPT)
    while len(text) < len(PROMPT) + count:
        base = 0 if text == PROMPT else len(text) - 1
        text += next_tokens(target, base, text[base:], sampling, seed)
    return text[len(PROMPT) :]


def next_tokens(
    target: TargetEngine, base: int, news: Sequence[int], sampling: Sampling = GREEDY, seed: int = 0
) -> tuple[int, ...]:
    return target.forward([Slice(0, base, tuple(news), 1, False, sampling, seed)])[0]


def guesses(
    draft: DraftEngine, text: Sequence[int], sampling: Sampling = GREEDY, seed: int = 0
) -> list[Proposal]:
    """What the draft says along ``text``."""
    draft.extend(0, PROMPT)
    found = []
    for token in text:
        found.append(draft.propose(0, sampling, seed))
        draft.extend(0, [token])
    return found


# --- the contract ---


@pytest.mark.parametrize("agreement", [0.0, 0.85, 1.0])
def test_the_draft_keeps_the_contract(agreement: float) -> None:
    check_draft_engine(lambda: ScriptedDraft(3, agreement=agreement))


@pytest.mark.parametrize(("chunk_tokens", "ends_every"), [(512, 200), (4, 2), (1, 0)])
def test_the_target_keeps_the_contract(chunk_tokens: int, ends_every: int) -> None:
    check_target_engine(lambda: ScriptedTarget(3, chunk_tokens=chunk_tokens, ends_every=ends_every))
    check_chunks_do_not_matter(lambda: ScriptedTarget(3, ends_every=ends_every))


def test_the_identity_names_what_decides_the_text() -> None:
    identity = ScriptedTarget(5, context_tokens=99, chunk_tokens=7, ends_every=30).identity
    assert (identity.context_tokens, identity.chunk_tokens) == (99, 7)
    assert (identity.engine, identity.numerics, identity.greedy_only) == ("scripted", "exact", False)
    assert (identity.begin_ids, identity.end_ids) == ((), (END_ID,))
    assert len({ScriptedTarget(seed, ends_every=n).identity.model for seed in (1, 2) for n in (0, 5)}) == 4


# --- the tokenizer ---


def test_the_vocabulary_is_bytes_words_and_an_end() -> None:
    pieces = ScriptedTokenizer().vocabulary.pieces
    assert [pieces[byte] for byte in range(256)] == [bytes([byte]) for byte in range(256)]
    assert [piece.decode() for piece in pieces[FIRST_WORD_ID:END_ID]] == list(WORDS)
    assert len(set(WORDS)) == len(WORDS) == 64
    assert all(word.startswith(" ") and word.strip().isalpha() for word in WORDS)
    assert pieces[END_ID:] == (b"",)


@steady
@given(st.text())
def test_text_survives_encoding(text: str) -> None:
    tokenizer = ScriptedTokenizer()
    found = tokenizer.encode(text)
    assert b"".join(tokenizer.vocabulary.pieces[token] for token in found).decode() == text


def test_text_that_has_no_bytes_is_the_callers_fault() -> None:
    with pytest.raises(UsageError, match=r"character 2.*; take it out"):
        ScriptedTokenizer().encode("ab\ud800")


# --- the text ---


def test_the_text_stays_the_same_from_version_to_version() -> None:
    pieces = ScriptedTokenizer().vocabulary.pieces
    text = b"".join(pieces[token] for token in path(ScriptedTarget(0), 12)).decode()
    assert text == " call on use she feel leave she work one so as as"


def test_only_words_and_ends_are_said() -> None:
    for sampling in (GREEDY, Sampling(temperature=3.0)):
        assert all(FIRST_WORD_ID <= token <= END_ID for token in path(ScriptedTarget(1), 300, sampling))


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED])
def test_an_end_comes_about_as_often_as_told(sampling: Sampling) -> None:
    often = path(ScriptedTarget(1, ends_every=5), 1_500, sampling).count(END_ID)
    assert often == pytest.approx(300 * (1.0 if sampling.greedy else 0.75), rel=0.25)
    assert END_ID not in path(ScriptedTarget(1, ends_every=0), 1_000, sampling)


def test_words_are_used_evenly() -> None:
    counts = Counter(path(ScriptedTarget(2, ends_every=0, context_tokens=6_403), 6_400))
    assert len(counts) == len(WORDS)
    assert 60 < min(counts.values()) <= max(counts.values()) < 150


@steady
@given(tokens, st.data())
def test_one_wrong_token_changes_what_follows(text: list[int], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(text) - 1))
    other = [*text]
    other[at] = (other[at] + data.draw(st.integers(1, END_ID))) % (END_ID + 1)
    following = []
    for start in (text, other):
        target, whole = ScriptedTarget(4), list(start)
        following.append(list(next_tokens(target, 0, whole)))
        for _ in range(11):
            base = len(start) + len(following[-1]) - 1
            following[-1] += next_tokens(target, base, following[-1][-1:])
    assert sum(a == b for a, b in zip(*following, strict=True)) < 6


def test_the_seed_decides_the_text() -> None:
    assert path(ScriptedTarget(1), 30) == path(ScriptedTarget(1), 30)
    assert path(ScriptedTarget(1), 30) != path(ScriptedTarget(2), 30)


def test_the_seed_of_a_generation_decides_only_samples() -> None:
    target = ScriptedTarget(1)
    assert path(target, 30, GREEDY, seed=1) == path(target, 30, GREEDY, seed=2)
    assert path(target, 30, SAMPLED, seed=1) == path(target, 30, SAMPLED, seed=1)
    assert path(target, 30, SAMPLED, seed=1) != path(target, 30, SAMPLED, seed=2)


@steady
@given(tokens, seeds)
def test_greedy_picks_are_those_of_the_logits(text: list[int], seed: int) -> None:
    for agreement in (0.0, 1.0):
        draft = ScriptedDraft(seed, agreement=agreement, ends_every=3)
        draft.extend(0, text)
        short = draft.propose(0, GREEDY, 0)
        whole = coupling.propose(draft._opinion(draft._contexts.latest(0)).logits(), GREEDY, 0, len(text))
        assert short.token == whole.token
        assert short.confidence == pytest.approx(whole.confidence, rel=1e-12)


@steady
@given(tokens, seeds)
def test_logits_are_a_distribution_whose_second_is_behind(text: list[int], seed: int) -> None:
    draft = ScriptedDraft(seed, ends_every=3)
    draft.extend(0, text)
    chances = coupling.distribution(draft._opinion(draft._contexts.latest(0)).logits(), SAMPLED)
    second, first = sorted(chances)[-2:]
    assert first > second * 1.05
    assert (chances > 0.0).sum() == len(WORDS)


# --- the draft ---


@pytest.mark.parametrize("agreement", [0.0, 0.3, 0.85, 1.0])
def test_the_draft_agrees_as_often_as_told(agreement: float) -> None:
    text = path(ScriptedTarget(6), 2_000)
    found = guesses(ScriptedDraft(6, agreement=agreement), text)
    share = sum(guess.token == token for guess, token in zip(found, text, strict=True)) / len(text)
    assert share == pytest.approx(agreement, abs=0.0 if agreement in (0.0, 1.0) else 0.03)


def test_a_draft_of_the_same_logits_samples_the_same() -> None:
    text = path(ScriptedTarget(6, ends_every=20), 150, SAMPLED, seed=9)
    found = guesses(ScriptedDraft(6, agreement=1.0, ends_every=20), text, SAMPLED, seed=9)
    assert [guess.token for guess in found] == text


def test_a_draft_of_other_logits_samples_the_same_now_and_then() -> None:
    text = path(ScriptedTarget(6), 300, SAMPLED)
    found = guesses(ScriptedDraft(6, agreement=0.0), text, SAMPLED)
    assert 15 < sum(guess.token == token for guess, token in zip(found, text, strict=True)) < 150


def test_confidences_vary_and_are_lower_where_the_draft_is_wrong() -> None:
    text = path(ScriptedTarget(7), 2_000)
    found = list(zip(guesses(ScriptedDraft(7, agreement=0.7), text), text, strict=True))
    right = [guess.confidence for guess, token in found if guess.token == token]
    wrong = [guess.confidence for guess, token in found if guess.token != token]
    assert sum(right) / len(right) > sum(wrong) / len(wrong) + 0.1
    assert min(right) < 0.35
    assert max(right) > 0.99
    assert max(wrong) > 0.7


def test_the_confident_are_right_as_often_as_they_say() -> None:
    # What the target says is a sample here, and the draft has the target's distribution.
    text = path(ScriptedTarget(8), 600, SAMPLED)
    found = guesses(ScriptedDraft(8, agreement=1.0), text)
    hits = sum(guess.token == token for guess, token in zip(found, text, strict=True))
    assert hits == pytest.approx(sum(guess.confidence for guess in found), rel=0.1)


# --- limits and faults ---


def test_a_text_beyond_the_context_is_refused() -> None:
    draft, target = ScriptedDraft(context_tokens=5), ScriptedTarget(context_tokens=5)
    draft.extend(0, [1, 2, 3, 4, 5])
    assert draft.context_tokens == 5
    with pytest.raises(EngineError, match=r"6 tokens does not fit the context of 5; shorten"):
        draft.extend(0, [6])
    assert len(next_tokens(target, 0, [1, 2, 3, 4, 5])) == 1
    with pytest.raises(EngineError, match=r"7 tokens does not fit the context of 5; shorten"):
        next_tokens(target, 4, [1, 2, 3])
    draft.truncate(0, 4)
    draft.extend(0, [6])


@pytest.mark.parametrize(
    ("name", "seed", "context_tokens", "ends_every"),
    [
        ("script_seed", -1, 1, 0),
        ("script_seed", 2**63, 1, 0),
        ("context_tokens", 0, 0, 0),
        ("ends_every", 0, 1, -1),
    ],
)
def test_impossible_settings_are_the_callers_fault(
    name: str, seed: int, context_tokens: int, ends_every: int
) -> None:
    for kind in (ScriptedDraft, ScriptedTarget):
        with pytest.raises(UsageError, match=f"^{name}: must be"):
            kind(seed, context_tokens=context_tokens, ends_every=ends_every)


@pytest.mark.parametrize("agreement", [-0.1, 1.1, float("nan")])
def test_an_impossible_agreement_is_the_callers_fault(agreement: float) -> None:
    with pytest.raises(UsageError, match=r"^agreement: must be between 0 and 1"):
        ScriptedDraft(agreement=agreement)


def test_an_impossible_chunk_is_the_callers_fault() -> None:
    with pytest.raises(UsageError, match=r"^chunk_tokens: must be at least 1, not 0"):
        ScriptedTarget(chunk_tokens=0)


def test_calls_against_the_protocol_are_our_own_bugs() -> None:
    target = ScriptedTarget()
    with pytest.raises(AssertionError, match="a guess without a text"):
        ScriptedDraft().propose(0, GREEDY, 0)
    with pytest.raises(AssertionError, match="beyond what the sequence holds"):
        next_tokens(target, 1, [1])
    with pytest.raises(AssertionError, match="more picks than tokens"):
        target.forward([Slice(0, 0, (1,), 2, False, GREEDY, 0)])


def test_a_draft_may_have_another_vocabulary() -> None:
    class Other(ScriptedTokenizer):
        pass

    other = Other()
    assert ScriptedDraft(tokenizer=other).tokenizer is other


# --- the contexts ---


def test_the_target_alone_ends_at_its_end_id() -> None:
    text = list(
        target_alone(ScriptedTarget(1, ends_every=20), PROMPT, sampling=GREEDY, seed=0, tokens_max=999)
    )
    assert text.index(END_ID) == len(text) - 1


# -- sampling is exact -------------------------------------------------------------------------------------

DRAWS = 3_000
CHANCE_LIMIT = 0.001

FILTERS = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.6),
    Sampling(temperature=1.5, top_k=7),
    Sampling(temperature=1.0, top_p=0.8),
    Sampling(temperature=1.0, min_p=0.1),
    Sampling(temperature=1.3, top_k=20, top_p=0.9, min_p=0.02),
]


def chance(observed: Sequence[int], expected: NDArray[np.float64]) -> float:
    """Chance, by chi-square, of token counts at least this far from the expected ones."""
    counts = np.bincount(observed, minlength=len(expected)).astype(float)
    assert counts[expected == 0].sum() == 0, "a token that the filters took out"
    often = expected >= 5
    seen = np.append(counts[often], counts[~often].sum())
    due = np.append(expected[often], expected[~often].sum())
    return float(stats.chisquare(seen[due > 0], due[due > 0]).pvalue)


def said_over_seeds(sampling: Sampling) -> float:
    """One context, many seeds: each answer's first token, from the engine as the cloud uses it."""
    target = ScriptedTarget(4)
    contexts = {token: rolled(target._script.empty, token) for token in range(256)}
    prompt = next(token for token, text in contexts.items() if target._script.opinion(text).sureness == 0)
    part = Slice(0, 0, (prompt,), 1, prompt=True, sampling=sampling, seed=0)
    said = [target.forward([structs.replace(part, seed=seed)])[0][0] for seed in range(DRAWS)]
    logits = target._script.opinion(contexts[prompt]).logits()
    return chance(said, DRAWS * coupling.distribution(logits, sampling))


def said_over_positions(sampling: Sampling, noise_position: Callable[[int], int]) -> tuple[float, list[int]]:
    """One seed, one long text: its tokens against the distributions they came from; and the text."""
    script = ScriptedTarget(4, ends_every=0)._script
    context, expected = reduce(rolled, PROMPT, script.empty), np.zeros(END_ID + 1)
    said: list[int] = []
    for position in range(len(PROMPT), len(PROMPT) + DRAWS):
        logits = script.opinion(context).logits()
        expected += coupling.distribution(logits, sampling)
        said.append(coupling.pick(logits, sampling, 11, noise_position(position)))
        context = rolled(context, said[-1])
    return chance(said, expected), said


@pytest.mark.parametrize("sampling", FILTERS)
def test_what_the_target_samples_fits_its_distribution(sampling: Sampling) -> None:
    assert said_over_seeds(sampling) > CHANCE_LIMIT


@pytest.mark.parametrize("sampling", FILTERS)
def test_a_sampled_text_fits_the_distributions_it_came_from(sampling: Sampling) -> None:
    target = ScriptedTarget(4, ends_every=0)
    fit, said = said_over_positions(sampling, lambda position: position)
    assert fit > CHANCE_LIMIT
    assert list(target_alone(target, PROMPT, sampling=sampling, seed=11, tokens_max=DRAWS)) == said


@pytest.mark.parametrize("sampling", FILTERS)
def test_a_sampler_that_ignores_the_position_is_found_out(sampling: Sampling) -> None:
    assert said_over_positions(sampling, lambda position: 0)[0] < CHANCE_LIMIT
