"""What all tests share: a state folder of their own; those marked ``models`` real models, loaded once."""

import importlib.util
import itertools
import os
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "300")  # as llama.py does, which here may be loaded after torch

import pytest

from pipesd.engines.store import Store
from tests.children import children

if TYPE_CHECKING:
    from pipesd.engines.llama import Model

HAS_LLAMA = importlib.util.find_spec("llama_cpp") is not None
NEED_LLAMA = ["engines/test_llama*.py", "end_to_end/test_models*.py"]

collect_ignore_glob = [] if HAS_LLAMA else NEED_LLAMA


def pytest_configure(config: pytest.Config) -> None:
    """Without llama.cpp the tests that need it cannot even be collected; to ask for them is then an error."""
    if config.option.markexpr != "not models" and not HAS_LLAMA:
        raise pytest.UsageError("tests marked models need the extra llama; run bin/environment dev llama")


_numbers = itertools.count()


@pytest.fixture(autouse=True)
def state_folder(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a test's edges keep what they learn: not the user's folder, nor another test's. Not made yet."""
    folder = tmp_path_factory.getbasetemp() / f"state-{next(_numbers)}"
    monkeypatch.setenv("XDG_STATE_HOME", str(folder))
    return folder


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    """A process that outlives its test would be taken for one of a later test."""
    before = children()
    yield
    left = children() - before
    assert not left, f"left behind: {[child.cmdline() for child in left]}"


@pytest.fixture(scope="session")
def model_file() -> Callable[[str], Path]:
    """The file of a model by name; it must have been pulled."""
    store = Store.of_user(os.environ)
    return store.path_of


@pytest.fixture(scope="session")
def load_model(model_file: Callable[[str], Path]) -> "Callable[[str], Model]":
    """A model by name, in memory, with exact numerics."""
    from pipesd.engines.llama import Model  # noqa: PLC0415 - most runs do without llama.cpp

    @cache
    def load(name: str) -> Model:
        return Model(model_file(name), "exact")

    return load
