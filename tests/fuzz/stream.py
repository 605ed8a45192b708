"""Bytes that one side of a connection may be sent, out of the records of a program."""

from collections.abc import Mapping
from typing import Any, get_args

import msgpack

from pipesd.wire.codec import FRAME_BYTES_MAX, PREFIX_BYTES
from tests.fuzz.edits import edited
from tests.fuzz.forge import Hint, forged
from tests.fuzz.tape import RECORD_BYTES_MAX, Tape

FRAME, SPOILED, BODY, RAW, PREFIX = range(5)
"""A frame; one with something in it changed; any body with a right prefix; any bytes; a prefix alone."""

_FORMS = (FRAME,) * 10 + (SPOILED, SPOILED, BODY, RAW, PREFIX)


class Stream:
    """Frames of some kinds, and what is nearly one."""

    def __init__(self, accepted: object, hints: Mapping[str, Hint]) -> None:
        self.kinds = get_args(accepted)
        self._hints = hints

    def segment(self, tape: Tape) -> bytes:
        """What the tape says."""
        form = tape.pick(_FORMS)
        if form in (FRAME, SPOILED):
            fields = forged(tape.pick(self.kinds), tape, self._hints)
            return framed(packed(fields if form == FRAME else edited(fields, tape)))
        if form == PREFIX:
            return tape.number(0, FRAME_BYTES_MAX + 1).to_bytes(PREFIX_BYTES, "big")
        return framed(tape.rest()) if form == BODY else tape.rest()

    def framed_of(self, kind: type[Any]) -> bytes:
        """The plausible frame of that kind."""
        return framed(packed(forged(kind, Tape(b""), self._hints)))

    def record_of(self, kind: type[Any], *fields: int) -> bytes:
        """What gives a frame of that kind; its fields are read off these bytes."""
        return bytes([_FORMS.index(FRAME), self.kinds.index(kind), *fields])


def framed(body: bytes) -> bytes:
    """The body behind its prefix."""
    return len(body).to_bytes(PREFIX_BYTES, "big") + body


def packed(value: Any) -> bytes:
    """As MessagePack; nothing if it cannot say that."""
    try:
        body: bytes = msgpack.packb(value)
    except (OverflowError, ValueError):
        return b""
    return body


def raw_records(data: bytes, begin: bytes = b"") -> list[bytes]:
    """Records that give these bytes as they are, and begin with something else."""
    begin += bytes([_FORMS.index(RAW)])
    step = RECORD_BYTES_MAX - len(begin)
    return [begin + data[at : at + step] for at in range(0, len(data), step)]
