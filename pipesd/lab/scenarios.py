"""Named machines and links: what a draft step, a pass and a message cost there.

The names s1 to s4 are those of PipeSD (arXiv 2605.13319); the numbers are models, not measurements.
A scenario of one's own is a TOML file whose keys are the fields, with ``like`` for what it does not say.
"""

import difflib
import math
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, get_type_hints

import msgspec

from pipesd.actors.compute import Pace
from pipesd.errors import UsageError, one_line
from pipesd.lab.emulator import (
    LinkModel,
    Pair,
    check_changes,
    check_drawn,
    check_number,
    check_outages,
)

_MS_MAX = 60_000.0
_BITS_PER_S_MIN = 1_000.0
_BITS_PER_BYTE = 8

_RATES = {"up_bits_per_s": "up_range_bits_per_s", "down_bits_per_s": "down_range_bits_per_s"}
"""What holds for good, and what new rates are drawn from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """An edge, a cloud and the link between them. Raises ``UsageError`` if a field is impossible."""

    name: str
    draft_ms: float
    """One step of the draft model (gamma)."""

    up_bits_per_s: float
    """Edge to cloud; may be infinite. Counts for nothing if ``up_range_bits_per_s`` is given."""

    down_bits_per_s: float
    """Cloud to edge; may be infinite. Counts for nothing if ``down_range_bits_per_s`` is given."""

    delay_ms: float
    """What a message travels, each way, while the next one may follow."""

    alpha_ms: float
    """How long a message occupies the link, its bytes aside (alpha)."""

    pass_ms: float
    """One pass of the target model, its tokens aside (v0)."""

    pass_token_ms: float
    """Each token in a pass (v1)."""

    jitter_ms: float = 0.0
    """Each message travels longer by something up to this."""

    loss: float = 0.0
    """Share of the messages, 0..1, that are lost and sent again, which takes ``loss_delay_ms`` longer."""

    loss_delay_ms: float = 200.0

    outages_s: tuple[Pair, ...] = ()
    """(start, end), in order: nothing leaves meanwhile, in either direction."""

    changes_every_s: float = 0.0
    """How often new rates are drawn from the ranges; 0 is never."""

    up_range_bits_per_s: Pair | None = None
    """Lowest and highest, edge to cloud."""

    down_range_bits_per_s: Pair | None = None
    """Lowest and highest, cloud to edge."""

    def __post_init__(self) -> None:
        if not self.name:
            raise UsageError("name: must not be empty")
        for name in (field.name for field in fields(self) if field.name.endswith("_ms")):
            check_number(name, getattr(self, name), 0.0, _MS_MAX)
        for name in _RATES:
            check_number(name, getattr(self, name), _BITS_PER_S_MIN, math.inf)
        check_number("loss", self.loss, 0.0, 1.0)
        check_outages("outages_s", self.outages_s)
        self._check_ranges()

    def _check_ranges(self) -> None:
        check_changes("changes_every_s", self.changes_every_s)
        ranges = {name: getattr(self, name) for name in _RATES.values()}
        for name, span in ranges.items():
            if span is not None:
                check_drawn(name, span, _BITS_PER_S_MIN)
                if not self.changes_every_s:
                    raise UsageError(f"{name}: is drawn from every changes_every_s; give that too")
        if self.changes_every_s and not any(ranges.values()):
            raise UsageError(f"changes_every_s: needs {' or '.join(ranges)}; give one, or both")

    @property
    def draft_pace(self) -> Pace:
        """What a draft step costs."""
        return Pace(self.draft_ms / 1e3)

    @property
    def pass_pace(self) -> Pace:
        """What a pass costs: V(n) = v0 + v1·n."""
        return Pace(self.pass_ms / 1e3, self.pass_token_ms / 1e3)

    @property
    def uplink(self) -> LinkModel:
        """Edge to cloud."""
        return self._link(self.up_bits_per_s, self.up_range_bits_per_s)

    @property
    def downlink(self) -> LinkModel:
        """Cloud to edge."""
        return self._link(self.down_bits_per_s, self.down_range_bits_per_s)

    def _link(self, bits_per_s: float, drawn: Pair | None) -> LinkModel:
        return LinkModel(
            delay_s=self.delay_ms / 1e3,
            message_s=self.alpha_ms / 1e3,
            bytes_per_s=bits_per_s / _BITS_PER_BYTE,
            jitter_s=self.jitter_ms / 1e3,
            loss=self.loss,
            loss_delay_s=self.loss_delay_ms / 1e3,
            outages=self.outages_s,
            changes_every_s=self.changes_every_s if drawn else 0.0,
            drawn_bytes_per_s=(drawn[0] / _BITS_PER_BYTE, drawn[1] / _BITS_PER_BYTE) if drawn else None,
        )

    def draft_pace_ms(self, agreement: float) -> float:
        """Per token, of a drafter that is never held up and whose drafts are right so often, 0..1.

        A right draft costs a step; a wrong one the trip to a verdict and back, bytes neglected. A yardstick
        rather than a bound. Raises ``UsageError`` if ``agreement`` is impossible.
        """
        check_number("agreement", agreement, 0.0, 1.0)
        way_ms = self.alpha_ms + self.delay_ms
        correction_ms = way_ms + self.pass_ms + 2 * self.pass_token_ms + way_ms
        return agreement * self.draft_ms + (1 - agreement) * correction_ms


def scenario_named(name: str) -> Scenario:
    """The scenario of this name. Raises ``UsageError``, which lists those there are."""
    if name not in SCENARIOS:
        raise UsageError(f"scenario: {name!r} is not known; choose one of {', '.join(SCENARIOS)}")
    return SCENARIOS[name]


_S1 = Scenario(
    name="s1",
    draft_ms=43.0,
    up_bits_per_s=20e6,
    down_bits_per_s=200e6,
    delay_ms=15.0,
    alpha_ms=0.2,
    pass_ms=25.0,
    pass_token_ms=1.0,
)

SCENARIOS: Mapping[str, Scenario] = {
    each.name: each
    for each in (
        _S1,
        replace(_S1, name="s2", draft_ms=70.0),
        replace(_S1, name="s3", draft_ms=140.0),
        replace(
            _S1,
            name="s4",
            changes_every_s=20.0,
            up_range_bits_per_s=(10e6, 80e6),
            down_range_bits_per_s=(150e6, 280e6),
        ),
        replace(_S1, name="far", delay_ms=60.0),
        replace(_S1, name="fast", draft_ms=15.0),
    )
}
"""A laptop, a phone, a small board, a laptop whose link changes, a far cloud, a fast edge."""


# -- files ------------------------------------------------------------------------------------------------


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
        given: dict[str, Any] = {key: self._converted(key, value) for key, value in said.items()}
        values = self._completed(given, given.pop("like", None))
        try:
            return Scenario(**values)
        except UsageError as error:
            raise self._fault(str(error), str(error).partition(":")[0]) from None

    def _completed(self, given: Mapping[str, Any], like: str | None) -> dict[str, Any]:
        """What the file says, and what it leaves out."""
        base = {} if like is None else self._base(like)
        for fixed, drawn in _RATES.items():
            if fixed in given and drawn not in given and base.get(drawn):
                raise self._fault(
                    f"{fixed}: counts for nothing beside the {drawn} of {like}; give that instead", fixed
                )
            if drawn in given:
                base.setdefault(fixed, math.inf)
        values = {"name": self._path.stem, **base, **given}
        if missing := [field for field in _REQUIRED if field not in values]:
            raise self._fault(f'{missing[0]}: is missing; give it, or say like = "s1"')
        return values

    def _base(self, like: str) -> dict[str, Any]:
        if like not in SCENARIOS:
            raise self._fault(f"like: {like!r} is not known; choose one of {', '.join(SCENARIOS)}", "like")
        base = asdict(SCENARIOS[like])
        del base["name"]
        return base

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
}
