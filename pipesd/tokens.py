"""The file in which a cloud keeps what tells its access tokens from others, and a running cloud's view of it.

The law of this file: it holds no secret that opens the cloud. It is made readable for its owner only all the
same: with it one can pose as the cloud, and with a login that was listened to, as the token's holder.
A change is written beside it under another name, which only one change at a time can have, and takes its
place when it is whole.
"""

import logging
import os
import secrets
import stat
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec
import platformdirs

from pipesd.access import NAME, SECRET_BYTES, AccessToken, Limits, check_name
from pipesd.errors import ConfigError, UsageError, one_line
from pipesd.session.proof import KEY_BYTES, SALT_BYTES, Key, Tokens, Verifier, verifier_of

VERSION: Final = 1

logger = logging.getLogger("pipesd.cloud")


class Entry(Verifier, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One token."""

    name: Annotated[str, msgspec.Meta(pattern=rf"\A{NAME}\Z")]
    created: date
    """In UTC."""


class Book(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole file."""

    version: Literal[1] = VERSION
    fake_key: Key
    """See ``CloudProof``. It is kept, so that a restart does not tell which names there are."""

    entries: tuple[Entry, ...] = ()

    def __post_init__(self) -> None:
        if len({entry.name for entry in self.entries}) != len(self.entries):
            raise ValueError("two tokens have the same name")


class _Version(msgspec.Struct):
    version: int


def default_place() -> Path:
    """The file of a cloud that was not told another."""
    return Path(platformdirs.user_data_dir("pipesd", appauthor=False)) / "tokens.json"


def load(path: Path) -> Book:
    """What the file holds. Raises ``ConfigError`` if it is not there, broken, or of another version."""
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ConfigError(
            f"tokens: {_shown(path)} is not there; pipesd-cloud token create makes it with the first token"
        ) from None
    except OSError as error:
        raise ConfigError(f"tokens: cannot read {_shown(path)}: {error.strerror or error}") from None
    try:
        version = msgspec.json.decode(text, type=_Version).version
        if version == VERSION:
            return msgspec.json.decode(text, type=Book)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"tokens: {_shown(path)} is broken ({one_line(str(error))}); put a copy of it back, or move it "
            "away and make tokens anew"
        ) from None
    raise ConfigError(
        f"tokens: {_shown(path)} is of version {version}, and this pipesd reads version {VERSION} only; use "
        "the pipesd that wrote it"
    )


def create(path: Path, name: str, limits: Limits) -> AccessToken:
    """Make a token; the file is made too, if need be. What is returned cannot be had a second time.

    The name of a revoked token may be used again. Raises ``UsageError`` if the name is impossible or in use,
    ``ConfigError`` if the file cannot be used.
    """
    check_name(name)
    token = AccessToken(name, secrets.token_urlsafe(SECRET_BYTES))
    verifier = verifier_of(token.secret, secrets.token_bytes(SALT_BYTES), limits)
    entry = Entry(name=name, created=datetime.now(UTC).date(), **msgspec.structs.asdict(verifier))

    def with_it(book: Book) -> Book:
        others = tuple(other for other in book.entries if other.name != name)
        if any(other.name == name and not other.revoked for other in book.entries):
            raise UsageError(
                f"a token is called {name} already; choose another name, or revoke that one first"
            )
        return msgspec.structs.replace(book, entries=(*others, entry))

    _change(path, with_it, Book(fake_key=secrets.token_bytes(KEY_BYTES)))
    return token


def revoke(path: Path, name: str) -> None:
    """Have a token refused from the next login on; a second time changes nothing.

    Raises ``UsageError`` if there is no such token, ``ConfigError`` if the file cannot be used.
    """

    def without_it(book: Book) -> Book:
        if all(entry.name != name for entry in book.entries):
            raise UsageError(f"no token is called {one_line(name)}; pipesd-cloud token list shows them")
        entries = (
            msgspec.structs.replace(entry, revoked=entry.revoked or entry.name == name)
            for entry in book.entries
        )
        return msgspec.structs.replace(book, entries=tuple(entries))

    _change(path, without_it)


def _change(path: Path, change: Callable[[Book], Book], first: Book | None = None) -> None:
    """Put in place what ``change`` makes of the file; of ``first``, if given, where there is none."""
    try:
        if first is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        unfinished, descriptor = _begin(path)
        try:
            with os.fdopen(descriptor, "wb") as file:
                fresh = None if path.exists() else first
                changed = change(load(path) if fresh is None else fresh)
                file.write(msgspec.json.format(msgspec.json.encode(changed)) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            if fresh is None:
                _give_to_owner(path, unfinished)
            os.replace(unfinished, path)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise ConfigError(f"tokens: cannot write {_shown(path)}: {error.strerror or error}") from None


def _begin(path: Path) -> tuple[Path, int]:
    unfinished = path.with_name(f"{path.name}.new")
    try:
        return unfinished, os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ConfigError(
            f"tokens: {_shown(unfinished)} is there: another change is being made; try again, and delete "
            "that file if it stays"
        ) from None


def _give_to_owner(path: Path, unfinished: Path) -> None:
    """A cloud that could read the file before must be able to afterwards, whoever changed it."""
    was = path.stat()
    if hasattr(os, "chown"):
        os.chown(unfinished, was.st_uid, was.st_gid)
    unfinished.chmod(stat.S_IMODE(was.st_mode))


class Verifiers:
    """The tokens of a running cloud, which follow the file. Raises ``ConfigError`` as ``load`` does."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state = _state_of(path)
        self._tokens = _tokens_of(load(path))
        self._complaint = ""

    def current(self) -> Tokens:
        """As the file has them now; the very object of before if nothing has changed.

        To be asked at each login: a look at the file's state, which is read only if that has changed. While
        it cannot be read, what was read last still counts; that is said once, in the log.
        """
        state = _state_of(self._path)
        if state != self._state:
            try:
                tokens = _tokens_of(load(self._path))
            except ConfigError as error:
                self._complain(str(error))
            else:
                self._state, self._tokens, self._complaint = state, tokens, ""
        return self._tokens

    def _complain(self, complaint: str) -> None:
        if complaint != self._complaint:
            logger.warning("! %s; until then the tokens that were read last still count", complaint)
        self._complaint = complaint


def _tokens_of(book: Book) -> Tokens:
    return Tokens({entry.name: entry for entry in book.entries}, book.fake_key)


def _state_of(path: Path) -> tuple[int, ...]:
    """Differs after every change; empty if the file cannot be looked at."""
    try:
        now = path.stat()
    except OSError:
        return ()
    return now.st_ino, now.st_size, now.st_mtime_ns, now.st_ctime_ns


def _shown(path: Path) -> str:
    return one_line(str(path))
