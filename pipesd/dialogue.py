"""From what a person says to the prompt that continues a text: as it is, or in the model's chat template.

The law of this file: what a person says is never run through the template and never becomes a control token.
The template is rendered around placeholders; the same one gives edge and cloud the same tokens.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn, Protocol

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipesd.errors import UsageError, one_line
from pipesd.values import PromptMode
from pipesd.vocabulary import Vocabulary

_SYSTEM, _FIRST, _ANSWER, _NEXT = (f"\ue000{name}\ue001" for name in ("system", "first", "answer", "next"))


class Tokens(Protocol):
    """What is needed of ``engines.base.Tokenizer``."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The bytes of every token."""

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """Token ids; control tokens only with ``special``. Raises ``UsageError``."""


class Target(Protocol):
    """What is needed of ``Welcome``, or of ``engines.base.TargetIdentity``."""

    @property
    def template(self) -> str:
        """The chat template, as Jinja source; empty if there is none."""

    @property
    def begin_ids(self) -> tuple[int, ...]:
        """What stands before every text."""

    @property
    def end_ids(self) -> tuple[int, ...]:
        """The tokens that end an answer; the model's own first."""


@dataclass(frozen=True, slots=True)
class Turn:
    """What is said next: the text is cut to ``base`` tokens, and ``tokens`` follow."""

    base: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Frame:
    """What a chat template puts around what is said."""

    first: tuple[str, str]
    """Before and behind the first message."""

    following: tuple[str, str]
    """From the end of an answer to the next message, and behind that."""

    system: tuple[str, str] | None
    """Before and behind the system's message, up to the first message; None if the template has none."""


@lru_cache(maxsize=16)
def frame_of(template: str, end_text: str) -> Frame:
    """Render a chat template, Jinja source, around placeholders; ``end_text`` is that of the end-of-text id.

    Raises ``UsageError`` if the template cannot be used so.
    """
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    try:
        compiled = environment.from_string(template)
        before, behind = _parts(compiled, end_text, user=_FIRST)
        _, _, to_next, behind_next = _parts(compiled, end_text, user=_FIRST, assistant=_ANSWER, then=_NEXT)
    except Exception as error:  # a template is somebody's program, and fails in any way a program can
        reason = one_line(str(error) or type(error).__name__)
        raise UsageError(
            f"the target's chat template cannot be used ({reason}); give prompts as they are, with --raw"
        ) from None
    try:
        head, between, _ = _parts(compiled, end_text, system=_SYSTEM, user=_FIRST)
    except Exception:
        return Frame((before, behind), (to_next, behind_next), None)
    return Frame((before, behind), (to_next, behind_next), (head, between))


class Dialogue:
    """How each thing said continues the text of one conversation."""

    def __init__(self, tokenizer: Tokens, target: Target, *, mode: PromptMode, system: str) -> None:
        """Raises ``UsageError`` if the target has no template for ``mode`` or a system's message."""
        if mode == "chat" and not target.template:
            raise UsageError("the target has no chat template; give prompts as they are, with --raw")
        self.end_ids = frozenset(target.end_ids)
        """The tokens that end an answer."""

        self._encode = tokenizer.encode
        self._begin_ids = target.begin_ids
        self._system = system
        self._frame: Frame | None = None
        if mode != "raw" and target.template:
            pieces = tokenizer.vocabulary.pieces
            end = pieces[target.end_ids[0]] if target.end_ids and target.end_ids[0] < len(pieces) else b""
            self._frame = frame_of(target.template, end.decode(errors="replace"))
        if system and (self._frame is None or self._frame.system is None):
            raise UsageError("system: the target's prompts have no place for it; leave it out")

    def turn(self, said: str, length: int, end_id: int | None) -> Turn:
        """Continue a text of ``length`` tokens; ``end_id`` is the one its last answer ended with, if it did.

        Raises ``UsageError`` as ``encode`` does.
        """
        frame = self._frame
        begin = self._begin_ids if length == 0 else ()
        if frame is None:
            return Turn(length, (*begin, *self._encode(said)))
        if length == 0:
            return Turn(0, (*begin, *self._opening(frame, said)))
        tokens = self._framed(frame.following[0], said, frame.following[1])
        if end_id is None:
            return Turn(length, tokens)
        if tokens[:1] == (end_id,):  # the answer ended as the template ends it: that token is there already
            return Turn(length, tokens[1:])
        return Turn(length - 1, tokens)

    def _opening(self, frame: Frame, said: str) -> tuple[int, ...]:
        if not self._system:
            return self._framed(frame.first[0], said, frame.first[1])
        assert frame.system is not None, "a system's message without a place for it"
        head, between = frame.system
        if self._is_plain(self._system):
            return self._framed(head + self._system + between, said, frame.first[1])
        return (
            *self._encode(head, special=True),
            *self._encode(self._system),
            *self._framed(between, said, frame.first[1]),
        )

    def _framed(self, before: str, said: str, behind: str) -> tuple[int, ...]:
        """All in one, as the model was trained, unless that made control tokens of what is said."""
        if self._is_plain(said):
            return tuple(self._encode(before + said + behind, special=True))
        return (
            *self._encode(before, special=True),
            *self._encode(said),
            *self._encode(behind, special=True),
        )

    def _is_plain(self, text: str) -> bool:
        return self._encode(text) == self._encode(text, special=True)


def _parts(compiled: jinja2.Template, end_text: str, **says: str) -> list[str]:
    """The rendered text around the placeholders, which are what each role says; ``then`` is a user again."""
    rendered = compiled.render(
        messages=[
            {"role": "user" if role == "then" else role, "content": said} for role, said in says.items()
        ],
        add_generation_prompt=True,
        bos_token="",  # the target's begin ids stand before every text
        eos_token=end_text,
    )
    parts = []
    for said in says.values():
        part, found, rendered = rendered.partition(said)
        if not found:
            raise ValueError("it leaves out, or changes the order of, what is said")
        parts.append(part)
    if any(said in part for said in says.values() for part in (*parts, rendered)):
        raise ValueError("it repeats what is said")
    return [*parts, rendered]


def _refuse(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)
