from pathlib import Path

import pytest

from pipesd.engines.alone import answer_alone
from pipesd.engines.base import DraftEngine, TargetEngine
from pipesd.engines.choose import open_draft, open_target
from pipesd.engines.replay import ReplayDraft, ReplayTarget
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.engines.traces import shipped_traces
from pipesd.errors import EngineError, UsageError
from pipesd.values import Sampling

GREEDY = Sampling()


def draft_of(
    kind: str, *, traces: tuple[str, ...] = (), agreement: float = 1.0, script_seed: int = 3
) -> DraftEngine:
    return open_draft(kind, traces=traces, agreement=agreement, script_seed=script_seed)


def target_of(
    kind: str, *, traces: tuple[str, ...] = (), context_tokens: int = 300, chunk_tokens: int = 30
) -> TargetEngine:
    return open_target(
        kind, traces=traces, script_seed=3, context_tokens=context_tokens, chunk_tokens=chunk_tokens
    )


@pytest.mark.parametrize(
    ("kind", "draft", "target"),
    [("scripted", ScriptedDraft, ScriptedTarget), ("replay", ReplayDraft, ReplayTarget)],
)
def test_each_kind_has_its_pair(kind: str, draft: type[object], target: type[object]) -> None:
    engine = target_of(kind)
    assert isinstance(engine, target)
    assert (engine.identity.context_tokens, engine.identity.chunk_tokens) == (300, 30)
    guesser = draft_of(kind)
    assert isinstance(guesser, draft)
    assert guesser.tokenizer.vocabulary.hashes == engine.tokenizer.vocabulary.hashes


def test_the_scripted_pair_has_one_script() -> None:
    prompt = [1, 2, 3]
    text, _ = answer_alone(target_of("scripted"), prompt, sampling=GREEDY, seed=0, tokens_max=20)

    def hits(draft: DraftEngine) -> int:
        draft.extend(0, prompt)
        right = 0
        for token in text:
            right += draft.propose(0, GREEDY, 0).token == token
            draft.extend(0, [token])
        return right

    assert hits(draft_of("scripted")) == len(text)
    assert hits(draft_of("scripted", agreement=0.0)) == 0
    assert hits(draft_of("scripted", script_seed=4)) < len(text) // 2


def test_without_traces_the_shipped_ones_are_replayed() -> None:
    assert draft_of("replay").tokenizer.encode("chat/0")
    assert target_of("replay").tokenizer.encode("HumanEval/0")


def test_only_the_traces_that_were_chosen_are_replayed() -> None:
    chat = next(str(path) for path in shipped_traces() if path.stem == "chat")
    for engine in (draft_of("replay", traces=(chat,)), target_of("replay", traces=(chat,))):
        assert engine.tokenizer.encode("chat/0")
        with pytest.raises(UsageError, match="knows only the 12 prompts"):
            engine.tokenizer.encode("HumanEval/0")


@pytest.mark.parametrize("kind", ["", "Scripted", "gguf"])
def test_another_kind_is_the_callers_fault(kind: str) -> None:
    for choose in (draft_of, target_of):
        with pytest.raises(UsageError, match=rf"^engine: '{kind}' is not known; .* scripted, replay$"):
            choose(kind)


def test_what_cannot_be_is_said_by_the_engine(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^agreement: "):
        draft_of("scripted", agreement=2.0)
    with pytest.raises(UsageError, match=r"^chunk_tokens: "):
        target_of("replay", chunk_tokens=0)
    missing = str(tmp_path / "none.jsonl")
    for choose in (draft_of, target_of):
        with pytest.raises(EngineError, match=r"none\.jsonl cannot be read"):
            choose("replay", traces=(missing,))


def test_what_concerns_another_kind_is_not_looked_at() -> None:
    assert isinstance(draft_of("scripted", traces=("none.jsonl",)), ScriptedDraft)
    assert isinstance(draft_of("replay", agreement=9.0, script_seed=-1), ReplayDraft)
