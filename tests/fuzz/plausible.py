"""What is plausible in a greeting, by the names of fields; all else is whatever the types allow."""

from collections.abc import Callable, Mapping

from pipesd.wire.frames import PROTOCOL_VERSION
from tests.fuzz.tape import Tape
from tests.session.world import CONTEXT, END, VOCABULARY

_HASHES = VOCABULARY.hashes
_LARGEST = 2**53 - 1

GREETING: Mapping[str, Callable[[Tape], object]] = {
    "version": lambda tape: PROTOCOL_VERSION + tape.pick((0,) * 15 + (1, -1)),
    "vocabulary_size": lambda tape: len(VOCABULARY) + tape.pick((0,) * 12 + (1, -1, 1_024)),
    "vocabulary_hashes": lambda tape: tape.pick(
        (*(_HASHES,) * 8, bytes(8), _HASHES * 2, bytes(16), b"", bytes(5))
    ),
    "end_ids": lambda tape: tape.pick(([END], [END], [END], [], [0, END], [_LARGEST])),
    "context_tokens": lambda tape: tape.pick((CONTEXT, CONTEXT, CONTEXT, 40, 2, 1, 0, _LARGEST)),
    "window_tokens": lambda tape: tape.pick((16, 16, 16, 4, 1, 0, _LARGEST)),
    "chunk_tokens": lambda tape: tape.pick((4, 4, 4, 64, 1, 0, _LARGEST)),
    "sessions_max": lambda tape: tape.pick((4, 4, 4, 1, 0, _LARGEST)),
    "block": lambda tape: tape.pick((0, 0, 1, 2, _LARGEST)),
}
