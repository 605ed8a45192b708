"""Changes to documents of lists, dictionaries and plain values: what a reader must not take for right."""

import copy
from collections.abc import Sequence
from typing import Any

from tests.fuzz.tape import Tape

PLAIN: Sequence[Any] = (
    0,
    1,
    -1,
    None,
    True,
    "",
    0.5,
    2**31 - 1,
    2**31,
    2**53,
    2**63,
    -(2**63),
    1e308,
    "x",
    [],
    {},
)
"""What any format can say."""

EDITS_MAX = 64
"""Most changes to one document; each may make it two levels deeper."""


def edited(document: Any, tape: Tape, values: Sequence[Any] = PLAIN) -> Any:
    """The document with one thing in it changed in place, or another if the change is of the whole."""
    root = [document]
    holder, key = _place(root, tape)
    tape.pick((_replace, _nudge, _remove, _repeat, _exchange, _wrap))(holder, key, tape, values)
    return root[0] if root else None


def _keys(holder: Any) -> list[Any]:
    return list(holder) if isinstance(holder, dict) else list(range(len(holder)))


def _place(root: list[Any], tape: Tape) -> tuple[Any, Any]:
    """A container and what is in it under which key, wherever the tape leads."""
    holder: Any = root
    key: Any = 0
    while isinstance(holder[key], dict | list) and holder[key] and not tape.chance(32):
        holder = holder[key]
        key = tape.pick(_keys(holder))
    return holder, key


def _replace(holder: Any, key: Any, tape: Tape, values: Sequence[Any]) -> None:
    holder[key] = copy.copy(tape.pick(values))


def _nudge(holder: Any, key: Any, tape: Tape, _: Sequence[Any]) -> None:
    if isinstance(holder[key], int | float):
        holder[key] += tape.pick((1, -1, 0.5, 255))
    elif isinstance(holder[key], str):
        holder[key] += tape.rest().decode(errors="replace")


def _remove(holder: Any, key: Any, _tape: Tape, _: Sequence[Any]) -> None:
    del holder[key]


def _repeat(holder: Any, key: Any, tape: Tape, _: Sequence[Any]) -> None:
    again = copy.deepcopy(holder[key])
    if isinstance(holder, list):
        holder.insert(tape.byte() % (len(holder) + 1), again)
    else:
        holder[tape.pick((f"{key}x", "", "é\n\x1b[1m", *_keys(holder)))] = again


def _exchange(holder: Any, key: Any, tape: Tape, _: Sequence[Any]) -> None:
    other = tape.pick(_keys(holder))
    holder[key], holder[other] = holder[other], holder[key]


def _wrap(holder: Any, key: Any, tape: Tape, _: Sequence[Any]) -> None:
    holder[key] = tape.pick(([holder[key]], [[holder[key]]], {"x": holder[key]}))


def spliced(content: bytes, tape: Tape) -> bytes:
    """The content with some bytes taken out somewhere, and others put in, now and then many times."""
    at = tape.number(0, len(content))
    behind = at + tape.pick((0, 0, 1, 2, 8, 100))
    times = tape.pick((1,) * 15 + (1_000,))
    return content[:at] + tape.rest() * times + content[behind:]
