"""Tuners by name, and what they need."""

import subprocess
import sys
from typing import get_args

import pytest

from pipesd.errors import UsageError
from pipesd.tuner.base import FixedTuner, Space, Tuner
from pipesd.tuner.baseline import GridTuner, RandomTuner
from pipesd.tuner.choose import TUNERS, TunerKind, make_tuner
from pipesd.tuner.closed_form import ClosedFormTuner
from pipesd.tuner.guided import GuidedTuner
from pipesd.tuner.paper import PaperTuner

KINDS: dict[TunerKind, type[Tuner]] = {
    "model-guided": GuidedTuner,
    "closed-form": ClosedFormTuner,
    "paper": PaperTuner,
    "grid": GridTuner,
    "random": RandomTuner,
    "fixed": FixedTuner,
}


@pytest.mark.parametrize(("kind", "made"), KINDS.items(), ids=TUNERS)
def test_each_name_has_its_tuner(kind: TunerKind, made: type[Tuner]) -> None:
    assert type(make_tuner(kind, Space(), seed=1, unit=(0.5, 0.5))) is made


def test_all_names_are_listed() -> None:
    assert set(KINDS) == set(TUNERS) == set(get_args(TunerKind))


def test_another_name_is_refused() -> None:
    with pytest.raises(UsageError, match="there is no tuner 'best'; choose one of model-guided, closed-form"):
        make_tuner("best", Space(), seed=1)


def test_fixed_needs_a_place() -> None:
    with pytest.raises(UsageError, match="'fixed' needs a place"):
        make_tuner("fixed", Space(), seed=1)
    with pytest.raises(UsageError, match="a number from 0 to 1 for each of r1, r2"):
        make_tuner("fixed", Space(), seed=1, unit=(0.5,))


WITHOUT_TORCH = """
import sys

class Missing:
    def find_spec(self, name, *_):
        if name.partition(".")[0] in {"torch", "botorch", "gpytorch"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())

import numpy as np
from pipesd.errors import UsageError
from pipesd.tuner import base, baseline, choose, closed_form, drift, gp, guided, paper, score

space = base.Space()
made = {}
for kind in choose.TUNERS:
    try:
        made[kind] = choose.make_tuner(kind, space, 1, unit=(0.5, 0.5))
    except UsageError as error:
        assert "pipesd[tuner]" in str(error) and "\\n" not in str(error), error
assert sorted(made) == sorted({*choose.TUNERS} - {"paper"}), sorted(made)

def prior(units):
    places = np.array([(np.nan, np.nan) if unit is None else unit for unit in units])
    return 100.0 + 40.0 * np.sum((places - 12 / 19) ** 2, axis=1)

guided = made["model-guided"]
assert not guided.learns
for number in range(3):
    trial = guided.ask(prior)
    assert np.allclose(trial.unit, 12 / 19), trial
    guided.tell(trial, base.Score(500.0, 1.0))
assert np.allclose(guided.best(prior), 12 / 19)
assert guided.ask(None).unit is None
assert not {"torch", "botorch", "gpytorch"} & sys.modules.keys()
"""

IMPORTS_ONLY = """
import sys
from pipesd.tuner import base, baseline, choose, closed_form, drift, gp, guided, paper, score
heavy = {"torch", "botorch", "gpytorch", "scipy", "asyncio", "logging"}
assert not heavy & sys.modules.keys(), heavy & sys.modules.keys()
"""


@pytest.mark.parametrize("script", [WITHOUT_TORCH, IMPORTS_ONLY], ids=["missing", "not imported"])
def test_torch_is_for_those_who_use_it(script: str) -> None:
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
