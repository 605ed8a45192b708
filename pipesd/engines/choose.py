"""From the settings to engines. An engine with heavy dependencies is imported when it is chosen."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pipesd.config import CloudConfig, CommonConfig, EdgeConfig
from pipesd.engines.base import DraftEngine, TargetEngine
from pipesd.engines.caches import CachedTarget, Room
from pipesd.engines.replay import ReplayDraft, ReplayTarget
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget
from pipesd.engines.solo import replay_solo, scripted_solo
from pipesd.engines.store import Store
from pipesd.engines.traces import load
from pipesd.errors import EngineError, one_line

if TYPE_CHECKING:
    from pipesd.engines.hf import Model as TorchModel
    from pipesd.engines.llama_pair import LlamaTarget

DRAFT_CHUNK_TOKENS = 512
"""A draft is loaded before it is known in which chunks the target reads prompts; longer ones are cut."""


def open_draft(config: EdgeConfig) -> DraftEngine:
    """The draft model that the settings name. Blocks while it loads.

    Raises ``UsageError`` or ``ConfigError`` if a setting is impossible, and ``EngineError`` if the model
    cannot be loaded.
    """
    match config.engine:
        case "llama":
            return _llama_draft(config)
        case "torch":
            return _torch_draft(config)
        case "scripted":
            return ScriptedDraft(config.script_seed, agreement=config.agreement)
        case "replay":
            return ReplayDraft(load(config.traces))


def open_target(config: CloudConfig) -> TargetEngine:
    """The target model that the settings name; as ``open_draft``."""
    tokens, chunk_tokens = config.context_tokens, config.chunk_tokens
    match config.engine:
        case "llama":
            return _open_llama(config, config.model, chunk_tokens)
        case "torch":
            return _open_torch(config, config.model, chunk_tokens)
        case "scripted":
            return ScriptedTarget(config.script_seed, context_tokens=tokens, chunk_tokens=chunk_tokens)
        case "replay":
            return ReplayTarget(load(config.traces), context_tokens=tokens, chunk_tokens=chunk_tokens)


def open_solo(config: EdgeConfig) -> TargetEngine:
    """The draft model that the settings name, to write by itself; as ``open_draft``."""
    tokens, chunk_tokens = config.context_tokens, DRAFT_CHUNK_TOKENS
    match config.engine:
        case "llama":
            return _as_draft(_open_llama(config, config.draft, chunk_tokens))
        case "torch":
            return _as_draft(_open_torch(config, config.draft, chunk_tokens))
        case "scripted":
            seed, agreement = config.script_seed, config.agreement
            return scripted_solo(seed, agreement, context_tokens=tokens, chunk_tokens=chunk_tokens)
        case "replay":
            return replay_solo(load(config.traces), context_tokens=tokens, chunk_tokens=chunk_tokens)


def quantize(source: Path, result: Path, kind: str, threads: int) -> None:
    """Write a model file anew with weights of ``kind``; see ``llama.quantize``. Blocks."""
    with _llama_needed():
        from pipesd.engines import llama  # noqa: PLC0415
    llama.quantize(source, result, kind, threads)


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _llama_draft(config: EdgeConfig) -> DraftEngine:
    path = Store.of_user(os.environ).path_of(config.draft)
    with _llama_needed():
        from pipesd.engines.llama import Model  # noqa: PLC0415
        from pipesd.engines.llama_pair import LlamaDraft  # noqa: PLC0415
    room = Room(**_room(config), chunk_tokens=DRAFT_CHUNK_TOKENS)
    return LlamaDraft(Model(path, config.numerics, gpu_layers=config.gpu_layers), room)


def _open_llama(config: CommonConfig, model: str, chunk_tokens: int) -> "LlamaTarget":
    path = Store.of_user(os.environ).path_of(model)
    with _llama_needed():
        from pipesd.engines.llama import Model  # noqa: PLC0415
        from pipesd.engines.llama_pair import LlamaTarget  # noqa: PLC0415
    room = Room(**_room(config), chunk_tokens=chunk_tokens)
    return LlamaTarget(Model(path, config.numerics, gpu_layers=config.gpu_layers), room)


def _torch_draft(config: EdgeConfig) -> DraftEngine:
    model = _torch_model(config, config.draft)
    from pipesd.engines.hf_pair import torch_draft  # noqa: PLC0415

    return torch_draft(model, Room(**_room(config), chunk_tokens=DRAFT_CHUNK_TOKENS))


def _open_torch(config: CommonConfig, name: str, chunk_tokens: int) -> CachedTarget:
    model = _torch_model(config, name)
    from pipesd.engines.hf_pair import torch_target  # noqa: PLC0415

    return torch_target(model, Room(**_room(config), chunk_tokens=chunk_tokens))


def _torch_model(config: CommonConfig, name: str) -> "TorchModel":
    path = Store.of_user(os.environ).path_of(name, folders=True)
    with _torch_needed():
        from pipesd.engines.hf import Model  # noqa: PLC0415
    threads = config.threads or cores()
    return Model(path, config.numerics, device=config.device, dtype=config.dtype, threads=threads)


def _as_draft(target: CachedTarget) -> CachedTarget:
    target.identity = replace(target.identity, model=f"{target.identity.model} (draft)")
    return target


def _room(config: CommonConfig) -> dict[str, int]:
    return {
        "context_tokens": config.context_tokens,
        "slots": config.kv_sequences,
        "threads": config.threads or cores(),
    }


@contextmanager
def _llama_needed() -> Iterator[None]:
    """Say what to do if llama.cpp is not there, or its library cannot be loaded."""
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"llama.cpp cannot be used ({one_line(str(error))}); run pip install 'pipesd[llama]', "
            "or try --engine replay"
        ) from None


@contextmanager
def _torch_needed() -> Iterator[None]:
    """Say what to do if transformers or torch are not there, or their libraries cannot be loaded."""
    try:
        yield
    except (ImportError, OSError, RuntimeError) as error:
        raise EngineError(
            f"torch cannot be used ({one_line(str(error))}); run pip install 'pipesd[torch]', "
            "or try --engine llama"
        ) from None
