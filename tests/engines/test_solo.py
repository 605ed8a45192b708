"""A draft as the only model: its text is what the draft engine proposes, step by step."""

from collections.abc import Sequence

import pytest

from pipesd.engines.alone import answer_alone
from pipesd.engines.base import DraftEngine
from pipesd.engines.replay import UNSURE, ReplayDraft
from pipesd.engines.scripted import END_ID, ScriptedDraft
from pipesd.engines.solo import RecordedDraft, SoloTarget, replay_solo, scripted_solo
from pipesd.engines.traces import Trace, TracePrompt, load, shipped_trace
from pipesd.errors import EngineError, UsageError
from pipesd.values import Proposal, Sampling, Slice
from tests.contracts.engines import check_chunks_do_not_matter, check_target_engine

GREEDY = Sampling()
SAMPLED = Sampling(temperature=0.9, top_p=0.95)
SEED = 8
PROMPT = list(b"Once upon a time")


@pytest.fixture(scope="module")
def trace() -> Trace:
    return load([shipped_trace("chat")])


def scripted(context_tokens: int = 4_096, chunk_tokens: int = 512) -> SoloTarget:
    return scripted_solo(3, 0.8, context_tokens=context_tokens, chunk_tokens=chunk_tokens)


def replayed(trace: Trace) -> SoloTarget:
    return replay_solo(trace, context_tokens=4_096, chunk_tokens=512)


def proposed(draft: DraftEngine, prompt: Sequence[int], sampling: Sampling, count: int) -> list[int]:
    """What a draft says if it is asked again and again."""
    draft.extend(0, prompt, prompt=True)
    said: list[int] = []
    while len(said) < count:
        said.append(draft.propose(0, sampling, SEED).token)
        draft.extend(0, said[-1:])
    return said


class Watched(ScriptedDraft):
    """Notes what it is told."""

    def __init__(self) -> None:
        super().__init__(ends_every=0)
        self.extended: list[tuple[tuple[int, ...], bool]] = []
        self.told: list[object] = []

    def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
        self.extended.append((tuple(tokens), prompt))
        super().extend(sequence, tokens, prompt=prompt)

    def release(self, sequence: int) -> None:
        self.told.append(sequence)
        super().release(sequence)

    def interrupt(self) -> None:
        self.told.append("interrupt")

    def close(self) -> None:
        self.told.append("close")


# --- any draft ---


def test_it_keeps_the_contract_of_a_target() -> None:
    check_target_engine(scripted)
    check_chunks_do_not_matter(scripted)


@pytest.mark.parametrize("sampling", [GREEDY, SAMPLED], ids=["greedy", "sampled"])
@pytest.mark.parametrize("chunk_tokens", [4, 512])
def test_its_text_is_what_the_draft_proposes_again_and_again(sampling: Sampling, chunk_tokens: int) -> None:
    solo = scripted(chunk_tokens=chunk_tokens)
    said, finish = answer_alone(solo, PROMPT, sampling=sampling, seed=SEED, tokens_max=40)
    draft = ScriptedDraft(3, agreement=0.8)
    assert said == proposed(draft, PROMPT, sampling, len(said))
    assert finish == ("stop" if said[-1] == END_ID else "length")
    assert len(said) > 20


def test_the_draft_reads_whole_prompt_chunks_and_each_token_that_is_answered() -> None:
    draft = Watched()
    solo = SoloTarget(draft, scripted().identity)
    solo.forward([Slice(0, 0, (1, 2, 3, 4), 0, True, GREEDY, 0), Slice(0, 4, (5, 6), 1, True, GREEDY, 0)])
    solo.forward([Slice(0, 6, (7, 8, 9, 10), 3, False, GREEDY, 0)])
    assert draft.extended == [
        ((1, 2, 3, 4), True),
        ((5, 6), True),
        ((7, 8), False),
        ((9,), False),
        ((10,), False),
    ]


def test_what_else_it_is_told_is_handed_on() -> None:
    draft = Watched()
    solo = SoloTarget(draft, scripted().identity)
    solo.release(5)
    solo.interrupt()
    solo.close()
    assert draft.told == [5, "interrupt", "close"]
    assert solo.tokenizer is draft.tokenizer


