"""The public names: imported when they are first used, and each from its home."""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import pipesd

ROOT = Path(__file__).resolve().parents[1]


def test_every_public_name_is_there():
    assert sorted(pipesd.__all__) == pipesd.__all__
    for name in pipesd.__all__:
        found = getattr(pipesd, name)
        assert found.__module__.startswith("pipesd."), name
        assert found.__name__ == name
        assert name in vars(sys.modules[found.__module__]), name


def test_every_name_that_is_found_is_public():
    homes = [name for names in pipesd._HOMES.values() for name in names]
    assert sorted(homes) == pipesd.__all__


def test_a_name_that_is_not_there_says_so():
    with pytest.raises(AttributeError, match=r"^module 'pipesd' has no attribute 'nothing'$"):
        _ = pipesd.nothing


def test_the_version_is_that_of_the_package():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert pipesd.__version__ == project["version"]


def test_importing_pipesd_imports_nothing_of_it():
    program = (
        "import sys, json, pipesd; print(json.dumps([n for n in sys.modules if n.startswith('pipesd')]))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, check=True)
    assert json.loads(done.stdout) == ["pipesd"]
