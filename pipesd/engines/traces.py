"""Recorded behaviour of a real draft/target pair, as files of JSON lines.

The law of this file: a trace that was read is right in every detail that replaying relies on; all else is a
``TraceError`` of one sentence that names file, line and key.
"""

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TypeVar

import msgspec

from pipesd.errors import TraceError, UsageError, one_line
from pipesd.values import TokenId
from pipesd.vocabulary import Vocabulary

FORMAT = "pipesd-trace/1"
ROLLOUT_TOKENS = 16
VOCABULARY_MAX = 2**21
"""Most ids of a vocabulary; the list of their pieces then takes 17 MB."""

SHIPPED = ("humaneval", "chat")
"""What is replayed if nothing else is named."""

SHIPPED_SETS = (*SHIPPED, "maths", "q2_k/humaneval", "q2_k/chat", "q2_k/maths")
"""Every trace that comes with pipesd; those in q2_k are of the same target with a smaller draft."""

Probability = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]
Kind = TypeVar("Kind", bound=msgspec.Struct)


class Guess(NamedTuple):
    """A token, and how likely the draft thought it."""

    token: TokenId
    probability: Probability


Tokens = Annotated[tuple[TokenId, ...], msgspec.Meta(min_length=1)]
Rollout = Annotated[tuple[Guess, ...], msgspec.Meta(max_length=ROLLOUT_TOKENS)]


class TraceHeader(msgspec.Struct, frozen=True):
    """What was recorded: the first line of a trace."""

    format: str
    kind: str
    draft: str
    target: str
    draft_sha256: str
    target_sha256: str
    numerics: Literal["exact", "fast"]
    """Of the recording."""

    vocabulary: Annotated[int, msgspec.Meta(ge=2, le=VOCABULARY_MAX)]
    """Number of ids."""

    end_ids: Tokens
    pieces: dict[int, bytes]
    """The bytes of every id that occurs."""


class TracePrompt(msgspec.Struct, frozen=True):
    """One prompt, and what both models made of it; positions count from the end of the prompt."""

    id: str
    prompt_tokens: Tokens
    target: Tokens
    """The target path."""

    target_p: tuple[Probability, ...]
    """The target's probability of its own pick."""

    draft_top: tuple[tuple[Guess, Guess, Guess, Guess], ...]
    """The draft's best four at each position, given the target path before it."""

    rollouts: dict[int, Rollout]
    """What the draft says after its own wrong token, for every position where it has one."""


@dataclass(frozen=True)
class Trace:
    """Prompts of one pair of models."""

    header: TraceHeader
    prompts: tuple[TracePrompt, ...]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The pieces that occur; the other ids are empty."""
        pieces = [b""] * self.header.vocabulary
        for token, piece in self.header.pieces.items():
            pieces[token] = piece
        return Vocabulary(pieces)


class _Format(msgspec.Struct):
    format: str


class _BrokenError(Exception):
    """What is wrong; the file and the line are added by ``read_trace``."""


def shipped_trace(name: str) -> Path:
    """The file of one of ``SHIPPED_SETS``. Raises ``UsageError`` for another name."""
    if name not in SHIPPED_SETS:
        raise UsageError(
            f"no trace called {name!r} comes with pipesd; choose one of {', '.join(SHIPPED_SETS)}"
        )
    return Path(str(resources.files("pipesd") / "data" / "traces" / f"{name}.jsonl"))


def shipped_traces() -> list[Path]:
    """The traces that are replayed if nothing else is named."""
    return [shipped_trace(name) for name in SHIPPED]


def load(paths: Sequence[str | Path]) -> Trace:
    """Read several traces, files or ``SHIPPED_SETS``, into one; without any, those in ``SHIPPED``.

    Raises ``TraceError`` if one is broken, or if they are not of one pair of models and of different prompts.
    """
    files = [_file_of(path) for path in paths] or shipped_traces()
    traces = [read_trace(path) for path in files]
    merged = traces[0]
    for path, trace in zip(files[1:], traces[1:], strict=True):
        try:
            merged = _merged(merged, trace)
        except _BrokenError as error:
            raise TraceError(
                f"{path} does not go with {files[0]}: {one_line(str(error))}; replay them one at a time"
            ) from None
    return merged


def _file_of(name: str | Path) -> str | Path:
    """The file of a shipped set, if that is named and no file is called so."""
    return shipped_trace(str(name)) if str(name) in SHIPPED_SETS and not Path(name).exists() else name


def read_trace(path: str | Path) -> Trace:
    """Read one trace. Raises ``TraceError``, which names file, line and key, if anything is wrong with it."""
    number = 1
    try:
        lines = _lines(Path(path))
        header = _header(lines[0])
        prompts: dict[str, TracePrompt] = {}
        texts: set[tuple[int, ...]] = set()
        for number, line in enumerate(lines[1:], start=2):  # noqa: B007 - the line that failed
            prompt = _decoded(line, TracePrompt)
            _check_prompt(prompt, header)
            _require(prompt.id not in prompts, f"id: {prompt.id} was there before")
            _require(prompt.prompt_tokens not in texts, "prompt_tokens: another prompt has the same")
            prompts[prompt.id] = prompt
            texts.add(prompt.prompt_tokens)
        _require(len(prompts) > 0, "no prompt follows the header")
    except _BrokenError as error:
        why = one_line(str(error))
        raise TraceError(f"{path}, line {number}: {why}; get an unbroken copy of the trace") from None
    return Trace(header, tuple(prompts.values()))


def write_trace(path: str | Path, trace: Trace) -> None:
    """Write a trace, whole or not at all. Raises ``TraceError`` if that cannot be done."""
    lines = (msgspec.json.encode(line) + b"\n" for line in (trace.header, *trace.prompts))
    try:
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            with unfinished.open("wb") as file:
                file.writelines(lines)
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = str(getattr(error, "strerror", error)).lower()
        raise TraceError(f"the trace {path} cannot be written: {reason}; choose another place") from None


def ids_in(prompt: TracePrompt) -> set[int]:
    """Every token id that occurs in a prompt or in what was made of it."""
    return {token for _, tokens in _occurring(prompt) for token in tokens}


def agreement(prompts: Iterable[TracePrompt]) -> float:
    """At which share of the positions the draft's best is what the target says."""
    hits = [
        top[0].token == token
        for prompt in prompts
        for token, top in zip(prompt.target, prompt.draft_top, strict=True)
    ]
    return sum(hits) / len(hits)


