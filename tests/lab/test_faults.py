import math
from collections import Counter
from dataclasses import replace
from itertools import islice, pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.errors import PeerError, UsageError
from pipesd.lab.faults import HONEST, KINDS, TAMPERING, FaultModel, LinkFault, kinds_from, spoilt
from pipesd.wire.codec import FRAME_BYTES_MAX, Decoder, encode
from pipesd.wire.frames import Draft, EdgeFrame

ALL = dict.fromkeys(KINDS, 1.0)


def first(number: int, **model: Any) -> list[LinkFault]:
    return list(islice(FaultModel(**{"every_s": 0.4, "weights": ALL, **model}).faults(), number))


# -- which strike when --------------------------------------------------------------------------------------


def test_the_seed_fixes_all_of_it():
    assert first(200, seed=1) == first(200, seed=1)
    assert first(200, seed=1) != first(200, seed=2)
    model = FaultModel(every_s=1.0, seed=3)
    assert list(islice(model.faults(), 9)) == list(islice(model.faults(), 9))


@given(st.integers(0, 2**63 - 1))
def test_whatever_is_drawn_is_within_its_bounds(seed: int):
    before_s = 0.0
    for fault in first(20, seed=seed, stall_s=(1.0, 2.0), delay_s=(0.1, 0.2), stretch_bytes_max=5):
        assert fault.at_s > before_s
        before_s = fault.at_s
        assert 0 <= fault.pick < 1
        assert 0 <= fault.place < 1
        assert 1 <= len(fault.noise) <= 5
        assert 0 not in fault.noise
        shortest, longest = {"stall": (1.0, 2.0), "delay": (0.1, 0.2)}.get(fault.kind, (0.0, 0.0))
        assert shortest <= fault.lasts_s <= longest


def test_they_come_as_often_as_asked_and_each_kind_as_often_as_it_weighs():
    number = 20_000
    faults = first(number, weights={"cut": 45.0, "stall": 30.0, "reset": 25.0, "delay": 0.0})
    assert faults[-1].at_s / number == pytest.approx(0.4, rel=0.03)
    shares = {kind: count / number for kind, count in Counter(fault.kind for fault in faults).items()}
    assert shares == pytest.approx({"cut": 0.45, "stall": 0.30, "reset": 0.25}, abs=0.015)
    assert sum(fault.direction == "up" for fault in faults) / number == pytest.approx(0.5, abs=0.015)


def test_the_times_between_are_exponential():
    """As many are shorter than the mean as the law says, and none knows of the one before."""
    moments = [0.0, *(fault.at_s for fault in first(20_000))]
    gaps = [later - sooner for sooner, later in pairwise(moments)]
    for times in (0.1, 1.0, 3.0):
        shorter = sum(gap < 0.4 * times for gap in gaps) / len(gaps)
        assert shorter == pytest.approx(1 - math.exp(-times), abs=0.015)
    behind_long = [later for sooner, later in pairwise(gaps) if sooner > 0.8]
    assert sum(behind_long) / len(behind_long) == pytest.approx(0.4, rel=0.1)


def test_other_weights_leave_the_moments_and_the_rest_of_the_luck_as_they_are():
    cuts, mixed = first(50, weights={"cut": 1.0}), first(50)
    assert {fault.kind for fault in mixed} == set(KINDS)
    assert [replace(fault, kind="cut", lasts_s=0.0) for fault in mixed] == cuts


def test_without_weights_the_honest_ones_come():
    assert {fault.kind for fault in islice(FaultModel(every_s=1.0).faults(), 100)} == set(HONEST)


def test_one_beside_the_sequence_is_fixed_by_its_number():
    model = FaultModel(every_s=1.0, seed=4)
    fault = model.fault("stall", 2.5, 0)
    assert (fault.kind, fault.at_s) == ("stall", 2.5)
    assert fault.lasts_s > 0
    assert fault == model.fault("stall", 2.5, 0)
    assert fault != model.fault("stall", 2.5, 1)
    assert fault != replace(model, seed=5).fault("stall", 2.5, 0)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"every_s": 0.0}, "every_s: must be at least 0.001"),
        ({"every_s": math.nan}, "every_s: must be"),
        ({"weights": {}}, "weights: must be finite and not all 0"),
        ({"weights": {"cut": 0.0}}, "weights: must be finite and not all 0"),
        ({"weights": {"cut": math.inf}}, "weights: must be finite"),
        ({"weights": {"cut": 2.0, "stall": -1.0}}, "weights: stall: must be at least 0"),
        ({"stall_s": (0.0, 1.0)}, "stall_s: must be at least 0.001"),
        ({"stall_s": (2.0, 1.0)}, "stall_s: the longest must not be below the shortest"),
        ({"delay_s": (0.1, math.inf)}, "delay_s: must be at least 0.001 and at most 86400"),
        ({"stretch_bytes_max": 0}, "stretch_bytes_max: must be at least 1"),
    ],
)
def test_what_cannot_be_is_said(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=f"^{words}"):
        FaultModel(**{"every_s": 1.0, **fields})


