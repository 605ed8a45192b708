"""What an edge has learned of two models and a cloud, kept in the user's state folder for the next time."""

import hashlib
import logging
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import msgspec
import platformdirs

from pipesd.session.tuned import Learned

logger = logging.getLogger("pipesd.tuner")

_NAME_CHARACTERS = 16
_DRAFTS_MIN = 24
"""Less than this is not worth a file."""


def place_of(names: Sequence[str]) -> Path:
    """The file for these models and this host, seen from this machine."""
    whole = "\n".join((platform.node(), *names))
    name = hashlib.sha256(whole.encode(errors="replace")).hexdigest()[:_NAME_CHARACTERS]
    return Path(platformdirs.user_state_dir("pipesd", appauthor=False)) / "tuning" / f"{name}.json"


def load(path: Path) -> Learned | None:
    """What was kept; None if nothing was. A file that cannot be used is passed over, with a warning."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Learned)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        logger.warning("! %s cannot be used, so thresholds are tuned from the start: %s", path, error)
        return None


def save(path: Path, learned: Learned) -> None:
    """Keep it, in place of what was kept before. If that fails, it is said and no harm done."""
    if len(learned.drafts) < _DRAFTS_MIN:
        return
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(msgspec.json.encode(learned))
        os.replace(file.name, path)
    except OSError as error:
        logger.warning("! what was learned of thresholds cannot be kept: %s", error)
