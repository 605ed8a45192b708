"""The codec: any bytes in any pieces give frames or a ``PeerError``, and frames go and come unchanged.

The first record says which frames are accepted, the decoder's limit, and into which pieces the stream is cut.
"""

from collections.abc import Iterable, Iterator
from typing import Any

from pipesd.errors import PeerError
from pipesd.wire.codec import FRAME_BYTES_MAX, PREFIX_BYTES, Decoder, encode
from pipesd.wire.frames import AnyFrame, CloudFrame, EdgeFrame
from tests.fuzz.stream import Stream
from tests.fuzz.tape import Tape, records

STREAMS = [(union, Stream(union, {})) for union in (EdgeFrame, CloudFrame, AnyFrame)]
_LIMITS = (FRAME_BYTES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_MAX, 200, 7, 0)
_CODES = frozenset({"malformed", "oversized"})
_MESSAGE_CHARACTERS_MAX = 160
_STREAM_BYTES_MAX = 1 << 12
_PIECES_MAX = 64
REPEATS_FROM = 240
"""A record that begins with at least so much says the segment before it again, once for each step above."""


def target(data: bytes) -> None:
    """Play one input."""
    parts = records(data)
    head = Tape(next(parts, b""))
    accepted, stream = head.pick(STREAMS)
    limit = head.pick(_LIMITS)
    bytes_said = _bytes_said(stream, parts)
    whole = _read([bytes_said], accepted, limit)
    assert _read(_pieces(bytes_said, head.rest()), accepted, limit) == whole, "it depends on the pieces"
    again = [encode(frame) for frame in whole[0]]
    assert _read([b"".join(again)], accepted, FRAME_BYTES_MAX) == (whole[0], None), "frames have changed"


def _bytes_said(stream: Stream, parts: Iterable[bytes]) -> bytes:
    so_far, last = b"", b""
    for part in parts:
        tape = Tape(part)
        if part and part[0] >= REPEATS_FROM:
            so_far += last * (part[0] - REPEATS_FROM + 1)
        else:
            last = stream.segment(tape)
            so_far += last
        if len(so_far) > _STREAM_BYTES_MAX:
            break
    return so_far[:_STREAM_BYTES_MAX]


def _pieces(stream: bytes, sizes: bytes) -> Iterator[bytes]:
    """The sizes come again and again; pieces never get so small that there are very many."""
    least = 1 + len(stream) // _PIECES_MAX
    at = number = 0
    while at < len(stream):
        size = max(least, sizes[number % len(sizes)] if sizes else 1)
        yield stream[at : at + size]
        at, number = at + size, number + 1


def _read(
    pieces: Iterable[bytes], accepted: object, limit: int
) -> tuple[list[AnyFrame], tuple[str, str] | None]:
    """All frames, and what was wrong behind them."""
    decoder: Decoder[Any] = Decoder(accepted, limit)
    found: list[AnyFrame] = []
    for piece in pieces:
        try:
            found.extend(decoder.feed(piece))
        except PeerError as error:
            _check_complaint(error.code, str(error))
            assert not decoder._buffer, "bytes are kept that nobody will read"
            return found, (error.code, str(error))
        assert len(decoder._buffer) < PREFIX_BYTES + limit or not piece, "more than a frame is kept"
    return found, None


def _check_complaint(code: str, message: str) -> None:
    assert code in _CODES, code
    is_ours = message.isascii() and message.isprintable() and len(message) <= _MESSAGE_CHARACTERS_MAX
    assert is_ours, "bytes of the peer are quoted"
