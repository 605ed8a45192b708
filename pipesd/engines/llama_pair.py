"""The draft and the target engine of llama.cpp: many sequences in one context."""

from pipesd.engines.base import TargetIdentity
from pipesd.engines.caches import CachedDraft, CachedTarget, Caches, Room
from pipesd.engines.llama import Context, Model, build


def caches_of(model: Model, room: Room) -> Caches:
    """The sequences of a new context. Raises ``EngineError`` if there is not enough memory."""
    context = Context(
        model,
        context_tokens=min(room.context_tokens, model.context_tokens),
        slots=room.slots,
        chunk_tokens=room.chunk_tokens,
        threads=room.threads,
    )
    return Caches(context, slots=room.slots, chunk_tokens=room.chunk_tokens)


class LlamaTarget(CachedTarget):
    """A target model."""

    def __init__(self, model: Model, room: Room) -> None:
        caches = caches_of(model, room)
        identity = TargetIdentity(
            model=model.name,
            engine=build(),
            numerics=model.numerics,
            context_tokens=caches.tokens_max,
            chunk_tokens=room.chunk_tokens,
            begin_ids=model.begin_ids,
            end_ids=model.end_ids,
            control_ids=model.control_ids,
            template=model.template,
        )
        super().__init__(caches, model.tokenizer, identity)


class LlamaDraft(CachedDraft):
    """A draft model."""

    def __init__(self, model: Model, room: Room) -> None:
        super().__init__(caches_of(model, room), model.tokenizer)
