"""What is content and what is a secret is declared for every field, and nothing else reaches a log."""

import ast
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import msgspec
import pytest

import pipesd
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.redact import (
    CONTENT,
    FIELDS,
    Kind,
    bare_trace,
    details,
    kind_of,
    let_log,
    log_fault,
    log_text,
    log_to,
    show_content,
)
from pipesd.session import commands, events
from pipesd.session.rules import CloudRules
from pipesd.values import Sampling, Slice, Stretch, TrialReport
from pipesd.wire import frames
from tests.session.helpers import CloudTable, EdgeTable, wish

LOGGER = logging.getLogger("pipesd.test")
WORD = "quokka"

# -- every field is declared ---------------------------------------------------------------------------------

UNIONS = (
    events.EdgeEvent,
    events.CloudEvent,
    commands.EdgeCommand,
    commands.CloudCommand,
    frames.AnyFrame,
)
EVERYTHING = tuple(dict.fromkeys(kind for union in UNIONS for kind in get_args(union)))

SENTENCES = {"code", "reason", "finish"}
"""Shown, though they are no numbers: a key of a table, or a sentence of our own."""


def hints(kind: type) -> dict[str, Any]:
    """The fields of a kind, but for a frame in it, which is a kind of its own."""
    parts = fields(kind) if is_dataclass(kind) else msgspec.structs.fields(kind)
    types = get_type_hints(kind)
    return {name: types[name] for name in (part.name for part in parts) if name != "frame"}


def parts_of(hint: Any) -> Iterator[Any]:
    """A type, and those that it is made of."""
    yield hint
    for part in get_args(hint):
        yield from parts_of(part)


def undeclared(kinds: tuple[type, ...]) -> list[str]:
    return [
        f"{kind.__name__}.{name}" for kind in kinds for name in hints(kind) if kind_of(kind, name) is None
    ]


def shown_but_no_number(kinds: tuple[type, ...]) -> list[str]:
    return [
        f"{kind.__name__}.{name}"
        for kind in kinds
        for name, hint in hints(kind).items()
        if kind_of(kind, name) is Kind.SHOWN and name not in SENTENCES
        if any(part in {str, bytes} or get_origin(part) is tuple for part in parts_of(hint))
    ]


def test_every_field_of_every_event_command_and_frame_is_declared():
    assert undeclared(EVERYTHING) == []


def test_only_numbers_and_sentences_of_our_own_are_shown():
    assert shown_but_no_number(EVERYTHING) == []


def test_a_field_that_somebody_forgets_to_declare_is_noticed_and_not_shown():
    @dataclass(frozen=True)
    class Whispered:
        session: int
        words: tuple[int, ...]
        ask: bytes = b""

    assert undeclared((Whispered,)) == ["Whispered.words"]
    assert shown_but_no_number((Whispered,)) == ["Whispered.ask"]
    for content in (False, True):
        assert details(Whispered(7, (1, 2)), content=content) == " session=7 ask=b''"


def test_nothing_is_declared_that_is_not_there():
    there = {name for kind in EVERYTHING for name in hints(kind)}
    there |= {f"{kind.__name__}.{name}" for kind in EVERYTHING for name in hints(kind)}
    assert set(FIELDS) - there == set()


def test_what_proves_who_somebody_is_is_a_secret():
    secrets = {
        f"{kind.__name__}.{name}"
        for kind in EVERYTHING
        for name in hints(kind)
        if kind_of(kind, name) is Kind.SECRET
    }
    assert secrets == {
        "Challenge.credential",
        "Hello.credential",
        "LinkOpened.nonce",
        "Opened.lease",
        "PeerConnected.nonce",
        "Proof.credential",
        "Resume.lease",
        "TokensRead.tokens",
        "Welcome.credential",
    }


def test_no_secret_hides_in_what_is_shown_whole():
    """Content is shown with all that it holds."""
    within = {Stretch, Slice, Sampling, commands.Failure}
    seen = {
        part
        for kind in EVERYTHING
        for name, hint in hints(kind).items()
        if kind_of(kind, name) is Kind.CONTENT
        for part in parts_of(hint)
        if is_dataclass(part) or hasattr(part, "__struct_fields__")
    }
    assert seen <= within
    for kind in within:
        assert all(bytes not in parts_of(hint) for hint in hints(kind).values()), kind


def test_a_line_counts_content_or_holds_it():
    draft = frames.Draft(1, 2, 30, (84, 104), 31)
    assert details(draft, content=False) == " session=1 epoch=2 base=30 tokens×2 ask=31"  # noqa: RUF001
    assert details(draft, content=True) == " session=1 epoch=2 base=30 tokens=(84, 104) ask=31"
    guess = events.TokenDrafted(3, 84, 0.5)
    assert details(guess, content=False) == " step=3"
    assert details(guess, content=True) == " step=3 token=84"
    assert details(None, content=True) == ""


