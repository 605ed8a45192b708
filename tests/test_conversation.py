"""Conversations as dialogues: what is said, what is answered, and where the next prompt goes."""

from collections.abc import Sequence

import pytest

from pipesd.conversation import Answer, Conversation
from pipesd.dialogue import Dialogue, Turn
from pipesd.errors import UsageError
from pipesd.text import Piece, TextStream
from tests.speech import CHATML, END_OF_TEXT, IM_END, TOKENIZER, Target, as_text, rendered

HI = tuple(TOKENIZER.encode(rendered(CHATML, "Hi"), special=True))
NEXT = "<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"
WATER, LIGHT, STONE = (TOKENIZER.encode(word)[0] for word in (" water", " light", " stone"))


def conversation_of(template: str = CHATML) -> Conversation:
    return Conversation(Dialogue(TOKENIZER, Target(template), mode="auto", system=""))


def begun(conversation: Conversation, turn: Turn, *, stop: Sequence[str] = ()) -> Answer:
    silent_ids = {IM_END, END_OF_TEXT}
    return conversation.begin(turn, TextStream(TOKENIZER.vocabulary.pieces, stop=stop, silent_ids=silent_ids))


def answered(conversation: Conversation, prompt: str, *tokens: int, finish: str = "stop") -> None:
    """One whole turn."""
    answer = begun(conversation, conversation.turn(prompt))
    answer.take(tokens)
    answer.rest()
    answer.conclude(finish)  # type: ignore[arg-type]


def test_a_conversation_grows_with_each_prompt_and_with_what_is_read():
    conversation = conversation_of()
    assert conversation.length == 0

    turn = conversation.turn("Hi")
    assert turn == Turn(0, HI)
    assert conversation.length == 0, "a turn that was not taken has grown the text"

    answer = begun(conversation, turn)
    assert conversation.length == len(HI)
    assert answer.take((WATER,)) == Piece(" water", (WATER,))
    assert conversation.length == len(HI) + 1
    assert answer.take((LIGHT, IM_END)) == Piece(" light", (LIGHT, IM_END))
    assert answer.rest() == Piece("", ())
    assert answer.conclude("stop") == "stop"
    assert (conversation.length, answer.kept_tokens, answer.stopped) == (len(HI) + 3, 3, False)


@pytest.mark.parametrize(
    ("tokens", "finish", "taken_back", "before"),
    [
        pytest.param((WATER, IM_END), "stop", 0, "\n", id="ended as the template does"),
        pytest.param((WATER, END_OF_TEXT), "stop", 1, "<|im_end|>\n", id="ended otherwise"),
        pytest.param((WATER, LIGHT), "length", 0, "<|im_end|>\n", id="reached its length"),
        pytest.param((WATER, IM_END, LIGHT), "length", 0, "<|im_end|>\n", id="an end id in the middle"),
        pytest.param((), "length", 0, "<|im_end|>\n", id="said nothing"),
    ],
)
def test_the_next_prompt_closes_the_answer_however_it_ended(
    tokens: tuple[int, ...], finish: str, taken_back: int, before: str
):
    conversation = conversation_of()
    answered(conversation, "Hi", *tokens, finish=finish)
    turn = conversation.turn("And?")
    assert turn.base == conversation.length - taken_back == len(HI) + len(tokens) - taken_back
    assert as_text(turn.tokens) == before + NEXT


def test_an_answer_that_was_left_goes_on_from_what_was_read():
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"))
    answer.take((WATER,))
    turn = conversation.turn("And?")
    assert turn.base == len(HI) + 1
    assert as_text(turn.tokens) == "<|im_end|>\n" + NEXT


def test_an_answer_that_was_left_with_its_end_id_read_has_ended():
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"))
    answer.take((WATER,))
    answer.take((LIGHT, IM_END))
    tokens = conversation.turn("And?").tokens
    assert as_text(tokens) == NEXT.replace("<|im_start|>", "\n<|im_start|>", 1)


def test_an_answer_of_which_nothing_was_read_leaves_the_prompt():
    conversation = conversation_of()
    begun(conversation, conversation.turn("Hi"))
    assert conversation.turn("And?").base == len(HI)


def test_what_lies_behind_a_stop_string_is_taken_back():
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"), stop=["li"])
    assert answer.take((WATER, LIGHT, STONE)).text == " water "
    assert answer.stopped
    assert answer.kept_tokens == 1
    assert conversation.length == len(HI) + 1
    assert answer.rest().text == ""
    assert answer.conclude("length") == "stop"
    assert conversation.length == len(HI) + 1
    turn = conversation.turn("And?")
    assert turn.base == len(HI) + 1
    assert as_text(turn.tokens) == "<|im_end|>\n" + NEXT


def test_a_stop_string_right_before_the_end_makes_it_no_end():
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"), stop=["light"])
    answer.take((WATER, LIGHT, IM_END))
    assert answer.conclude("stop") == "stop"
    assert conversation.length == len(HI) + 1
    assert as_text(conversation.turn("And?").tokens).startswith("<|im_end|>")


def test_what_might_have_become_a_stop_string_is_kept_in_the_end():
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"), stop=["light and"])
    assert answer.take((WATER,)).text == " water"
    assert answer.take((LIGHT, IM_END)).text == " "
    assert answer.kept_tokens == 3
    assert answer.rest() == Piece("light", ())
    assert answer.conclude("stop") == "stop"
    assert conversation.length == len(HI) + 3
    assert as_text(conversation.turn("And?").tokens) == "\n" + NEXT


@pytest.mark.parametrize("finish", ["length", "context"])
def test_the_reason_of_an_end_is_passed_on(finish):
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"))
    answer.take((WATER,))
    assert answer.conclude(finish) == finish


