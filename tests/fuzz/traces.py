"""The reader of traces: a file is read whole and right, or refused with a ``TraceError`` of one line.

The first record chooses between a file of any bytes and a sound trace in which some things were changed. What
is read is then written, read again, and replayed.
"""

import base64
import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any

import msgspec

from pipesd.engines.alone import target_alone
from pipesd.engines.replay import ReplayDraft, ReplayTarget, guess_of
from pipesd.engines.traces import Trace, TracePrompt, read_trace
from pipesd.errors import TraceError
from pipesd.values import Sampling
from tests.fuzz.edits import EDITS_MAX, edited, spliced
from tests.fuzz.scratch import scratch_file
from tests.fuzz.tape import Tape, records

_HEADER = {
    "format": "pipesd-trace/1",
    "kind": "code",
    "draft": "small",
    "target": "large",
    "draft_sha256": "aa",
    "target_sha256": "bb",
    "numerics": "exact",
    "vocabulary": 8,
    "end_ids": [7],
    "pieces": {str(token): base64.b64encode(bytes([97 + token])).decode() for token in range(7)},
}
_PROMPT = {
    "id": "one",
    "prompt_tokens": [1, 2],
    "target": [3, 4],
    "target_p": [0.5, 1.0],
    "draft_top": [
        [[3, 0.9], [1, 0.05], [2, 0.03], [0, 0.01]],
        [[5, 0.4], [4, 0.3], [2, 0.1], [0, 0]],
    ],
    "rollouts": {"1": [[6, 0.5], [5, 0.25]]},
}
_OTHER = {**_PROMPT, "id": "two", "prompt_tokens": [2, 1, 1]}
SOUND: Sequence[Mapping[str, Any]] = [_HEADER, _PROMPT, _OTHER]

_EDITED, _BYTES = range(2)
SPLICE = 255
"""A record of edits that begins with it changes bytes of the file instead."""

_POSITIONS_MAX = 20
_GREEDY = Sampling()

_FILE = scratch_file("some.jsonl")


def target(data: bytes) -> None:
    """Play one input."""
    parts = records(data)
    form = Tape(next(parts, b"")).pick((_EDITED, _EDITED, _BYTES))
    trace = _read(_edited(parts) if form == _EDITED else b"".join(parts))
    if trace is not None:
        again = b"".join(msgspec.json.encode(line) + b"\n" for line in (trace.header, *trace.prompts))
        assert _read(again) == trace, "it is not read as it was written"
        assert len(trace.vocabulary) == trace.header.vocabulary
        _replay(trace)


def _edited(parts: Iterator[bytes]) -> bytes:
    """Sound lines with some changes."""
    lines: Any = copy.deepcopy(SOUND)
    splices = []
    for part in islice(parts, EDITS_MAX):
        if part and part[0] == SPLICE:
            splices.append(part[1:])
        else:
            lines = edited(lines, Tape(part))
    content = b"".join(
        json.dumps(line).encode() + b"\n" for line in (lines if isinstance(lines, list) else [lines])
    )
    for splice in splices:
        content = spliced(content, Tape(splice))
    return content


def _read(content: bytes) -> Trace | None:
    _FILE.write_bytes(content)
    try:
        return read_trace(_FILE)
    except TraceError as error:
        message = str(error)
        assert message.startswith((f"{_FILE}, line ", "the trace ")), "the file is not named"
        assert message.isprintable(), "a complaint is more than a line"
        return None


def _replay(trace: Trace) -> None:
    """Both recorded models say what was recorded, as far as no prompt goes on like another."""
    texts = [(*prompt.prompt_tokens, *prompt.target) for prompt in trace.prompts]
    for prompt, text in zip(trace.prompts, texts, strict=True):
        begins_another = any(
            other.prompt_tokens[: len(text)] == text[: len(other.prompt_tokens)]
            for other in trace.prompts
            if other is not prompt
        )
        if not begins_another:
            _replay_one(trace, prompt)


def _replay_one(trace: Trace, prompt: TracePrompt) -> None:
    said = target_alone(
        ReplayTarget(trace),
        prompt.prompt_tokens,
        sampling=_GREEDY,
        seed=0,
        tokens_max=_POSITIONS_MAX,
    )
    recorded = prompt.target[:_POSITIONS_MAX]
    assert tuple(said)[: len(recorded)] == recorded, "the target does not say what was recorded"
    draft = ReplayDraft(trace)
    draft.extend(0, prompt.prompt_tokens, prompt=True)
    for position, token in enumerate(prompt.target[:_POSITIONS_MAX]):
        length = len(prompt.prompt_tokens) + position
        guess = draft.propose(0, _GREEDY, 0)
        assert guess.token == prompt.draft_top[position][0].token, "the draft does not say what was recorded"
        if guess.token != token:
            draft.extend(0, [guess.token])
            own = guess_of(trace.header, prompt, position + 1, wrong_at=position)
            assert draft.propose(0, _GREEDY, 0).token == own.token, "the draft goes on otherwise"
            draft.truncate(0, length)
        draft.extend(0, [token])
