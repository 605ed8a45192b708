from collections.abc import Callable, Sequence
from functools import cache

import pytest

from pipesd.engines.alone import answer_alone
from pipesd.engines.base import DraftEngine, TargetEngine
from pipesd.engines.replay import ReplayDraft, ReplayTarget, ReplayTokenizer
from pipesd.engines.traces import Guess, Trace, TraceHeader, TracePrompt, load
from pipesd.errors import EngineError, UsageError
from pipesd.values import Proposal, Sampling, Slice
from tests.contracts.engines import check_chunks_do_not_matter, check_draft_engine, check_target_engine

GREEDY = Sampling()
VOCABULARY = 50
END = 40
PATH_TOKENS = 30


@cache
def shipped() -> Trace:
    return load([])


def recorded(prompt_id: str, tokens: Sequence[int], path: Sequence[int], **wrong: int) -> TracePrompt:
    """A prompt whose draft is right but at the positions (``at_3=rollout length``) named in ``wrong``.

    There it says 1, and then 2, 2, … with confidences 0.20, 0.21, …
    """
    lengths = {int(name.removeprefix("at_")): length for name, length in wrong.items()}
    rest = (Guess(0, 0.0),) * 3
    return TracePrompt(
        id=prompt_id,
        prompt_tokens=tuple(tokens),
        target=tuple(path),
        target_p=(0.9,) * len(path),
        draft_top=tuple(
            (Guess(1, 0.3) if at in lengths else Guess(token, 0.8), *rest) for at, token in enumerate(path)
        ),
        rollouts={
            at: tuple(Guess(2, 0.2 + step / 100) for step in range(length)) for at, length in lengths.items()
        },
    )


LONG = [10 + at for at in range(PATH_TOKENS)]
SMALL = Trace(
    TraceHeader(
        format="pipesd-trace/1",
        kind="code",
        draft="small",
        target="large",
        draft_sha256="",
        target_sha256="",
        numerics="fast",
        vocabulary=VOCABULARY,
        end_ids=(END, 41),
        pieces={token: bytes([48 + token]) for token in range(PATH_TOKENS)} | {END: b"<end>"},
    ),
    (
        recorded("long", [5, 6, 7], LONG, at_4=16, at_8=3, at_20=16),
        recorded("short", [5, 6], [20, 21, 22, 41], at_1=0),
        recorded("spaced", [8, 9], [23, 24]),
    ),
)


def picks(target: TargetEngine, context: Sequence[int], count: int = 1) -> list[int]:
    """The target's tokens behind each of the last ``count`` prefixes of ``context``."""
    return list(target.forward([Slice(0, 0, tuple(context), count, False, GREEDY, 0)])[0])


def drafted(draft: DraftEngine, context: Sequence[int], count: int) -> list[Proposal]:
    """What the draft goes on to say."""
    draft.release(0)
    draft.extend(0, context)
    found = []
    for _ in range(count):
        found.append(draft.propose(0, GREEDY, 0))
        draft.extend(0, [found[-1].token])
    return found


# --- the contract ---


@pytest.mark.parametrize("prompt", [None, [5, 6, 7], [5, 6], [5, 6, 7, *LONG]], ids=str)
def test_both_keep_the_contract(prompt: list[int] | None) -> None:
    check_draft_engine(lambda: ReplayDraft(SMALL), prompt, greedy_only=True)
    check_target_engine(lambda: ReplayTarget(SMALL), prompt)
    check_chunks_do_not_matter(lambda: ReplayTarget(SMALL), prompt)


@pytest.mark.parametrize("number", [0, 20, 40])
def test_both_keep_the_contract_on_shipped_prompts(number: int) -> None:
    prompt = shipped().prompts[number].prompt_tokens
    check_draft_engine(lambda: ReplayDraft(shipped()), prompt, greedy_only=True)
    check_target_engine(lambda: ReplayTarget(shipped(), chunk_tokens=16), prompt)


def test_the_identity_is_that_of_the_recording() -> None:
    identity = ReplayTarget(SMALL, context_tokens=99, chunk_tokens=7).identity
    assert (identity.model, identity.engine, identity.numerics) == ("large (replayed)", "replay", "exact")
    assert (identity.context_tokens, identity.chunk_tokens) == (99, 7)
    assert (identity.begin_ids, identity.end_ids, identity.greedy_only) == ((), (END, 41), True)


# --- the tokenizer ---


def test_the_vocabulary_is_what_occurs() -> None:
    vocabulary = ReplayTokenizer(SMALL).vocabulary
    assert len(vocabulary) == VOCABULARY
    assert (vocabulary.pieces[3], vocabulary.pieces[END], vocabulary.pieces[45]) == (b"3", b"<end>", b"")
    assert ReplayDraft(SMALL).tokenizer.vocabulary == ReplayTarget(SMALL).tokenizer.vocabulary


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("long", [5, 6, 7]),
        ("567", [5, 6, 7]),
        (" 567\n", [5, 6, 7]),
        ("56", [5, 6]),
        ("89", [8, 9]),
        (" short ", [5, 6]),
    ],
)
def test_prompts_are_found_by_id_and_by_text(text: str, tokens: list[int]) -> None:
    assert ReplayTokenizer(SMALL).encode(text) == tokens


