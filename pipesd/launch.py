"""Entry points of the commands. Imports next to nothing: Ctrl-C is answered in one line at any moment.

While Python imports the rest, an interrupt ends the process at once; from then on ``cli.process`` decides.
"""

from __future__ import annotations

import os
import signal

TYPE_CHECKING = False  # to import it from typing would take a while

if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 130


def edge() -> NoReturn:
    """Run ``pipesd-edge``."""
    _guard("pipesd-edge")
    from pipesd.cli.edge import edge_commands  # noqa: PLC0415 - guarded
    from pipesd.cli.process import run  # noqa: PLC0415

    run(edge_commands, "pipesd-edge")


def cloud() -> NoReturn:
    """Run ``pipesd-cloud``."""
    _guard("pipesd-cloud")
    from pipesd.cli.cloud import cloud_commands  # noqa: PLC0415 - guarded
    from pipesd.cli.process import run  # noqa: PLC0415

    run(cloud_commands, "pipesd-cloud")


def lab() -> NoReturn:
    """Run ``pipesd-lab``."""
    _guard("pipesd-lab")
    from pipesd.cli.lab import lab_commands  # noqa: PLC0415 - guarded
    from pipesd.cli.process import run  # noqa: PLC0415

    run(lab_commands, "pipesd-lab")


def _guard(name: str) -> None:
    line = f"{name}: interrupted\n".encode()

    def leave(_: int, __: object) -> None:
        try:
            os.write(2, line)
        finally:
            os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
