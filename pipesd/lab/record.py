"""Records a trace: what a draft and a target make of some prompts, greedily.

The law of this file: what is recorded is what the daemons do with the same files and numerics. Prompts are
read in the target's chunks, output token by token, and an answer ends at the target's end ids.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, Protocol, TypeAlias

import msgspec
import numpy as np

from pipesd.config import CloudConfig
from pipesd.coupling import Logits, distribution
from pipesd.dialogue import Dialogue
from pipesd.engines.base import Tokenizer
from pipesd.engines.caches import Caches, Room
from pipesd.engines.traces import (
    FORMAT,
    ROLLOUT_TOKENS,
    Guess,
    Trace,
    TraceHeader,
    TracePrompt,
    ids_in,
    read_trace,
)
from pipesd.errors import EngineError, UsageError, one_line
from pipesd.values import PromptMode, Sampling

Numerics: TypeAlias = Literal["exact", "fast"]
Top: TypeAlias = tuple[Guess, Guess, Guess, Guess]

DIGITS = 5
"""Of a probability."""

_GREEDY = Sampling()
_NAME_AND_TEXT = "give each line an id and a prompt"


# --- the prompts ---


@dataclass(frozen=True, slots=True)
class Prompt:
    """What both models are asked."""

    id: str
    said: str | tuple[int, ...]
    """A text, or the token ids of a prompt that was recorded before."""

    place: str
    """File and line, for a person."""


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of one file."""

    all: tuple[Prompt, ...]
    pieces: Mapping[int, bytes] = field(default_factory=dict)
    """The bytes of the token ids in them, if they were recorded before."""


class _Start(msgspec.Struct):
    format: str = ""


class _Line(msgspec.Struct):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    prompt: Annotated[str, msgspec.Meta(min_length=1)]


def read_prompts(path: Path) -> Prompts:
    """Read a file of lines {"id": …, "prompt": …}, or the prompts of a trace.

    Raises ``UsageError`` or ``TraceError``, which name file, line and key, if anything is wrong with it.
    """
    try:
        lines = path.read_bytes().split(b"\n")
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = str(getattr(error, "strerror", error)).lower()
        raise UsageError(f"the prompts {path} cannot be read: {reason}; check the file's name") from None
    if _begins_a_trace(lines[0]):
        trace = read_trace(path)
        recorded = enumerate(trace.prompts, start=2)
        prompts = (Prompt(one.id, one.prompt_tokens, f"{path}, line {number}") for number, one in recorded)
        return Prompts(tuple(prompts), trace.header.pieces)
    found: dict[str, Prompt] = {}
    for number, line in enumerate(lines, start=1):
        if line.strip():
            prompt = _prompt(line, f"{path}, line {number}")
            if prompt.id in found:
                raise UsageError(f"{prompt.place}: id: {prompt.id} was there before; choose another")
            found[prompt.id] = prompt
    if not found:
        raise UsageError(f"{path}, line 1: there is no prompt; {_NAME_AND_TEXT}")
    return Prompts(tuple(found.values()))


def _begins_a_trace(line: bytes) -> bool:
    with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return msgspec.json.decode(line, type=_Start).format != ""
    return False


