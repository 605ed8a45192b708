"""Every example runs as it stands, and does what it says."""

import runpy
from pathlib import Path

import pytest

from pipesd.engines.alone import answer_alone
from pipesd.engines.scripted import ScriptedTarget
from pipesd.values import Sampling

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


def the_target_says(text: str) -> str:
    target = ScriptedTarget()
    prompt, pieces = target.tokenizer.encode(text), target.tokenizer.vocabulary.pieces
    tokens, _ = answer_alone(target, prompt, sampling=Sampling(), seed=0, tokens_max=24)
    return b"".join(pieces[token] for token in tokens).decode()


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_an_example_runs(example, capsys):
    """Into how many pieces the text is cut depends on the machine, and is not looked at."""
    runpy.run_path(str(example), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()
    for name in ("one", "two"):
        said = [line.removeprefix(f"{name}:") for line in lines if line.startswith(f"{name}:")]
        assert "".join(said) == the_target_says(f"Story {name}:")


def test_the_examples_are_there():
    assert [path.name for path in EXAMPLES] == ["embedded.py"]
