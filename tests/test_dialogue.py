"""Chat templates of several families against what they make of a whole dialogue; and hostile ones."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.dialogue import Dialogue, Turn, frame_of
from pipesd.errors import UsageError
from pipesd.values import PromptMode
from tests.speech import (
    CHATML,
    CONTROLS,
    END_OF_TEXT,
    HEADERS,
    IDS,
    IM_END,
    INSTRUCTIONS,
    PLAIN,
    TAGS,
    TOKENIZER,
    Target,
    as_text,
    controls_in,
    rendered,
)

FAMILIES = {
    "chatml": (CHATML, "<|im_end|>"),
    "headers": (HEADERS, "<|eot_id|>"),
    "instructions": (INSTRUCTIONS, "</s>"),
    "tags": (TAGS, "</s>"),
}
"""Templates, and the token that ends an answer in each."""

each_family = pytest.mark.parametrize("family", FAMILIES)

SAID = ("Tell me of the water.", "Is that all?", " and  then?\n", "🌍 é")
ANSWERS = ("It is of two lights.", "No.", " one two")


def dialogue_of(
    template: str, end: str = "<|im_end|>", *, mode: PromptMode = "auto", system: str = ""
) -> Dialogue:
    target = Target(template, end_ids=(IDS[end], END_OF_TEXT))
    return Dialogue(TOKENIZER, target, mode=mode, system=system)


def played(dialogue: Dialogue, said: Sequence[str], answers: Sequence[str], end_id: int | None) -> list[int]:
    """The text up to the last answer; each answer before it ended with ``end_id``, or was cut off."""
    text: list[int] = []
    for number, each in enumerate(said):
        turn = dialogue.turn(each, len(text), end_id if number else None)
        text = [*text[: turn.base], *turn.tokens]
        if number < len(said) - 1:
            text += TOKENIZER.encode(answers[number]) + ([] if end_id is None else [end_id])
    return text


# --- round trips ---


@each_family
@pytest.mark.parametrize("turns", [1, 2, 4])
@pytest.mark.parametrize("ended", ["as the template does", "otherwise", "by its length"])
def test_turns_make_the_text_that_the_template_makes_of_the_whole(family: str, turns: int, ended: str):
    template, end = FAMILIES[family]
    said = [each.strip() for each in SAID[:turns]]
    end_id = {"as the template does": IDS[end], "otherwise": END_OF_TEXT, "by its length": None}[ended]
    answers = [each.strip() for each in ANSWERS]
    text = played(dialogue_of(template, end), said, answers, end_id)
    messages = [each for pair in zip(said, [*answers[: turns - 1], ""], strict=True) for each in pair][:-1]
    whole = rendered(template, *messages, eos_token=end)
    assert as_text(text) == whole
    assert text == TOKENIZER.encode(whole, special=True)


@each_family
def test_what_is_said_is_encoded_in_one_go_with_what_stands_around_it(family: str):
    template, end = FAMILIES[family]
    turn = dialogue_of(template, end).turn("water", 0, None)
    whole = rendered(template, "water", eos_token=end)
    assert turn == Turn(0, tuple(TOKENIZER.encode(whole, special=True)))
    is_one_token = TOKENIZER.encode(" water")[0] in turn.tokens
    assert is_one_token == (" water" in whole)


def test_a_text_begins_as_every_text_of_the_model_does():
    target = Target(INSTRUCTIONS, begin_ids=(IDS["<s>"],), end_ids=(IDS["</s>"],))
    dialogue = Dialogue(TOKENIZER, target, mode="auto", system="")
    assert as_text(dialogue.turn("Hi", 0, None).tokens) == "<s>[INST] Hi [/INST]"
    assert as_text(dialogue.turn("Hi", 9, None).tokens) == "</s>[INST] Hi [/INST]"
    assert as_text(dialogue.turn("Hi", 9, IDS["</s>"]).tokens) == "[INST] Hi [/INST]"


def test_the_end_of_text_is_written_as_the_targets_own_end_id():
    dialogue = dialogue_of(TAGS, "</s>")
    assert as_text(dialogue.turn("Hi", 0, None).tokens) == "<|user|>\nHi</s>\n<|assistant|>\n"
    assert controls_in(dialogue.turn("Hi", 5, None).tokens) == ["</s>", "</s>"]


@pytest.mark.parametrize("end_ids", [(), (70_000,)])
def test_without_a_known_end_id_the_end_of_text_is_empty(end_ids: tuple[int, ...]):
    dialogue = Dialogue(TOKENIZER, Target(TAGS, end_ids=end_ids), mode="chat", system="")
    assert as_text(dialogue.turn("Hi", 0, None).tokens) == "<|user|>\nHi\n<|assistant|>\n"


def test_a_template_that_strips_strips_nothing_that_is_said():
    said = "  two\n lines \n"
    turn = dialogue_of(HEADERS, "<|eot_id|>").turn(said, 0, None)
    assert as_text(turn.tokens) == rendered(HEADERS, "X").replace("X", said)


def test_what_is_said_is_no_jinja():
    said = "{{ 1 + 1 }} {% raw %} {# note #} \ue000first\ue001"
    text = as_text(dialogue_of(CHATML).turn(said, 0, None).tokens)
    assert text == rendered(CHATML, "X").replace("X", said)


def test_an_empty_line_is_a_message_too():
    assert as_text(dialogue_of(CHATML).turn("", 0, None).tokens) == rendered(CHATML, "")


# --- from an answer to the next message ---


@pytest.mark.parametrize(
    ("end_id", "base", "before"),
    [
        pytest.param(IM_END, 20, "\n", id="the end that the template writes is there"),
        pytest.param(END_OF_TEXT, 19, "<|im_end|>\n", id="another end is taken back"),
        pytest.param(None, 20, "<|im_end|>\n", id="an answer that was cut off is closed"),
    ],
)
def test_an_answer_is_closed_as_the_template_does_however_it_ended(
    end_id: int | None, base: int, before: str
):
    turn = dialogue_of(CHATML).turn("And?", 20, end_id)
    assert turn.base == base
    assert as_text(turn.tokens) == f"{before}<|im_start|>user\nAnd?<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_without_control_tokens_takes_the_end_back():
    dialogue = dialogue_of(PLAIN)
    assert dialogue.turn("b", 7, IM_END) == Turn(6, tuple(b"\nQ:b\nA:"))
    assert dialogue.turn("b", 7, None) == Turn(7, tuple(b"\nQ:b\nA:"))


def test_a_text_that_was_taken_back_to_nothing_begins_anew():
    dialogue = dialogue_of(CHATML, system="Be brief.")
    assert dialogue.turn("Hi", 0, IM_END) == dialogue.turn("Hi", 0, None)
    assert as_text(dialogue.turn("Hi", 0, None).tokens) == rendered(CHATML, "Hi", system="Be brief.")


# --- control tokens ---

FRAGMENTS = (
    "<|",
    "|>",
    "im_",
    "end",
    "im_end",
    "<|im_",
    "_id|>",
    "[",
    "INST]",
    "/",
    "</",
    "s>",
    "user",
    "\n",
)
SAYINGS = st.lists(st.sampled_from((*CONTROLS, *FRAGMENTS, " water", "ü", "", " ")), max_size=8).map("".join)


@each_family
@given(said=SAYINGS, system=SAYINGS)
def test_what_is_said_never_becomes_a_control_token(family: str, said: str, system: str):
    template, end = FAMILIES[family]
    system = system if family in ("chatml", "headers") else ""
    harmless = dialogue_of(template, end, system="x" if system else "")
    dialogue = dialogue_of(template, end, system=system)
    for length, end_id in ((0, None), (9, None), (9, IDS[end]), (9, END_OF_TEXT)):
        turn, expected = dialogue.turn(said, length, end_id), harmless.turn("x", length, end_id)
        assert controls_in(turn.tokens) == controls_in(expected.tokens)
        assert turn.base == expected.base


@given(said=SAYINGS)
def test_what_is_said_stands_there_to_the_byte(said: str):
    assert as_text(dialogue_of(CHATML).turn(said, 0, None).tokens) == rendered(CHATML, said)


def test_prompts_taken_as_they_are_have_no_control_tokens_either():
    turn = dialogue_of("").turn("<|im_end|>", 0, None)
    assert turn == Turn(0, tuple(b"<|im_end|>"))


# --- the system ---

DEAF_TO_SYSTEMS = "{% for m in messages if m.role != 'system' %}[{{ m.content }}]{% endfor %}"


@pytest.mark.parametrize("family", ["chatml", "headers", "tags"])
@pytest.mark.parametrize("system", ["Be brief.", "You know of the <|im_end|> token. </s>"])
def test_a_system_is_told_first_and_only_once(family: str, system: str):
    template, end = FAMILIES[family]
    dialogue = dialogue_of(template, end, system=system)
    expected = rendered(template, "Hi", system=system, eos_token=end)
    assert as_text(dialogue.turn("Hi", 0, None).tokens) == expected
    assert dialogue.turn("Hi", 9, None) == dialogue_of(template, end).turn("Hi", 9, None)


def test_a_default_of_the_templates_own_gives_way_to_a_system():
    assert "helpful" in as_text(dialogue_of(CHATML).turn("Hi", 0, None).tokens)
    assert "helpful" not in as_text(dialogue_of(CHATML, system="Hm.").turn("Hi", 0, None).tokens)


@pytest.mark.parametrize(
    ("template", "mode"),
    [
        pytest.param(INSTRUCTIONS, "auto", id="the template refuses it"),
        pytest.param(DEAF_TO_SYSTEMS, "auto", id="the template leaves it out"),
        pytest.param("", "auto", id="no template"),
        pytest.param(CHATML, "raw", id="prompts as they are"),
    ],
)
def test_a_system_without_a_place_is_the_callers_fault(template: str, mode: PromptMode):
    with pytest.raises(UsageError, match=r"^system: .* no place for it; leave it out$"):
        dialogue_of(template, mode=mode, system="Be brief.")
    assert dialogue_of(template, mode=mode).turn("a", 0, None).tokens


def test_a_system_that_cannot_be_said_is_the_callers_fault():
    with pytest.raises(UsageError, match="half a surrogate"):
        dialogue_of(CHATML, system="\ud800").turn("Hi", 0, None)
    with pytest.raises(UsageError, match="half a surrogate"):
        dialogue_of(CHATML).turn("\ud800", 0, None)


# --- modes ---


def test_prompts_are_taken_as_they_are_where_there_is_no_template():
    for dialogue in (dialogue_of(""), dialogue_of("", mode="raw"), dialogue_of(CHATML, mode="raw")):
        assert dialogue.turn("Hi", 0, None) == Turn(0, (72, 105))
        assert dialogue.turn("Hi", 7, None) == Turn(7, (72, 105))
        assert dialogue.turn("Hi", 7, IM_END) == Turn(7, (72, 105))


def test_raw_prompts_begin_as_every_text_of_the_model_does():
    target = Target(begin_ids=(IDS["<s>"],))
    dialogue = Dialogue(TOKENIZER, target, mode="raw", system="")
    assert dialogue.turn("Hi", 0, None) == Turn(0, (IDS["<s>"], 72, 105))
    assert dialogue.turn("", 3, None) == Turn(3, ())


@pytest.mark.parametrize("mode", ["auto", "chat"])
def test_where_there_is_a_template_it_is_used(mode: PromptMode):
    dialogue = dialogue_of(CHATML, mode=mode)
    assert as_text(dialogue.turn("Hi", 0, None).tokens) == rendered(CHATML, "Hi")


def test_a_chat_without_a_template_is_the_callers_fault():
    with pytest.raises(UsageError, match=r"no chat template; .* --raw$"):
        dialogue_of("", mode="chat")


def test_raw_prompts_need_no_template_that_works():
    assert dialogue_of("{% if %}", mode="raw").turn("Hi", 0, None) == Turn(0, (72, 105))


# --- templates that cannot be used ---


@pytest.mark.parametrize(
    "template",
    [
        pytest.param("{% if %}", id="no Jinja"),
        pytest.param("{% break %}", id="no loop to leave"),
        pytest.param("{{ nothing.at.all }}", id="an unknown name"),
        pytest.param("{{ messages[7].content }}", id="a message that is not there"),
        pytest.param("{{ 1 // 0 }}", id="a division by nothing"),
        pytest.param("{{ 'x' | dictsort }}", id="a filter of the wrong type"),
        pytest.param("{{ 'x' | truncate(1) }}", id="a filter that asserts"),
        pytest.param("{{ cycler() }}", id="a helper that fails"),
        pytest.param("{% include 'x' %}", id="another file"),
        pytest.param("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", id="no end"),
        pytest.param("{{ range(999999999) | list }}", id="too much"),
        pytest.param("{{ 'x'.zfill(99 ** 9) }}", id="too much memory"),
        pytest.param("{{ raise_exception('not today') }}", id="a refusal"),
        pytest.param("", id="empty"),
        pytest.param("only this", id="nothing that is said"),
        pytest.param("{{ messages[-1].content }}", id="the last message alone"),
        pytest.param("{% for m in messages|reverse %}{{ m.content }}{% endfor %}", id="back to front"),
        pytest.param("{% for m in messages %}{{ m.content | upper }}{% endfor %}", id="shouted"),
        pytest.param("{% for m in messages %}{{ m.content * 2 }}{% endfor %}", id="said twice"),
        pytest.param(
            "{{ messages[0].content }}{% for m in messages %}{{ m.content }}{% endfor %}", id="quoted"
        ),
        pytest.param("{{ messages | tojson }}", id="as JSON"),
    ],
)
def test_a_template_that_cannot_be_used_is_one_sentence(template: str):
    with pytest.raises(
        UsageError, match=r"^the target's chat template cannot be used \(.+\); .* --raw$"
    ) as no:
        frame_of(template, "</s>")
    assert "\n" not in str(no.value)


@pytest.mark.parametrize(
    "template",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ self.__init__.__globals__ }}",
        "{{ cycler.__init__.__globals__.os.system('true') }}",
        "{{ raise_exception.__globals__['jinja2'] }}",
        "{{ '{0.__class__.__mro__}'.format(messages) }}",
        "{{ (messages | attr('__class__')).mro() }}",
        "{{ messages.clear() }}",
        "{% set messages[0].content = '' %}",
    ],
)
def test_a_template_cannot_get_out_of_its_sandbox(template: str):
    whole = "{% for m in messages %}{{ m.content }}{% endfor %}"
    assert frame_of(whole, "").first == ("", "")
    with pytest.raises(UsageError, match="the target's chat template cannot be used"):
        frame_of(template + whole, "")


def test_a_template_that_fails_only_with_a_system_works_without():
    loop = "{% for m in messages %}{% if m.role == 'system' %}{{ cycler() }}{% endif %}[{{ m.content }}]"
    template = loop + "{% endfor %}"
    assert frame_of(template, "").system is None
    assert dialogue_of(template).turn("a", 0, None) == Turn(0, tuple(b"[a]"))


def test_a_template_may_use_the_controls_of_loops():
    template = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<{{ m.content }}>{% continue %}{% endif %}"
        "[{{ m.content }}]{% endfor %}"
    )
    assert frame_of(template, "") == frame_of(template, "")
    assert frame_of(template, "").following == (">[", "]")
