"""Access tokens as a user meets them: who is let in, how far, and for how long."""

import re
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from pipesd.access import AccessToken
from pipesd.actors.link import fresh_nonce, open_tcp_link
from pipesd.cloud import serve
from pipesd.config import CloudConfig
from pipesd.engines.scripted import ScriptedTarget
from pipesd.session.proof import EdgeProof
from pipesd.values import Sampling
from pipesd.wire.frames import (
    PROTOCOL_VERSION,
    Challenge,
    CloudFrame,
    Draft,
    Hello,
    Open,
    Opened,
    Prompt,
    Proof,
    Resume,
    Resumed,
    Verdict,
    Welcome,
)
from tests.actors.helpers import Talker
from tests.end_to_end.processes import (
    PATIENCE_S,
    environment,
    expect_failure,
    finish,
    generate,
    interrupt,
    read_some,
    run,
    serving,
    start,
)

SLOW = ("--pass-ms", "20")
BRIEF = ("-p", "The sea", "--tokens-max", "30")
LONG = ("-p", "The sea", "--tokens-max", "400")
LASTING = ("--draft-ms", "200", "--upper-tokens", "1", "--lower-tokens", "1", "--ahead", "never")
"""Some two minutes for a long answer, of which nobody waits for the end."""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a cloud's tokens."""
    return tmp_path_factory.mktemp("tokens") / "tokens.json"


@pytest.fixture(scope="module")
def alice(book: Path) -> str:
    return created(book, "alice")


@pytest.fixture(scope="module")
def guarded(book: Path, alice: str) -> Iterator[str]:
    """A cloud that lets nobody in without a token."""
    with serving(*SLOW, "--tokens", str(book), "--busy-retry-s", "0.3") as (_, address):
        yield address


def created(book: Path, name: str, *limits: str) -> str:
    done = run("cloud", "token", "create", name, "--tokens", str(book), *limits)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    assert line.startswith(f"{name}.")
    return line


def revoke(book: Path, name: str) -> None:
    done = run("cloud", "token", "revoke", name, "--tokens", str(book))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def holding(token: str) -> dict[str, str]:
    return environment(PIPESD_EDGE_TOKEN=token)


