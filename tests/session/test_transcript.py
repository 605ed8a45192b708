"""How a text must be evaluated: prompts in chunks counted from their own start."""

from hypothesis import given
from hypothesis import strategies as st

from pipesd.session.transcript import Piece, Transcript

CHUNK = 4


def chunk(start: int, end: int) -> Piece:
    return Piece(start, end, prompt=True)


def output(start: int, end: int) -> Piece:
    return Piece(start, end, prompt=False)


def transcript(*segments: tuple[int, bool]) -> Transcript:
    """(tokens, whether they are a prompt) of each segment."""
    text = Transcript(CHUNK)
    for tokens, prompt in segments:
        text.append(range(tokens), prompt=prompt)
    return text


def pieces(text: Transcript, position: int = 0) -> list[Piece]:
    """All that remains, as a session asks for it: pass by pass."""
    found: list[Piece] = []
    while more := text.pieces_from(position):
        found += more
        position = more[-1].end
    return found


def test_empty_text_has_nothing_to_evaluate() -> None:
    assert Transcript(CHUNK).pieces_from(0) == []
    assert len(Transcript(CHUNK)) == 0


def test_a_prompt_is_cut_into_chunks() -> None:
    text = transcript((10, True))
    assert text.pieces_from(0) == [chunk(0, 4)]
    assert text.pieces_from(4) == [chunk(4, 8)]
    assert text.pieces_from(8) == [chunk(8, 10)]
    assert text.pieces_from(10) == []


def test_output_comes_in_one_piece_and_grows() -> None:
    text = transcript((4, True), (3, False), (6, False))
    assert pieces(text) == [chunk(0, 4), output(4, 13)]
    assert text.pieces_from(7) == [output(7, 13)]


def test_pieces_go_up_to_the_first_prompt_chunk() -> None:
    text = transcript((4, True), (3, False), (9, True))
    assert text.pieces_from(5) == [output(5, 7), chunk(7, 11)]
    assert text.pieces_from(11) == [chunk(11, 15)]


def test_each_prompt_counts_from_its_own_start() -> None:
    text = transcript((3, True), (5, True))
    assert pieces(text) == [chunk(0, 3), chunk(3, 7), chunk(7, 8)]


def test_cutting_to_the_length_or_more_changes_nothing() -> None:
    text = transcript((6, True), (2, False))
    assert text.cut(8) == 8
    assert text.cut(9) == 9
    assert len(text) == 8


def test_output_taken_back_leaves_what_stands_before_it_evaluated() -> None:
    text = transcript((4, True), (6, False))
    assert text.cut(7) == 7
    assert pieces(text) == [chunk(0, 4), output(4, 7)]


def test_all_output_taken_back_leaves_the_prompt_evaluated() -> None:
    text = transcript((6, True), (3, False))
    assert text.cut(6) == 6
    assert pieces(text) == [chunk(0, 4), chunk(4, 6)]


def test_text_taken_back_inside_a_prompt_chunk_makes_it_a_shorter_one() -> None:
    text = transcript((10, True), (3, False))
    assert text.cut(7) == 4
    assert pieces(text) == [chunk(0, 4), chunk(4, 7)]


def test_text_taken_back_on_a_chunk_border_keeps_the_chunks() -> None:
    text = transcript((10, True), (3, False))
    assert text.cut(8) == 8
    assert pieces(text) == [chunk(0, 4), chunk(4, 8)]


def test_text_taken_back_on_the_border_of_two_prompts_keeps_the_first() -> None:
    text = transcript((6, True), (6, True))
    assert text.cut(6) == 6
    assert pieces(text) == [chunk(0, 4), chunk(4, 6)]


def test_text_taken_back_inside_the_second_prompt() -> None:
    text = transcript((3, True), (6, True))
    assert text.cut(8) == 7
    assert pieces(text) == [chunk(0, 3), chunk(3, 7), chunk(7, 8)]


def test_everything_taken_back() -> None:
    text = transcript((6, True), (3, False))
    assert text.cut(0) == 0
    assert (len(text), pieces(text)) == (0, [])


def test_a_prompt_behind_a_shortened_one_starts_anew() -> None:
    text = transcript((10, True))
    text.cut(6)
    text.append([7, 7, 7], prompt=True)
    assert text.tokens == [0, 1, 2, 3, 4, 5, 7, 7, 7]
    assert pieces(text) == [chunk(0, 4), chunk(4, 6), chunk(6, 9)]


segments = st.lists(st.tuples(st.integers(1, 11), st.booleans()), min_size=1, max_size=5)


@given(segments, st.data())
def test_after_a_cut_the_evaluation_kept_is_the_one_a_newcomer_would_make(
    parts: list[tuple[int, bool]], data: st.DataObject
) -> None:
    """Whoever evaluates the shortened text from nothing evaluates prompt chunks with the same borders."""
    text = transcript(*parts)
    before = pieces(text)
    length = data.draw(st.integers(0, len(text)))
    valid = text.cut(length)
    after = pieces(text)
    assert valid <= length == len(text)
    assert [piece.start for piece in after] == [0, *(piece.end for piece in after[:-1])][: len(after)]
    assert (after[-1].end if after else 0) == length
    kept = [piece for piece in after if piece.prompt and piece.end <= valid]
    assert all(piece in before for piece in kept)
    assert not any(piece.prompt and piece.start < valid < piece.end for piece in after)
