import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pipesd.coupling import Logits
from pipesd.engines.alone import answer_alone
from pipesd.engines.base import Tokenizer
from pipesd.engines.replay import ReplayDraft, ReplayTarget
from pipesd.engines.traces import (
    Guess,
    Trace,
    TracePrompt,
    agreement,
    read_trace,
    shipped_trace,
    write_trace,
)
from pipesd.errors import EngineError, TraceError, UsageError
from pipesd.lab.record import (
    Numerics,
    Prompt,
    Prompts,
    RecordedModel,
    Recording,
    open_model,
    read_prompts,
    record,
)
from pipesd.values import PromptMode, Sampling
from pipesd.vocabulary import Vocabulary, cutting_of
from tests.speech import CHATML, IM_END, TOKENIZER, as_text

if TYPE_CHECKING:
    from pipesd.engines.llama import Model

GREEDY = Sampling()
MATHS = Path(str(resources.files("pipesd") / "data" / "prompts" / "maths.jsonl"))
TOKENS, TOLERANCE = 8, 0.05
END, OTHER_END = 11, 10
Chances = Mapping[int, float]
Says = Callable[[tuple[int, ...]], Chances]


class Letters:
    """a is 0, b is 1, and so on."""

    def __init__(self, size: int = 12, first: str = "a", cutting: bytes = b"") -> None:
        self._first = ord(first)
        self.vocabulary = Vocabulary([bytes([self._first + token]) for token in range(size)], cutting)

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        if not text.isascii():
            raise UsageError("these are no letters")
        return [ord(letter) - self._first for letter in text]


class ScriptedText:
    """Says what its script says behind a text, and fails if it is asked for more, or in a wrong manner."""

    def __init__(self, says: Says, size: int, room: int) -> None:
        self._says = says
        self._size = size
        self._room = room
        self._tokens: tuple[int, ...] = ()

    def truncate(self, length: int) -> None:
        assert length <= len(self._tokens), "nothing to cut"
        self._tokens = self._tokens[:length]

    def read(self, tokens: Sequence[int], *, prompt: bool = False) -> Logits:
        assert prompt == (not self._tokens), "a prompt stands at the beginning, and only there"
        assert prompt or len(tokens) == 1, "output is read token by token"
        self._tokens += tuple(tokens)
        assert len(self._tokens) <= self._room
        chances = self._says(self._tokens)
        rest = (1.0 - sum(chances.values())) / (self._size - len(chances))
        return np.log([chances.get(token, rest) for token in range(self._size)]).astype(np.float32)


def fake_model(
    says: Says, name: str = "large", tokenizer: Tokenizer | None = None, **more: Any
) -> RecordedModel:
    tokenizer = tokenizer or Letters()
    size = len(tokenizer.vocabulary)
    known: dict[str, Any] = {
        "name": name,
        "sha256": name[:1],
        "tokenizer": tokenizer,
        "begin_ids": (),
        "end_ids": (END, OTHER_END),
        "template": "",
        "context_tokens": 1_000,
        "open_text": lambda room: ScriptedText(says, size, room),
    }
    return RecordedModel(**known | more)


def script(prompt: Sequence[int], behind: Mapping[tuple[int, ...], Chances]) -> Says:
    """What is said behind a prompt and each of the named outputs."""
    return lambda tokens: behind[tokens[len(prompt) :]]


def asked(*texts: str) -> Prompts:
    return Prompts(
        tuple(Prompt(f"p/{at}", text, f"some.jsonl, line {at + 1}") for at, text in enumerate(texts))
    )


def how(tokens_max: int = 8, *, mode: PromptMode = "raw", numerics: Numerics = "exact") -> Recording:
    return Recording(kind="maths", numerics=numerics, mode=mode, tokens_max=tokens_max)


def recorded(draft: Says, target: Says, *texts: str, tokens_max: int = 8) -> Trace:
    done: list[TracePrompt] = []
    trace = record(
        fake_model(draft, "small"), fake_model(target), asked(*texts), how(tokens_max), done.append
    )
    assert tuple(done) == trace.prompts
    return trace


# --- what is recorded ---

