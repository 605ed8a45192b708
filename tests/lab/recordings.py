"""Small recordings, in which the draft says 1 where it is wrong; and scenarios for hand calculation."""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import msgspec

from pipesd.engines.traces import Guess, Trace, TraceHeader, TracePrompt, load
from pipesd.lab.run import chosen
from pipesd.lab.scenarios import Scenario

END = 40


def recorded(
    prompt_id: str,
    tokens: Sequence[int],
    path: Sequence[int],
    wrong: Sequence[int] = (),
    rollout: Sequence[int] = (),
) -> TracePrompt:
    """A prompt whose draft is right and rather sure, but says 1 at the positions in ``wrong``.

    Behind its own error it goes on with ``rollout``, and then says the end id.
    """
    rest = (Guess(0, 0.0),) * 3
    return TracePrompt(
        id=prompt_id,
        prompt_tokens=tuple(tokens),
        target=tuple(path),
        target_p=(0.9,) * len(path),
        draft_top=tuple((Guess(1 if at in wrong else token, 0.9), *rest) for at, token in enumerate(path)),
        rollouts={at: tuple(Guess(token, 0.7) for token in rollout) for at in wrong},
    )


def trace_of(*prompts: TracePrompt) -> Trace:
    header = TraceHeader(
        format="pipesd-trace/1",
        kind="code",
        draft="small",
        target="large",
        draft_sha256="",
        target_sha256="",
        numerics="fast",
        vocabulary=50,
        end_ids=(END,),
        pieces={token: bytes([48 + token]) for token in range(50)},
    )
    return Trace(header, prompts)


SMALL = trace_of(
    recorded("right", [5, 6, 7], [10, 11, 12, 13, 14, 15, 16]),
    recorded("wrong", [5, 8], [20, 21, 22, 23, 24, 25], wrong=[1]),
    recorded("ended", [5, 9, 9, 9], [30, 31, END]),
)

MIXED = trace_of(
    recorded("long", [5, 6], [2 + 7 * at % 36 for at in range(40)], [3, 4, 9, 20, 21, 22, 33], [17, 18, 19]),
    recorded("never right", [5, 7, 7], range(10, 20), range(10), [2, 3]),
    *SMALL.prompts[1:],
)
"""Right for long, wrong at once again, and wrong throughout."""

TWINS = trace_of(recorded("one", [5, 6], [7, 11, 12]), recorded("other", [5, 6, 7], [21, 22]))
"""The answer to the first begins as the second prompt goes on, so the replay takes it for that."""

IDEAL = Scenario(
    name="ideal",
    draft_ms=10.0,
    up_bits_per_s=math.inf,
    down_bits_per_s=math.inf,
    delay_ms=0.0,
    alpha_ms=0.0,
    pass_ms=20.0,
    pass_token_ms=1.0,
)
DISTANT = replace(IDEAL, name="distant", delay_ms=5.0, alpha_ms=1.0)


SHORT = ("chat/6", "HumanEval/7", "HumanEval/12")
"""The shortest answers of the shipped traces, 44 tokens together."""


@cache
def shipped(*ids: str) -> Trace:
    """These prompts of the shipped traces, all without any."""
    return chosen(shipped(), ids) if ids else load([])


def written(trace: Trace, path: Path) -> str:
    """The trace as a file."""
    path.write_bytes(b"\n".join(msgspec.json.encode(line) for line in (trace.header, *trace.prompts)) + b"\n")
    return str(path)


def sha256_of(*texts: Sequence[int]) -> str:
    """What ``Figures.text_sha256`` is to be."""
    return hashlib.sha256("".join(" ".join(map(str, text)) + "\n" for text in texts).encode()).hexdigest()
