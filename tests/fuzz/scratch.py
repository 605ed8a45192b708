"""A file for what is read from files: in memory, where there is a folder for that and none other is named."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

FOLDER_VARIABLE = "TMPDIR"
_IN_MEMORY = Path("/dev/shm")


def scratch_folder() -> TemporaryDirectory[str]:
    """A folder that is gone with whoever keeps this."""
    in_memory = _IN_MEMORY if FOLDER_VARIABLE not in os.environ and _IN_MEMORY.is_dir() else None
    return TemporaryDirectory(prefix="pipesd-fuzz-", dir=in_memory)


_folder = scratch_folder()


def scratch_file(name: str) -> Path:
    """A file of this process alone."""
    return Path(_folder.name) / name