PROMPT = (1, 2)
TARGET = script(PROMPT, {(): {3: 0.9}, (3,): {4: 0.6}, (3, 4): {5: 0.123456}, (3, 4, 5): {END: 0.8}})
DRAFT = script(
    PROMPT,
    {
        (): {3: 0.5, 4: 0.2, 5: 0.1, 6: 0.05},
        (3,): {7: 0.4, 4: 0.3, 1: 0.1, 2: 0.05},
        (3, 7): {8: 0.6},
        (3, 7, 8): {OTHER_END: 0.75},
        (3, 4): {OTHER_END: 0.5, 5: 0.3, 0: 0.1, 9: 0.05},
        (3, 4, 5): {END: 0.96, 0: 0.02, 1: 0.01, 2: 0.0099999},
    },
)


def test_every_field_is_what_the_models_said() -> None:
    trace = recorded(DRAFT, TARGET, "bc")
    header, (prompt,) = trace.header, trace.prompts
    assert (header.format, header.kind, header.numerics) == ("pipesd-trace/1", "maths", "exact")
    assert (header.draft, header.target) == ("small", "large")
    assert (header.draft_sha256, header.target_sha256) == ("s", "l")
    assert (header.vocabulary, header.end_ids) == (12, (END, OTHER_END))
    assert header.pieces == {token: bytes([97 + token]) for token in range(12)}
    assert (prompt.id, prompt.prompt_tokens) == ("p/0", PROMPT)
    assert prompt.target == (3, 4, 5, END)
    assert prompt.target_p == (0.9, 0.6, 0.12346, 0.8)
    assert prompt.draft_top == (
        ((3, 0.5), (4, 0.2), (5, 0.1), (6, 0.05)),
        ((7, 0.4), (4, 0.3), (1, 0.1), (2, 0.05)),
        ((OTHER_END, 0.5), (5, 0.3), (0, 0.1), (9, 0.05)),
        ((END, 0.96), (0, 0.02), (1, 0.01), (2, 0.01)),
    )
    assert prompt.rollouts == {1: ((8, 0.6), (OTHER_END, 0.75)), 2: ()}
    assert agreement(trace.prompts) == 0.5


def test_only_ids_that_occur_have_a_piece() -> None:
    sure = {0: 0.7, 1: 0.1, 2: 0.05, 3: 0.03}
    assert recorded(lambda _: sure, lambda _: sure, "f").header.pieces.keys() == {0, 1, 2, 3, 5}


def test_an_answer_ends_at_the_limit_and_a_rollout_after_16() -> None:
    trace = recorded(lambda _: {6: 0.9}, lambda _: {5: 0.9}, "ab", tokens_max=3)
    (prompt,) = trace.prompts
    assert prompt.target == (5, 5, 5)
    assert prompt.rollouts == dict.fromkeys(range(3), ((6, 0.9),) * 16)
    assert agreement(trace.prompts) == 0.0


def test_of_equally_likely_tokens_the_lowest_id_is_best() -> None:
    (prompt,) = recorded(lambda _: {}, lambda _: {8: 0.45, 4: 0.45}, "ab", tokens_max=1).prompts
    assert prompt.target == (4,)
    assert prompt.draft_top == (tuple((token, 0.08333) for token in range(4)),)


def test_prompts_do_not_touch_each_other() -> None:
    together = recorded(chaotic(13, 5), chaotic(31), "abc", "b", "cab")
    alone = [recorded(chaotic(13, 5), chaotic(31), text).prompts[0] for text in ("abc", "b", "cab")]
    assert [prompt.target for prompt in together.prompts] == [prompt.target for prompt in alone]
    assert [prompt.rollouts for prompt in together.prompts] == [prompt.rollouts for prompt in alone]


def chaotic(ends_every: int, differs_every: int = 1_000) -> Says:
    """Says ids that depend on the whole text; two of them often agree."""

    def says(tokens: tuple[int, ...]) -> Chances:
        context = sum((at + 1) * (token + 3) for at, token in enumerate(tokens))
        if context % ends_every == 0:
            return {END: 0.9}
        best = context + (context % differs_every == 0)
        return {best % 10: 0.5 + context % 40 / 100, (best + 1) % 10: 0.05}

    return says