# -- when content may be shown -------------------------------------------------------------------------------


@pytest.fixture
def switch() -> Iterator[None]:
    """Puts back whether content may be shown."""
    before = CONTENT.level
    yield
    CONTENT.setLevel(before)


def test_content_is_shown_by_nobody_until_it_is_wanted_and_then_by_those_who_log(switch: None):
    assert not CONTENT.isEnabledFor(logging.CRITICAL)
    show_content()
    for level in (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR):
        assert CONTENT.isEnabledFor(level) == logging.getLogger("pipesd").isEnabledFor(level)


def test_texts_are_logged_only_then(caplog: pytest.LogCaptureFixture):
    pieces = [b"The", b" sea\n", b"\xff"]
    with caplog.at_level(logging.DEBUG):
        log_text("given to session 3", (0, 1), pieces)
        assert caplog.messages == []
        caplog.set_level(logging.DEBUG, CONTENT.name)
        log_text("given to session 3", (0, 1, 2, 9), pieces)
    assert caplog.messages == ["= given to session 3: 'The sea\\n\ufffd\ufffd'"]


# -- exceptions ----------------------------------------------------------------------------------------------


class OddError(Exception):
    def __str__(self) -> str:
        return WORD


def fails(error: Exception, *, cause: Exception | None = None) -> Exception:
    """The exception, as it is when it has been raised and caught."""
    try:
        raise error from cause
    except Exception as caught:
        return caught


def within_another() -> BaseException:
    try:
        try:
            raise KeyError(WORD)
        finally:
            dict[str, str]()[WORD]
    except KeyError as caught:
        return caught


def noted() -> BaseException:
    error = fails(ValueError(WORD))
    error.add_note(WORD)
    return error


def turned_on_itself() -> BaseException:
    one, other = fails(ValueError(WORD)), fails(OddError(WORD))
    one.__cause__, other.__cause__ = other, one
    return one


@pytest.mark.parametrize(
    ("make", "names"),
    [
        (lambda: fails(ValueError(WORD)), ["ValueError"]),
        (noted, ["ValueError"]),
        (lambda: fails(ValueError(WORD), cause=fails(OddError(WORD))), ["OddError", "ValueError"]),
        (within_another, ["KeyError", "KeyError"]),
        (turned_on_itself, ["OddError", "ValueError"]),
        (
            lambda: fails(ExceptionGroup(WORD, [fails(ValueError(WORD)), OddError(WORD)])),
            ["ExceptionGroup", "ValueError", "OddError"],
        ),
    ],
    ids=["one", "noted", "cause", "context", "circle", "group"],
)
def test_a_bare_trace_says_where_and_which_but_not_what(make: Callable[[], BaseException], names: list[str]):
    trace = bare_trace(make())
    assert WORD not in trace
    assert Path(__file__).name in trace
    lines = [line.strip() for line in trace.splitlines()]
    assert [line for line in lines if line.endswith(("Error", "Group"))] == names
    assert lines.count("Traceback (most recent call last):") == len(names)


@pytest.mark.parametrize("content", [False, True])
def test_the_message_of_a_fault_is_content(content: bool, caplog: pytest.LogCaptureFixture):
    if content:
        caplog.set_level(logging.ERROR, CONTENT.name)
    try:
        raise KeyError(WORD)
    except KeyError:
        log_fault(LOGGER, "! 100 % broken")
    (record,) = caplog.records
    assert (record.name, record.levelno) == (LOGGER.name, logging.ERROR)
    assert caplog.messages[0].startswith("! 100 % broken")
    assert "KeyError" in caplog.text
    assert (WORD in caplog.text) == content


LOGS_NO_CONTENT = {
    "actors/tuner.py": "a tuner is told measurements only",
    "tuning_worker.py": "a tuner is told measurements only",
    "lab/stormy_play.py": "its prompts are its own",
}


def test_exceptions_are_logged_here_only():
    """Their messages may quote anything."""
    root = Path(pipesd.__file__).parent
    found = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and (
                (isinstance(node.func, ast.Attribute) and node.func.attr == "exception" and node.args)
                or any(word.arg == "exc_info" for word in node.keywords)
            ):
                found.add(path.relative_to(root).as_posix())
    assert found == {"redact.py", *LOGS_NO_CONTENT}


# -- what libraries log --------------------------------------------------------------------------------------


