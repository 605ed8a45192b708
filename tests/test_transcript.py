"""How a text must be evaluated: prompts in chunks counted from their own start."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.transcript import Segment, Span, Transcript

CHUNK = 4


def chunk(start: int, end: int) -> Span:
    return Span(start, end, prompt=True)


def output(start: int, end: int) -> Span:
    return Span(start, end, prompt=False)


def transcript(*segments: tuple[int, bool]) -> Transcript:
    """(tokens, whether they are a prompt) of each segment."""
    text = Transcript(CHUNK)
    for tokens, prompt in segments:
        text.append(range(tokens), prompt=prompt)
    return text


def spans(text: Transcript, position: int = 0) -> list[Span]:
    return list(text.spans_from(position))


def test_empty_text_has_nothing_to_evaluate() -> None:
    assert list(Transcript(CHUNK).spans_from(0)) == []
    assert len(Transcript(CHUNK)) == 0


def test_a_prompt_is_cut_into_chunks() -> None:
    text = transcript((10, True))
    assert spans(text) == [chunk(0, 4), chunk(4, 8), chunk(8, 10)]
    assert spans(text, 4) == [chunk(4, 8), chunk(8, 10)]
    assert spans(text, 5) == [chunk(5, 8), chunk(8, 10)]
    assert spans(text, 10) == []


def test_output_comes_in_one_piece_and_grows() -> None:
    text = transcript((4, True), (3, False), (6, False))
    assert spans(text) == [chunk(0, 4), output(4, 13)]
    assert spans(text, 7) == [output(7, 13)]


def test_prompts_and_output_keep_apart() -> None:
    text = transcript((4, True), (3, False), (9, True))
    assert spans(text, 5) == [output(5, 7), chunk(7, 11), chunk(11, 15), chunk(15, 16)]


def test_each_prompt_counts_from_its_own_start() -> None:
    text = transcript((3, True), (5, True))
    assert spans(text) == [chunk(0, 3), chunk(3, 7), chunk(7, 8)]


def test_cutting_to_the_length_or_more_changes_nothing() -> None:
    text = transcript((6, True), (2, False))
    assert text.cut(8) == 8
    assert text.cut(9) == 9
    assert len(text) == 8


def test_output_taken_back_leaves_what_stands_before_it_evaluated() -> None:
    text = transcript((4, True), (6, False))
    assert text.cut(7) == 7
    assert spans(text) == [chunk(0, 4), output(4, 7)]


def test_all_output_taken_back_leaves_the_prompt_evaluated() -> None:
    text = transcript((6, True), (3, False))
    assert text.cut(6) == 6
    assert spans(text) == [chunk(0, 4), chunk(4, 6)]


def test_text_taken_back_inside_a_prompt_chunk_makes_it_a_shorter_one() -> None:
    text = transcript((10, True), (3, False))
    assert text.cut(7) == 4
    assert spans(text) == [chunk(0, 4), chunk(4, 7)]


def test_text_taken_back_on_a_chunk_border_keeps_the_chunks() -> None:
    text = transcript((10, True), (3, False))
    assert text.cut(8) == 8
    assert spans(text) == [chunk(0, 4), chunk(4, 8)]


def test_text_taken_back_on_the_border_of_two_prompts_keeps_the_first() -> None:
    text = transcript((6, True), (6, True))
    assert text.cut(6) == 6
    assert spans(text) == [chunk(0, 4), chunk(4, 6)]


def test_text_taken_back_inside_the_second_prompt() -> None:
    text = transcript((3, True), (6, True))
    assert text.cut(8) == 7
    assert spans(text) == [chunk(0, 3), chunk(3, 7), chunk(7, 8)]


def test_everything_taken_back() -> None:
    text = transcript((6, True), (3, False))
    assert text.cut(0) == 0
    assert (len(text), spans(text)) == (0, [])


def test_a_prompt_behind_a_shortened_one_starts_anew() -> None:
    text = transcript((10, True))
    text.cut(6)
    text.append([7, 7, 7], prompt=True)
    assert text.tokens == [0, 1, 2, 3, 4, 5, 7, 7, 7]
    assert spans(text) == [chunk(0, 4), chunk(4, 6), chunk(6, 9)]


segments = st.lists(st.tuples(st.integers(1, 11), st.booleans()), min_size=1, max_size=5)


@given(segments, st.data())
def test_after_a_cut_the_evaluation_kept_is_the_one_a_newcomer_would_make(
    parts: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """Whoever evaluates the shortened text from nothing evaluates prompt chunks with the same borders."""
    text = transcript(*parts)
    before = spans(text)
    length = data.draw(st.integers(0, len(text)))
    valid = text.cut(length)
    after = spans(text)
    assert valid <= length == len(text)
    assert [span.start for span in after] == [0, *(span.end for span in after[:-1])][: len(after)]
    assert (after[-1].end if after else 0) == length
    kept = [span for span in after if span.prompt and span.end <= valid]
    assert all(span in before for span in kept)
    assert not any(span.prompt and span.start < valid < span.end for span in after)


# -- what of a text fits a pass ---------------------------------------------------------------------------


def test_output_is_cut_where_the_room_ends() -> None:
    text = transcript((4, True), (6, False))
    assert text.spans_within(4, 9, 0) == [output(4, 10)]
    assert text.spans_within(4, 6, 0) == [output(4, 10)]
    assert text.spans_within(4, 2, 0) == [output(4, 6)]
    assert text.spans_within(8, 1, 0) == [output(8, 9)]
    assert text.spans_within(4, 0, 9) == []


def test_a_prompt_is_taken_in_whole_chunks_only() -> None:
    text = transcript((10, True))
    assert text.spans_within(0, 0, 10) == [chunk(0, 4), chunk(4, 8), chunk(8, 10)]
    assert text.spans_within(0, 9, 9) == [chunk(0, 4), chunk(4, 8)]
    assert text.spans_within(0, 9, 4) == [chunk(0, 4)]
    assert text.spans_within(0, 9, 3) == []
    assert text.spans_within(8, 9, 2) == [chunk(8, 10)]


def test_output_and_prompts_have_room_of_their_own() -> None:
    text = transcript((4, True), (3, False), (4, True), (2, False))
    assert text.spans_within(0, 5, 8) == [chunk(0, 4), output(4, 7), chunk(7, 11), output(11, 13)]
    assert text.spans_within(0, 4, 8) == [chunk(0, 4), output(4, 7), chunk(7, 11), output(11, 12)]
    assert text.spans_within(0, 3, 8) == [chunk(0, 4), output(4, 7), chunk(7, 11)]
    assert text.spans_within(0, 2, 8) == [chunk(0, 4), output(4, 6)]
    assert text.spans_within(0, 9, 7) == [chunk(0, 4), output(4, 7)]
    assert text.spans_within(4, 9, 3) == [output(4, 7)]


def test_nothing_is_left_behind_the_end() -> None:
    assert transcript((4, True), (2, False)).spans_within(6, 9, 9) == []


# -- a text that comes from elsewhere ---------------------------------------------------------------------


def parts(text: str) -> list[Segment]:
    """Words, of which those with a question mark are prompts, and each letter is a token."""
    return [(word.endswith("?"), tuple(map(ord, word.rstrip("?")))) for word in text.split()]


def of(text: str) -> Transcript:
    made = Transcript(CHUNK)
    made.take(parts(text))
    return made


def test_segments_say_what_was_prompt() -> None:
    text = transcript((4, True), (3, False), (2, False), (2, True), (1, True))
    assert text.segments() == (
        (True, (0, 1, 2, 3)),
        (False, (0, 1, 2, 0, 1)),
        (True, (0, 1)),
        (True, (0,)),
    )
    assert Transcript(CHUNK).segments() == ()


def test_a_text_that_was_taken_is_read_in_the_same_chunks() -> None:
    text = transcript((10, True), (3, False), (5, True))
    text.cut(15)
    copy = Transcript(CHUNK)
    assert copy.take(text.segments()) == 0
    assert (copy.tokens, copy.segments(), spans(copy)) == (text.tokens, text.segments(), spans(text))
    assert copy.first_prompt_tokens == 10


def test_taking_keeps_the_list_that_others_read() -> None:
    text = of("abc?")
    tokens = text.tokens
    text.take(parts("xy?"))
    assert text.tokens is tokens
    assert tokens == [ord("x"), ord("y")]


@pytest.mark.parametrize(
    ("ours", "theirs", "valid"),
    [
        pytest.param("", "abcdef?", 0, id="nothing was there"),
        pytest.param("abcdef?", "", 0, id="nothing is left"),
        pytest.param("abcdef?", "abcdef?", 6, id="the same prompt"),
        pytest.param("abcdef? uvw", "abcdef? uvw", 9, id="the same"),
        pytest.param("abcdef? uvw", "abcdef?", 6, id="no answer"),
        pytest.param("abcdef? uvw", "abcdef? u", 7, id="less said"),
        pytest.param("abcdef? u", "abcdef? uvw", 7, id="more said"),
        pytest.param("abcdef? uvw", "abcdef? uxw", 7, id="other said"),
        pytest.param("abcdef?", "abcdefghij?", 4, id="a longer prompt has longer chunks"),
        pytest.param("abcdefghij?", "abcdef?", 4, id="a shorter prompt has shorter chunks"),
        pytest.param("abcdefgh?", "abcdefghij?", 8, id="longer from a border on"),
        pytest.param("abcdefghij?", "abcdefgh?", 8, id="shorter up to a border"),
        pytest.param("abcdef?", "abcdxf?", 4, id="another second chunk"),
        pytest.param("abcdef?", "abxdef?", 0, id="another first chunk"),
        pytest.param("abcd? ef", "abcdef?", 4, id="said there, asked here"),
        pytest.param("abcd? ef", "abc? def", 0, id="earlier said"),
        pytest.param("ab? cd?", "abcd?", 0, id="two prompts or one"),
        pytest.param("ab? cdefghi?", "ab? cdefgh?", 6, id="own start"),
        pytest.param("ab? c", "ab c", 0, id="said from the start"),
    ],
)
def test_what_of_an_evaluation_holds_for_another_text(ours: str, theirs: str, valid: int) -> None:
    text = of(ours)
    assert text.take(parts(theirs)) == valid
    assert text.segments() == of(theirs).segments()


@pytest.mark.parametrize(
    ("text", "start"),
    [
        pytest.param("", 0, id="nothing"),
        pytest.param("abcdefghij?", 8, id="a chunk that is not full"),
        pytest.param("abcdefgh?", 4, id="one that is"),
        pytest.param("abcd?", 0, id="the only one"),
        pytest.param("ab? cdefg?", 6, id="own start"),
        pytest.param("abcdef? u", 6, id="one token of output"),
        pytest.param("abcdef? uvw", 8, id="more of it"),
    ],
)
def test_what_is_read_last_is_a_chunk_or_a_token(text: str, start: int) -> None:
    assert of(text).last_start == start


def evaluated(text: Transcript) -> set[tuple[int, int, bool, tuple[int, ...]]]:
    """What whoever reads the whole text evaluates in one go: prompt chunks, and output token by token.

    Each with all that stands before it, for that is in the cache too.
    """
    found = set()
    for span in text.spans_from(0):
        cuts = [span] if span.prompt else [output(at, at + 1) for at in range(span.start, span.end)]
        found |= {(cut.start, cut.end, cut.prompt, tuple(text.tokens[: cut.end])) for cut in cuts}
    return found


words = st.builds("".join, st.tuples(st.text("ab", min_size=1, max_size=9), st.sampled_from(["", "?"])))
texts = st.lists(words, max_size=4)


@given(texts)
def test_what_is_read_last_is_what_a_newcomer_reads_last(words: list[str]) -> None:
    text = of(" ".join(words))
    assert text.last_start == max((start for start, *_ in evaluated(text)), default=0)


@given(texts, texts, st.integers(0, 4))
def test_what_holds_is_exactly_what_a_newcomer_would_evaluate_alike(
    ours: list[str], theirs: list[str], shared: int
) -> None:
    """The oracle compares all that is read; chunks of a prompt that another text cuts otherwise are lost."""
    text, other = of(" ".join(ours)), of(" ".join([*ours[:shared], *theirs]))
    same = {(start, end) for start, end, *_ in evaluated(text) & evaluated(other)}
    reached = 0
    while follows := [end for start, end in same if start == reached]:
        (reached,) = follows
    assert text.take(other.segments()) == reached
    assert text.segments() == other.segments()