# --- the toy ---


def test_the_scripted_draft_says_who_it_is_and_how_much_it_can_hold() -> None:
    identity = scripted(context_tokens=20, chunk_tokens=6).identity
    assert identity.model == "scripted, seed 3, agreement 0.8 (draft)"
    assert (identity.engine, identity.context_tokens, identity.chunk_tokens) == ("scripted", 20, 6)
    assert identity.end_ids == (END_ID,)
    said, finish = answer_alone(scripted(20), PROMPT, sampling=GREEDY, seed=0, tokens_max=99)
    assert (len(PROMPT) + len(said), finish) == (20, "context")


def test_an_impossible_toy_is_refused() -> None:
    with pytest.raises(UsageError, match=r"^agreement: "):
        scripted_solo(3, 1.5, context_tokens=20, chunk_tokens=6)


# --- a recording ---


def own_text(trace: Trace, prompt: TracePrompt) -> list[int]:
    """What is recorded of the draft's own answer, and an end id."""
    left_at = min(prompt.rollouts, default=len(prompt.target))
    said = list(prompt.target[:left_at])
    if left_at < len(prompt.target):
        said += [prompt.draft_top[left_at][0].token, *(guess.token for guess in prompt.rollouts[left_at])]
    ends = (at for at, token in enumerate(said) if token in trace.header.end_ids)
    return [*said, trace.header.end_ids[0]][: next(ends, len(said)) + 1]


def test_a_replayed_draft_keeps_the_contract_of_a_target(trace: Trace) -> None:
    check_target_engine(lambda: replayed(trace), trace.prompts[4].prompt_tokens)


def test_a_replayed_draft_says_what_was_recorded_of_it_and_nothing_else(trace: Trace) -> None:
    for prompt in trace.prompts:
        answer = answer_alone(replayed(trace), prompt.prompt_tokens, sampling=GREEDY, seed=0, tokens_max=300)
        assert answer == (own_text(trace, prompt), "stop"), prompt.id


def test_its_text_is_that_of_the_replay_engine_as_far_as_it_was_recorded(trace: Trace) -> None:
    left_early = 0
    for prompt in trace.prompts:
        said = own_text(trace, prompt)[:-1]
        left_early += said != list(prompt.target[: len(said)])
        assert said == proposed(ReplayDraft(trace), prompt.prompt_tokens, GREEDY, len(said)), prompt.id
    assert left_early > 6, "the draft never disagrees: the traces test nothing"


def test_confidences_are_those_that_were_recorded(trace: Trace) -> None:
    prompt = trace.prompts[4]
    drafts = RecordedDraft(trace), ReplayDraft(trace)
    for draft in drafts:
        draft.extend(0, [*prompt.prompt_tokens, *prompt.target[:5]])
    one, other = (draft.propose(0, GREEDY, 0) for draft in drafts)
    assert one == other == Proposal(*prompt.draft_top[5][0])


def test_behind_what_the_draft_did_not_say_its_text_is_over(trace: Trace) -> None:
    prompt = trace.prompts[4]
    draft, over = RecordedDraft(trace), Proposal(trace.header.end_ids[0], UNSURE)
    at = min(prompt.rollouts)
    stranger = next(
        token for token in range(3) if token not in (prompt.target[at], prompt.draft_top[at][0][0])
    )
    draft.extend(0, [*prompt.prompt_tokens, *prompt.target[:at], stranger])
    draft.extend(1, [5, 6, 7])
    draft.extend(2, [*prompt.prompt_tokens, *prompt.target])
    assert [draft.propose(sequence, GREEDY, 0) for sequence in range(3)] == [over] * 3


def test_a_replayed_draft_says_who_it_is(trace: Trace) -> None:
    solo = replayed(trace)
    assert solo.identity.model == f"{trace.header.draft} (draft) (replayed)"
    assert solo.identity.end_ids == trace.header.end_ids
    assert solo.identity.greedy_only
    with pytest.raises(EngineError, match="temperature"):
        answer_alone(solo, [1, 2], sampling=SAMPLED, seed=0, tokens_max=1)