@pytest.fixture
def stream(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where a process logs that was set up for debugging."""
    root = logging.getLogger()
    level = root.level
    monkeypatch.setattr(root, "handlers", [])
    log_to(out := io.StringIO(), "DEBUG")
    yield out
    root.setLevel(level)


def complain(name: str) -> None:
    foreign = logging.getLogger(name)
    foreign.debug("works on %s", WORD)
    try:
        raise ValueError(WORD)
    except ValueError:
        foreign.exception("cannot do %s", WORD)


def test_the_words_of_libraries_are_kept_from_the_log(stream: io.StringIO):
    complain("a.library")
    said = stream.getvalue()
    assert said.startswith("a.library has something to say, which --log-content shows\nTraceback")
    assert said.endswith("\nValueError\n")
    assert WORD not in said


def test_they_are_passed_on_if_content_is_wanted(stream: io.StringIO, switch: None):
    show_content()
    complain("a.library")
    lines = stream.getvalue().splitlines()
    assert lines[:2] == [f"a.library works on {WORD}", f"a.library cannot do {WORD}"]
    assert lines[-1] == f"ValueError: {WORD}"


@pytest.mark.parametrize("config", [EdgeConfig, CloudConfig])
def test_content_is_logged_if_the_settings_say_so_and_not_otherwise(
    config: type[EdgeConfig] | type[CloudConfig], switch: None
):
    let_log(config())
    assert not CONTENT.isEnabledFor(logging.CRITICAL)
    let_log(config(log_content=True))
    assert CONTENT.isEnabledFor(logging.CRITICAL)


def test_our_own_words_are_always_passed_on(stream: io.StringIO):
    logging.getLogger("pipesd").debug("one")
    logging.getLogger("pipesd.edge").warning("%s", "two")
    logging.getLogger("pipesdom").debug("three")
    assert stream.getvalue() == "pipesd one\npipesd.edge two\n"


# -- what is said of the other side's frames -----------------------------------------------------------------

ALIEN = 987_654
"""A token of no vocabulary."""

REPORT = TrialReport(0, (), (), (), ())
FROM_EDGES = [
    frames.Prompt(0, 1, 0, (ALIEN,), Sampling(), ALIEN, 10),
    frames.Prompt(0, 1, 0, (1, ALIEN), Sampling(), ALIEN, 0),
    frames.Prompt(9, 1, 0, (1, ALIEN), Sampling(), ALIEN, 10),
    frames.Draft(0, 1, 0, (ALIEN,)),
    frames.Draft(9, 1, 0, (ALIEN,)),
    frames.Restore(0, 1, ((True, (1, ALIEN)),), Sampling(), ALIEN, 2, 10),
    frames.Telemetry("balanced", REPORT),
    frames.Hello(1, WORD, ALIEN, WORD.encode()),
    frames.Proof(WORD.encode()),
]
FROM_CLOUDS = [
    frames.Verdict(0, 1, 2, 0, (ALIEN,)),
    frames.Verdict(0, 1, 2, 0, (1,) * 60),
    frames.Verdict(0, 9, 2, 0, (ALIEN,)),
    frames.Verdict(9, 1, 2, 0, (ALIEN,)),
    frames.Verdict(0, 1, 1, 0, (ALIEN,)),
    frames.Block(0, (WORD.encode(),)),
    frames.Challenge(WORD.encode()),
]


def about(answer: list[Any]) -> list[str]:
    """What is said to the other side about what it did."""
    spoken = [command.frame for command in answer if hasattr(command, "frame")]
    judged = (frames.Fault, frames.Refuse, frames.Bye)
    return [str(msgspec.structs.astuple(frame)) for frame in spoken if isinstance(frame, judged)]


def harmless(sentences: list[str]) -> bool:
    return not any(WORD in sentence or str(ALIEN) in sentence for sentence in sentences)


@pytest.mark.parametrize("frame", FROM_EDGES, ids=lambda frame: type(frame).__name__)
def test_no_sentence_of_a_cloud_quotes_what_an_edge_said(frame: Any):
    opened, answering, guest = CloudTable(), CloudTable(), CloudTable(CloudRules(), peers=0)
    answering.hears(frames.Prompt(0, 1, 0, (1, 2), Sampling(), 0, 10))
    guest.tell(events.PeerConnected(0))
    said = [about(table.hears(msgspec.structs.replace(frame))) for table in (opened, answering, guest)]
    assert any(said)
    assert all(map(harmless, said))


@pytest.mark.parametrize("frame", FROM_CLOUDS, ids=lambda frame: type(frame).__name__)
def test_no_sentence_of_an_edge_quotes_what_a_cloud_said(frame: Any):
    table = EdgeTable()
    table.tell(wish(1, 2))
    said = about(table.hears(frame))
    assert said
    assert harmless(said)
