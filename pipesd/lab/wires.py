"""What a message is charged for on the uplink: token ids, as pipesd sends them, or whole distributions.

``full-distribution`` is the regime of PipeSD (arXiv 2605.13319), whose edge uploads the probabilities of the
whole vocabulary with every draft token. The frames stay what they are; only the link counts more bytes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import msgspec

from pipesd.errors import PeerError, UsageError
from pipesd.lab.emulator import LinkModel
from pipesd.wire.codec import PREFIX_BYTES, Decoder
from pipesd.wire.frames import AnyFrame, Draft, EdgeFrame

DISTRIBUTION_BYTES = 290_304
"""The probabilities that go up with one draft token."""

DISTRIBUTION_MESSAGE_S = 0.025
"""How long a message of such an edge occupies the uplink, its bytes aside (alpha)."""


@dataclass(frozen=True, slots=True)
class _Wire:
    """What it charges beyond the bytes of the frames, and instead of the scenario's alpha."""

    token_bytes: int = 0
    message_s: float | None = None


_WIRES: Mapping[str, _Wire] = {
    "ids": _Wire(),
    "full-distribution": _Wire(DISTRIBUTION_BYTES, DISTRIBUTION_MESSAGE_S),
}

WIRES = tuple(_WIRES)
"""Their names."""

_ruler = msgspec.msgpack.Encoder()


def uplink_of(scenario_uplink: LinkModel, wire: str) -> LinkModel:
    """The uplink of a scenario, as messages of this wire meet it."""
    message_s = _named(wire).message_s
    if message_s is None:
        return scenario_uplink
    phases = tuple(replace(phase, message_s=message_s) for phase in scenario_uplink.phases)
    return replace(scenario_uplink, message_s=message_s, phases=phases)


def charge_of(wire: str) -> Callable[[bytes], int]:
    """What each chunk of bytes upward is charged for; make one for each link, and show it every chunk."""
    token_bytes = _named(wire).token_bytes
    return _Charger(token_bytes).charge if token_bytes else len


def draft_bytes(wire: str, tokens: int) -> int:
    """What so many draft tokens are charged for on top of the bytes of their frames."""
    return _named(wire).token_bytes * tokens


def frame_bytes(frame: AnyFrame) -> int:
    """As many as ``codec.encode`` makes of it, sooner."""
    return PREFIX_BYTES + len(_ruler.encode(frame))


def frame_charge_of(wire: str) -> Callable[[AnyFrame], int]:
    """What each frame upward is charged for."""
    token_bytes = _named(wire).token_bytes
    if not token_bytes:
        return frame_bytes
    return lambda frame: (
        frame_bytes(frame) + token_bytes * (len(frame.tokens) if isinstance(frame, Draft) else 0)
    )


def _named(wire: str) -> _Wire:
    if wire not in _WIRES:
        raise UsageError(f"wire: {wire!r} is not known; choose one of {', '.join(WIRES)}")
    return _WIRES[wire]


class _Charger:
    """Counts the draft tokens whose frames a chunk completes. What is no frame is charged by its bytes."""

    def __init__(self, token_bytes: int) -> None:
        self._token_bytes = token_bytes
        self._decoder = Decoder[EdgeFrame](EdgeFrame)
        self._is_readable = True

    def charge(self, chunk: bytes) -> int:
        """How many bytes this counts as."""
        return len(chunk) + self._token_bytes * self._drafted(chunk)

    def _drafted(self, chunk: bytes) -> int:
        tokens = 0
        try:
            for frame in self._decoder.feed(chunk) if self._is_readable else ():
                if isinstance(frame, Draft):
                    tokens += len(frame.tokens)
        except PeerError:  # for the cloud to say; a link carries anything
            self._is_readable = False
        return tokens