def test_what_is_recorded_replays_as_the_models_spoke(tmp_path: Path) -> None:
    draft, target = chaotic(13, 5), chaotic(31)
    trace = recorded(draft, target, "abc", "b", "cab", "jihg", tokens_max=12)
    write_trace(tmp_path / "some.jsonl", trace)
    again = read_trace(tmp_path / "some.jsonl")
    assert again == trace
    assert 0.0 < agreement(again.prompts) < 1.0
    assert any(0 < len(rollout) < 16 for prompt in again.prompts for rollout in prompt.rollouts.values())
    replayed_target, replayed_draft = ReplayTarget(again), ReplayDraft(again)
    for prompt in again.prompts:
        text, limit = prompt.prompt_tokens, len(prompt.target)
        path = answer_alone(replayed_target, text, sampling=GREEDY, seed=0, tokens_max=limit)[0]
        assert path == list(prompt.target) == spoken(target, text, limit)
        for at in range(limit):
            context = (*text, *path[:at])
            replayed_draft.release(0)
            replayed_draft.extend(0, context)
            assert drafted(replayed_draft, limit - at) == spoken(draft, context, limit - at)


def tokens_of(guesses: Sequence[Guess]) -> list[int]:
    return [guess.token for guess in guesses]


def likeliest(chances: Chances) -> int:
    return max(chances, key=lambda token: chances[token])


def spoken(says: Says, context: tuple[int, ...], count: int) -> list[int]:
    """What a model says by itself, to its first end id."""
    found: list[int] = []
    while len(found) < count and END not in found:
        found.append(likeliest(says((*context, *found))))
    return found


def drafted(draft: ReplayDraft, count: int) -> list[int]:
    found: list[int] = []
    while len(found) < count and END not in found:
        found.append(draft.propose(0, GREEDY, 0).token)
        draft.extend(0, found[-1:])
    return found


# --- prompts ---


def written(folder: Path, *lines: object) -> Path:
    path = folder / "prompts.jsonl"
    texts = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
    path.write_bytes(b"\n".join(texts))
    return path


def complaint(path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        read_prompts(path)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def test_prompts_are_read_with_their_places(tmp_path: Path) -> None:
    path = written(
        tmp_path, {"id": "one", "prompt": "a\nb"}, b" \r", {"id": "two", "prompt": "é", "answer": 3}, b""
    )
    assert read_prompts(path) == Prompts(
        (Prompt("one", "a\nb", f"{path}, line 1"), Prompt("two", "é", f"{path}, line 3"))
    )


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ({"id": "two"}, "Object missing required field `prompt`"),
        ({"prompt": "b"}, "Object missing required field `id`"),
        ({"id": 2, "prompt": "b"}, "id: Expected `str`"),
        ({"id": "", "prompt": "b"}, "id: Expected `str` of length >= 1"),
        ({"id": "two", "prompt": ["b"]}, "prompt: Expected `str`"),
        ({"id": "two", "prompt": ""}, "prompt: Expected `str` of length >= 1"),
        ({"id": "one", "prompt": "b"}, "id: one was there before"),
        (["two", "b"], "Expected `object`, got `array`"),
        (b"{", "Input data was truncated"),
        (b"two: b", "JSON is malformed"),
        (b'{"id": "two", "prompt": "\xff"}', ""),
        (b"[" * 200_000, ""),
    ],
)
def test_a_broken_line_is_named(tmp_path: Path, line: object, what: str) -> None:
    said = complaint(written(tmp_path, {"id": "one", "prompt": "a"}, line))
    assert said.startswith(f"FILE, line 2: {what}")


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_a_file_without_a_prompt_is_refused(tmp_path: Path, content: bytes) -> None:
    assert complaint(written(tmp_path, content)).startswith("FILE, line 1: there is no prompt; give")


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    assert complaint(tmp_path / "none").startswith("the prompts FILE cannot be read: no such file")
    assert complaint(tmp_path).startswith("the prompts FILE cannot be read: is a directory")