def _lines(path: Path) -> list[bytes]:
    try:
        content = path.read_bytes()
    except (OSError, ValueError) as error:  # ValueError: a name that no file can have
        reason = str(getattr(error, "strerror", error)).lower()
        raise TraceError(f"the trace {path} cannot be read: {reason}; check its name") from None
    try:
        content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise TraceError(f"{path}, line {line}: not UTF-8; get an unbroken copy of the trace") from None
    if not content.strip():
        raise _BrokenError("the file is empty")
    return content.removesuffix(b"\n").split(b"\n")


def _header(line: bytes) -> TraceHeader:
    found = _decoded(line, _Format).format
    _require(found == FORMAT, f"format: {found} is not known, only {FORMAT}")
    header = _decoded(line, TraceHeader)
    _check_ids("end_ids", header.end_ids, header.vocabulary)
    _check_ids("pieces", header.pieces, header.vocabulary)
    return header


def _decoded(line: bytes, kind: type[Kind]) -> Kind:
    _require(bool(line.strip()), "the line is blank")
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, RecursionError) as error:
        problem = str(error)
    # msgspec says: "Expected `int`, got `str` - at `$.target[0]`", or: "… - at `key` in `$.rollouts`".
    what, _, where = problem.partition(" - at ")
    key = where.replace("`", "").replace("$.", "")
    raise _BrokenError(f"{key}: {what}" if key else what)


def _check_prompt(prompt: TracePrompt, header: TraceHeader) -> None:
    _check_lengths(prompt)
    for key, tokens in _occurring(prompt):
        _check_ids(key, tokens, header.vocabulary)
        for token in tokens:
            _require(token in header.pieces, f"{key}: the header has no piece for id {token}")
    ended = any(token in header.end_ids for token in prompt.target[:-1])
    _require(not ended, "target: goes on after an end id")
    _check_rollouts(prompt)


def _check_lengths(prompt: TracePrompt) -> None:
    length = len(prompt.target)
    for key, found in (("target_p", len(prompt.target_p)), ("draft_top", len(prompt.draft_top))):
        _require(found == length, f"{key}: has {found} entries, but target has {length}")


def _check_rollouts(prompt: TracePrompt) -> None:
    wrong = {
        at
        for at, (token, top) in enumerate(zip(prompt.target, prompt.draft_top, strict=True))
        if top[0].token != token
    }
    for at in sorted(wrong - prompt.rollouts.keys()):
        raise _BrokenError(f"rollouts: {at} is missing, though the draft is wrong at that position")
    for at in sorted(prompt.rollouts.keys() - wrong):
        raise _BrokenError(f"rollouts: {at} is there, though the draft is not wrong at that position")


def _occurring(prompt: TracePrompt) -> Iterator[tuple[str, set[int]]]:
    yield "prompt_tokens", set(prompt.prompt_tokens)
    yield "target", set(prompt.target)
    yield "draft_top", {guess.token for top in prompt.draft_top for guess in top}
    yield "rollouts", {guess.token for rollout in prompt.rollouts.values() for guess in rollout}


def _check_ids(key: str, ids: Iterable[int], vocabulary: int) -> None:
    for token in ids:
        _require(0 <= token < vocabulary, f"{key}: id {token} is outside the vocabulary of {vocabulary}")


def _merged(one: Trace, other: Trace) -> Trace:
    for key in ("draft", "target", "draft_sha256", "target_sha256", "vocabulary", "end_ids"):
        ours, theirs = getattr(one.header, key), getattr(other.header, key)
        _require(ours == theirs, f"{key}: is {theirs}, not {ours}")
    pieces = one.header.pieces | other.header.pieces
    for token, piece in one.header.pieces.items():
        _require(pieces[token] == piece, f"pieces: id {token} is {pieces[token]!r}, not {piece!r}")
    ids = {prompt.id for prompt in one.prompts}
    texts = {prompt.prompt_tokens for prompt in one.prompts}
    for prompt in other.prompts:
        _require(prompt.id not in ids, f"id: {prompt.id} is in both")
        _require(prompt.prompt_tokens not in texts, f"prompt_tokens: those of {prompt.id} are in both")
    kind = one.header.kind if one.header.kind == other.header.kind else "mixed"
    exact = one.header.numerics == other.header.numerics == "exact"
    header = msgspec.structs.replace(
        one.header, kind=kind, pieces=pieces, numerics="exact" if exact else "fast"
    )
    return Trace(header, one.prompts + other.prompts)


def _require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise _BrokenError(otherwise)
