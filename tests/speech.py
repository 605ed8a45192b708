"""Toys for dialogues: a tokenizer with control tokens, and chat templates as those of several families."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

import jinja2

from pipesd.engines.scripted import END_ID, WORDS, ScriptedTarget, ScriptedTokenizer
from pipesd.vocabulary import Vocabulary

CONTROLS = (
    "<|im_start|>",
    "<|im_end|>",
    "<|endoftext|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
)
IDS = {text: END_ID + 1 + number for number, text in enumerate(CONTROLS)}
IM_START, IM_END, END_OF_TEXT = IDS["<|im_start|>"], IDS["<|im_end|>"], IDS["<|endoftext|>"]

_CONTROL = re.compile("(" + "|".join(map(re.escape, CONTROLS)) + ")")
_WORD = re.compile("(" + "|".join(sorted(WORDS, key=len, reverse=True)) + ")")


class SpeechTokenizer:
    """That of the scripted pair, which ends with an id of its own, and control tokens behind it.

    Known words become one token with the blank before them, so it matters where a text is cut.
    """

    def __init__(self) -> None:
        self._plain = ScriptedTokenizer()
        self._word_ids = {word: 256 + number for number, word in enumerate(WORDS)}
        self.vocabulary = Vocabulary(
            (*self._plain.vocabulary.pieces, *(control.encode() for control in CONTROLS))
        )

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        parts = _CONTROL.split(text) if special else [text]
        tokens: list[int] = []
        for part in parts:
            tokens += [IDS[part]] if special and part in IDS else self._words(part)
        return tokens

    def _words(self, text: str) -> list[int]:
        tokens: list[int] = []
        for part in _WORD.split(text):
            tokens += [self._word_ids[part]] if part in self._word_ids else self._plain.encode(part)
        return tokens


@dataclass(frozen=True)
class Target:
    """What a dialogue must know of the target."""

    template: str = ""
    begin_ids: tuple[int, ...] = ()
    end_ids: tuple[int, ...] = (IM_END, END_OF_TEXT)


TOKENIZER = SpeechTokenizer()


class SpeechTarget(ScriptedTarget):
    """The scripted target with this tokenizer and a chat template; its prompt chunks are short."""

    def __init__(self, template: str = "", *, ends_every: int = 0, context_tokens: int = 8_192) -> None:
        super().__init__(ends_every=ends_every, context_tokens=context_tokens, chunk_tokens=16)
        self._tokenizer = TOKENIZER  # type: ignore[assignment]
        self._identity = replace(
            self._identity, template=template, end_ids=(END_ID, END_OF_TEXT), control_ids=(IM_START, IM_END)
        )


def as_text(tokens: Sequence[int]) -> str:
    return b"".join(TOKENIZER.vocabulary.pieces[token] for token in tokens).decode()


def controls_in(tokens: Sequence[int]) -> list[str]:
    return [as_text([token]) for token in tokens if token > END_ID]


@cache
def _compiled(template: str) -> jinja2.Template:
    environment = jinja2.Environment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals["raise_exception"] = _refuse
    return environment.from_string(template)


def _refuse(message: str) -> None:
    raise AssertionError(f"the template refuses: {message}")


def rendered(template: str, *messages: str, system: str = "", eos_token: str = "<|im_end|>") -> str:
    """What the template makes of a whole dialogue; user and assistant take turns in ``messages``."""
    roles = [{"role": ("user", "assistant")[at % 2], "content": said} for at, said in enumerate(messages)]
    if system:
        roles.insert(0, {"role": "system", "content": system})
    return _compiled(template).render(
        messages=roles, add_generation_prompt=True, bos_token="", eos_token=eos_token
    )


CHATML = r"""
{%- if messages[0]['role'] == 'system' %}
    {{- '<|im_start|>system\n' + messages[0]['content'] + '<|im_end|>\n' }}
{%- else %}
    {{- '<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or message.role == 'system' and not loop.first
            or message.role == 'assistant' and not message.tool_calls %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
"""
"""As Qwen's: a system's message of its own if none is given."""

HEADERS = r"""
{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system = '' %}
{%- endif %}
{%- if system %}
    {{- '<|start_header_id|>system<|end_header_id|>\n\n' + system + '<|eot_id|>' }}
{%- endif %}
{%- for message in messages %}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
        {{- raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}
    {%- endif %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' }}
    {{- message['content'] | trim + '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\n\n' }}
{%- endif %}
"""
"""As Llama 3's: it checks the roles, and strips what is said."""

INSTRUCTIONS = (
    "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}"
    "{% endfor %}"
)
"""As Mistral's: no system, and an answer ends with the end-of-text token."""

TAGS = (
    "{% for message in messages %}\n"
    "{{ '<|' + message['role'] + '|>\\n' + message['content'] + eos_token }}\n"
    "{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n"
    "{% endfor %}"
)
"""As Zephyr's: roles are plain text, and everything said ends with the end-of-text token."""

PLAIN = (
    "{% for message in messages %}"
    "{{ 'Q:' if message.role == 'user' else 'A:' }}{{ message.content }}\n"
    "{% endfor %}A:"
)
"""No control token at all; what is said as the system looks like an answer."""
