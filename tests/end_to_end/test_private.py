"""Private turns of real processes over a link whose every byte is recorded."""

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from pipesd.wire.codec import Decoder
from pipesd.wire.frames import Draft, EdgeFrame, Prompt
from tests.end_to_end.processes import PATIENCE_S, run, serving
from tests.end_to_end.test_chats import as_text, path_behind

SECRET = "XYZZY QUUX"
SCRIPT = f"Tell me\n/private on\n{SECRET}\nmore of {SECRET}\n/private off\nGo on\n"
LIMIT = ("--tokens-max", "12")


class Record:
    """Passes one connection on, and keeps what the edge says."""

    def __init__(self, cloud: str) -> None:
        host, _, port = cloud.rpartition(":")
        self._cloud = (host, int(port))
        self._door = socket.create_server(("127.0.0.1", 0))
        self._door.settimeout(PATIENCE_S)
        self.address = f"127.0.0.1:{self._door.getsockname()[1]}"
        self.said = bytearray()
        self._thread = threading.Thread(target=self._relay)

    @contextmanager
    def running(self) -> Iterator[None]:
        self._thread.start()
        try:
            yield
        finally:
            self._thread.join(PATIENCE_S)
            self._door.close()

    def _relay(self) -> None:
        edge, _ = self._door.accept()
        with edge, socket.create_connection(self._cloud) as cloud:
            back = threading.Thread(target=_pass_on, args=(cloud, edge, bytearray()))
            back.start()
            _pass_on(edge, cloud, self.said)
            back.join(PATIENCE_S)

    def tokens(self) -> set[int]:
        """All that the edge said of texts."""
        frames = Decoder[EdgeFrame](EdgeFrame).feed(bytes(self.said))
        told = [frame.tokens for frame in frames if isinstance(frame, Prompt | Draft)]
        assert len(told) > 2
        return {token for tokens in told for token in tokens}


def _pass_on(source: socket.socket, sink: socket.socket, record: bytearray) -> None:
    with suppress(ConnectionError):
        while data := source.recv(65_536):
            record += data
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def chatted(script: str, cloud: str, engine: Sequence[str]) -> tuple[str, str, Record]:
    """What the edge wrote, what it remarked, and what it said to the cloud."""
    record = Record(cloud)
    with record.running():
        done = run("edge", "chat", "--cloud", record.address, *LIMIT, *engine, script=script)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr, record


def test_what_is_private_does_not_leave_the_device() -> None:
    with serving() as (_, address):
        said, remarks, record = chatted(SCRIPT, address, ())
        public = set(b"Tell meGo on")
        assert public <= record.tokens()
        assert set(b"XYZQU").isdisjoint(record.tokens())
        assert SECRET.encode() not in record.said

        first = path_behind(b"Tell me", 12)
        second = path_behind([*b"Tell me", *first, *b"Go on"], 12)
        lines = said.splitlines()
        assert lines[0] == as_text(first)
        assert lines[-1] == as_text(second)
        assert "private: " in remarks
        assert "not private: " in remarks

        _, _, leaked = chatted(SCRIPT.replace("/private on", "/stats"), address, ())
        assert set(b"XYZQU") <= leaked.tokens(), "the record would not have shown it"


@pytest.mark.models
def test_a_real_draft_answers_in_private_as_it_does_alone() -> None:
    engine = ("--engine", "llama", "--threads", "1")
    draft = ("--draft", "smollm2-135m")
    question = "What is the capital of France?\n"
    with serving(*engine, "--model", "smollm2-135m") as (_, address):
        said, _, record = chatted(f"Hello\n/private on\n/reset\n{question}", address, (*engine, *draft))
        tokens = record.tokens()
    alone = run("edge", "chat", "--policy", "edge-only", *LIMIT, *engine, *draft, script=question)
    assert len(alone.stdout) > 10
    assert said.endswith("\n" + alone.stdout)
    assert len(tokens) < 60, "more than a greeting in its template was told"