def test_the_prompts_of_a_trace_are_asked_again_as_they_are(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    write_trace(path, recorded(DRAFT, TARGET, "bc"))
    prompts = read_prompts(path)
    assert prompts.all == (Prompt("p/0", PROMPT, f"{path}, line 2"),)
    assert prompts.pieces[1] == b"b"
    again = record(fake_model(DRAFT, "small"), fake_model(TARGET), prompts, how(mode="auto"), lambda _: None)
    assert again == read_trace(path)


def test_a_broken_trace_is_named(tmp_path: Path) -> None:
    path = tmp_path / "some.jsonl"
    write_trace(path, recorded(DRAFT, TARGET, "bc"))
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(TraceError, match=r"some\.jsonl, line 2"):
        read_prompts(path)


def test_a_prompt_is_put_into_the_targets_template() -> None:
    tokens: list[tuple[int, ...]] = []

    def says(text: tuple[int, ...]) -> Chances:
        tokens.append(text)
        return {IM_END: 0.9}

    more: dict[str, Any] = {
        "tokenizer": TOKENIZER,
        "end_ids": (IM_END,),
        "template": CHATML,
        "context_tokens": 500,
    }
    models = fake_model(says, "small", **more), fake_model(says, begin_ids=(7,), **more)
    (prompt,) = record(*models, asked("Hi <|im_end|>"), how(mode="auto"), lambda _: None).prompts
    assert as_text(prompt.prompt_tokens[1:]) == (
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nHi <|im_end|><|im_end|>\n<|im_start|>assistant\n"
    )
    assert prompt.prompt_tokens[0] == 7
    assert prompt.prompt_tokens.count(IM_END) == 2
    assert tokens == [prompt.prompt_tokens] * 2
    (raw,) = record(*models, asked("Hi"), how(mode="raw"), lambda _: None).prompts
    assert raw.prompt_tokens == (7, *TOKENIZER.encode("Hi"))


# --- what cannot be recorded ---


def refusal(draft: RecordedModel, target: RecordedModel, prompts: Prompts, recording: Recording) -> str:
    with pytest.raises(UsageError) as caught:
        record(draft, target, prompts, recording, lambda _: None)
    return str(caught.value)


def never(_: tuple[int, ...]) -> Chances:
    raise AssertionError("a model was asked")


SMALL, LARGE = fake_model(never, "small"), fake_model(never)


@pytest.mark.parametrize(
    "tokenizer",
    [Letters(first="b"), Letters(first="A", size=30), Letters(cutting=cutting_of([1, 2]))],
    ids=["pieces", "pieces and size", "cutting"],
)
def test_models_with_different_tokenizers_are_refused(tokenizer: Letters) -> None:
    other = fake_model(never, "small", tokenizer)
    assert refusal(other, LARGE, asked("a"), how()).startswith("small and large have different tokenizers")
    assert refusal(LARGE, other, asked("a"), how()).startswith("large and small have different tokenizers")


@pytest.mark.parametrize(("ours", "theirs"), [(13, 12), (12, 13)])
def test_a_padded_vocabulary_goes_with_one_that_is_not(ours: int, theirs: int) -> None:
    sure = {12: 0.5, 11: 0.2, 10: 0.1, 9: 0.1}
    guesses = sure if ours == 13 else {11: 0.9}
    draft = fake_model(lambda _: guesses, "small", Letters(ours))
    target = fake_model(lambda _: {11: 0.9}, "large", Letters(theirs))
    trace = record(draft, target, asked("a"), how(), lambda _: None)
    assert trace.header.vocabulary == 13
    assert (12 in trace.header.pieces) == (ours == 13)


def test_a_target_that_never_ends_is_refused() -> None:
    assert "no token that ends" in refusal(SMALL, fake_model(never, end_ids=()), asked("a"), how())


def test_a_target_without_a_template_has_no_chat_prompts() -> None:
    assert "no chat template" in refusal(SMALL, LARGE, asked("a"), how(mode="chat"))


def test_a_prompt_that_cannot_be_encoded_is_named() -> None:
    assert refusal(SMALL, LARGE, asked("a", "é"), how()).startswith(
        "some.jsonl, line 2: prompt: these are no"
    )


def test_prompts_of_the_same_tokens_are_refused() -> None:
    assert refusal(SMALL, LARGE, asked("a", "b", "a"), how()).startswith(
        "some.jsonl, line 3: prompt: another"
    )


def test_token_ids_of_another_tokenizer_are_refused() -> None:
    for pieces in ({1: b"x"}, {12: b"m"}):
        prompts = Prompts((Prompt("one", (1,), "there"),), pieces)
        assert "another tokenizer than large" in refusal(SMALL, LARGE, prompts, how(mode="auto"))


@pytest.mark.parametrize("mode", ["chat", "raw"])
def test_token_ids_are_not_put_into_a_template(mode: PromptMode) -> None:
    prompts = Prompts((Prompt("one", (1,), "there"),), {1: b"b"})
    assert "leave --chat and --raw out" in refusal(SMALL, LARGE, prompts, how(mode=mode))


def test_what_does_not_fit_a_context_is_said_before_a_model_is_asked() -> None:
    short = fake_model(never, "small", context_tokens=30)
    said = "p/1 has 7 tokens, and with its answer needs 31, but the models' contexts have 30"
    assert said in refusal(short, LARGE, asked("a", "abcdefg"), how(8))
    assert said in refusal(LARGE, short, asked("a", "abcdefg"), how(8))
    with pytest.raises(AssertionError, match="was asked"):
        record(short, LARGE, asked("a", "abcdefg"), how(7), lambda _: None)


def test_a_model_that_fails_is_no_recording() -> None:
    with pytest.raises(EngineError, match="NaN"):
        recorded(lambda _: {5: math.nan}, lambda _: {5: 0.9}, "ab")


def test_without_llama_cpp_it_is_said_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "pipesd.engines.llama", None)
    with pytest.raises(
        EngineError, match=r"llama\.cpp cannot be used .*; run pip install 'pipesd\[llama\]'$"
    ):
        open_model(tmp_path / "some.gguf", "exact", 1)