# --- drafts that nobody has confirmed ---


def test_drafts_are_previewed_one_behind_the_other_until_the_text_takes_their_place():
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"))
    assert answer.preview((WATER,)) == Piece(" water", (WATER,), verified=False, preview=True)
    assert answer.preview((LIGHT, STONE)) == Piece(
        " light stone", (LIGHT, STONE), verified=False, preview=True
    )
    assert conversation.length == len(HI), "a preview has grown the text"
    assert answer.kept_tokens == 0
    assert answer.take((STONE,)) == Piece(" stone", (STONE,))
    assert answer.preview((WATER, IM_END)) == Piece(" water", (WATER, IM_END), verified=False, preview=True)
    assert answer.take((LIGHT, IM_END)) == Piece(" light", (LIGHT, IM_END))
    assert conversation.length == len(HI) + 3
    assert answer.conclude("stop") == "stop"
    assert as_text(conversation.turn("And?").tokens) == "\n" + NEXT


def test_half_a_character_may_be_completed_by_drafts_and_otherwise_by_the_text():
    conversation = conversation_of("")
    answer = begun(conversation, conversation.turn("Hi"))
    first, *rest = "é".encode()
    assert answer.take((first,)).text == ""
    assert answer.preview(tuple(rest)).text == "é"
    assert answer.take((ord("è".encode()[1:]),)).text == "è"


def test_a_stop_string_among_drafts_ends_the_preview_and_not_the_answer():
    conversation = conversation_of()
    answer = begun(conversation, conversation.turn("Hi"), stop=["light", "water stone"])
    assert answer.take((WATER,)).text == " "
    assert answer.preview((STONE, LIGHT)).text == "", "what is held back may be a stop string's beginning"
    assert answer.preview((WATER,)).text == ""
    assert not answer.stopped
    assert answer.take((WATER,)).text == "water "
    assert answer.rest().text == "water"
    assert conversation.length == len(HI) + 2


# --- going back ---


def test_a_prompt_may_take_text_back_to_any_place():
    conversation = conversation_of()
    answered(conversation, "Hi", WATER, LIGHT, IM_END)
    turn = conversation.turn("And?", len(HI) + 1)
    assert turn.base == len(HI) + 1
    assert as_text(turn.tokens) == "<|im_end|>\n" + NEXT
    assert conversation.turn("Hi", 0) == Turn(0, HI)
    begun(conversation, turn)
    assert conversation.length == len(HI) + 1 + len(turn.tokens)


def test_going_back_to_where_an_answer_ended_finds_its_end():
    conversation = conversation_of()
    answered(conversation, "Hi", WATER, IM_END)
    first = conversation.length
    answered(conversation, "And?", LIGHT, IM_END)
    second = conversation.length
    answered(conversation, "So?", STONE)
    for length in (first, second):
        assert as_text(conversation.turn("And?", length).tokens) == "\n" + NEXT

    begun(conversation, conversation.turn("And?", first)).take((WATER,) * 40)
    assert conversation.length > second
    assert as_text(conversation.turn("And?", first).tokens) == "\n" + NEXT
    assert as_text(conversation.turn("And?", second).tokens) == "<|im_end|>\n" + NEXT, "an end that is gone"


def test_an_end_that_the_next_prompt_took_back_is_forgotten():
    conversation = conversation_of()
    answered(conversation, "Hi", WATER, END_OF_TEXT)
    ended = conversation.length
    begun(conversation, conversation.turn("And?"))
    assert conversation.turn("And?", ended).base == ended
    assert conversation.turn("And?", ended - 1).base == ended - 1


@pytest.mark.parametrize("base", [-1, len(HI) + 3])
def test_a_place_outside_the_text_is_the_callers_fault(base: int):
    conversation = conversation_of()
    answered(conversation, "Hi", WATER, IM_END)
    with pytest.raises(UsageError, match=rf"^base: must be between 0 and {len(HI) + 2}, not {base}$"):
        conversation.turn("And?", base)
    assert conversation.length == len(HI) + 2


# --- other prompts ---


def test_token_ids_are_taken_as_they_are():
    conversation = conversation_of()
    assert conversation.turn([1, 2]) == Turn(0, (1, 2))
    answered(conversation, "Hi", WATER, END_OF_TEXT)
    assert conversation.turn([IM_END, 3]) == Turn(len(HI) + 2, (IM_END, 3))
    assert conversation.turn([], 5) == Turn(5, ())
    assert conversation.turn([1], 99) == Turn(99, (1,)), "whether it can be is not for the edge to say"


def test_prompts_without_a_template_follow_the_text_as_they_are():
    conversation = conversation_of("")
    answered(conversation, "Hi", WATER, END_OF_TEXT)
    assert conversation.turn(" water") == Turn(4, (WATER,))


def test_what_cannot_be_said_changes_nothing():
    conversation = conversation_of()
    answered(conversation, "Hi", WATER, IM_END)
    with pytest.raises(UsageError, match="half a surrogate"):
        conversation.turn("\ud800")
    assert as_text(conversation.turn("And?").tokens) == "\n" + NEXT


# --- answers that were given up ---


def test_an_answer_that_another_took_over_from_moves_nothing_any_more():
    conversation = conversation_of()
    old = begun(conversation, conversation.turn("Hi"))
    old.take((WATER,))
    new = begun(conversation, conversation.turn("And?"))
    new.take((LIGHT, IM_END))
    new.conclude("stop")
    length = conversation.length
    assert old.take((STONE, END_OF_TEXT)).text == " stone"
    assert old.rest().text == ""
    assert old.conclude("stop") == "stop"
    assert conversation.length == length
    assert as_text(conversation.turn("And?").tokens) == "\n" + NEXT
