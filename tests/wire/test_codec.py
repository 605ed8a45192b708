"""The codec: golden vectors, round trips, and what a hostile peer may try."""

import itertools
import struct
import tracemalloc
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import msgpack
import msgspec
import msgspec.inspect as mi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.errors import PeerError
from pipesd.values import Sampling
from pipesd.wire import frames
from pipesd.wire.codec import FRAME_BYTES_MAX, PREFIX_BYTES, Decoder, encode
from pipesd.wire.frames import AnyFrame, CloudFrame, Draft, EdgeFrame, Open, Ping, Prompt, Verdict

VECTORS = [
    tuple(line.split(" | ", 1))
    for line in Path(__file__).with_name("golden.txt").read_text(encoding="utf-8").splitlines()
]
quick = settings(derandomize=True, deadline=None, max_examples=150)

Outcome = tuple[list[AnyFrame], tuple[str, str] | None]


def read(chunks: Iterable[bytes], accepted: object = AnyFrame, limit: int = FRAME_BYTES_MAX) -> Outcome:
    """The frames, and the code and message of the error that ended them."""
    decoder = Decoder[AnyFrame](accepted, limit)
    found: list[AnyFrame] = []
    try:
        for chunk in chunks:
            found.extend(decoder.feed(chunk))
    except PeerError as error:
        return found, (error.code, str(error))
    return found, None


