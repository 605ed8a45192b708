"""What a cloud knows of its energy, and where from. Counters here are numbers that a test moves."""

import logging
from dataclasses import dataclass, field

import pytest

from pipesd.config import CloudConfig
from pipesd.engines.energy import Energy, Meter, declared, open_energy
from pipesd.errors import ConfigError

DECLARED = Energy("modelled: 60 W busy, 20 W idle", None, 60.0, 20.0)


@dataclass
class Joules:
    """A counter, and whether it has been given back."""

    now: float = 100.0
    error: Exception | None = None
    is_closed: bool = False
    reads: list[float] = field(default_factory=list)

    def read(self) -> float:
        if self.error is not None:
            raise self.error
        self.reads.append(self.now)
        return self.now

    def close(self) -> None:
        self.is_closed = True

    def spend(self, joules: float) -> str:
        self.now += joules
        return "picks"


def metered() -> tuple[Joules, Meter]:
    joules = Joules()
    return joules, Meter(joules.read, joules.close)


def test_a_pass_takes_what_is_counted_in_it_and_the_rest_is_idle() -> None:
    joules, meter = metered()
    joules.now += 3.0
    assert meter.around(lambda: joules.spend(5.0)) == ("picks", 5.0)
    joules.now += 2.0
    assert meter.idle_j() == 5.0
    assert meter.around(lambda: joules.spend(0.0)) == ("picks", 0.0)
    joules.now += 0.5
    assert meter.idle_j() == 5.5


def test_passes_and_idle_time_are_all_that_was_counted() -> None:
    """A counter that moves in steps gives them to whatever they fall into, and none to two or to nobody."""
    joules, meter = metered()
    steps = iter([0, 7, 0, 0, 7, 7, 0, 7])
    passes = 0.0
    for _ in range(4):
        joules.now += next(steps)
        spent = meter.around(lambda: joules.spend(next(steps)))[1]
        assert spent is not None
        passes += spent
    assert passes + meter.idle_j() == joules.now - 100.0 == 28.0
    assert passes == 21.0


def test_what_is_asked_during_a_pass_takes_nothing_from_it() -> None:
    joules, meter = metered()
    joules.now += 1.0

    def work() -> float:
        joules.now += 4.0
        return meter.idle_j()

    assert meter.around(work) == (1.0, 4.0)


def test_what_a_failed_pass_took_is_idle() -> None:
    joules, meter = metered()

    def work() -> None:
        joules.now += 4.0
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        meter.around(work)
    assert meter.idle_j() == 4.0


def test_a_counter_that_fails_costs_a_figure_and_no_pass(caplog: pytest.LogCaptureFixture) -> None:
    joules, meter = metered()
    joules.error = OSError("the GPU is lost")
    with caplog.at_level(logging.WARNING, "pipesd.cloud"):
        assert meter.around(lambda: joules.spend(5.0)) == ("picks", None)
        assert meter.around(lambda: joules.spend(5.0)) == ("picks", None)
    assert [record.getMessage() for record in caplog.records] == [
        "! energy could not be read: the GPU is lost"
    ]
    joules.error = None
    assert meter.around(lambda: joules.spend(2.0)) == ("picks", 2.0)
    assert meter.idle_j() == 0.0


def test_a_counter_that_began_anew_tells_nothing_of_that_time() -> None:
    joules, meter = metered()
    assert meter.around(lambda: joules.spend(-90.0)) == ("picks", 0.0)
    assert meter.around(lambda: joules.spend(2.0)) == ("picks", 2.0)


def test_a_meter_is_given_back_with_the_energy() -> None:
    joules, meter = metered()
    Energy("zeus: GPU", meter).close()
    assert joules.is_closed
    Energy().close()


@pytest.mark.parametrize("energy", ["auto", "modelled"])
def test_a_declared_power_is_marked(energy: str) -> None:
    config = CloudConfig(
        engine="scripted",
        energy=energy,  # type: ignore[arg-type]
        power_busy_watts=60,
        power_idle_watts=20,
    )
    assert declared(config) == DECLARED
    assert open_energy(config) == DECLARED


@pytest.mark.parametrize(
    "config",
    [
        CloudConfig(engine="scripted"),
        CloudConfig(engine="replay", energy="off", power_busy_watts=60),
        CloudConfig(energy="off", power_busy_watts=60),
    ],
)
def test_without_a_source_there_are_no_figures(config: CloudConfig) -> None:
    assert open_energy(config) == declared(config) == Energy()


def test_where_no_model_works_nothing_is_measured(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pipesd.cloud"):
        open_energy(CloudConfig(engine="scripted"))
    assert [record.getMessage() for record in caplog.records] == [
        "energy is not measured, for no model works in the scripted engine"
    ]
    with pytest.raises(ConfigError, match=r"^energy: nothing can be measured, for no model works"):
        open_energy(CloudConfig(engine="scripted", energy="measured"))
    assert declared(CloudConfig(energy="measured", power_busy_watts=60)) == Energy()
