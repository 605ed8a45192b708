"""Processes of target models with odd manners, for the tests of both ends of the pipes."""

import textwrap

_PROGRAM = """
import os, signal, sys, threading
from pathlib import Path

from pipesd.engines import worker
from pipesd.engines.scripted import ScriptedTarget
from pipesd.errors import *


class Odd(ScriptedTarget):
    def sane(self, slices):
        return ScriptedTarget.forward(self, slices)

{body}

worker.open_target = lambda config: Odd({seed}, chunk_tokens=config.chunk_tokens)
worker.main()
"""


def odd(body: str = "", seed: str = "config.script_seed") -> tuple[str, str]:
    """What Python is to run: the worker with a scripted target whose class has ``body`` besides."""
    return "-c", _PROGRAM.format(body=textwrap.indent(textwrap.dedent(body), "    "), seed=seed)


STUCK = """
    def forward(self, slices):
        self.event = threading.Event()
        Path({fifo!r}).write_text("at work")
        self.event.wait()
        raise InterruptedStepError("stopped by the engine")

    def interrupt(self):
        self.event.set()
"""
"""Says through a named pipe that it is in a pass, which only an interrupt ends."""
