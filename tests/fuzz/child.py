"""One target under atheris, in a process of its own: ``python -m tests.fuzz.child TARGET OPTION...``.

TARGET is a name in ``targets.TARGETS``, or NAME:BUG to plant a bug of ``planted`` first; the options are
libFuzzer's. Without atheris this file cannot be imported; everything else in the folder can.
"""

import sys

import atheris

from tests.fuzz import mutator
from tests.fuzz.targets import TARGETS, blind_modules, play_of, weighed


def _mutated(data: bytes, size_max: int, seed: int) -> bytes:
    return mutator.mutated(data, size_max, seed, atheris.Mutate)


def main(name: str, options: list[str]) -> None:
    """Fuzz until the options say stop; libFuzzer then ends the process."""
    name, _, bug = name.partition(":")
    target = TARGETS[name]
    with atheris.instrument_imports(include=["pipesd", "tomllib"], exclude=blind_modules(target)):
        play = play_of(name)
    if bug:
        from tests.fuzz import planted  # noqa: PLC0415 - imports what is to be instrumented first

        planted.plant(bug)
    atheris.Setup(
        [sys.argv[0], f"-max_len={target.bytes_max}", *options],
        play,
        custom_mutator=_mutated,
        custom_crossover=mutator.crossed,
    )
    with weighed(target):
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
