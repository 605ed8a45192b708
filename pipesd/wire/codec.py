"""Frames to bytes and back: a 4-byte big-endian length, then one MessagePack array.

The only caller of msgpack. Bytes of a peer raise ``PeerError`` or nothing, and no message quotes them.
Maps and extension types never occur, not even in fields of later versions.
"""

import re
from collections.abc import Iterator
from typing import Any, Generic, NoReturn, TypeVar, get_args

import msgpack
import msgspec

from pipesd.errors import PeerError
from pipesd.wire.frames import AnyFrame

FRAME_BYTES_MAX = 1 << 20
GREETING_BYTES_MAX = 1 << 13
"""Most bytes of a frame from a peer that is not let in yet."""

"""Most bytes of one frame, not counting its prefix."""

PREFIX_BYTES = 4

FrameT = TypeVar("FrameT", bound=AnyFrame)

_KEPT_TYPES = (bytes,)
"""MessagePack has bytes of its own; without this, msgspec would pass them as base64 text."""

_PATH = re.compile(r"`\$\[(\d+)\]")


def encode(frame: AnyFrame) -> bytes:
    """Give the bytes of ``frame``, with their prefix. The caller keeps the fields within their bounds."""
    body = msgpack.packb(msgspec.to_builtins(frame, builtin_types=_KEPT_TYPES))
    assert len(body) <= FRAME_BYTES_MAX, f"a {type(frame).__name__} frame of {len(body)} bytes"
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


class Decoder(Generic[FrameT]):
    """Cuts a stream into frames of the accepted types; after its first error it only repeats that error.

    Holds at most one unfinished frame besides the bytes being fed. Made by
    ``Decoder[EdgeFrame](EdgeFrame)``; ``limit`` is the most bytes of one frame, not counting its prefix.
    """

    def __init__(self, accepted: object, limit: int = FRAME_BYTES_MAX) -> None:
        self._accepted = _by_tag(accepted)
        self.limit = limit
        """May be raised."""

        self._buffer = bytearray()
        self._failure: tuple[str, str] | None = None

    def feed(self, data: bytes) -> Iterator[FrameT]:
        """Yield the frames that ``data`` completes, in order; raises ``PeerError`` at the first bad one.

        Nothing happens before the first step of the iteration.
        """
        if self._failure is not None:
            self._fail(*self._failure)
        buffer = self._buffer
        buffer += data
        while len(buffer) >= PREFIX_BYTES:
            size = int.from_bytes(buffer[:PREFIX_BYTES], "big")
            if size > self.limit:
                self._fail("oversized", f"a frame of {size} bytes was announced; the limit is {self.limit}")
            end = PREFIX_BYTES + size
            if len(buffer) < end:
                return
            body = buffer[PREFIX_BYTES:end]
            del buffer[:end]
            yield self._frame(body)

    def _frame(self, body: bytearray) -> FrameT:
        raw = self._unpack(body)
        # A struct converts ten times faster than a union of structs, so the tag is looked up here.
        frame_type = self._accepted.get(_tag(raw))
        if frame_type is None:
            self._fail("malformed", _explain_tag(_tag(raw)))
        try:
            frame: FrameT = msgspec.convert(raw, frame_type, builtin_types=_KEPT_TYPES)
        except Exception as error:  # the bytes are the peer's, so is the blame
            self._fail("malformed", _explain(frame_type, error))
        return frame

    def _unpack(self, body: bytearray) -> object:
        size = len(body)
        try:
            return msgpack.unpackb(
                body,
                use_list=False,  # a frame of empty arrays, each a list, would keep the collector busy
                max_array_len=size,
                max_str_len=size,
                max_bin_len=size,
                max_map_len=0,
                max_ext_len=0,
                ext_hook=_refuse_extension,
            )
        except Exception:  # mostly ValueError, but msgpack does not promise which
            self._fail("malformed", "the bytes of a frame are not one MessagePack array of plain values")

    def _fail(self, code: str, message: str) -> NoReturn:
        self._buffer.clear()
        self._failure = code, message  # not the exception: its traceback would keep us alive
        raise PeerError(code, message) from None


def _by_tag(frames: object) -> dict[int, type[Any]]:
    return {frame.__struct_config__.tag: frame for frame in get_args(frames) or (frames,)}


_KNOWN = _by_tag(AnyFrame)


def _tag(raw: object) -> int:
    """The tag of an unpacked frame, or -1, which no frame has."""
    if type(raw) is tuple and raw and type(raw[0]) is int:
        return raw[0]
    return -1


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise ValueError("no frame holds an extension type")


def _explain_tag(tag: int) -> str:
    if tag in _KNOWN:
        return f"a {_KNOWN[tag].__name__} frame came, which this side may not be sent"
    return "the bytes of a frame do not begin with a known tag"


def _explain(frame_type: type[Any], error: Exception) -> str:
    """Say which field is wrong, and how; of msgspec's words, only those that cannot quote the value."""
    what, _, path = str(error).partition(" - at ")
    place = _PATH.match(path)
    if place is None:
        return f"{frame_type.__name__}: the wrong number of fields"
    field = frame_type.__struct_fields__[int(place[1]) - 1]
    if not what.startswith("Expected "):
        what = "a value out of its bounds"
    return f"{frame_type.__name__}.{field}: {what[0].lower()}{what[1:]}"