def test_every_shipped_prompt_is_found_by_id_and_by_text() -> None:
    tokenizer = ReplayTokenizer(shipped())
    pieces = tokenizer.vocabulary.pieces
    for prompt in shipped().prompts:
        text = b"".join(pieces[token] for token in prompt.prompt_tokens).decode()
        for name in (prompt.id, text, text.strip(), f"\n{text}\n\n"):
            assert tokenizer.encode(name) == list(prompt.prompt_tokens)


@pytest.mark.parametrize("text", ["", "5", "long 567", "Long"])
def test_other_texts_are_the_callers_fault(text: str) -> None:
    with pytest.raises(UsageError, match=r"knows only the 3 prompts .* such as long, short, spaced$"):
        ReplayTokenizer(SMALL).encode(text)


# --- the target ---


def test_the_target_alone_says_every_shipped_path() -> None:
    target = ReplayTarget(shipped(), chunk_tokens=50)
    for prompt in shipped().prompts:
        tokens, finish = answer_alone(
            target, prompt.prompt_tokens, sampling=GREEDY, seed=0, tokens_max=len(prompt.target)
        )
        assert tuple(tokens) == prompt.target
        assert (finish == "stop") == (prompt.target[-1] in target.identity.end_ids)


def test_behind_the_recorded_path_the_text_ends() -> None:
    target = ReplayTarget(shipped())
    prompt = next(prompt for prompt in shipped().prompts if len(prompt.target) == 160)
    tokens, finish = answer_alone(target, prompt.prompt_tokens, sampling=GREEDY, seed=0, tokens_max=999)
    assert (tuple(tokens[:-1]), tokens[-1], finish) == (prompt.target, target.identity.end_ids[0], "stop")