# --- real models ---


@pytest.mark.models
def test_a_real_pair_says_what_the_shipped_trace_says(model_file: Callable[[str], Path]) -> None:
    shipped = read_trace(shipped_trace("maths"))
    one = next(prompt for prompt in shipped.prompts if any(at < TOKENS for at in prompt.rollouts))
    text = next(prompt for prompt in read_prompts(MATHS).all if prompt.id == one.id)
    names = ("qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b")
    draft, target = (open_model(model_file(name), "exact", 2) for name in names)
    trace = record(draft, target, Prompts((text,)), how(TOKENS, mode="chat"), lambda _: None)
    for key in ("draft", "target", "draft_sha256", "target_sha256", "vocabulary", "end_ids", "numerics"):
        assert getattr(trace.header, key) == getattr(shipped.header, key)
    assert trace.header.pieces.items() <= shipped.header.pieces.items()
    (found,) = trace.prompts
    assert (found.id, found.prompt_tokens, found.target) == (one.id, one.prompt_tokens, one.target[:TOKENS])
    assert found.target_p == pytest.approx(one.target_p[:TOKENS], abs=TOLERANCE)
    assert found.rollouts.keys() == {at for at in one.rollouts if at < TOKENS} != set()
    for ours, theirs in [
        *zip(found.draft_top, one.draft_top, strict=False),
        *((rollout, one.rollouts[at]) for at, rollout in found.rollouts.items()),
    ]:
        assert tokens_of(ours) == tokens_of(theirs)
        assert [guess.probability for guess in ours] == pytest.approx(
            [guess.probability for guess in theirs], abs=TOLERANCE
        )


@pytest.mark.models
def test_a_recorded_path_is_what_the_exact_target_says_alone(load_model: "Callable[[str], Model]") -> None:
    from pipesd.engines.caches import Room  # noqa: PLC0415 - most runs do without llama.cpp
    from pipesd.engines.llama_pair import LlamaTarget  # noqa: PLC0415

    room = Room(context_tokens=512, chunk_tokens=512, slots=1, threads=2)
    target = LlamaTarget(load_model("qwen2.5-coder-1.5b"), room)
    for prompt in read_trace(shipped_trace("maths")).prompts[::6]:
        path = answer_alone(target, prompt.prompt_tokens, sampling=GREEDY, seed=0, tokens_max=TOKENS)[0]
        assert path == list(prompt.target[:TOKENS])
