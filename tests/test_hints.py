"""What a value must be."""

import os
from dataclasses import dataclass
from typing import Annotated, Literal

import pytest

from pipesd.errors import ConfigError
from pipesd.hints import checked, from_text, hints_of, optional
from pipesd.values import Range

Count = Annotated[int, Range(1, 9)]


@dataclass
class Some:
    count: Count = 1
    name: str | None = None


def test_hints_keep_the_bounds():
    assert hints_of(Some) == {"count": Count, "name": str | None}


@pytest.mark.parametrize(("hint", "given"), [(str | None, str), (Count, Count), (bool, bool)])
def test_an_optional_setting_is_of_one_type_if_it_is_given(hint: object, given: object):
    assert optional(hint) == given


@pytest.mark.parametrize(
    ("text", "hint", "value"),
    [
        ("7", Count, 7),
        ("0.5", float, 0.5),
        ("true", bool, True),
        ("a", str | None, "a"),
        (f"a{os.pathsep}b", tuple[str, ...], ("a", "b")),
    ],
)
def test_a_text_becomes_a_value(text: str, hint: object, value: object):
    assert from_text("it", text, hint) == value


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        ("7", Count, "it: must be a whole number, not '7'"),
        (10, Count, "it: must be at least 1 and at most 9, not 10; lower it"),
        (1, bool, "it: must be true or false, not 1"),
        ("c", Literal["a", "b"], "it: must be a or b, not 'c'"),
        ("a", tuple[str, ...], "it: must be a list of texts, not 'a'"),
    ],
)
def test_what_is_of_another_type_or_out_of_bounds_is_refused(value: object, hint: object, message: str):
    with pytest.raises(ConfigError) as raised:
        checked("it", value, hint)
    assert str(raised.value) == message


def test_nothing_is_a_value_where_it_may_be():
    assert checked("it", None, str | None) is None
    with pytest.raises(ConfigError, match="it: must be text"):
        checked("it", None, str)
