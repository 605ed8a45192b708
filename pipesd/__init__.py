"""pipesd: a draft model at the edge guesses, a target model in the cloud confirms; the text is the target's.

``connect(EdgeConfig(...))`` gives an edge to generate with, ``serve(CloudConfig(...))`` runs a cloud; both
live in the caller's event loop. The README holds the map of the code.
"""

from pipesd.cloud import serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import Edge, Generation, Session, connect
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
__version__ = "0.1.0"
