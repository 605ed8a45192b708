"""The tree of exceptions."""

import pytest

from pipesd import errors
from pipesd.errors import ConfigError, PeerError, PipeSDError, RefusedError, UsageError

CLASSES = {
    name: kind
    for name, kind in vars(errors).items()
    if isinstance(kind, type) and kind.__module__ == errors.__name__
}


def drawn_tree() -> dict[str, str | None]:
    """Each class of the drawing in the docstring, with the class that it hangs on."""
    assert errors.__doc__ is not None
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in errors.__doc__.splitlines():
        bare = line.lstrip("│├└─ ")
        depth = (len(line) - len(bare)) // 4
        if bare.split(" ")[0] in CLASSES:
            name = bare.split(" ")[0]
            parents[name] = path[depth - 1] if depth else None
            path[depth:] = [name]
    return parents


def test_the_drawing_shows_the_classes_as_they_are() -> None:
    assert drawn_tree() == {
        name: None if kind is PipeSDError else kind.__bases__[0].__name__ for name, kind in CLASSES.items()
    }


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_everything_descends_from_the_base(name: str) -> None:
    assert issubclass(CLASSES[name], PipeSDError)


def test_wrong_usage_is_a_value_error_for_those_who_do_not_know_us() -> None:
    assert issubclass(UsageError, ValueError)
    assert issubclass(ConfigError, ValueError)


def test_errors_about_the_other_side_carry_a_code() -> None:
    blamed = PeerError("malformed", "the bytes were wrong")
    assert (blamed.code, str(blamed)) == ("malformed", "the bytes were wrong")
    refused = RefusedError("busy", "no session is free", retryable=True)
    assert (refused.code, str(refused), refused.retryable) == ("busy", "no session is free", True)