def test_an_accepted_wrong_draft_is_found_out() -> None:
    target = ReplayTarget(shipped())
    for prompt in shipped().prompts[::4]:
        for at in (0, 1, len(prompt.target) // 2, len(prompt.target) - 2):
            wrong = (prompt.target[at] + 1) % shipped().header.vocabulary
            context = (*prompt.prompt_tokens, *prompt.target[:at], wrong, *prompt.target[at + 1 :])
            behind = len(prompt.target) - at
            found = picks(target, context, behind)
            path = (*prompt.target[at + 1 :], target.identity.end_ids[0])
            assert all(pick != token for pick, token in zip(found, path, strict=True))
            assert len(set(found)) > behind // 2


def test_off_the_path_every_token_counts() -> None:
    target = ReplayTarget(SMALL)
    wrong = [[5, 6, 7, other, 10, 10] for other in range(VOCABULARY) if other != LONG[0]]
    assert len({tuple(picks(target, context, 3)) for context in wrong}) > 40
    off_path = [picks(target, context)[0] for context in wrong]
    assert LONG[3] not in off_path
    assert all(0 <= pick < VOCABULARY for pick in off_path)


def test_unknown_contexts_get_some_token() -> None:
    target = ReplayTarget(SMALL)
    found = [picks(target, [first, second])[0] for first in range(5) for second in range(VOCABULARY)]
    assert all(0 <= pick < VOCABULARY for pick in found)
    assert len(set(found)) > 40
    assert picks(target, [5]) == picks(target, [5])


def test_the_longest_prompt_that_fits_counts() -> None:
    target, draft = ReplayTarget(SMALL), ReplayDraft(SMALL)
    assert picks(target, [5, 6]) == [20]
    assert picks(target, [5, 6, 7]) == [LONG[0]]
    assert picks(target, [5, 6, 20]) == [21]
    assert drafted(draft, [5, 6, 7], 1) == [Proposal(LONG[0], 0.8)]
    draft.truncate(0, 2)
    assert draft.propose(0, GREEDY, 0) == Proposal(20, 0.8)


# --- the draft ---


def test_on_the_path_the_draft_says_what_it_said_there() -> None:
    draft = ReplayDraft(shipped())
    for prompt in shipped().prompts:
        draft.extend(0, prompt.prompt_tokens)
        for token, top in zip(prompt.target, prompt.draft_top, strict=True):
            assert draft.propose(0, GREEDY, 0) == Proposal(top[0].token, top[0].probability)
            draft.extend(0, [token])
        assert draft.propose(0, GREEDY, 0) == Proposal(shipped().header.end_ids[0], 0.5)
        draft.release(0)


def test_after_a_wrong_guess_the_draft_goes_on_as_it_did() -> None:
    draft = ReplayDraft(shipped())
    for prompt in shipped().prompts:
        for at, rollout in prompt.rollouts.items():
            found = drafted(draft, (*prompt.prompt_tokens, *prompt.target[:at]), 1 + len(rollout))
            assert found == [Proposal(*prompt.draft_top[at][0]), *(Proposal(*guess) for guess in rollout)]


def test_past_a_full_rollout_the_draft_is_always_wrong() -> None:
    found = drafted(ReplayDraft(SMALL), [5, 6, 7, *LONG[:4]], PATH_TOKENS)
    assert found[0] == Proposal(1, 0.3)
    assert [guess.token for guess in found[1:17]] == [2] * 16
    assert found[17:26] == [Proposal(LONG[at] + 1, 0.5) for at in range(21, PATH_TOKENS)]
    assert set(found[26:]) == {Proposal(END, 0.5)}


def test_past_a_short_rollout_the_draft_ends_the_text() -> None:
    found = drafted(ReplayDraft(SMALL), [5, 6, 7, *LONG[:8]], 6)
    assert [guess.token for guess in found] == [1, 2, 2, 2, END, END]
    assert [guess.confidence for guess in found] == pytest.approx([0.3, 0.2, 0.21, 0.22, 0.5, 0.5])
    assert drafted(ReplayDraft(SMALL), [5, 6, 20], 2) == [Proposal(1, 0.3), Proposal(END, 0.5)]


def test_a_rollout_may_reach_past_the_path() -> None:
    found = drafted(ReplayDraft(SMALL), [5, 6, 7, *LONG[:20]], 19)
    assert [guess.token for guess in found] == [1] + [2] * 16 + [END] * 2


@pytest.mark.parametrize(
    "context", [[1], [5], [VOCABULARY - 1], [5, 6, 7, LONG[0], 3], [5, 6, 7, 3, LONG[1]]]
)
def test_in_an_unknown_context_the_draft_says_something_unsure(context: list[int]) -> None:
    (guess,) = drafted(ReplayDraft(SMALL), context, 1)
    assert guess.confidence == 0.5
    assert 0 <= guess.token < VOCABULARY


def test_a_corrected_draft_is_back_on_the_path() -> None:
    draft = ReplayDraft(SMALL)
    drafted(draft, [5, 6, 7, *LONG[:4]], 5)
    draft.truncate(0, 3 + 4)
    draft.extend(0, [LONG[4]])
    assert draft.propose(0, GREEDY, 0) == Proposal(LONG[5], 0.8)


# --- both together ---


def speculated(draft: DraftEngine, target: TargetEngine, prompt: TracePrompt, window: int) -> list[int]:
    """The simplest speculative decoding: draft, verify, correct, and again."""
    text, start = list(prompt.prompt_tokens), len(prompt.prompt_tokens)
    text += picks(target, text)
    while text[-1] not in target.identity.end_ids and len(text) < start + len(prompt.target):
        guesses = [guess.token for guess in drafted(draft, text, window)]
        found = picks(target, [*text, *guesses], window + 1)
        right = next((at for at in range(window) if guesses[at] != found[at]), window)
        ends = [at for at in range(right + 1) if found[at] in target.identity.end_ids]
        text += found[: ends[0] + 1 if ends else right + 1]
    return text[start : start + len(prompt.target)]


@pytest.mark.parametrize("window", [3, 20])
def test_speculation_with_both_gives_the_recorded_path(window: int) -> None:
    draft, target = ReplayDraft(shipped()), ReplayTarget(shipped())
    for prompt in shipped().prompts[::6]:
        assert speculated(draft, target, prompt, window) == list(prompt.target)


# --- limits and faults ---


@pytest.mark.parametrize("sampling", [Sampling(temperature=0.1), Sampling(temperature=1.0, top_k=1)])
def test_sampling_is_refused(sampling: Sampling) -> None:
    draft = ReplayDraft(SMALL)
    draft.extend(0, [5, 6])
    with pytest.raises(EngineError, match="without sampling; set the temperature to 0"):
        draft.propose(0, sampling, 0)
    with pytest.raises(EngineError, match="without sampling; set the temperature to 0"):
        ReplayTarget(SMALL).forward([Slice(0, 0, (5, 6), 1, True, sampling, 0)])


def test_a_text_beyond_the_context_is_refused() -> None:
    draft = ReplayDraft(SMALL, context_tokens=3)
    assert draft.context_tokens == 3
    with pytest.raises(EngineError, match="4 tokens does not fit the context of 3"):
        draft.extend(0, [1, 2, 3, 4])
    with pytest.raises(EngineError, match="4 tokens does not fit the context of 3"):
        picks(ReplayTarget(SMALL, context_tokens=3), [1, 2, 3, 4])


@pytest.mark.parametrize(
    "make",
    [
        lambda: ReplayTarget(SMALL, context_tokens=0),
        lambda: ReplayTarget(SMALL, chunk_tokens=0),
        lambda: ReplayDraft(SMALL, context_tokens=0),
    ],
)
def test_impossible_sizes_are_the_callers_fault(make: Callable[[], object]) -> None:
    with pytest.raises(UsageError, match=r"_tokens: must be at least 1, not 0"):
        make()


def test_a_guess_without_a_text_is_our_own_bug() -> None:
    with pytest.raises(AssertionError, match="a guess without a text"):
        ReplayDraft(SMALL).propose(0, GREEDY, 0)