def test_kinds_are_named_with_commas():
    assert kinds_from("cut, stall,half-close,cut") == ("cut", "stall", "half-close")
    for text in ("flood", "cut,", ""):
        with pytest.raises(
            UsageError, match=r"fault-kinds: '(flood)?' is not known; choose among cut, reset"
        ):
            kinds_from(text)


# -- what they do to a message ------------------------------------------------------------------------------


def one(kind: str, **luck: Any) -> LinkFault:
    return replace(FaultModel(every_s=1.0).fault(kind, 0.0, 0), **luck)


@pytest.mark.parametrize(
    ("fault", "left"),
    [
        (one("reset", place=0.0), b"a"),
        (one("reset", place=0.99), b"abcdefg"),
        (one("duplicate", place=0.0, noise=b"xyz"), b"abcabcdefgh"),
        (one("duplicate", place=0.99, noise=b"xyz"), b"abcdefghfgh"),
        (one("duplicate", place=0.5, noise=bytes(16)), b"abcdefghbcdefgh"),
        (one("truncate", place=0.0, noise=b"xyz"), b"defgh"),
        (one("truncate", place=0.5, noise=b"xyz"), b"abcgh"),
        (one("truncate", place=0.5, noise=bytes(16)), b"a"),
        (one("garbage", place=0.5, noise=b"xyz", inserts=True), b"abcxyzdefgh"),
        (one("garbage", place=0.5, noise=b"\1\2\4", inserts=False), b"abcegbgh"),
    ],
)
def test_a_message_is_left_as_computed_by_hand(fault: LinkFault, left: bytes):
    assert spoilt(fault, b"abcdefgh") == left


@pytest.mark.parametrize(("kind", "left"), [("reset", b""), ("duplicate", b"aa"), ("truncate", b"")], ids=str)
def test_a_single_byte_is_all_there_is_to_strike(kind: str, left: bytes):
    assert spoilt(one(kind), b"a") == left


MESSAGES = st.binary(min_size=2, max_size=60)
SEEDS = st.integers(0, 2**32)


@given(MESSAGES, SEEDS)
def test_a_reset_leaves_a_true_part_of_the_beginning(message: bytes, seed: int):
    left = spoilt(FaultModel(every_s=1.0, seed=seed).fault("reset", 0.0, 0), message)
    assert message.startswith(left)
    assert 0 < len(left) < len(message)


@given(MESSAGES, SEEDS, st.sampled_from(TAMPERING))
def test_tampering_changes_a_message_and_leaves_something(message: bytes, seed: int, kind: str):
    fault = FaultModel(every_s=1.0, seed=seed).fault(kind, 0.0, 0)
    left = spoilt(fault, message)
    assert left != message
    stretch = min(len(fault.noise), len(message) - 1)
    grown = {"duplicate": stretch, "truncate": -stretch, "garbage": len(fault.noise) * fault.inserts}[kind]
    assert len(left) == len(message) + grown > 0
    if kind == "garbage" and not fault.inserts:
        assert sum(ours != theirs for ours, theirs in zip(message, left, strict=True)) == stretch


# -- what a receiver can tell -------------------------------------------------------------------------------

DRAFT = Draft(1, 1, 7, (300, 301), 9)


def read_behind(fault: LinkFault) -> list[EdgeFrame]:
    """What a receiver believes of a frame that was struck, and of many behind it, before it notices."""
    whole = encode(DRAFT)
    read: list[EdgeFrame] = []
    decoder = Decoder[EdgeFrame](EdgeFrame)
    stream = spoilt(fault, whole) + whole * (2 * FRAME_BYTES_MAX // len(whole))
    with pytest.raises(PeerError):
        read.extend(decoder.feed(stream))
    return read


@pytest.mark.parametrize("kind", ["duplicate", "truncate"])
def test_missing_and_repeated_bytes_are_noticed_but_one_frame_may_have_been_believed(kind: str):
    """Why more is promised with TLS alone. A misread length has a decoder wait for one frame at most."""
    believed = [read_behind(FaultModel(every_s=1.0, seed=seed).fault(kind, 0.0, 0)) for seed in range(200)]
    assert max(len(read) for read in believed) == 1
    assert any(read not in ([], [DRAFT]) for read in believed)


def test_a_flipped_bit_may_make_another_draft_of_a_draft_and_nobody_notices():
    whole = encode(DRAFT)
    flip = one("garbage", place=15.5 / len(whole), noise=b"\1", inserts=False)
    assert list(Decoder[EdgeFrame](EdgeFrame).feed(spoilt(flip, whole))) == [Draft(1, 1, 7, (300, 300), 9)]
