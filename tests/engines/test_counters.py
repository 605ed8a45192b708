"""The counters of zeus: on this machine whatever there is, and on a made-up tree of RAPL files."""

import logging
import multiprocessing
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import zeus.device.cpu
import zeus.device.cpu.rapl
import zeus.device.gpu
import zeus.device.soc

from pipesd.config import CloudConfig
from pipesd.engines.counters import Counters, open_counters
from pipesd.engines.energy import open_energy
from pipesd.errors import ConfigError, EngineError


def package(folder: Path, name: str, energy_uj: int) -> Path:
    folder.mkdir(parents=True)
    (folder / "name").write_text(f"{name}\n")
    (folder / "energy_uj").write_text(f"{energy_uj}\n")
    (folder / "max_energy_range_uj").write_text("262143328850\n")
    return folder


@pytest.fixture
def rapl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A machine with two processors, one of which counts its memory, and a platform that contains both."""
    folder = tmp_path / "intel-rapl"
    first = package(folder / "intel-rapl:0", "package-0", 5_000_000)
    package(first / "intel-rapl:0:0", "dram", 1_000_000)
    package(folder / "intel-rapl:1", "package-1", 7_000_000)
    package(folder / "intel-rapl:2", "psys", 90_000_000)
    for module, known in ((zeus.device.gpu, "_gpus"), (zeus.device.cpu, "_cpus"), (zeus.device.soc, "_soc")):
        monkeypatch.setattr(module, known, None)
    monkeypatch.setattr(zeus.device.gpu, "nvml_is_available", lambda: False)
    monkeypatch.setattr(zeus.device.gpu, "amdsmi_is_available", lambda: False)
    monkeypatch.setattr(zeus.device.cpu.rapl, "RAPL_DIR", str(folder))
    zeus.device.cpu.rapl.rapl_is_available.cache_clear()
    yield folder
    zeus.device.cpu.rapl.rapl_is_available.cache_clear()


def test_packages_count_with_their_memory_and_a_platform_does_not(rapl: Path) -> None:
    counters = open_counters()
    try:
        assert counters.names == ["CPU package with memory", "CPU package"]
        before = counters.read_j()
        assert before == pytest.approx(13.0)
        (rapl / "intel-rapl:0" / "energy_uj").write_text("5500000\n")
        (rapl / "intel-rapl:0" / "intel-rapl:0:0" / "energy_uj").write_text("1250000\n")
        (rapl / "intel-rapl:2" / "energy_uj").write_text("99000000\n")
        assert counters.read_j() - before == pytest.approx(0.75)
    finally:
        counters.close()


def test_the_helpers_of_zeus_end_with_the_last_who_reads(rapl: Path) -> None:
    others = set(multiprocessing.active_children())
    first, second = open_counters(), open_counters()
    helpers = set(multiprocessing.active_children()) - others
    assert len(helpers) == 3
    first.close()
    assert all(helper.is_alive() for helper in helpers)
    second.close()
    assert not any(helper.is_alive() for helper in helpers)


def test_a_passes_energy_says_what_was_measured(rapl: Path) -> None:
    energy = open_energy(CloudConfig(power_busy_watts=60))
    try:
        assert energy.source == "zeus: CPU package with memory, CPU package"
        assert (energy.busy_watts, energy.idle_watts) == (None, None)
        assert energy.meter is not None
        counter = rapl / "intel-rapl:1" / "energy_uj"
        spent_j = energy.meter.around(lambda: counter.write_text("9000000\n"))[1]
        assert spent_j == pytest.approx(2.0)
    finally:
        energy.close()


def test_counters_that_may_not_be_read_are_a_reason(rapl: Path) -> None:
    (rapl / "intel-rapl:0" / "energy_uj").unlink()
    with pytest.raises(EngineError, match=r"^zeus finds no counter here \(.*; Error reading"):
        open_counters()
    with pytest.raises(ConfigError, match=r"^energy: nothing can be measured, for zeus finds no counter"):
        open_energy(CloudConfig(energy="measured"))


def test_a_machine_without_counters_falls_back_quietly(
    rapl: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    (rapl / "intel-rapl:0" / "name").unlink()
    with caplog.at_level(logging.INFO):
        assert open_energy(CloudConfig(power_busy_watts=60)).source == "modelled: 60 W busy"
        assert open_energy(CloudConfig()).source == ""
    assert all(record.name == "pipesd.cloud" for record in caplog.records)
    assert [record.getMessage().partition(" (")[0] for record in caplog.records] == [
        "energy is not measured, for zeus finds no counter here"
    ] * 2
    assert capsys.readouterr() == ("", "")


def test_counters_are_told_by_kind() -> None:
    reads = [lambda: 1_500.0, lambda: 500.0]
    assert Counters(["2 x GPU"], reads).read_j() == 2.0


LOOKING = """
import sys
from pipesd.config import CloudConfig
from pipesd.engines.energy import open_energy
config = CloudConfig(engine=sys.argv[1], energy=sys.argv[2], power_busy_watts=60)
open_energy(config).close()
print([name for name in ("zeus", "torch", "pandas", "sklearn") if name in sys.modules])
"""


@pytest.mark.parametrize(
    ("engine", "energy", "loaded"),
    [("llama", "auto", "['zeus']"), ("llama", "modelled", "[]"), ("scripted", "auto", "[]")],
)
def test_zeus_is_loaded_if_something_is_to_be_measured_and_says_nothing(
    engine: str, energy: str, loaded: str
) -> None:
    command = [sys.executable, "-W", "error", "-c", LOOKING, engine, energy]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, loaded, "")
