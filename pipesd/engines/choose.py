"""From the names in the settings to engines. An engine with heavy dependencies is imported when chosen."""

from collections.abc import Sequence

from pipesd.engines.base import DraftEngine, TargetEngine
from pipesd.engines.replay import ReplayDraft, ReplayTarget
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.engines.traces import load
from pipesd.errors import UsageError

KINDS = ("scripted", "replay")


def open_draft(kind: str, *, traces: Sequence[str], agreement: float, script_seed: int) -> DraftEngine:
    """The draft model of ``kind``; what concerns other kinds is not looked at.

    Without ``traces`` the shipped ones are replayed. Raises ``UsageError`` if an argument is impossible, and
    ``EngineError`` if the model cannot be loaded.
    """
    if kind == "scripted":
        return ScriptedDraft(script_seed, agreement=agreement)
    if kind == "replay":
        return ReplayDraft(load(traces))
    raise _unknown(kind)


def open_target(
    kind: str, *, traces: Sequence[str], script_seed: int, context_tokens: int, chunk_tokens: int
) -> TargetEngine:
    """The target model of ``kind``; as ``open_draft``."""
    if kind == "scripted":
        return ScriptedTarget(script_seed, context_tokens=context_tokens, chunk_tokens=chunk_tokens)
    if kind == "replay":
        return ReplayTarget(load(traces), context_tokens=context_tokens, chunk_tokens=chunk_tokens)
    raise _unknown(kind)


def _unknown(kind: str) -> UsageError:
    return UsageError(f"engine: {kind!r} is not known; choose one of {', '.join(KINDS)}")
