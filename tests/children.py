"""The processes that this one has started, and that are still there."""

from multiprocessing import resource_tracker

import psutil


def children() -> set[psutil.Process]:
    """All but the one by which multiprocessing keeps book, which stays once it is there."""
    book_keeper: int | None = resource_tracker._resource_tracker._pid  # type: ignore[attr-defined]
    return {child for child in psutil.Process().children() if child.pid != book_keeper}
