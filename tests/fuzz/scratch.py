"""A file for what is read from files: in memory, where the system has such a folder."""

from pathlib import Path
from tempfile import TemporaryDirectory

_IN_MEMORY = Path("/dev/shm")
_folder = TemporaryDirectory(prefix="pipesd-fuzz-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)


def scratch_file(name: str) -> Path:
    """A file of this process alone, which is gone with it."""
    return Path(_folder.name) / name
