"""How a text must be evaluated: prompts in chunks counted from their own start."""

from hypothesis import given
from hypothesis import strategies as st

from pipesd.transcript import Span, Transcript

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
