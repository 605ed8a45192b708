"""What the fuzzer begins with: the golden vectors of the wire, and what real sides say to each other."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pipesd.session import events
from pipesd.session.rules import EdgeRules
from pipesd.wire.codec import encode
from tests.session.world import Turn, World, welcome

if TYPE_CHECKING:
    from pipesd.wire.frames import AnyFrame

_GOLDEN = Path(__file__).parents[1] / "wire" / "golden.txt"
_TURNS = [Turn(0, (1, 2, 3), 12, cancel=False), Turn(4, (0, 4), 9, cancel=False)]


def golden_frames() -> Iterator[bytes]:
    """Bytes of frames, at least one of every kind."""
    for line in _GOLDEN.read_text(encoding="utf-8").splitlines():
        yield bytes.fromhex(line.partition(" ")[0])


class _Overheard(World):
    """An edge and a cloud that write two answers; nothing goes wrong."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, AnyFrame | None]] = []
        super().__init__([(EdgeRules(), [_TURNS])], welcome())
        self.play(())

    def tell_cloud(self, event: events.CloudEvent) -> None:
        down = self.edges[0].down
        before = len(down)
        if isinstance(event, events.PeerFrame):
            self.heard.append(("up", event.frame))
        if isinstance(event, events.PassDone):
            self.heard.append(("pass", None))
        super().tell_cloud(event)
        self.heard += [("down", frame) for frame in list(down)[before:]]


@cache
def dialogue() -> list[tuple[str, bytes]]:
    """What goes ``up`` and ``down``, as bytes, and when a ``pass`` is done, in order."""
    return [(way, encode(frame) if frame is not None else b"") for way, frame in _Overheard().heard]


def said(way: str) -> bytes:
    """All that goes one way."""
    return b"".join(frame for each, frame in dialogue() if each == way)
