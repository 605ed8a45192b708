"""Scenarios in TOML: the keys are the fields of ``Scenario``, with ``like`` for what a file does not say.

What holds by turns is in ``phases``, a table for each.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from pipesd.errors import UsageError, one_line
from pipesd.lab.emulator import Pair
from pipesd.lab.scenarios import PHASE_KEYS, RATES, SCENARIOS, Phase, Scenario


def scenario_from(name_or_path: str) -> Scenario:
    """The scenario of this name, or the one in this TOML file. Raises ``UsageError`` if there is none.

    ``like`` in a file names the scenario that has what the file leaves out; without it the file says all.
    """
    if name_or_path in SCENARIOS:
        return SCENARIOS[name_or_path]
    if not name_or_path.casefold().endswith(".toml"):
        raise UsageError(
            f"scenario: {name_or_path!r} is not known; "
            f"choose one of {', '.join(SCENARIOS)}, or give the path of a .toml file"
        )
    return _File(Path(name_or_path)).scenario()


class _File:
    """A scenario in TOML, and where in it what is said."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = self._read()

    def scenario(self) -> Scenario:
        """What it describes."""
        said = self._parsed()
        for key in said:
            if key not in _HINTS:
                raise self._fault(
                    f"{key}: unknown key; the closest known one is {_closest(key, _HINTS)}", key
                )
        self._check_phase_keys(said.get("phases"))
        given: dict[str, Any] = {key: self._converted(key, value) for key, value in said.items()}
        values = self._completed(given, given.pop("like", None))
        try:
            return Scenario(**values)
        except UsageError as error:
            raise self._fault(str(error), str(error).partition(":")[0]) from None

    def _check_phase_keys(self, phases: object) -> None:
        for phase in phases if isinstance(phases, list) else ():
            for key in phase if isinstance(phase, dict) else ():
                if key not in PHASE_KEYS:
                    closest = _closest(key, PHASE_KEYS)
                    raise self._fault(f"phases: {key}: unknown key; the closest known one is {closest}", key)

    def _completed(self, given: Mapping[str, Any], like: str | None) -> dict[str, Any]:
        """What the file says, and what it leaves out."""
        base = {} if like is None else self._base(like)
        for fixed, drawn in RATES.items():
            if fixed in given and drawn not in given and base.get(drawn):
                raise self._fault(
                    f"{fixed}: counts for nothing beside the {drawn} of {like}; give that instead", fixed
                )
            if drawn in given:
                base.setdefault(fixed, math.inf)
        for key in given if "phases" not in given else ():
            if (phases := base.get("phases")) and all(key in phase.changed for phase in phases):
                raise self._fault(
                    f"{key}: counts for nothing beside the phases of {like}; give those instead", key
                )
        values = {"name": self._path.stem, **base, **given}
        if missing := [field for field in _REQUIRED if field not in values]:
            raise self._fault(f'{missing[0]}: is missing; give it, or say like = "s1"')
        return values

    def _base(self, like: str) -> dict[str, Any]:
        if like not in SCENARIOS:
            raise self._fault(f"like: {like!r} is not known; choose one of {', '.join(SCENARIOS)}", "like")
        return {name: getattr(SCENARIOS[like], name) for name in _HINTS if name not in {"name", "like"}}

    def _read(self) -> str:
        try:
            return self._path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object[: error.start].count(b"\n") + 1
            raise UsageError(f"scenario: {self._path} is not UTF-8 text (at line {line})") from None
        except (OSError, ValueError) as error:  # ValueError: no such path can exist
            reason = getattr(error, "strerror", None) or error
            raise UsageError(f"scenario: cannot read {self._path}: {reason}") from None

    def _parsed(self) -> dict[str, Any]:
        try:
            return tomllib.loads(self._text)
        except (ValueError, RecursionError) as error:  # among them tomllib's own, which names the line
            end = f"at line {self._text.count(chr(10)) + 1}, the end of the file"
            reason = str(error).replace("at end of document", end)
            raise UsageError(f"scenario: {self._path} is not valid TOML: {reason}") from None

    def _converted(self, key: str, value: object) -> object:
        try:
            return msgspec.convert(value, _HINTS[key])
        except (msgspec.ValidationError, OverflowError):
            raise self._fault(f"{key}: must be {_DESCRIBED[_HINTS[key]]}, not {value!r}", key) from None

    def _fault(self, what: str, key: str | None = None) -> UsageError:
        """Say where as well, if ``key`` stands at the beginning of just one line."""
        lines = []
        if key is not None:
            begun = re.compile(rf"""^[ \t\[]*["']?{re.escape(key)}\b""", re.MULTILINE)
            lines = [self._text.count("\n", 0, at.start()) + 1 for at in begun.finditer(self._text)]
        place = f"{self._path}, line {lines[0]}" if len(lines) == 1 else str(self._path)
        return UsageError(one_line(f"scenario: {place}: {what}"))


def _closest(key: str, known: Iterable[str]) -> str:
    return difflib.get_close_matches(key.casefold(), known, n=1, cutoff=0.0)[0]


_HINTS: Mapping[str, Any] = {**get_type_hints(Scenario), "like": str}
_REQUIRED = [field.name for field in fields(Scenario) if field.default is MISSING]
_DESCRIBED: Mapping[Any, str] = {
    str: "text",
    float: "a number",
    tuple[Pair, ...]: "a list of pairs, such as [[10, 12.5]]",
    Pair | None: "a pair of numbers, such as [10e6, 80e6]",
    tuple[Phase, ...]: "a list of tables, [[phases]], each with a duration_s and what it changes, in numbers",
}
