"""What the fuzzer begins with: golden vectors, real dialogues, and plausible words of every kind."""

import json
from collections.abc import Callable, Iterator, Mapping

from pipesd.wire.frames import (
    Block,
    Bye,
    Cancel,
    Challenge,
    Close,
    CloudFrame,
    Draft,
    EdgeFrame,
    Fault,
    Hello,
    Opened,
    Prompt,
    Proof,
    Refuse,
    Restore,
    Resume,
    Resumed,
    Verdict,
    Welcome,
)
from tests.fuzz import cloud_session, codec, edge_session, handshake, settings, traces
from tests.fuzz.dialogues import dialogue, golden_frames, said
from tests.fuzz.stream import Stream, raw_records
from tests.fuzz.tape import RECORD_BYTES_MAX, program

_PLAIN = b""
"""A head that makes the plausible choices."""


def _pieces(content: bytes) -> list[bytes]:
    return [content[at : at + RECORD_BYTES_MAX] for at in range(0, len(content), RECORD_BYTES_MAX)]


def _codec() -> Iterator[bytes]:
    heads = [bytes([number, 0, size]) for number, size in enumerate((1, 3, 200))]
    for vector in golden_frames():
        yield program([heads[2], *raw_records(vector)])
    for head, way in zip(heads, ("up", "down"), strict=False):
        yield program([head, *raw_records(said(way))])
    for head, (_, stream) in zip(heads, codec.STREAMS, strict=True):
        yield program([head, *(stream.record_of(kind) for kind in stream.kinds)])


def _handshake() -> Iterator[bytes]:
    hear, wait = bytes([handshake.HEAR]), bytes([handshake.WAIT])
    for number, door in enumerate(handshake.DOORS):
        head, words = bytes([number]), [hear + door.stream.record_of(kind) for kind in door.stream.kinds]
        greeting = said("down" if number % 2 else "up")[:RECORD_BYTES_MAX]
        yield program([head, *raw_records(greeting, begin=hear)])
        for word in words:
            yield program([head, word])
            yield program([head, wait, word])
    edge, cloud = handshake.DOORS[1].stream, handshake.DOORS[2].stream
    other_hashes = hear + edge.record_of(Welcome, 0, 0, 0, 0, 0, 12)
    yield program([b"\x01", other_hashes, hear + edge.record_of(Block)])
    yield program([b"\x01", other_hashes, wait + b"\x07"])
    otherwise = [255, 30, 2, 0, ord("A")]
    for change in ([], otherwise):
        yield program([b"\x02", hear + cloud.record_of(Hello), hear + cloud.record_of(Proof, *change)])
        yield program([b"\x03", hear + edge.record_of(Challenge, *change), hear + edge.record_of(Welcome)])


def _cloud_session() -> Iterator[bytes]:
    stream = Stream(EdgeFrame, {})
    say, done, listen, wait, odd = (
        bytes([move])
        for move in (
            cloud_session.SAY,
            cloud_session.PASS,
            cloud_session.LISTEN,
            cloud_session.WAIT,
            cloud_session.ODD,
        )
    )
    say += b"\x00"
    heard: list[bytes] = []
    for way, frame in dialogue():
        heard += [done] if way == "pass" else raw_records(frame, begin=say) if way == "up" else []
    yield program([_PLAIN, *heard])
    kinds = (Prompt, Draft, Draft, Draft, Cancel, Prompt, Draft, Close)
    talk = [say + stream.record_of(kind) for kind in kinds]
    for head in (b"\x00", b"\x01\x01\x01", b"\x02\x02\x00\x01", b"\x00\x00\x00\x00\x01"):
        yield program([head, *(part for word in talk for part in (word, done, listen))])
        yield program([head, talk[0], done, odd + b"\x06", *talk, done])
    for kind in stream.kinds:
        word = say + stream.record_of(kind)
        yield program([_PLAIN, word, talk[0], word, talk[1], word, done, talk[2], word, done])
    back = [say + stream.record_of(kind) for kind in (Resume, Draft, Restore, Draft)]
    for end in (odd + b"\x02", odd + b"\x03"):
        yield program(
            [_PLAIN, talk[0], done, talk[1], end, back[0], done, back[1], done, back[2], back[3], done]
        )
    for number in range(6):
        disturbed = odd + bytes([number])
        yield program([_PLAIN, talk[0], done, talk[1], disturbed, done, wait + b"\x03", listen, disturbed])


def _edge_session() -> Iterator[bytes]:
    stream = Stream(CloudFrame, {})
    say, step, ask, idle, wait, odd = (
        bytes([move])
        for move in (
            edge_session.SAY,
            edge_session.STEP,
            edge_session.ASK,
            edge_session.IDLE,
            edge_session.WAIT,
            edge_session.ODD,
        )
    )
    later = wait + b"\x03"
    short = ask + bytes([0, 0, 0, 1, 2, 3, 0, 1])
    heard = [record for way, frame in dialogue() if way == "down" for record in raw_records(frame, begin=say)]
    yield program([_PLAIN, ask, *(move for record in heard for move in (step, idle, step, record))])
    opened, resumed, verdict = (say + stream.record_of(kind) for kind in (Opened, Resumed, Verdict))
    answer = [opened, *(step, idle, step, idle, step, verdict) * 6]
    for head in (_PLAIN, b"\x03\x01\x01\x01\x01", b"\x0f\x02\x02\x02\x00\x02", b"\x01\x00\x00\x03"):
        yield program([head, ask, *answer, short, *answer, ask, *answer])
        for end in (Bye, Refuse, Fault):
            last = say + stream.record_of(end)
            yield program([head, ask, *answer[:6], last, step, step, later, resumed, *answer, later])
    for kind in stream.kinds:
        word = say + stream.record_of(kind)
        yield program([_PLAIN, ask, opened, step, idle, word, step, idle, verdict, word])
    for number in range(9):
        disturbed = odd + bytes([0, 0, 0, 0, number])
        yield program([_PLAIN, ask, opened, step, idle, step, disturbed, verdict, step, later, ask, step])


def _traces() -> Iterator[bytes]:
    yield program([_PLAIN])
    yield program([b"\x02", *_pieces(b"".join(json.dumps(line).encode() + b"\n" for line in traces.SOUND))])
    for line, keys in enumerate(traces.SOUND):
        for key in range(len(keys)):
            for change in range(6):
                yield program([_PLAIN, bytes([0, line, 0, key, 240, change])])
    for place in (0, 5, 100, 200):
        yield program([_PLAIN, bytes([traces.SPLICE, place, 2, 0]) + b'"\xff{'])


def _settings() -> Iterator[bytes]:
    for reader, (_, _, document, names) in enumerate(settings.READERS):
        head = bytes([reader])
        yield program([head])
        yield program([head + b"\x02", *_pieces(settings.as_toml(document).encode())])
        for key in range(0, 9, 2):
            for change in range(6):
                yield program([head, bytes([0, 0, key, 0, change])])
                yield program([head, bytes([0, key, 255, change])])
        for number in range(len(names)):
            yield program([head, bytes([settings.VARIABLE, number]) + b"1"])
        for times, text in ((0, b'"""\n[x'), (15, b"["), (15, b"x."), (15, b"{x=")):
            yield program([head, bytes([settings.SPLICE, 9, 1, times]) + text])


SEEDS: Mapping[str, Callable[[], Iterator[bytes]]] = {
    "codec": _codec,
    "handshake": _handshake,
    "cloud_session": _cloud_session,
    "edge_session": _edge_session,
    "traces": _traces,
    "settings": _settings,
}
