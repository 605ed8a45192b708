"""Every example runs as it stands, and does what it says."""

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(example, capsys):
    runpy.run_path(str(example), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    assert sum(line.startswith("one:") for line in lines) > 3
    assert sum(line.startswith("two:") for line in lines) > 3


def test_the_examples_are_there():
    assert [path.name for path in EXAMPLES] == ["embedded.py"]
