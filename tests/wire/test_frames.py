"""The frames as declared: tags, directions, room for later versions, bounds."""

import math
from typing import Any, get_args

import msgspec
import pytest

from pipesd.values import Sampling, TrialReport
from pipesd.wire import frames
from pipesd.wire.codec import FRAME_BYTES_MAX, encode
from pipesd.wire.frames import PROMPT_TOKENS_MAX, AnyFrame, CloudFrame, EdgeFrame, Hello, Refuse

KINDS: list[type[Any]] = [
    kind
    for kind in vars(frames).values()
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct) and kind.__struct_config__.tag is not None
]
EDGE, CLOUD = set(get_args(EdgeFrame)), set(get_args(CloudFrame))
each_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def convert(kind: type[Any], *fields: object) -> object:
    return msgspec.convert([kind.__struct_config__.tag, *fields], kind, builtin_types=(bytes,))


def test_tags_are_unique() -> None:
    tags = [kind.__struct_config__.tag for kind in KINDS]
    assert len(set(tags)) == len(tags)
    assert all(isinstance(tag, int) and 0 < tag < 128 for tag in tags), "one byte each"


def test_the_unions_hold_every_frame_and_nothing_else() -> None:
    assert set(KINDS) == EDGE | CLOUD == set(get_args(AnyFrame))


@each_kind
def test_docstring_begins_with_the_direction(kind: type[Any]) -> None:
    direction = {
        (True, False): "edge → cloud. ",
        (False, True): "cloud → edge. ",
        (True, True): "both ways. ",
    }
    assert (kind.__doc__ or "").startswith(direction[kind in EDGE, kind in CLOUD])


@each_kind
def test_frames_are_frozen_arrays(kind: type[Any]) -> None:
    config = kind.__struct_config__
    assert config.frozen
    assert config.array_like
    assert config.forbid_unknown_fields == (kind not in {Hello, Refuse})


@each_kind
def test_defaults_come_last(kind: type[Any]) -> None:
    required = [field.required for field in msgspec.structs.fields(kind)]
    assert required == sorted(required, reverse=True)


def test_greetings_of_later_versions_are_understood() -> None:
    assert convert(Hello, 9, "pipesd/9", 151_936, b"me", [1, 2], None) == Hello(9, "pipesd/9", 151_936, b"me")
    assert convert(Hello, 5, "of an earlier version", 9) == Hello(5, "of an earlier version", 9)
    assert convert(Refuse, "version", "too old", 0, b"new") == Refuse("version", "too old")
    assert convert(Refuse, "version", "of an earlier version") == Refuse("version", "of an earlier version")


def test_other_frames_have_no_room_for_unknown_fields() -> None:
    with pytest.raises(msgspec.ValidationError, match="at most length 1, got 2"):
        convert(frames.Open, 1, "new")


