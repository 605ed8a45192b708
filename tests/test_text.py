"""Text from tokens, against an oracle that sees the whole text at once."""

import codecs
import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pipesd.errors import UsageError
from pipesd.text import TextStream

quick = settings(derandomize=True, deadline=None, max_examples=400)


def written(text: str | bytes, **options: object) -> TextStream:
    """A stream whose token n is byte n of ``text``."""
    data = text.encode() if isinstance(text, str) else text
    return TextStream([bytes([byte]) for byte in data], **options)  # type: ignore[arg-type]


def shown(stream: TextStream, count: int) -> list[str]:
    """What each of the tokens 0..count-1 shows, and at last the end."""
    return [*(stream.feed([token]) for token in range(count)), stream.finish()]


# --- by example -----------------------------------------------------------------------------------------


def test_without_stop_strings_text_comes_at_once() -> None:
    stream = TextStream([b"Hel", b"lo", b" there"])
    assert stream.feed([0, 1]) == "Hello"
    assert stream.feed([]) == ""
    assert stream.feed([2]) == " there"
    assert stream.finish() == ""
    assert (stream.stopped, stream.kept_tokens) == (False, 3)


def test_an_incomplete_character_waits_for_its_rest() -> None:
    assert shown(written("é🙂"), 6) == ["", "é", "", "", "", "🙂", ""]


def test_a_character_that_never_comes_is_replaced() -> None:
    assert shown(written(b"a\xf0\x9f\x99"), 4) == ["a", "", "", "", "�"]
    assert shown(written(b"\xe2\x82a\xff"), 4) == ["", "", "�a", "�", ""]


def test_a_possible_beginning_of_a_stop_string_waits() -> None:
    assert shown(written("a<en<end", stop=["<end>"]), 8) == ["a", "", "", "", "<en", "", "", "", "<end"]


def test_text_ends_before_the_stop_string() -> None:
    stream = written("one<end>two", stop=["<end>"])
    assert "".join(shown(stream, 11)) == "one"
    assert (stream.stopped, stream.kept_tokens) == (True, 3)


def test_nothing_changes_after_the_stop() -> None:
    stream = TextStream([b"a", b"#"], stop=["#"])
    assert stream.feed([0, 1, 0]) == "a"
    assert stream.feed([0, 1]) == ""
    assert stream.finish() == ""
    assert stream.kept_tokens == 1


def test_a_token_that_reaches_into_the_stop_string_is_not_kept() -> None:
    stream = TextStream([b"ab", b"c#", b"#d"], stop=["##"])
    assert stream.feed([0, 1]) == "abc"
    assert stream.kept_tokens == 2
    assert stream.feed([2]) == ""
    assert (stream.stopped, stream.kept_tokens) == (True, 1)


def test_half_a_character_of_the_stop_string_is_not_kept() -> None:
    stream = TextStream([b"a", b"\xc3", b"\xa9"], stop=["é"])
    assert stream.feed([0, 1, 2]) == "a"
    assert stream.kept_tokens == 1


def test_the_match_that_starts_first_wins() -> None:
    stream = TextStream([b"xabc", b"d", b"!"], stop=["c", "abcd"])
    assert stream.feed([0]) == "x", "abcd may still come, and starts before c"
    assert (stream.stopped, stream.kept_tokens) == (False, 1)
    assert stream.feed([1]) == ""
    assert (stream.stopped, stream.kept_tokens) == (True, 0)
    stream = TextStream([b"xabc", b"d", b"!"], stop=["c", "abcd"])
    assert stream.feed([0, 2]) == "xab", "abcd did not come, c did"
    assert (stream.stopped, stream.kept_tokens) == (True, 0)
    stream = TextStream([b"xabc"], stop=["c", "abcd"])
    assert stream.feed([0]) + stream.finish() == "xab"
    assert stream.stopped


def test_of_two_with_one_start_the_shorter_decides_at_once() -> None:
    stream = TextStream([b"xab"], stop=["abc", "ab"])
    assert stream.feed([0]) == "x"
    assert stream.stopped


def test_silent_and_unknown_ids_are_tokens_without_text() -> None:
    stream = TextStream([b"a", b"</s>", b"#"], stop=["#"], silent_ids={1})
    assert stream.feed([1, 0, 1, 3, 2**31 - 1, -1]) == "a"
    assert stream.kept_tokens == 6
    assert stream.feed([1, 2]) == ""
    assert (stream.stopped, stream.kept_tokens) == (True, 7)


def test_a_stop_string_may_end_in_a_replaced_character() -> None:
    stream = TextStream([b"a\xc3"], stop=["a�"])
    assert stream.feed([0]) == ""
    assert stream.finish() == ""
    assert (stream.stopped, stream.kept_tokens) == (True, 0)


@pytest.mark.parametrize("stop", [[""], ["a", ""], "abc"])
def test_stop_strings_that_make_no_sense_are_refused(stop: Sequence[str]) -> None:
    with pytest.raises(UsageError, match=r"^stop: must be a list of texts, none of them empty$"):
        TextStream([b"a"], stop=stop)


