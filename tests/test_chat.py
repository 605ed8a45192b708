"""Whole chats as transcripts, in virtual time: a chat that would hang fails at once."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import pytest

from pipesd.chat import COMMANDS, Console, Talker, chat
from pipesd.errors import LinkError, UsageError
from pipesd.lab.clock import run_virtually
from pipesd.text import Piece

CTRL_C = object()
"""Pressed at the prompt."""

Act = Callable[[], None]


@dataclass(frozen=True)
class Drafts:
    text: str


Step = str | Drafts | BaseException | Act | None
"""What an answer does next: show text or drafts, fail, something to the console, or (None) wait for ever."""


class Stage:
    """A console that reads a script; its transcript shows remarks in brackets."""

    def __init__(self, *typed: str | object, interactive: bool = True) -> None:
        self.interactive = interactive
        self.transcript = ""
        self.answers = ""
        self.stalled_by: str | None = None
        self.previews: list[str] = []
        """Each behind what was shown before it."""

        self.is_previewed = False
        self.unverified = ""
        self.is_private = False
        self._lines = list(typed)
        self._stop: Act | None = None

    async def read_line(self) -> str:
        assert self._stop is None, "the prompt is shown while an answer runs"
        if not self._lines:
            raise EOFError
        line = self._lines.pop(0)
        if isinstance(line, BaseException):
            raise line
        self._echo("^C" if line is CTRL_C else str(line))
        if line is CTRL_C:
            raise KeyboardInterrupt
        return str(line)

    def _echo(self, line: str) -> None:
        if self.interactive:
            self.transcript += f"{'private ' * self.is_private}> {line}\n"

    async def preview(self, text: str) -> None:
        self.previews.append(self.transcript + "|" + text)
        self.is_previewed = True

    async def write(self, text: str, *, verified: bool = True) -> None:
        assert text or self.is_previewed, "nothing was written"
        self.is_previewed = False
        self.unverified += "" if verified else text
        if text == self.stalled_by:
            await asyncio.Event().wait()
        self.transcript += text
        self.answers += text

    async def say(self, line: str) -> None:
        assert not self.is_previewed, "what is confirmed by nobody stays"
        self.transcript += f"[{line}]\n"

    def set_private(self, on: bool) -> None:
        self.is_private = on

    def on_interrupt(self, stop: Act | None) -> None:
        self._stop = stop

    def interrupt(self) -> None:
        assert self._stop is not None, "nobody listens"
        self._stop()


class Speaker:
    """A talker whose answers are played from a script."""

    def __init__(self, *answers: Sequence[Step]) -> None:
        self.told: list[str] = []
        self.ended = 0
        """Answers that were begun and are over, however that came."""

        self.reset_fails: Exception | None = None
        self.is_private = False
        self._answers = list(answers)

    async def answer(self, line: str) -> AsyncGenerator[Piece, None]:
        self.told.append(line)
        try:
            for step in self._answers.pop(0):
                await self._wait(step)
                if isinstance(step, str):
                    yield Piece(step, (1,), verified=not self.is_private)
                elif isinstance(step, Drafts):
                    yield Piece(step.text, (2,), verified=False, preview=True)
        finally:
            await asyncio.sleep(1)  # ending takes a while too
            self.ended += 1

    async def _wait(self, step: Step) -> None:
        if isinstance(step, BaseException):
            raise step
        await asyncio.sleep(1)
        if step is None:
            await asyncio.Event().wait()
        elif callable(step):
            step()

    async def reset(self) -> None:
        await asyncio.sleep(1)
        if self.reset_fails is not None:
            raise self.reset_fails
        self.told.append("(reset)")

    def set_private(self, on: bool) -> str:
        self.is_private = on
        return "private" if on else "public"

    def stats(self) -> str:
        return f"{len(self.told)} told\n{self.ended} ended"


def lines(*shown: str) -> str:
    return "".join(f"{line}\n" for line in shown)


def play(talker: Talker, console: Console) -> None:
    run_virtually(chat(talker, console))


# --- with a person --------------------------------------------------------------------------------------


def test_a_dialogue() -> None:
    stage = Stage("Who are you?", "And what do you do?")
    speaker = Speaker(["I am ", "", "a model."], ["I go", " on.\n"])
    play(speaker, stage)
    assert stage.transcript == lines(
        "> Who are you?",
        "I am a model.",
        "> And what do you do?",
        "I go on.",
    )
    assert (speaker.told, speaker.ended) == (["Who are you?", "And what do you do?"], 2)


def test_an_answer_without_text_leaves_an_empty_line() -> None:
    stage = Stage("Say nothing.")
    play(Speaker(["", ""]), stage)
    assert stage.transcript == "> Say nothing.\n\n"


def test_an_empty_line_does_nothing() -> None:
    stage, speaker = Stage("", "  \t", "Hello"), Speaker(["Hi"])
    play(speaker, stage)
    assert stage.transcript == "> \n>   \t\n> Hello\nHi\n"
    assert speaker.told == ["Hello"]


HELP = (
    "[/help         list these commands]",
    "[/reset        forget the conversation]",
    "[/private on   let the draft model alone answer: nothing leaves this device]",
    "[/private off  take private turns back, and go on with the target]",
    "[/stats        give figures of the conversation so far]",
    "[/exit         end the chat, as Ctrl-D does; Ctrl-C only stops an answer]",
)


def test_the_commands() -> None:
    stage, speaker = Stage("/help", "Hello", "/stats", "/reset ", "/exit", "never read"), Speaker(["Hi"])
    play(speaker, stage)
    assert stage.transcript == lines(
        "> /help",
        *HELP,
        "> Hello",
        "Hi",
        "> /stats",
        "[1 told]",
        "[1 ended]",
        "> /reset ",
        "[the conversation is forgotten]",
        "> /exit",
    )
    assert speaker.told == ["Hello", "(reset)"]


def test_help_names_every_command() -> None:
    stage = Stage("/help")
    play(Speaker(), stage)
    shown = stage.transcript.splitlines()[1:]
    assert len(shown) == len(COMMANDS)
    for line, (word, command) in zip(shown, COMMANDS.items(), strict=True):
        assert line.startswith(f"[{word} ")
        assert line.endswith(f" {command.help}]")


@pytest.mark.parametrize(
    "line", ["/", "/bye", "/Exit", "/etc/hosts", "/private", "/private  on", "/private ON", "/private please"]
)
def test_a_single_word_like_a_command_is_not_sent(line: str) -> None:
    stage, speaker = Stage(line), Speaker()
    play(speaker, stage)
    assert stage.transcript == (
        f"> {line}\n[there is no command {line}; /help lists them, a space first sends it]\n"
    )
    assert speaker.told == []


def test_private_turns_are_switched_on_and_off_and_their_answers_are_shown_as_unverified() -> None:
    stage = Stage("one", "/private on", "two", "/private off", "three")
    speaker = Speaker(["1"], ["2"], ["3"])
    play(speaker, stage)
    assert stage.transcript == lines(
        "> one",
        "1",
        "> /private on",
        "[private]",
        "private > two",
        "2",
        "private > /private off",
        "[public]",
        "> three",
        "3",
    )
    assert stage.unverified == "2"


def test_a_hint_shows_no_control_characters() -> None:
    stage = Stage("/\x1b]0;x\x07")
    play(Speaker(), stage)
    assert "[there is no command /\\x1b]0;x\\x07;" in stage.transcript


@pytest.mark.parametrize("line", [" /exit", "/exit now", "a /exit", "//\n/exit"])
def test_a_line_that_only_contains_a_slash_is_sent(line: str) -> None:
    speaker = Speaker(["Hi"])
    play(speaker, Stage(line))
    assert speaker.told == [line]


def test_ctrl_c_at_the_prompt_gives_the_line_up_and_hints() -> None:
    stage = Stage(CTRL_C, "Hello")
    play(Speaker(["Hi"]), stage)
    assert stage.transcript == "> ^C\n[/exit or Ctrl-D ends the chat]\n> Hello\nHi\n"


def test_ctrl_c_stops_the_answer_and_keeps_the_conversation() -> None:
    stage = Stage("Count.", "Go on.")
    speaker = Speaker(["One, ", "two", stage.interrupt, ", three", None], ["Three."])
    play(speaker, stage)
    assert stage.transcript == lines(
        "> Count.",
        "One, two",
        "[stopped; the conversation goes on]",
        "> Go on.",
        "Three.",
    )
    assert (speaker.told, speaker.ended) == (["Count.", "Go on."], 2)


def test_ctrl_c_before_the_first_token() -> None:
    stage = Stage("Hello?")
    speaker = Speaker([stage.interrupt, None])
    play(speaker, stage)
    assert stage.transcript == "> Hello?\n\n[stopped; the conversation goes on]\n"
    assert speaker.ended == 1


def test_ctrl_c_while_the_reader_is_slow() -> None:
    stage = Stage("Hello?", "Again")
    stage.stalled_by = "stuck"

    speaker = Speaker(["Well, ", "stuck"], ["Hi"])

    async def main() -> None:
        asyncio.get_running_loop().call_later(60, stage.interrupt)
        await chat(speaker, stage)

    run_virtually(main())
    assert stage.transcript == "> Hello?\nWell, \n[stopped; the conversation goes on]\n> Again\nHi\n"
    assert speaker.ended == 2


def test_ctrl_c_twice_is_ctrl_c_once() -> None:
    stage = Stage("Hello?")

    def twice() -> None:
        stage.interrupt()
        stage.interrupt()
        asyncio.get_running_loop().call_later(0.5, stage.interrupt)  # the answer is ending

    speaker = Speaker(["Hi", twice, None])
    play(speaker, stage)
    assert stage.transcript == "> Hello?\nHi\n[stopped; the conversation goes on]\n"
    assert speaker.ended == 1


def test_ctrl_c_that_comes_as_the_answer_ends_is_too_late() -> None:
    stage = Stage("Hello?", "And?")

    class Brief(Speaker):
        async def answer(self, line: str) -> AsyncGenerator[Piece, None]:
            yield Piece(line, ())
            stage.interrupt()

    play(Brief(), stage)
    assert stage.transcript == "> Hello?\nHello?\n> And?\nAnd?\n"


def test_an_answer_that_ends_itself_when_cancelled_counts_as_stopped() -> None:
    stage = Stage("Hello?", "And?")

    class Quiet(Speaker):
        async def answer(self, line: str) -> AsyncGenerator[Piece, None]:
            yield Piece(line, ())
            if line == "Hello?":
                stage.interrupt()
                with suppress(asyncio.CancelledError):
                    await asyncio.Event().wait()

    play(Quiet(), stage)
    assert stage.transcript == lines(
        "> Hello?",
        "Hello?",
        "[stopped; the conversation goes on]",
        "> And?",
        "And?",
    )


def test_a_usage_error_is_said_and_the_chat_goes_on() -> None:
    stage = Stage("much too long", "short")
    play(Speaker([UsageError("the prompt is too long; make it shorter")], ["Fine"]), stage)
    assert stage.transcript == lines(
        "> much too long",
        "[the prompt is too long; make it shorter]",
        "> short",
        "Fine",
    )


def test_a_usage_error_within_an_answer_starts_a_new_line() -> None:
    stage = Stage("one", "two")
    play(Speaker(["half", UsageError("no more")], ["whole\n", UsageError("no more")]), stage)
    assert stage.transcript == "> one\nhalf\n[no more]\n> two\nwhole\n[no more]\n"


def test_a_command_that_cannot_be_done_is_said_too() -> None:
    stage, speaker = Stage("/reset"), Speaker()
    speaker.reset_fails = UsageError("there is nothing to forget")
    play(speaker, stage)
    assert stage.transcript == "> /reset\n[there is nothing to forget]\n"


def test_any_other_failure_ends_the_chat_below_the_text() -> None:
    stage = Stage("Hello?", "never read")
    lost = LinkError("the cloud went away")
    with pytest.raises(LinkError) as caught:
        play(Speaker(["Hal", lost]), stage)
    assert caught.value is lost
    assert stage.transcript == "> Hello?\nHal\n"


def test_a_reader_that_went_away_is_told_as_it_is() -> None:
    stage = Stage("Hello?")
    with pytest.raises(BrokenPipeError):
        play(Speaker(["Hal", BrokenPipeError()]), stage)
    assert stage.transcript == "> Hello?\nHal"


def test_a_timeout_of_the_talker_is_no_interrupt() -> None:
    stage = Stage("Hello?")
    with pytest.raises(TimeoutError):
        play(Speaker([TimeoutError("too slow")]), stage)
    assert stage.transcript == "> Hello?\n"


def test_cancelling_the_chat_ends_the_answer() -> None:
    stage, speaker = Stage("Hello?", "never read"), Speaker(["Hal", None])

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await chat(speaker, stage)
        assert speaker.ended == 1

    run_virtually(main())
    assert stage.transcript == "> Hello?\nHal"


# --- drafts that nobody has confirmed -------------------------------------------------------------------


@pytest.mark.parametrize("interactive", [True, False])
def test_drafts_are_shown_for_the_moment_and_are_no_part_of_the_answer(interactive: bool) -> None:
    stage = Stage("Hello?", "And?", interactive=interactive)
    speaker = Speaker(["Hal", Drafts("lo"), Drafts(" yo"), "lo you"], ["Hi"])
    play(speaker, stage)
    before = "> Hello?\n" if interactive else ""
    assert stage.previews == [f"{before}Hal|lo", f"{before}Hal| yo"]
    assert stage.answers == "Hallo you\nHi\n"
    assert not stage.is_previewed


def test_tokens_without_text_take_drafts_back() -> None:
    """What follows may be the same drafts once more."""
    stage = Stage("Hello?")

    def is_taken_back() -> None:
        assert not stage.is_previewed

    play(Speaker([Drafts("a"), "", is_taken_back, Drafts("a"), "Hi"]), stage)
    assert stage.transcript == "> Hello?\nHi\n"


@pytest.mark.parametrize("said", ["", "Hal", "Hal\n"])
def test_an_answer_that_ends_behind_drafts_leaves_none(said: str) -> None:
    stage = Stage("Hello?", "And?")
    play(Speaker([said, Drafts("lo")], ["Hi"]), stage)
    ended = said if said.endswith("\n") else f"{said}\n"
    assert stage.transcript == f"> Hello?\n{ended}> And?\nHi\n"
    assert not stage.is_previewed


@pytest.mark.parametrize("said", ["", "Hal", "Hal\n"])
def test_an_answer_that_fails_behind_drafts_leaves_none(said: str) -> None:
    stage = Stage("Hello?", "And?")
    play(Speaker([said, Drafts("lo"), UsageError("no more")], ["Hi"]), stage)
    ended = said if said.endswith("\n") or not said else f"{said}\n"
    assert stage.transcript == f"> Hello?\n{ended}[no more]\n> And?\nHi\n"


def test_ctrl_c_behind_drafts_leaves_none() -> None:
    stage = Stage("Hello?")
    play(Speaker(["Hal", Drafts("lo"), stage.interrupt, None]), stage)
    assert stage.transcript == "> Hello?\nHal\n[stopped; the conversation goes on]\n"


def test_cancelling_the_chat_leaves_no_drafts() -> None:
    stage = Stage("Hello?")

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await chat(Speaker(["Hal", Drafts("lo"), None]), stage)

    run_virtually(main())
    assert (stage.transcript, stage.is_previewed) == ("> Hello?\nHal", False)


# --- with a script --------------------------------------------------------------------------------------


def test_one_answer_for_each_line_and_nothing_else() -> None:
    stage = Stage("one", "", "two", "three", interactive=False)
    speaker = Speaker(["1"], ["2\n"], [""])
    play(speaker, stage)
    assert stage.transcript == "1\n\n2\n\n\n"
    assert speaker.told == ["one", "two", "three"]


def test_commands_of_a_script_leave_the_answers_alone() -> None:
    stage = Stage("one", "/stats", "/reset", "/help", "two", "/exit", "three", interactive=False)
    speaker = Speaker(["1"], ["2"])
    play(speaker, stage)
    assert stage.answers == "1\n2\n"
    assert stage.transcript == lines(
        "1",
        "[1 told]",
        "[1 ended]",
        *HELP,
        "2",
    )
    assert speaker.told == ["one", "(reset)", "two"]


def test_every_other_line_of_a_script_is_a_prompt() -> None:
    prompts = ["/bye", "/exit ", " ", " /reset"]
    speaker = Speaker(["1"], ["2"], ["3"], ["4"])
    play(speaker, Stage(*prompts, interactive=False))
    assert speaker.told == prompts


@pytest.mark.parametrize("line", ["/private", "/private  on", "/private ON", "/private off "])
def test_a_script_that_misspells_private_ends_before_it_tells_what_should_stay(line: str) -> None:
    stage, speaker = Stage(line, "a secret", interactive=False), Speaker(["1"])
    with pytest.raises(UsageError, match=r"line 1: .*it is /private on or /private off"):
        play(speaker, stage)
    assert speaker.told == []


def test_a_script_may_be_private() -> None:
    stage = Stage("/private on", "one", "/private off", "two", interactive=False)
    play(Speaker(["1"], ["2"]), stage)
    assert stage.transcript == lines("[private]", "1", "[public]", "2")
    assert stage.unverified == "1"


def test_a_mistake_of_a_script_ends_it_and_names_the_line() -> None:
    stage = Stage("one", "/reset", "two", "three", interactive=False)
    with pytest.raises(UsageError, match=r"^line 3: the prompt is too long$"):
        play(Speaker(["1"], [UsageError("the prompt is too long")]), stage)
    assert stage.transcript == "1\n"


def test_a_line_that_is_no_text_ends_a_script() -> None:
    stage = Stage("one", UsageError("the line is not valid UTF-8"), "two", interactive=False)
    with pytest.raises(UsageError, match=r"^line 2: the line is not valid UTF-8$"):
        play(Speaker(["1"]), stage)
    assert stage.transcript == "1\n"


def test_a_failure_ends_a_script_as_it_is() -> None:
    stage, lost = Stage("one", "two", interactive=False), LinkError("the cloud went away")
    with pytest.raises(LinkError) as caught:
        play(Speaker(["Hal", lost]), stage)
    assert caught.value is lost
    assert stage.transcript == "Hal"
