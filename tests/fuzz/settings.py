"""The readers of TOML: settings of both sides, from a file and the environment, and scenarios of the lab.

What is read can be used; all else is a ``ConfigError`` or ``UsageError`` of one line. The first record
chooses the reader, and between any bytes and a sound document in which some things were changed.
"""

import copy
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

from pipesd.config import CloudConfig, CommonConfig, EdgeConfig
from pipesd.errors import ConfigError, UsageError
from pipesd.hints import hints_of
from pipesd.lab.emulator import LinkEmulator
from pipesd.lab.scenario_file import scenario_from
from pipesd.lab.scenarios import Scenario
from pipesd.settings import load
from tests.fuzz.edits import EDITS_MAX, PLAIN, edited, spliced
from tests.fuzz.scratch import scratch_file
from tests.fuzz.tape import Tape, records

_EDGE = {"cloud": "127.0.0.1:7433", "engine": "scripted", "temperature": 0.5, "top_k": 3, "seed": 7}
_CLOUD = {"listen": "127.0.0.1:0", "engine": "scripted", "sessions_max": 4, "ping_after_s": 1.5, "traces": []}
_SETTINGS = {"edge": _EDGE, "cloud": _CLOUD}
_PHASE = {"duration_s": 30.0, "draft_ms": 60.0}
_SCENARIO = {
    "name": "mine",
    "like": "s1",
    "draft_ms": 20,
    "up_bits_per_s": 8e6,
    "jitter_ms": 2.5,
    "loss": 0.01,
    "outages_s": [[10, 12.5], [20, 21]],
    "phases": [_PHASE, {"duration_s": 3, "delay_ms": 5.0}],
}
_VALUES = (
    *PLAIN,
    math.inf,
    math.nan,
    "s4",
    [[1.0, 2.0]],
    [1e6, 5e6],
    "127.0.0.1:1",
    {"like": "s1"},
    [_PHASE],
)
SPLICE, VARIABLE = 255, 254
"""Records that begin with these change bytes of the file, and set a variable of the environment."""

_CONTENT_BYTES_MAX = 2_048
"""Dotted keys take tomllib a time that grows with the square of their length: 0.4 s for 8 KB."""

_MESSAGE_BYTES = 100
_FILE = scratch_file("some.toml")
_ENVIRON_NAMES = {
    kind: [f"PIPESD_{kind.section.upper()}_{name.upper()}" for name in (*hints_of(kind), "unknown")]
    for kind in (EdgeConfig, CloudConfig)
}


def target(data: bytes) -> None:
    """Play one input."""
    parts = records(data)
    head = Tape(next(parts, b""))
    read, use, document, names = head.pick(READERS)
    environ: dict[str, str] = {}
    is_raw = head.pick((False, False, True))
    content = b"".join(parts) if is_raw else _edited(document, parts, environ, names)
    _FILE.write_bytes(content[:_CONTENT_BYTES_MAX])
    try:
        found = read(environ)
    except UsageError as error:
        _check_complaint(error, read)
        return
    use(found)


def _check_complaint(error: UsageError, read: object) -> None:
    assert isinstance(error, ConfigError) or read is _scenario, "no setting is to blame"
    message = str(error)
    assert message.isprintable(), "a complaint is more than a line"
    assert ": " in message, "no setting is named"


def _edited(document: Any, parts: Iterator[bytes], environ: dict[str, str], names: list[str]) -> bytes:
    document = copy.deepcopy(document)
    splices = []
    for part in islice(parts, EDITS_MAX):
        if part and part[0] == SPLICE:
            splices.append(part[1:])
        elif part and part[0] == VARIABLE and names:
            tape = Tape(part[1:])
            environ[tape.pick(names)] = tape.rest().decode(errors="surrogateescape")
        else:
            document = edited(document, Tape(part), _VALUES)
    content = as_toml(document).encode(errors="replace")
    for splice in splices:
        content = spliced(content, Tape(splice))
    return content


def as_toml(document: Any) -> str:
    """The document as TOML, as far as that can say it."""
    if not isinstance(document, dict):
        return _inline(document)
    lines: list[str] = []
    tables: list[str] = []
    for key, value in document.items():
        if isinstance(value, dict):
            tables += [f"[{_key(key)}]", *(f"{_key(name)} = {_inline(each)}" for name, each in value.items())]
        else:
            lines.append(f"{_key(key)} = {_inline(value)}")
    return "\n".join([*lines, *tables, ""])


def _key(key: object) -> str:
    return json.dumps(str(key), ensure_ascii=False)


def _inline(value: Any) -> str:
    match value:
        case bool() | str() | None:
            return json.dumps(value, ensure_ascii=False)
        case dict():
            return "{" + ", ".join(f"{_key(key)} = {_inline(each)}" for key, each in value.items()) + "}"
        case list():
            return "[" + ", ".join(map(_inline, value)) + "]"
        case _:
            return str(value)


def _settings_of(kind: type[CommonConfig]) -> Callable[[Mapping[str, str]], CommonConfig]:
    return lambda environ: load(kind, file=_FILE, environ=environ, flags={})


def _use_settings(found: CommonConfig) -> None:
    assert replace(found) == found, "settings that were read are not settings"
    assert found.sampling.temperature >= 0, "a text cannot be sampled"


def _scenario(_environ: Mapping[str, str]) -> Scenario:
    return scenario_from(str(_FILE))


def _use_scenario(scenario: Scenario) -> None:
    """Its link and its machines have a pace at any time."""
    assert replace(scenario) == scenario, "a scenario that was read is none"
    for model in (scenario.uplink, scenario.downlink):
        link, now = LinkEmulator(model), 0.0
        for _ in range(3):
            free, arrives = link.send(now, _MESSAGE_BYTES)
            assert now <= free <= arrives < math.inf, "a message that never arrives"
            now = free
    for pace in (scenario.draft_pace, scenario.pass_pace):
        assert pace.until(7.0) > 7.0, "no pace"
    assert scenario.draft_pace_ms(0.9) >= 0


READERS: Sequence[tuple[Callable[[Mapping[str, str]], Any], Callable[[Any], None], Any, list[str]]] = (
    (_settings_of(EdgeConfig), _use_settings, _SETTINGS, _ENVIRON_NAMES[EdgeConfig]),
    (_settings_of(CloudConfig), _use_settings, _SETTINGS, _ENVIRON_NAMES[CloudConfig]),
    (_scenario, _use_scenario, _SCENARIO, []),
)