@pytest.mark.parametrize(
    ("kind", "fields", "place"),
    [
        (Hello, (-1, "", 0), 1),
        (Hello, (2**53, "", 0), 1),
        (Hello, (1, "x" * 1_001, 0), 2),
        (Hello, (1, "", 0, b"x" * 513), 4),
        (frames.Challenge, (b"x" * 513,), 1),
        (frames.Proof, (b"x" * 513,), 1),
        (frames.Open, (2**31,), 1),
        (frames.Opened, (0, b"x" * 65), 2),
        (frames.Draft, (0, 2**53, 0, []), 2),
        (frames.Draft, (0, 0, 2**31, []), 3),
        (frames.Draft, (0, 0, 0, [0, 2**31]), 4),
        (frames.Draft, (0, 0, 0, [-1]), 4),
        (frames.Draft, (0, 0, 0, [], -1), 5),
        (frames.Prompt, (0, 0, 0, [], [], 2**63, 0), 6),
        (frames.Prompt, (0, 0, 0, [], [], -1, 0), 6),
        (frames.Prompt, (0, 0, 0, [], [0.0, 0, 0.0, 0.0], 0, 0), 5),
        (frames.Prompt, (0, 0, 0, [], [0.0, 0, 1.0, 0.0, 0.0], 0, 0), 5),
        (frames.Verdict, (0, 0, 0, -1, []), 4),
        (frames.Verdict, (0, 0, 0, 0, [], "done"), 6),
        (frames.Verdict, (0, 0, 0, 0, [], None, [[1]]), 7),
        (frames.Verdict, (0, 0, 0, 0, [], None, [[1, -1]]), 7),
        (frames.Verdict, (0, 0, 0, 0, [], None, [], 0, 0, -1), 10),
        (frames.Resume, (0, b"x" * 65, 0, 0, 0), 2),
        (frames.Resume, (0, b"", 2**53, 0, 0), 3),
        (frames.Resume, (0, b"", 0, -1, 0), 4),
        (frames.Resume, (0, b"", 0, 0, 2**31), 5),
        (frames.Restore, (0, 0, [[1, []]], [], 0, 0, 0), 3),
        (frames.Restore, (0, 0, [[True, [-1]]], [], 0, 0, 0), 3),
        (frames.Restore, (0, 0, [[True, [1], 0]], [], 0, 0, 0), 3),
        (frames.Restore, (0, 0, [], [], 0, 2**31, 0), 6),
        (frames.Restore, (0, 0, [], [], 0, 0, -1), 7),
        (frames.Resumed, (0, 1), 2),
        (frames.Telemetry, ("cheap", [0, [], [], [], []]), 1),
        (frames.Telemetry, ("cost", []), 2),
        (frames.Thresholds, (0, 1.5, 0.5, 1, 1), 2),
        (frames.Thresholds, (0, None, -0.5, 1, 1), 3),
        (frames.Thresholds, (0, None, 0.5, -1, 1), 4),
        (frames.Fault, (-1, "engine", ""), 1),
        (frames.Fault, (None, "x" * 1_001, ""), 2),
        (frames.Ping, (2**53,), 1),
    ],
)
def test_numbers_out_of_range_are_refused(kind: type[Any], fields: tuple[object, ...], place: int) -> None:
    with pytest.raises(msgspec.ValidationError, match=rf"at `\$\[{place}\]"):
        convert(kind, *fields)


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("trial", [0, 2**53 - 1], [-1, 2**53, 1.0, None]),
        (
            "verdicts",
            [[], [[0, 0.0, 0.0, 0.0]], [[1, 5.0, 2.0, 9.0]] * 4_096],
            [
                [[1, 5.0, 2.0, 9.0]] * 4_097,
                [[-1, 5.0, 2.0, 9.0]],
                [[1, -0.5, 2.0, 9.0]],
                [[1, 5.0, 2.0**53, 9.0]],
                [[1, 5.0, 2.0, -9.0]],
                [[1, 5.0, 2.0]],
            ],
        ),
        (
            "drafts",
            [[], [[0.0, 1.0, True]] * 4_096],
            [[[0.5, 0.5, True]] * 4_097, [[1.5, 0.5, True]], [[0.5, -0.5, True]], [[0.5, 0.5, 1]]],
        ),
        ("astray", [[], [0.0, 1.0], [0.5] * 4_096], [[0.5] * 4_097, [-0.1], [1.1], [math.nan]]),
        ("conditions_ms", [[], [0.0] * 16], [[0.0] * 17, [-1.0], [math.inf], [math.nan]]),
    ],
)
def test_what_a_report_may_hold_is_bounded(field: str, good: list[object], bad: list[object]) -> None:
    empty: dict[str, object] = {"trial": 0, "verdicts": [], "drafts": [], "astray": [], "conditions_ms": []}
    for value in good:
        convert(frames.Telemetry, "balanced", list({**empty, field: value}.values()))
    for value in bad:
        with pytest.raises(msgspec.ValidationError, match=rf"at `\$\[2\]\[{list(empty).index(field)}\]"):
            convert(frames.Telemetry, "balanced", list({**empty, field: value}.values()))


def test_the_longest_report_fits_a_frame() -> None:
    most = 2**53 - 1
    verdicts = ((most, float(most), float(most), float(most)),) * 4_096
    report = TrialReport(most, verdicts, ((0.1, 0.1, True),) * 4_096, (0.1,) * 4_096, (float(most),) * 16)
    assert len(encode(frames.Telemetry("balanced", report))) < FRAME_BYTES_MAX


def test_a_restored_text_is_as_long_as_its_parts() -> None:
    def restore(*segments: tuple[bool, tuple[int, ...]]) -> frames.Restore:
        return frames.Restore(0, 1, segments, Sampling(), 0, 0, 1)

    assert restore().length == 0
    assert restore((True, (1, 2, 3)), (False, (4,)), (True, (5, 6))).length == 6


def test_the_longest_prompt_and_its_answer_can_be_restored_in_one_frame() -> None:
    largest, most = 2**31 - 1, 2**53 - 1
    segments = ((True, (largest,) * (PROMPT_TOKENS_MAX // 2)), (False, (largest,) * (PROMPT_TOKENS_MAX // 2)))
    frame = frames.Restore(largest, most, segments, Sampling(0.7, 40, 0.9, 0.1), 2**63 - 1, largest, most)
    assert len(encode(frame)) < FRAME_BYTES_MAX
