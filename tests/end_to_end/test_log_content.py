"""What edge and cloud write down about a conversation: nothing of it, unless ``--log-content`` is given."""

import re
import socket
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from threading import Thread

import pytest

from pipesd.access import Limits
from pipesd.engines.scripted import FIRST_WORD_ID, WORDS
from pipesd.tokens import create
from tests.end_to_end.processes import PATIENCE_S, environment, finish, interrupt, read_some, run, start

WORD = "Quokkaberry"
PROMPTS = (f"The sea, {WORD}", f"And {WORD} again?")
SLOW = ("--tokens-max", "60", "--draft-ms", "10")
DEBUG = ("--log-level", "debug")


@dataclass(frozen=True)
class Story:
    """What was said in two commands of an edge to one cloud, and all that was written down about it."""

    answers: str
    secrets: Sequence[str]
    """What proves that an edge has its token, and what is kept to check that."""

    edge_log: str
    cloud_log: str
    figures: str
    timelines: str

    @property
    def all_written(self) -> str:
        return self.edge_log + self.cloud_log + self.figures + self.timelines


@contextmanager
def at_work(side: str, *arguments: str) -> Iterator["Daemon"]:
    with start(side, *arguments) as process:
        try:
            yield Daemon(process)
        finally:
            process.kill()


class Daemon:
    """A process whose log is read all the time, so that it need not wait for us."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.log = ""
        self._process = process
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._reader = Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.log += line
            self._lines.put(line)

    def told(self, what: str) -> str:
        """The last word of the next line with these words in it."""
        while what not in (line := self._lines.get(timeout=PATIENCE_S)):
            pass
        return line.split()[-1]

    def end(self) -> None:
        interrupt(self._process)
        self._process.wait(PATIENCE_S)
        self._reader.join()


def tell(folder: Path, *extra: str) -> Story:
    """An edge generates and chats over a connection that is cut; a stranger talks; all log what they can."""
    book, at_edge, in_cloud = (folder / name for name in ("tokens.json", "edge.json", "cloud.json"))
    token = create(book, "alice", Limits())
    serve = ("serve", "--listen", "127.0.0.1:0", "--tokens", str(book), "--metrics", "127.0.0.1:0")
    with at_work("cloud", *serve, "--trace-out", str(in_cloud), *DEBUG, *extra) as cloud:
        address, metrics = cloud.told("ready on"), cloud.told("metrics at")
        listener, _, port = address.rpartition(":")
        with socket.create_connection((listener, int(port))) as stranger:
            stranger.sendall(len(WORD).to_bytes(4, "big") + WORD.encode())
            while stranger.recv(4_096):  # until it is sent away
                pass
        env = environment(PIPESD_EDGE_TOKEN=token.text)
        common = (*SLOW, *DEBUG, *extra, "--trace-out", str(at_edge))
        text, log = cut_short(address, "-p", PROMPTS[0], *common, env=env)
        script = "\n".join(PROMPTS)
        chatted = run("edge", "chat", "--cloud", address, *common[:-2], env=env, script=script)
        with urllib.request.urlopen(metrics) as page:
            figures = page.read().decode()
        cloud.end()
    assert chatted.returncode == 0, chatted.stderr
    kept = re.findall(r'"([A-Za-z0-9+/=_-]{20,})"', book.read_text())
    return Story(
        answers=text + chatted.stdout,
        secrets=(token.secret, *kept),
        edge_log=log + chatted.stderr,
        cloud_log=cloud.log,
        figures=figures,
        timelines=at_edge.read_text() + in_cloud.read_text(),
    )


def cut_short(cloud: str, *arguments: str, env: dict[str, str]) -> tuple[str, str]:
    """An answer whose connection is cut in the middle, and the log of that edge."""
    with at_work("lab", "link", "--listen", "127.0.0.1:0", "--scenario", "fast", "--cloud", cloud) as way:
        clouds = f"{way.told('ready on')},{cloud}"
        with start("edge", "generate", "--cloud", clouds, *arguments, env=env) as edge:
            beginning = read_some(edge, 40)
            way.end()
            code, rest, log = finish(edge)
    assert code == 0, log
    return beginning + rest, log


def ids_in_a_row(ids: Sequence[int]) -> re.Pattern[str]:
    """Any three of them, one behind the other."""
    runs = zip(ids, ids[1:], ids[2:], strict=False)
    return re.compile("|".join(rf"\b{a}\D{{1,3}}{b}\D{{1,3}}{c}\b" for a, b, c in runs))


def traces_of_content(story: Story) -> dict[str, re.Pattern[str]]:
    """What would give the conversation away, by what it is."""
    words = story.answers.split()
    runs = {" ".join(words[at : at + 4]) for at in range(len(words) - 3)}
    ids = [FIRST_WORD_ID + WORDS.index(f" {word}") for word in words if f" {word}" in WORDS]
    return {
        "the prompt": re.compile(WORD),
        "its ids": ids_in_a_row(list(PROMPTS[0].encode())),
        "an answer": re.compile("|".join(runs)),
        "its ids in a row": ids_in_a_row(ids),
        "a draft": re.compile(r"\btoken=\d"),
    }


def found_in(story: Story, log: str) -> list[str]:
    return [what for what, pattern in traces_of_content(story).items() if pattern.search(log)]


@pytest.fixture(scope="module")
def discreet(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(tmp_path_factory.mktemp("discreet"))


@pytest.fixture(scope="module")
def telling(tmp_path_factory: pytest.TempPathFactory) -> Story:
    return tell(tmp_path_factory.mktemp("telling"), "--log-content")


def test_nothing_that_is_written_down_tells_of_the_conversation(discreet: Story) -> None:
    assert found_in(discreet, discreet.all_written) == []


def test_all_of_it_was_written(discreet: Story) -> None:
    """Otherwise there would have been nothing to find."""
    assert discreet.answers.count(" ") > 60
    for line in ("> Hello", "> Prompt", "> Draft", "< Verdict", "> Resume", "< TokenDrafted", "> EmitTokens"):
        assert line in discreet.edge_log
    for line in ("< Prompt", "> RunPass", "< PassDone", "> Verdict", "! PeerRejected", "> Challenge"):
        assert line in discreet.cloud_log
    assert "the cloud is away" in discreet.edge_log
    assert "pipesd_confirmed_tokens_total" in discreet.figures
    assert discreet.timelines.count('"verdict"') > 2


def test_with_log_content_the_logs_do(telling: Story) -> None:
    everything = list(traces_of_content(telling))
    assert found_in(telling, telling.edge_log) == everything
    assert found_in(telling, telling.cloud_log) == [what for what in everything if what != "a draft"]
    assert found_in(telling, telling.figures + telling.timelines) == []


@pytest.mark.parametrize("which", ["discreet", "telling"])
def test_secrets_are_never_written_down(which: str, request: pytest.FixtureRequest) -> None:
    story: Story = request.getfixturevalue(which)
    assert len(story.secrets) >= 4
    assert [secret for secret in story.secrets if secret in story.all_written] == []
    logs = story.edge_log + story.cloud_log
    assert re.findall(r"\b(?:credential|nonce|lease)=|n=alice|,r=|,p=", logs) == []
