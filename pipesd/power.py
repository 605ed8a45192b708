"""The declared power of a machine: what may be declared, and how figures from it are marked."""

from pipesd.errors import ConfigError


def check_declared(energy: str, busy_watts: float | None, idle_watts: float | None) -> None:
    """Raise ``ConfigError`` if the settings of energy contradict each other."""
    if busy_watts is None and (idle_watts is not None or energy == "modelled"):
        reason = "energy is modelled" if energy == "modelled" else "power_idle_watts is"
        raise ConfigError(f"power_busy_watts: must be declared if {reason}; say what a pass takes")
    if busy_watts is not None and idle_watts is not None and idle_watts > busy_watts:
        raise ConfigError(
            f"power_idle_watts: must be at most power_busy_watts ({busy_watts:g}), not {idle_watts:g}; "
            "lower it, or raise power_busy_watts"
        )


def modelled_line(busy_watts: float, idle_watts: float | None) -> str:
    """What stands beside every figure that follows from it."""
    idle = "" if idle_watts is None else f", {idle_watts:g} W idle"
    return f"modelled: {busy_watts:g} W busy{idle}"