def asked(address: str, token: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run("edge", "generate", "--cloud", address, *BRIEF, *arguments, env=holding(token))


@contextmanager
def answering(address: str, token: str, *pace: str) -> Iterator[subprocess.Popen[str]]:
    """An edge in the middle of a long answer."""
    with start("edge", "generate", "--cloud", address, *LONG, *pace, env=holding(token)) as edge:
        try:
            assert read_some(edge, 40)
            yield edge
        finally:
            edge.kill()


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    sentence = expect_failure(done, 1, *words)
    assert sentence.startswith("pipesd-edge: ")
    assert done.stderr.count("\n") == 1


# --- who is let in ---------------------------------------------------------------------------------------


def test_whoever_has_a_good_token_is_let_in(guarded: str, alice: str, tmp_path: Path) -> None:
    alone = run("cloud", "generate", *BRIEF)
    file = tmp_path / "token"
    file.write_text(f"{alice}\n")
    for done in (asked(guarded, alice), generate(guarded, *BRIEF, "--token", str(file))):
        assert done.returncode == 0, done.stderr
        assert done.stdout == alone.stdout
        assert alice.partition(".")[2] not in done.stderr


def test_without_a_token_nobody_is(guarded: str) -> None:
    refused(generate(guarded, *BRIEF), "wants an access token", "give token")


@pytest.mark.parametrize("name", ["alice", "nobody"])
def test_a_wrong_token_is_refused_whether_or_not_there_is_its_name(guarded: str, name: str) -> None:
    refused(asked(guarded, f"{name}.{'x' * 43}"), "no token of this name and secret is known", "ask whoever")


def test_what_is_no_token_is_a_mistake_of_the_user(guarded: str, alice: str) -> None:
    secret = alice.partition(".")[2]
    sentence = expect_failure(asked(guarded, secret), 2, "token: must be NAME.SECRET")
    assert secret not in sentence


def test_a_token_of_another_cloud_is_refused(guarded: str, tmp_path: Path) -> None:
    refused(asked(guarded, created(tmp_path / "tokens.json", "alice")), "no token of this name")


def test_a_cloud_that_wants_none_proves_nothing_to_whoever_has_one(alice: str) -> None:
    """It may have been put in the place of the one that gave the token out."""
    with serving(*SLOW) as (_, address):
        refused(asked(address, alice), "cannot prove that it knows the token")


def test_a_cloud_without_its_file_does_not_start(tmp_path: Path) -> None:
    done = run("cloud", "serve", "--listen", "127.0.0.1:0", "--tokens", str(tmp_path / "none.json"))
    expect_failure(done, 2, "tokens: ", "none.json is not there", "pipesd-cloud token create")


# --- a token that is revoked -----------------------------------------------------------------------------


def test_a_revoked_token_ends_answers_that_are_being_written_and_begins_none(
    guarded: str, book: Path, alice: str
) -> None:
    """The cloud is not restarted, and nobody else is touched."""
    bob = created(book, "bob")
    with answering(guarded, bob, *LASTING) as his, answering(guarded, alice, *LASTING) as hers:
        revoke(book, "bob")
        code, _, errors = finish(his)
        assert code == 1
        assert re.search("^pipesd-edge: .*the access token has been revoked", errors, re.MULTILINE), errors
        assert "Traceback" not in errors
        assert read_some(hers, 40)
        assert hers.poll() is None
    refused(asked(guarded, bob), "this token has been revoked", "ask whoever")
    again = created(book, "bob")
    assert asked(guarded, again).returncode == 0
    listed = run("cloud", "token", "list", "--tokens", str(book))
    assert [line.partition(":")[0] for line in listed.stdout.splitlines() if "revoked" not in line] == [
        "alice",
        "bob",
    ]


# --- its limits ------------------------------------------------------------------------------------------


def test_no_more_sessions_are_open_than_the_token_allows(guarded: str, book: Path, alice: str) -> None:
    lone = created(book, "lone", "--sessions-max", "1")
    with answering(guarded, lone, *LASTING) as first:
        refused_soon = ("--busy-timeout-s", "0.5")
        done = asked(guarded, lone, *refused_soon)
        assert done.returncode == 1
        assert "all 1 sessions of this token are open" in done.stderr.splitlines()[-1]
        assert asked(guarded, alice, *refused_soon).returncode == 0, "others are not limited by it"
        with start("edge", "generate", "--cloud", guarded, *BRIEF, env=holding(lone)) as waiting:
            assert waiting.stderr is not None
            assert "the cloud is busy" in waiting.stderr.readline()
            interrupt(first)
            assert finish(first)[0] == 130
            code, text, errors = finish(waiting)
    assert code == 0, errors
    assert text == asked(guarded, alice).stdout


def test_no_more_tokens_are_confirmed_than_the_token_allows(guarded: str, book: Path, alice: str) -> None:
    slow = created(book, "slow", "--tokens-per-minute", "20")
    with answering(guarded, slow) as limited:
        assert asked(guarded, alice, "--tokens-max", "400").returncode == 0
        assert limited.poll() is None, "it has begun before, and is not done"
        limited.kill()
        assert limited.stdout is not None
        words = limited.stdout.read().count(" ")
    assert words < 60, "20 at once, what one verdict may bring beyond them, and one every three seconds"


def test_no_text_is_longer_than_the_token_allows(guarded: str, book: Path) -> None:
    short = created(book, "short", "--context-tokens", "40")
    done = asked(guarded, short, "--tokens-max", "400")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count(" ") == 40 - len("The sea")
    assert "(context)" in done.stderr
    expect_failure(asked(guarded, short, "-p", "x" * 41), 2, "context of 40")


# --- whose a session is ----------------------------------------------------------------------------------


@asynccontextmanager
async def logged_in(address: tuple[str, int], token: str) -> AsyncIterator[Talker[CloudFrame]]:
    """An edge by hand that has proved who it is."""
    link = await open_tcp_link(*address, PATIENCE_S)
    try:
        talker: Talker[CloudFrame] = Talker(link, CloudFrame)
        proof = EdgeProof(AccessToken.parse(token), fresh_nonce())
        size = len(ScriptedTarget().tokenizer.vocabulary)
        await talker.say(Hello(PROTOCOL_VERSION, "a test", size, proof.first))
        challenge = await talker.hear()
        assert isinstance(challenge, Challenge)
        await talker.say(Proof(proof.answer(challenge.credential)))
        welcome = await talker.hear()
        assert isinstance(welcome, Welcome)
        proof.check(welcome.credential)
        yield talker
    finally:
        link.abort()


async def heard(talker: Talker[CloudFrame], kind: type[CloudFrame]) -> CloudFrame:
    """The next frame of that kind."""
    while not isinstance(frame := await talker.hear(), kind):
        pass
    return frame


async def test_a_session_can_be_taken_up_by_its_own_token_only(book: Path, alice: str) -> None:
    mallory = created(book, "mallory")
    config = CloudConfig(engine="scripted", listen="127.0.0.1:0", tokens=str(book))
    prompt = Prompt(0, 1, 0, (1, 2, 3), Sampling(), 0, 50)
    async with serve(config) as cloud:
        async with logged_in(cloud.address, alice) as hers:
            await hers.say(Open(0), prompt, Draft(0, 1, 3, (), 4))
            opened = await heard(hers, Opened)
            assert isinstance(opened, Opened)
            assert opened.lease
            first = await heard(hers, Verdict)
            assert isinstance(first, Verdict)

            async with logged_in(cloud.address, mallory) as other:
                await other.say(Resume(5, opened.lease, 1, 1, 3))
                stranger, answer = await other.hear(), await other.hear()
                assert isinstance(stranger, Opened), "a new session, which knows nothing of that text"
                assert stranger.lease != opened.lease
                assert answer == Resumed(5, need=True)

            await hers.say(Draft(0, 1, 4, (), 5))
            second = await heard(hers, Verdict)
            assert isinstance(second, Verdict)
            assert second.base == 4
        async with logged_in(cloud.address, alice) as again:
            await again.say(Resume(7, opened.lease, 2, 1, 4))
            assert await heard(again, Resumed) == Resumed(7, need=False)
            told_again = await heard(again, Verdict)
            assert isinstance(told_again, Verdict)
            assert (told_again.session, told_again.epoch, told_again.base) == (7, 2, 4)
            assert told_again.tokens == second.tokens
