"""What logs may hold: no secrets ever, and content only if ``show_content`` was called.

Content is whatever tells of a prompt or an answer: texts, token ids, seeds, the words of the other side, and
the messages of exceptions, which may quote anything. A secret proves who somebody is.
"""

import logging
import sys
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from enum import Enum, auto
from textwrap import indent
from typing import Protocol, TextIO

from pipesd.errors import one_line

CONTENT = logging.getLogger("pipesd.content")
"""Texts are logged under this name. No record of pipesd holds content whose level is not enabled here; an
application lets them by giving this logger a level."""

CONTENT.setLevel(logging.CRITICAL + 1)


class Kind(Enum):
    """What a field of an event, a command or a frame is."""

    SHOWN = auto()
    LEFT_OUT = auto()
    """Harmless, but no help in a log."""

    CONTENT = auto()
    """If it may not be shown, the length of a tuple is."""

    SECRET = auto()


_NAMES = {
    Kind.SHOWN: "peer session sequence epoch base ask accepted finish step keep code reason",
    Kind.CONTENT: "token tokens feed slices picks segments seed message failure client Bye.reason",
    Kind.SECRET: "credential nonce lease TokensRead.tokens",
    Kind.LEFT_OUT: """
        version model engine numerics energy template cutting welcome greedy_only tunes address cloud link
        vocabulary_size vocabulary_hashes begin_ids end_ids control_ids block pieces foreign
        context_tokens window_tokens chunk_tokens sessions_max tokens_max sampling
        frames number need lost evicted retry_ms wait_s queue_us pass_us judged arrivals energy_j energy_uj
        confirmed prompt_epoch generation_start stats confidence
        trial thresholds report objective r1 r2 upper_tokens lower_tokens
    """,
}

FIELDS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""By the name of the field; where one name means several things, with its owner's name and a dot before. What
is not among them is not shown, like a secret."""


def kind_of(owner: type, name: str) -> Kind | None:
    """What the field is; None if that was never declared."""
    return FIELDS.get(f"{owner.__name__}.{name}", FIELDS.get(name))


class Logging(Protocol):
    """What is needed of the settings of a side."""

    @property
    def log_content(self) -> bool:
        """Whether the logs of this process may hold content."""


def let_log(config: Logging) -> None:
    """Let this process log content if the settings say so."""
    if config.log_content:
        show_content()


def show_content() -> None:
    """Let this process log content, from the level on at which it logs anyway."""
    CONTENT.setLevel(logging.NOTSET)


def details(thing: object, *, content: bool) -> str:
    """The fields of an event, a command or a frame as a line shows them."""
    return "".join(_detail(thing, name, content=content) for name in _names(thing))


def _names(thing: object) -> Iterator[str]:
    if is_dataclass(thing):
        yield from (part.name for part in fields(thing) if part.name != "frame")
    yield from getattr(type(thing), "__struct_fields__", ())


def _detail(thing: object, name: str, *, content: bool) -> str:
    kind, value = kind_of(type(thing), name), getattr(thing, name)
    if kind is Kind.SHOWN:
        return f" {name}={one_line(str(value))}"
    if kind is Kind.CONTENT and content:
        return f" {name}={one_line(repr(value))}"
    if kind is Kind.CONTENT and isinstance(value, tuple):
        return f" {name}×{len(value)}"  # noqa: RUF001
    return ""


def log_text(what: str, tokens: Sequence[int], pieces: Sequence[bytes]) -> None:
    """A debug line with the text of ``tokens``, if content may be shown; an id without a piece is a ``�``."""
    if CONTENT.isEnabledFor(logging.DEBUG):
        known = (pieces[token] if token < len(pieces) else b"\xff" for token in tokens)
        CONTENT.debug("= %s: %r", what, b"".join(known).decode(errors="replace"))


def log_fault(logger: logging.Logger, sentence: str, level: int = logging.ERROR) -> None:
    """Log the exception that is being handled, without its message unless content may be shown."""
    error = sys.exception()
    assert error is not None, "no exception to log"
    if CONTENT.isEnabledFor(level):
        logger.log(level, "%s", sentence, exc_info=error)
    else:
        logger.log(level, "%s\n%s", sentence, bare_trace(error))


def bare_trace(error: BaseException) -> str:
    """Where an exception and those before it came from, and of which kinds they are."""
    return "\nwhich led to\n".join(_bare(each) for each in reversed(_chain(error)))


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while True:
        last = chain[-1]
        before = last.__cause__ or (None if last.__suppress_context__ else last.__context__)
        if before is None or any(before is known for known in chain):
            return chain
        chain.append(before)


def _bare(error: BaseException) -> str:
    within = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    came_by = traceback.format_tb(error.__traceback__)
    lines = ["Traceback (most recent call last):", *came_by, type(error).__qualname__]
    return "\n".join([*map(str.rstrip, lines), *(indent(bare_trace(each), "    ") for each in within)])


def log_to(stream: TextIO, level: int | str) -> None:
    """Set the logging of this process up, unless that has been done."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    handler.addFilter(_keeps_foreign_words)
    logging.basicConfig(level=level, handlers=[handler])


def _keeps_foreign_words(record: logging.LogRecord) -> bool:
    """What libraries log may quote anything: unless content may be shown, only that they complain is said."""
    if record.name.partition(".")[0] == "pipesd" or CONTENT.isEnabledFor(record.levelno):
        return True
    error = record.exc_info[1] if record.exc_info else None
    trace = "" if error is None else f"\n{bare_trace(error)}"
    record.msg, record.args = f"has something to say, which --log-content shows{trace}", ()
    record.exc_info = record.exc_text = None
    return record.levelno >= logging.WARNING
