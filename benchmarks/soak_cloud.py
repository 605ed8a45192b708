"""The cloud of the soak: the daemon as it is, in a process that can be asked what is alive in it.

Each line on its standard input asks; the answer is a line of JSON, with the objects that there are by class.
"""

import gc
import json
import sys
import threading
from collections import Counter

OURS = "pipesd"
OF_THE_SYSTEM = (
    "asyncio",
    "_asyncio",
    "uvloop",
    "ssl",
    "_ssl",
    "socket",
    "subprocess",
    "threading",
    "concurrent",
)
COUNTED = frozenset({OURS, *OF_THE_SYSTEM})


def census() -> dict[str, int]:
    """How many objects are alive of the classes of pipesd, and of what it holds from the system."""
    gc.collect()
    classes = Counter(type(each) for each in gc.get_objects())
    named = Counter[str]()
    for kind, number in classes.items():
        module = getattr(kind, "__module__", "")
        if isinstance(module, str) and module.partition(".")[0] in COUNTED:
            named[f"{module}.{kind.__qualname__}"] += number
    return dict(named)


def answer_questions() -> None:
    for _ in sys.stdin:
        print(json.dumps(census()), flush=True)


def main() -> None:
    """Be the daemon."""
    from pipesd.launch import cloud  # noqa: PLC0415 - it takes over the signals

    threading.Thread(target=answer_questions, name="census", daemon=True).start()
    cloud()


if __name__ == "__main__":
    main()