def test_a_fork_goes_on_from_here_and_leaves_the_stream_as_it_is() -> None:
    stream = TextStream([b"a", b"\xc3", b"\xa9", b"#", b"\xa8"], stop=["##"])
    assert stream.feed([0, 1]) == "a"
    fork, other = stream.fork(), stream.fork()
    assert fork.feed([2, 3]) == "é", (
        "half a character is known to the fork, and a beginning of a stop is held"
    )
    assert fork.feed([3]) == ""
    assert (fork.stopped, fork.kept_tokens) == (True, 3)
    assert (stream.stopped, stream.kept_tokens) == (False, 2)
    assert other.feed([4]) + other.finish() == "è"
    assert stream.feed([2, 3]) + stream.finish() == "é#"
    assert stream.kept_tokens == 4


# --- against the oracle ---------------------------------------------------------------------------------

PIECES = [
    *(b"a", b"b", b"c", b"ab", b"bca", b"aab", b""),
    *(b"\xc3", b"\xa9", "é".encode(), b"b\xc3", b"\xa9a"),
    *(b"\xf0\x9f", b"\x99\x82", b"\xed", b"\xa0", b"\xff", b"\xe2\x82"),
]
SILENT = len(PIECES)
token_lists = st.lists(st.integers(0, SILENT + 1), max_size=14)
stop_lists = st.lists(st.text("abcé🙂�", min_size=1, max_size=4), max_size=3)


def data_of(tokens: Sequence[int]) -> bytes:
    return b"".join(PIECES[token] for token in tokens if token < SILENT)


def whole_text(tokens: Sequence[int]) -> str:
    return data_of(tokens).decode("utf-8", "replace")


def certain_text(tokens: Sequence[int]) -> str:
    """The characters that are complete, whatever comes next."""
    return codecs.utf_8_decode(data_of(tokens), "replace", False)[0]


def end_of(text: str, stop: Sequence[str]) -> int:
    """Where the first stop string starts, else the end of the text."""
    return min((at for at in map(text.find, stop) if at >= 0), default=len(text))


def stream_of_pieces(stop: Sequence[str]) -> TextStream:
    return TextStream([*PIECES, b"</s>"], stop=stop, silent_ids={SILENT})


def split(tokens: Sequence[int], places: Sequence[int]) -> list[Sequence[int]]:
    edges = [0, *sorted(place % (len(tokens) + 1) for place in places), len(tokens)]
    return [tokens[start:end] for start, end in itertools.pairwise(edges)]


@quick
@given(token_lists, stop_lists, st.lists(st.integers(0, 14), max_size=6))
def test_any_split_gives_the_oracles_text_and_tokens(
    tokens: list[int], stop: list[str], places: list[int]
) -> None:
    stream = stream_of_pieces(stop)
    text = "".join([stream.feed(part) for part in split(tokens, places)]) + stream.finish()
    whole = whole_text(tokens)
    end = end_of(whole, stop)
    assert text == whole[:end]
    assert stream.stopped == (end < len(whole))
    if stream.stopped:
        fitting = [count for count in range(len(tokens) + 1) if len(whole_text(tokens[:count])) <= end]
        assert stream.kept_tokens == max(fitting)
    else:
        assert stream.kept_tokens == len(tokens)


@quick
@given(token_lists, stop_lists)
@example([3, 1], ["ab", "b"])
@example([3, 2], ["b", "abca"])
def test_held_back_is_what_could_still_be_cut_and_no_more(tokens: list[int], stop: list[str]) -> None:
    stream = stream_of_pieces(stop)
    text = ""
    for count, token in enumerate(tokens, 1):
        text += stream.feed([token])
        certain = certain_text(tokens[:count])
        # The worst that can follow is the rest of some stop string.
        endings = ["", *(one[start:] for one in stop for start in range(len(one)))]
        assert text == certain[: min(end_of(certain + ending, stop) for ending in endings)]


@quick
@given(token_lists, stop_lists)
def test_a_stop_is_noticed_as_soon_as_nothing_can_change_it(tokens: list[int], stop: list[str]) -> None:
    stream = stream_of_pieces(stop)
    for count, token in enumerate(tokens, 1):
        stream.feed([token])
        certain = certain_text(tokens[:count])
        rests = ["", *(one[start:] for one in stop for start in range(len(one)))]
        ends = {end_of(certain + rest, stop) for rest in rests}
        settled = len(ends) == 1 and min(ends) < len(certain)
        assert stream.stopped == settled


@quick
@given(token_lists, token_lists, token_lists, stop_lists)
def test_a_fork_is_as_if_there_had_been_two_streams(
    before: list[int], here: list[int], there: list[int], stop: list[str]
) -> None:
    stream = stream_of_pieces(stop)
    begun = stream.feed(before)
    fork = stream.fork()
    for each, rest in ((fork, there), (stream, here)):
        alone = stream_of_pieces(stop)
        assert begun + each.feed(rest) + each.finish() == alone.feed([*before, *rest]) + alone.finish()
        assert (each.stopped, each.kept_tokens) == (alone.stopped, alone.kept_tokens)
