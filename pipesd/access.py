"""An access token as its holder has it, one line of text, and what a cloud grants its holder at most."""

import re
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from pipesd.errors import ConfigError, UsageError, one_line

SECRET_BYTES = 32
"""Drawn at random, and written as 43 characters of urlsafe base64."""

NAME = r"[a-z0-9][a-z0-9-]{0,31}"

_TEXT = re.compile(rf"({NAME})\.([A-Za-z0-9_-]{{43}})")
_SHOWN_CHARACTERS = 40

LIMIT_MAX = 2**53 - 1

Limit = Annotated[int, msgspec.Meta(ge=1, le=LIMIT_MAX)] | None


class Limits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all who hold one token may use together; None is as much as the cloud's settings allow."""

    sessions_max: Limit = None
    """Most sessions open at once."""

    context_tokens: Limit = None
    """Most tokens of one session's text."""

    tokens_per_minute: Limit = None
    """Most confirmed tokens."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A name, which is no secret, and the secret that goes with it."""

    name: str
    secret: str = field(repr=False)

    @classmethod
    def parse(cls, text: str) -> "AccessToken":
        """Take NAME.SECRET apart. Raises ``ConfigError``, which does not quote it."""
        found = _TEXT.fullmatch(text)
        if found is None:
            raise ConfigError(
                "token: must be NAME.SECRET, the one line that pipesd-cloud token create prints"
            )
        return cls(found[1], found[2])

    @property
    def text(self) -> str:
        """What ``parse`` takes; a secret."""
        return f"{self.name}.{self.secret}"


def check_name(name: str) -> None:
    """Raise ``UsageError`` if no token can be called so."""
    if re.fullmatch(NAME, name) is None:
        raise UsageError(
            f"{one_line(name[:_SHOWN_CHARACTERS])!r} cannot be the name of a token; take up to 32 small "
            "letters, digits and hyphens, of which the first is no hyphen"
        )