def _prompt(line: bytes, place: str) -> Prompt:
    try:
        said = msgspec.json.decode(line, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        # msgspec says: "Expected `str`, got `int` - at `$.id`".
        what, _, where = str(error).partition(" - at ")
        key = where.replace("`", "").replace("$.", "")
        reason = f"{key}: {what}" if key else what
        raise UsageError(f"{place}: {reason}; {_NAME_AND_TEXT}") from None
    return Prompt(said.id, said.prompt, place)


# --- the models ---


class Text(Protocol):
    """One text of a model."""

    def truncate(self, length: int) -> None:
        """Forget all but the first ``length`` tokens."""

    def read(self, tokens: Sequence[int], *, prompt: bool = False) -> Logits:
        """Append ``tokens``, a prompt or output; the logits behind the last of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedModel:
    """A model of which a trace is made."""

    name: str
    sha256: str
    tokenizer: Tokenizer
    begin_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    template: str
    context_tokens: int
    """Most tokens of one text."""

    open_text: Callable[[int], Text]
    """An empty text that has room for so many tokens."""


class _LlamaText:
    """The one text of a context of llama.cpp."""

    def __init__(self, caches: Caches) -> None:
        self._caches = caches

    def truncate(self, length: int) -> None:
        self._caches.truncate(0, length)

    def read(self, tokens: Sequence[int], *, prompt: bool = False) -> Logits:
        behind: list[Logits] = []
        with self._caches.working():
            take = partial(_keep_copy, behind)
            self._caches.append(0, tokens, prompt=prompt, takes=[take])
        return behind[0]


def _keep_copy(kept: list[Logits], logits: Logits) -> None:
    kept.append(logits.copy())


def open_model(path: Path, numerics: Numerics, threads: int) -> RecordedModel:
    """Load a model file into memory. Blocks. Raises ``EngineError`` if it cannot be loaded."""
    try:
        from pipesd.engines.llama import Model  # noqa: PLC0415 - most of the lab does without llama.cpp
        from pipesd.engines.llama_pair import caches_of  # noqa: PLC0415
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"llama.cpp cannot be used ({one_line(str(error))}); run pip install 'pipesd[llama]'"
        ) from None
    model, chunk_tokens = Model(path, numerics), CloudConfig().chunk_tokens

    def open_text(tokens: int) -> Text:
        room = Room(context_tokens=tokens, chunk_tokens=chunk_tokens, slots=1, threads=threads)
        return _LlamaText(caches_of(model, room))

    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return RecordedModel(
        name=one_line(path.stem),
        sha256=digest,
        tokenizer=model.tokenizer,
        begin_ids=model.begin_ids,
        end_ids=model.end_ids,
        template=model.template,
        context_tokens=model.context_tokens,
        open_text=open_text,
    )


# --- the recording ---


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """How a pair is recorded."""

    kind: str
    numerics: Numerics
    """Of the models, as they were opened."""

    mode: PromptMode
    """How prompts that are texts are taken."""

    tokens_max: int
    """Most tokens of an answer."""


def record(
    draft: RecordedModel,
    target: RecordedModel,
    prompts: Prompts,
    how: Recording,
    report: Callable[[TracePrompt], None],
) -> Trace:
    """What both models make of each prompt; each is reported when it is done. Blocks.

    Raises ``UsageError`` if the models do not go together or a prompt cannot be read, ``EngineError`` if one
    of them fails.
    """
    _check_pair(draft, target)
    asked = _encoded(prompts, target, how.mode)
    room = how.tokens_max + ROLLOUT_TOKENS + max(map(len, asked.values()))
    _check_room(asked, room, min(draft.context_tokens, target.context_tokens))
    both = _Pair(draft.open_text(room), target.open_text(room), frozenset(target.end_ids))
    recorded = []
    for name, tokens in asked.items():
        recorded.append(both.answer(name, tokens, how.tokens_max))
        report(recorded[-1])
    return Trace(_header(draft, target, how, recorded), tuple(recorded))


class _Pair:
    """A text of each model; they hold the same tokens at the beginning of each prompt: none."""

    def __init__(self, draft: Text, target: Text, end_ids: frozenset[int]) -> None:
        self._draft = draft
        self._target = target
        self._end_ids = end_ids

    def answer(self, name: str, prompt: tuple[int, ...], tokens_max: int) -> TracePrompt:
        self._target.truncate(0)
        behind = self._target.read(prompt, prompt=True)
        said = tuple(self._written(self._target, behind, tokens_max))
        path = tuple(guess.token for guess in said)
        self._draft.truncate(0)
        tops, rollouts = self._guesses(prompt, path)
        return TracePrompt(
            id=name,
            prompt_tokens=prompt,
            target=path,
            target_p=tuple(guess.probability for guess in said),
            draft_top=tops,
            rollouts=rollouts,
        )

    def _guesses(
        self, prompt: tuple[int, ...], path: tuple[int, ...]
    ) -> tuple[tuple[Top, ...], dict[int, tuple[Guess, ...]]]:
        """The draft's best along the target's path, and what follows its own wrong tokens."""
        tops, rollouts = [], {}
        behind = self._draft.read(prompt, prompt=True)
        for at, token in enumerate(path):
            tops.append(_top(behind))
            if tops[at][0].token != token:
                rollouts[at] = self._rollout(tops[at][0].token)
                self._draft.truncate(len(prompt) + at)
            if at + 1 < len(path):
                behind = self._draft.read([token])
        return tuple(tops), rollouts

    def _rollout(self, wrong: int) -> tuple[Guess, ...]:
        if wrong in self._end_ids:
            return ()
        return tuple(self._written(self._draft, self._draft.read([wrong]), ROLLOUT_TOKENS))

    def _written(self, text: Text, behind: Logits, tokens_max: int) -> Iterator[Guess]:
        """What a model says greedily from here on, the end id included."""
        for left in reversed(range(tokens_max)):
            guess = _best(behind, 1)[0]
            yield guess
            if not left or guess.token in self._end_ids:
                return
            behind = text.read([guess.token])


def _top(behind: Logits) -> Top:
    first, second, third, fourth = _best(behind, 4)
    return first, second, third, fourth


def _best(behind: Logits, count: int) -> list[Guess]:
    """The likeliest tokens, best first, of equals the lowest id, as greedy picks are made."""
    chances = distribution(behind, _GREEDY)
    least = np.partition(behind, -count)[-count]
    ids = np.flatnonzero(behind >= least)
    order = np.argsort(-behind[ids], kind="stable")[:count]
    return [Guess(int(token), round(float(chances[token]), DIGITS)) for token in ids[order]]


def _header(
    draft: RecordedModel, target: RecordedModel, how: Recording, recorded: Sequence[TracePrompt]
) -> TraceHeader:
    ours, theirs = draft.tokenizer.vocabulary.pieces, target.tokenizer.vocabulary.pieces
    larger = max(ours, theirs, key=len)
    return TraceHeader(
        format=FORMAT,
        kind=how.kind,
        draft=draft.name,
        target=target.name,
        draft_sha256=draft.sha256,
        target_sha256=target.sha256,
        numerics=how.numerics,
        vocabulary=len(larger),
        end_ids=target.end_ids,
        pieces={token: larger[token] for token in sorted(set().union(*map(ids_in, recorded)))},
    )


def _check_pair(draft: RecordedModel, target: RecordedModel) -> None:
    ours, theirs = draft.tokenizer.vocabulary, target.tokenizer.vocabulary
    shared = min(len(ours), len(theirs))
    if ours.cutting != theirs.cutting or tuple(ours.pieces[:shared]) != tuple(theirs.pieces[:shared]):
        raise UsageError(
            f"{draft.name} and {target.name} have different tokenizers; choose models of one family"
        )
    if not target.end_ids:
        raise UsageError(f"{target.name} has no token that ends a text; choose another target")


def _encoded(prompts: Prompts, target: RecordedModel, mode: PromptMode) -> dict[str, tuple[int, ...]]:
    """The token ids of each prompt, by its name."""
    _check_ids(prompts, target, mode)
    dialogue = Dialogue(target.tokenizer, target, mode=mode, system="")
    asked: dict[str, tuple[int, ...]] = {}
    for prompt in prompts.all:
        try:
            said = prompt.said
            tokens = dialogue.turn(said, 0, None).tokens if isinstance(said, str) else said
        except UsageError as error:
            raise UsageError(f"{prompt.place}: prompt: {error}") from None
        if tokens in asked.values():
            raise UsageError(f"{prompt.place}: prompt: another has the same tokens; leave one of them out")
        asked[prompt.id] = tokens
    return asked


def _check_ids(prompts: Prompts, target: RecordedModel, mode: PromptMode) -> None:
    """Token ids must mean to the target what they meant when they were recorded."""
    if prompts.pieces and mode != "auto":
        raise UsageError("the prompts of a trace are token ids already; leave --chat and --raw out")
    known = target.tokenizer.vocabulary.pieces
    for token, piece in prompts.pieces.items():
        if token >= len(known) or known[token] != piece:
            raise UsageError(
                f"the trace with the prompts is of models with another tokenizer than {target.name}; "
                "give the prompts as texts"
            )


def _check_room(asked: Mapping[str, tuple[int, ...]], room: int, context_tokens: int) -> None:
    if room > context_tokens:
        name, tokens = max(asked.items(), key=lambda item: len(item[1]))
        raise UsageError(
            f"{name} has {len(tokens)} tokens, and with its answer needs {room}, but the models' contexts "
            f"have {context_tokens}; shorten it, or lower --tokens-max"
        )
