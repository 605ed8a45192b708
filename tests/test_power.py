import pytest

from pipesd.errors import ConfigError
from pipesd.power import check_declared, modelled_line


@pytest.mark.parametrize(
    ("energy", "busy_watts", "idle_watts"),
    [
        ("auto", None, None),
        ("modelled", 60.0, None),
        ("modelled", 60.0, 60.0),
        ("auto", 0.0, 0.0),
        ("off", 60.0, 20.0),
    ],
)
def test_what_may_be_declared(energy: str, busy_watts: float | None, idle_watts: float | None) -> None:
    check_declared(energy, busy_watts, idle_watts)


@pytest.mark.parametrize(
    ("energy", "busy_watts", "idle_watts", "says"),
    [
        ("modelled", None, None, r"^power_busy_watts: .* if energy is modelled"),
        ("modelled", None, 5.0, r"^power_busy_watts: .* if energy is modelled"),
        ("auto", None, 5.0, r"^power_busy_watts: .* if power_idle_watts is"),
        ("auto", 60.0, 60.5, r"^power_idle_watts: .* at most power_busy_watts \(60\), not 60.5"),
    ],
)
def test_what_contradicts_itself_is_named(
    energy: str, busy_watts: float | None, idle_watts: float | None, says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        check_declared(energy, busy_watts, idle_watts)


def test_figures_from_it_are_marked() -> None:
    assert modelled_line(60.0, 20.5) == "modelled: 60 W busy, 20.5 W idle"
    assert modelled_line(60.0, None) == "modelled: 60 W busy"
