"""Small recordings for the lab, in which the draft says 1 where it is wrong."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from pipesd.engines.traces import Guess, Trace, TraceHeader, TracePrompt

END = 40


def recorded(
    prompt_id: str, tokens: Sequence[int], path: Sequence[int], wrong: Sequence[int] = ()
) -> TracePrompt:
    """A prompt whose draft is right and rather sure, but says 1 at the positions in ``wrong``."""
    rest = (Guess(0, 0.0),) * 3
    return TracePrompt(
        id=prompt_id,
        prompt_tokens=tuple(tokens),
        target=tuple(path),
        target_p=(0.9,) * len(path),
        draft_top=tuple((Guess(1 if at in wrong else token, 0.9), *rest) for at, token in enumerate(path)),
        rollouts=dict.fromkeys(wrong, ()),
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


def written(trace: Trace, path: Path) -> str:
    """The trace as a file."""
    path.write_bytes(b"\n".join(msgspec.json.encode(line) for line in (trace.header, *trace.prompts)) + b"\n")
    return str(path)
