"""The commands ``pipesd-edge``, ``pipesd-cloud`` and ``pipesd-lab``. Only these files touch the process.

Standard output carries the text (or, with ``--json``, one JSON object) and nothing else. Exit codes: 0 done,
1 failed, 2 bad usage, 130 interrupted, 143 terminated.
"""