def framed(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def packed(*fields: object) -> bytes:
    return framed(msgpack.packb(fields))


def refusal(stream: bytes, accepted: object = AnyFrame) -> tuple[str, str]:
    found, error = read([stream], accepted)
    assert found == []
    assert error is not None
    return error


# --- golden ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("data", "text"), VECTORS)
def test_golden_vector(data: str, text: str) -> None:
    frame = eval(text, vars(frames))
    assert encode(frame).hex() == data
    assert read([bytes.fromhex(data)]) == ([frame], None)
    assert repr(frame) == text


def test_every_frame_has_a_golden_vector() -> None:
    assert {text.partition("(")[0] for _, text in VECTORS} == {kind.__name__ for kind in get_args(AnyFrame)}


# --- round trip -----------------------------------------------------------------------------------------

samplings = st.builds(
    Sampling,
    st.floats(0.0, 100.0),
    st.integers(0, 2**31 - 1),
    st.floats(0.0, 1.0, exclude_min=True),
    st.floats(0.0, 1.0),
)


def from_info(info: mi.Type) -> st.SearchStrategy[Any]:
    """Whatever the type of a field allows, seen through msgspec's eyes."""
    match info:
        case mi.StructType(cls=cls):
            return samplings if cls is Sampling else st.builds(cls, *(from_info(f.type) for f in info.fields))
        case mi.VarTupleType(item_type=item):
            return st.lists(from_info(item), max_size=6).map(tuple)
        case mi.TupleType(item_types=items):
            return st.tuples(*map(from_info, items))
        case mi.UnionType(types=types):
            return st.one_of(*map(from_info, types))
        case mi.LiteralType(values=values):
            return st.sampled_from(values)
        case _:
            return from_plain_info(info)


def from_plain_info(info: mi.Type) -> st.SearchStrategy[Any]:
    match info:
        case mi.IntType(ge=ge, le=le, lt=lt):
            return st.integers(ge, le if lt is None else lt - 1)
        case mi.FloatType(ge=ge, le=le, lt=lt):
            return st.floats(ge, le if lt is None else lt, exclude_max=lt is not None, allow_nan=False)
        case mi.StrType(max_length=longest):
            return st.text(st.characters(codec="utf-8"), max_size=min(longest or 20, 20))
        case mi.BytesType():
            return st.binary(max_size=20)
        case _:
            return {mi.BoolType: st.booleans(), mi.NoneType: st.none()}[type(info)]


any_frame = st.one_of(*(from_info(mi.type_info(kind)) for kind in get_args(AnyFrame)))


def cut(data: bytes, places: Iterable[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


cuts = st.lists(st.integers(0, 10_000), max_size=8)


@quick
@given(st.lists(any_frame, max_size=5), cuts)
def test_frames_come_back_as_they_went(sent: list[AnyFrame], places: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    assert read(cut(stream, places)) == (sent, None)
    assert read(bytes([byte]) for byte in stream) == (sent, None)


@pytest.mark.parametrize("kind", get_args(AnyFrame), ids=lambda kind: kind.__name__)
def test_each_kind_of_frame_comes_back_as_it_went(kind: type[Any]) -> None:
    @settings(quick, max_examples=15)
    @given(from_info(mi.type_info(kind)))
    def check(frame: AnyFrame) -> None:
        assert read([encode(frame)]) == ([frame], None)

    check()


# --- hostile bytes --------------------------------------------------------------------------------------

plain = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary()
anything = st.recursive(
    plain,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)
tagged = st.builds(
    lambda tag, fields: framed(msgpack.packb([tag, *fields])), st.integers(0, 25), st.lists(anything)
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A valid stream with a few bytes overwritten, removed, put in, or repeated."""
    stream = bytearray(b"".join(map(encode, draw(st.lists(any_frame, min_size=1, max_size=3)))))
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(stream)))
        stream[start : start + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(stream)


hostile = st.one_of(st.binary(max_size=60), st.binary(max_size=60).map(framed), tagged, mutated())


@settings(quick, max_examples=500)
@given(hostile, cuts, st.sampled_from([EdgeFrame, CloudFrame, AnyFrame]))
def test_any_bytes_give_frames_or_a_peer_error_however_they_are_cut(
    stream: bytes, places: list[int], accepted: object
) -> None:
    found, error = read([stream], accepted)
    assert all(isinstance(frame, get_args(accepted)) for frame in found)
    assert error is None or error[0] in {"malformed", "oversized"}
    assert read(cut(stream, places), accepted) == (found, error)
    assert read((bytes([byte]) for byte in stream), accepted) == (found, error)


@settings(quick, max_examples=300)
@given(hostile)
def test_whatever_is_accepted_can_be_sent_again(stream: bytes) -> None:
    found, _ = read([stream])
    again = b"".join(map(encode, found))
    # Compared as bytes, for a frame may hold NaN.
    assert b"".join(map(encode, read([again])[0])) == again


NO_ARRAY = "the bytes of a frame are not one MessagePack array of plain values"
NO_TAG = "the bytes of a frame do not begin with a known tag"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param(b"", NO_ARRAY, id="empty"),
        pytest.param(b"\xc1", NO_ARRAY, id="never used byte"),
        pytest.param(b"\x92\x06\x00\x00", NO_ARRAY, id="trailing byte"),
        pytest.param(b"\x92\x06", NO_ARRAY, id="cut short"),
        pytest.param(b"\x91" * 100_000, NO_ARRAY, id="deep arrays"),
        pytest.param(b"\x81\xa0" * 100_000, NO_ARRAY, id="deep maps"),
        pytest.param(b"\xdd\xff\xff\xff\xff", NO_ARRAY, id="array of 4 G"),
        pytest.param(b"\x92\x06\xdb\xff\xff\xff\xff", NO_ARRAY, id="text of 4 G"),
        pytest.param(b"\x92\x06\xc6\xff\xff\xff\xff", NO_ARRAY, id="bytes of 4 G"),
        pytest.param(b"\x92\x06\xc9\xff\xff\xff\xff\x01", NO_ARRAY, id="extension of 4 G"),
        pytest.param(b"\x92\x06\xdf\xff\xff\xff\xff", NO_ARRAY, id="map of 4 G"),
        pytest.param(b"\x92\x06\xd6\xff\x00\x00\x00\x00", NO_ARRAY, id="timestamp"),
        pytest.param(b"\x92\x06\xc7\x00\x05", NO_ARRAY, id="empty extension"),
        pytest.param(b"\x92\x06\xc7\x00\xff", NO_ARRAY, id="empty timestamp"),
        pytest.param(b"\x92\x06\x81\x01\x01", NO_ARRAY, id="map"),
        pytest.param(b"\x92\x06\x81\xa1a\x01", NO_ARRAY, id="map with text as key"),
        pytest.param(b"\x92\x15\xa1\xff", NO_ARRAY, id="invalid UTF-8"),
        pytest.param(b"\x92\x15\xa3\xed\xa0\x80", NO_ARRAY, id="surrogate"),
        pytest.param(b"\x80", NO_TAG, id="empty map"),
        pytest.param(b"\x90", NO_TAG, id="empty array"),
        pytest.param(b"\x06", NO_TAG, id="only a number"),
        pytest.param(b"\xa4Open", NO_TAG, id="only text"),
        pytest.param(b"\x92\xc3\x00", NO_TAG, id="true as tag"),
        pytest.param(b"\x92\x91\x06\x00", NO_TAG, id="array as tag"),
        pytest.param(b"\x92\xcb\x40\x18\x00\x00\x00\x00\x00\x00\x00", NO_TAG, id="6.0 as tag"),
        pytest.param(b"\x92\x18\x00", NO_TAG, id="tag of a later version"),
        pytest.param(b"\x92\xcf" + b"\xff" * 8 + b"\x00", NO_TAG, id="huge tag"),
        pytest.param(b"\x92\xff\x00", NO_TAG, id="negative tag"),
    ],
)
def test_what_is_not_a_frame_is_malformed(body: bytes, message: str) -> None:
    assert refusal(framed(body)) == ("malformed", message)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ((9, 1, 2), "Draft: the wrong number of fields"),
        ((6, 0, 0), "Open: the wrong number of fields"),
        ((6, -31_337), "Open.session: expected `int` >= 0"),
        ((6, 31_337_000_000), "Open.session: expected `int` <= 2147483647"),
        ((6, 2**64 - 1), "Open.session: expected `int` <= 2147483647"),
        ((6, True), "Open.session: expected `int`, got `bool`"),
        ((6, 31_337.0), "Open.session: expected `int`, got `float`"),
        ((6, "31337"), "Open.session: expected `int`, got `str`"),
        ((9, 1, 2, 3, [5, 2**31 + 31_337]), "Draft.tokens: expected `int` <= 2147483647"),
        ((9, 1, 2, 3, ["31337"]), "Draft.tokens: expected `int`, got `str`"),
        ((12, 1, 2, 3, 4, [5], "31337"), "Verdict.finish: a value out of its bounds"),
        ((8, 1, 2, 3, [], [31_337.0, 0, 1.0, 0.0], 0, 0), "Prompt.sampling: a value out of its bounds"),
        (
            (8, 1, 2, 3, [], [float("nan"), 0, 1.0, 0.0], 0, 0),
            "Prompt.sampling: a value out of its bounds",
        ),
        ((16, "31337", [0, [], [], [], []]), "Telemetry.objective: a value out of its bounds"),
        (
            (16, "cost", [0, [[1, float("nan"), 0.0, 0.0]], [], [], []]),
            "Telemetry.report: expected `float` >= 0.0",
        ),
        ((2, "MzEzMzc="), "Challenge.credential: expected `bytes`, got `str`"),
        ((3, b"31337" * 103), "Proof.credential: expected `bytes` of length <= 512"),
        ((7, 1, "MzEzMzc="), "Opened.lease: expected `bytes`, got `str`"),
        ((13, 1, b"31337" * 13, 1, 1, 0), "Resume.lease: expected `bytes` of length <= 64"),
        ((14, 1, 1, [[True, ["31337"]]], [], 0, 0, 0), "Restore.segments: expected `int`, got `str`"),
        ((21, "31337" * 1_000), "Bye.reason: expected `str` of length <= 1000"),
        ((19, {}), "Ping.number: expected `int`, got `object`"),
    ],
)
def test_the_wrong_field_is_named_and_not_quoted(fields: tuple[object, ...], message: str) -> None:
    assert refusal(packed(*fields)) == ("malformed", message)
    assert "31337" not in message


def test_a_frame_of_the_other_direction_is_named() -> None:
    verdict, prompt = Verdict(1, 1, 0, 0, (5,)), Prompt(1, 1, 0, (5,), Sampling(), 0, 9)
    assert refusal(encode(verdict), EdgeFrame) == (
        "malformed",
        "a Verdict frame came, which this side may not be sent",
    )
    assert refusal(encode(prompt), CloudFrame) == (
        "malformed",
        "a Prompt frame came, which this side may not be sent",
    )


def test_one_type_alone_can_be_accepted() -> None:
    assert read([encode(Open(3)) + encode(Ping(1))], Open) == (
        [Open(3)],
        ("malformed", "a Ping frame came, which this side may not be sent"),
    )


# --- limits ---------------------------------------------------------------------------------------------


def test_a_prefix_of_4_gb_is_refused_at_its_fourth_byte() -> None:
    decoder = Decoder[EdgeFrame](EdgeFrame)
    assert list(decoder.feed(b"\xff\xff\xff")) == []
    with pytest.raises(PeerError, match="a frame of 4294967295 bytes was announced; the limit is 1048576"):
        list(decoder.feed(b"\xff"))


def test_the_limit_itself_is_allowed() -> None:
    frame = encode(Draft(1, 1, 0, tuple(range(50))))
    size = len(frame) - PREFIX_BYTES
    assert read([frame], limit=size)[1] is None
    assert read([frame], limit=size - 1) == (
        [],
        ("oversized", f"a frame of {size} bytes was announced; the limit is {size - 1}"),
    )


def test_a_large_prompt_in_network_sized_chunks() -> None:
    frame = Prompt(1, 1, 0, tuple(range(180_000)), Sampling(), 0, 1)
    stream = encode(frame) + encode(Ping(1))
    assert read(stream[at : at + 16_384] for at in range(0, len(stream), 16_384)) == ([frame, Ping(1)], None)


def test_what_would_be_too_large_to_be_accepted_is_not_sent() -> None:
    with pytest.raises(AssertionError, match="a Prompt frame of 1200041 bytes"):
        encode(Prompt(1, 1, 0, (2**31 - 1,) * 240_000, Sampling(), 0, 1))


def test_lengths_that_lie_cost_little_memory() -> None:
    header = b"\xdd" + struct.pack(">I", FRAME_BYTES_MAX - 5_000)
    bomb = framed((header * 1_000).ljust(FRAME_BYTES_MAX, b"\x00"))
    tracemalloc.start()
    try:
        assert refusal(bomb) == ("malformed", NO_ARRAY)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 150 * len(bomb)


@pytest.mark.parametrize("item", [b"\x90", b"\x91\x90"], ids=["empty arrays", "arrays of them"])
def test_arrays_that_nobody_wants_cost_little_memory(item: bytes) -> None:
    count = (FRAME_BYTES_MAX - 5) // len(item)
    bomb = framed(b"\xdd" + struct.pack(">I", count) + item * count)
    tracemalloc.start()
    try:
        assert refusal(bomb) == ("malformed", NO_TAG)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 40 * len(bomb)


def test_after_its_error_a_decoder_repeats_it_and_keeps_nothing() -> None:
    decoder = Decoder[EdgeFrame](EdgeFrame)
    assert next(iter(decoder.feed(encode(Ping(1)) + packed(99) + encode(Ping(4))))) == Ping(1)
    for more in (b"", encode(Ping(2)), encode(Ping(3)) * 10_000):
        with pytest.raises(PeerError, match=NO_TAG) as caught:
            list(decoder.feed(more))
        assert caught.value.code == "malformed"
        assert not decoder._buffer


def test_an_iteration_left_early_loses_no_frame() -> None:
    decoder = Decoder[EdgeFrame](EdgeFrame)
    for frame in decoder.feed(encode(Ping(1)) + encode(Ping(2))):
        assert frame == Ping(1)
        break
    assert list(decoder.feed(encode(Ping(3)))) == [Ping(2), Ping(3)]


def test_frames_before_the_bad_one_still_come() -> None:
    assert read([encode(Ping(1)) + encode(Open(2)) + framed(b"") + encode(Ping(3))]) == (
        [Ping(1), Open(2)],
        ("malformed", NO_ARRAY),
    )


def test_bytes_agree_with_msgspecs_own_encoder() -> None:
    for _, text in VECTORS:
        frame = eval(text, vars(frames))
        assert encode(frame) == framed(msgspec.msgpack.encode(frame))
