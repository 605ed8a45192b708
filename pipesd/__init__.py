"""pipesd: a draft model at the edge guesses, a target model in the cloud confirms; the text is the target's.

``connect(EdgeConfig(...))`` gives an edge to generate with, ``serve(CloudConfig(...))`` runs a cloud; both
live in the caller's event loop. The README holds the map of the code. What is named here is imported when it
is first used, so that a command can be interrupted from its first moment on.
"""

TYPE_CHECKING = False  # to import it from typing would take a while

if TYPE_CHECKING:
    from pipesd.cloud import serve
    from pipesd.config import CloudConfig, EdgeConfig
    from pipesd.edge import Edge, connect
    from pipesd.edge_session import Generation, Session
    from pipesd.errors import (
        ConfigError,
        EngineError,
        LinkError,
        PeerError,
        PipeSDError,
        RefusedError,
        UsageError,
    )
    from pipesd.text import Piece
    from pipesd.values import Sampling

__all__ = [
    "CloudConfig",
    "ConfigError",
    "Edge",
    "EdgeConfig",
    "EngineError",
    "Generation",
    "LinkError",
    "PeerError",
    "Piece",
    "PipeSDError",
    "RefusedError",
    "Sampling",
    "Session",
    "UsageError",
    "connect",
    "serve",
]
__version__ = "0.7.0"

_HOMES = {
    "cloud": ("serve",),
    "config": ("CloudConfig", "EdgeConfig"),
    "edge": ("Edge", "connect"),
    "edge_session": ("Generation", "Session"),
    "errors": (
        "ConfigError",
        "EngineError",
        "LinkError",
        "PeerError",
        "PipeSDError",
        "RefusedError",
        "UsageError",
    ),
    "text": ("Piece",),
    "values": ("Sampling",),
}


def __getattr__(name: str) -> object:
    import importlib  # noqa: PLC0415

    for module, names in _HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"pipesd.{module}"), name)
    raise AttributeError(f"module 'pipesd' has no attribute {name!r}")
