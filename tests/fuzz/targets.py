"""What is fuzzed: what plays an input, how long inputs get, and whose coverage guides the fuzzer."""

import importlib
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Target:
    """Something that must bear any bytes: ``tests/fuzz/NAME.py``, of which ``target`` plays an input.

    Whatever it raises is a bug.
    """

    bytes_max: int
    guides: tuple[str, ...]
    """Packages and modules whose coverage guides the fuzzer."""

    is_weighed: bool = False
    """Whether it looks at what tracemalloc says."""


TARGETS: Mapping[str, Target] = {
    "codec": Target(2_048, ("pipesd.wire",)),
    "handshake": Target(1_024, ("pipesd.wire", "pipesd.session"), is_weighed=True),
    "cloud_session": Target(512, ("pipesd.wire", "pipesd.session", "pipesd.transcript")),
    "edge_session": Target(512, ("pipesd.wire", "pipesd.session", "pipesd.planner", "pipesd.transcript")),
    "traces": Target(2_048, ("pipesd.engines.traces",)),
    "settings": Target(
        2_048,
        (
            "pipesd.settings",
            "pipesd.config",
            "pipesd.hints",
            "pipesd.lab.scenario_file",
            "pipesd.lab.scenarios",
        ),
    ),
}


@contextmanager
def weighed(target: Target) -> Iterator[None]:
    """Have tracemalloc on while its inputs are played, if it looks at that.

    It is not for single inputs: a thousand times on and off takes megabytes that never come back.
    """
    if target.is_weighed:
        tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


def play_of(name: str) -> Callable[[bytes], None]:
    """What plays an input of that target; imports what is fuzzed."""
    play: Callable[[bytes], None] = importlib.import_module(f"tests.fuzz.{name}").target
    return play


def blind_modules(target: Target) -> list[str]:
    """All modules of pipesd that guide nobody."""
    names = [
        ".".join(path.relative_to(_ROOT).with_suffix("").parts) for path in (_ROOT / "pipesd").rglob("*.py")
    ]
    return [name for name in names if not any(f"{name}.".startswith(f"{guide}.") for guide in target.guides)]
