"""The draft and the target engine of transformers and torch."""

from pipesd.engines.base import TargetIdentity
from pipesd.engines.caches import CachedDraft, CachedTarget, Caches, Room
from pipesd.engines.hf import Model


def torch_target(model: Model, room: Room) -> CachedTarget:
    """A target engine of ``model``. Raises ``EngineError`` if there is not enough memory."""
    caches = _caches(model, room)
    identity = TargetIdentity(
        model=model.name,
        engine=model.engine,
        numerics=model.numerics,
        context_tokens=caches.tokens_max,
        chunk_tokens=room.chunk_tokens,
        begin_ids=model.begin_ids,
        end_ids=model.end_ids,
        control_ids=model.control_ids,
        template=model.template,
    )
    return CachedTarget(caches, model.tokenizer, identity)


def torch_draft(model: Model, room: Room) -> CachedDraft:
    """A draft engine of ``model``; as ``torch_target``."""
    return CachedDraft(_caches(model, room), model.tokenizer)


def _caches(model: Model, room: Room) -> Caches:
    calls = model.calls(context_tokens=room.context_tokens, slots=room.slots)
    return Caches(calls, slots=room.slots, chunk_tokens=room.chunk_tokens)
