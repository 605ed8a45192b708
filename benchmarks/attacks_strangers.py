"""The strangers of ``attacks.py``: an attack in a process of its own, from 127.0.0.2, at the lowest priority.

What is to be done comes as one line of JSON, an ``Order``, and what came of it leaves as another, an
``Outcome``. Each attack goes on, as fast as its connections are answered, until it was tried often enough and
for long enough.
"""

import asyncio
import os
import resource
import ssl
import sys
from collections import Counter
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic

import msgspec

from benchmarks.attacks_caller import (
    LET_IN,
    NAMELESS,
    Caller,
    Recorded,
    in_words,
    log_in,
)
from benchmarks.attacks_scene import Order, Outcome, Scene
from pipesd.errors import LinkError
from pipesd.values import Sampling
from pipesd.wire import frames
from pipesd.wire.codec import encode

LOWEST_PRIORITY = 19
CUT_AT_ONCE, CUT_LATER = "cut at once", "cut when the time for the handshake was up"
SOON_S = 5.0
"""Half the time that a handshake may take."""

OPENED_PER_CONNECTION = 16
OPENED = "a session"


# -- who is not let in --------------------------------------------------------------------------------------


async def no_token(scene: Scene) -> None:
    await scene.hammer_with(encode(NAMELESS))


async def wrong_token(scene: Scene) -> None:
    """By turns of a name that there is, and of one that there is not."""
    secret = "x" * 43
    name, _, _ = scene.order.tokens["own"].partition(".")

    async def once(number: int) -> str:
        async with scene.calling() as caller:
            return await log_in(caller, f"{(name, 'nobody')[number % 2]}.{secret}")

    await scene.hammer(once)


async def revoked_token(scene: Scene) -> None:
    """It is good at first, and revoked while a connection is open with it."""
    token = scene.order.tokens["revoked"]
    async with scene.calling() as caller:
        if await log_in(caller, token) != LET_IN:
            scene.notes.append("the token was of no use before it was revoked")
        await asked_for("revoke")
        begun = monotonic()
        word = await caller.last_word()
        scene.notes.append(f"the open connection: {word}, after {monotonic() - begun:.1f} s")

    async def once(_: int) -> str:
        async with scene.calling() as caller:
            return await log_in(caller, token)

    await scene.hammer(once)


async def replayed_handshake(scene: Scene) -> None:
    """The bytes of a good login, said again: by turns as a dialogue, and all at once."""
    async with scene.calling() as caller:
        recorded = Recorded(caller.link)
        caller.link = recorded
        if await log_in(caller, scene.order.tokens["own"]) != LET_IN:
            scene.notes.append("the login that was recorded was none")
    hello, proof = recorded.sent

    async def once(number: int) -> str:
        async with scene.calling() as caller:
            await caller.link.send(hello if number % 2 else hello + proof)
            if not isinstance(await caller.hear(), frames.Challenge):
                return "no challenge came"
            if number % 2:
                await caller.link.send(proof)
            return await caller.last_word()

    await scene.hammer(once)


async def other_version(scene: Scene) -> None:
    older = (frames.PROTOCOL_VERSION - 1, 0, frames.PROTOCOL_VERSION + 1)
    await scene.hammer_with(
        *(encode(msgspec.structs.replace(NAMELESS, version=version)) for version in older)
    )


# -- what is not taken --------------------------------------------------------------------------------------


async def huge_prefix(scene: Scene) -> None:
    """4 GB are announced, and a read's worth of them comes."""
    await scene.hammer_with(b"\xff\xff\xff\xff" + bytes(1 << 16))


async def nested(scene: Scene) -> None:
    """Arrays in arrays: by turns before the greeting, and with a good token in the largest frame there is."""
    small, large = deep(1 << 13), deep(1 << 20)

    async def once(number: int) -> str:
        async with scene.calling() as caller:
            if number % 8:
                await caller.link.send(small)
            elif await log_in(caller, scene.order.tokens["own"]) != LET_IN:
                return "the token is of no use"
            else:
                await caller.link.send(large)
            return await caller.last_word()

    await scene.hammer(once)


def deep(size: int) -> bytes:
    return size.to_bytes(4, "big") + b"\x91" * size


async def no_greeting(scene: Scene) -> None:
    prompt = frames.Prompt(0, 1, 0, (1,) * 1_000, Sampling(), 0, 50)
    http = b"GET / HTTP/1.1\r\nHost: example\r\n\r\n"
    await scene.hammer_with(encode(frames.Open(0)) + encode(prompt), http, encode(frames.Proof(b"")))


# -- what is another's --------------------------------------------------------------------------------------


async def others_lease(scene: Scene) -> None:
    """A session of one token is asked for with another, by turns with a lease that is nobody's."""
    own = frames.Prompt(0, 1, 0, (1, 2, 3), Sampling(), 0, 50)
    async with scene.calling() as victim:
        if await log_in(victim, scene.order.tokens["victim"]) != LET_IN:
            scene.notes.append("the victim was not let in")
        await victim.say(frames.Open(0), own, frames.Draft(0, 1, 3, (), 4))
        opened, first = await victim.hear(), await victim.hear()
        lease = opened.lease if isinstance(opened, frames.Opened) else b""

        async def once(number: int) -> str:
            shown = lease if number % 2 else os.urandom(len(lease))
            async with scene.calling() as thief:
                if await log_in(thief, scene.order.tokens["own"]) != LET_IN:
                    return "the token is of no use"
                await thief.say(frames.Resume(5, shown, 1, 1, 3))
                given = what_was_given(await thief.hear(), await thief.hear(), lease)
                await thief.say(frames.Bye("thanks"))
                return given

        await scene.hammer(once)
        await victim.say(frames.Draft(0, 1, 4, (), 5))
        second = await victim.hear()
    bases = [each.base if isinstance(each, frames.Verdict) else None for each in (first, second)]
    scene.notes.append("the session goes on" if bases == [3, 4] else "THE SESSION IS DISTURBED")


def what_was_given(first: frames.CloudFrame, second: frames.CloudFrame, lease: bytes) -> str:
    match first, second:
        case frames.Opened(5, fresh), frames.Resumed(5, True) if fresh != lease:
            return "a new session, of which nothing is known"
        case _:
            return "THE SESSION OF ANOTHER"


async def many_sessions(scene: Scene) -> None:
    """On as many connections as one address may have, each asks for as many sessions as it may ask for."""
    open_now = most = 0

    async def once(_: int) -> list[str]:
        nonlocal open_now, most
        async with scene.calling() as caller:
            if (word := await log_in(caller, scene.order.tokens["narrow"])) != LET_IN:
                return [word]
            await caller.say(*(frames.Open(number) for number in range(OPENED_PER_CONNECTION)))
            answers = [await caller.hear() for _ in range(OPENED_PER_CONNECTION)]
            opened = sum(isinstance(answer, frames.Opened) for answer in answers)
            open_now += opened
            most = max(most, open_now)
            await asyncio.sleep(0.5)
            open_now -= opened
        return [in_words(answer, OPENED) for answer in answers]

    await scene.hammer(once)
    scene.notes.append(f"at most {most} sessions were open at once")


# -- what is slow, or many ----------------------------------------------------------------------------------


async def half_open(scene: Scene) -> None:
    """They say nothing. Every second one stays when it was turned away, until the cloud has gone too."""

    async def once(number: int) -> str:
        async with scene.calling() as caller:
            word = await caller.last_word()
            if number % 2:
                await asyncio.sleep(2.0)
            return word

    await scene.hammer(once)


async def slowloris(scene: Scene) -> None:
    """A greeting, of which a byte comes each second."""
    greeting = encode(NAMELESS)

    async def drip(caller: Caller) -> None:
        with suppress(LinkError):
            for number in range(len(greeting)):
                await caller.link.send(greeting[number : number + 1])
                await asyncio.sleep(1.0)

    async def once(_: int) -> str:
        async with scene.calling() as caller, asyncio.TaskGroup() as group:
            dripping = group.create_task(drip(caller))
            word = await caller.last_word()
            dripping.cancel()
        if not word.startswith("Fault silent"):
            await asyncio.sleep(1.0)
        return word

    await scene.hammer(once)


# -- who never speaks TLS -----------------------------------------------------------------------------------


async def no_handshake(scene: Scene) -> None:
    """To a cloud that speaks TLS: by turns nothing at all, and the first message of a handshake only."""
    first = client_hello()

    async def once(number: int) -> str:
        async with scene.calling() as caller:
            begun = monotonic()
            if number % 2:
                await caller.link.send(first)
            with suppress(LinkError):
                while await caller.link.receive():
                    pass
            took_s = monotonic() - begun
        return CUT_AT_ONCE if took_s < SOON_S else CUT_LATER

    await scene.hammer(once)


def client_hello() -> bytes:
    context = ssl.create_default_context()
    outgoing = ssl.MemoryBIO()
    handshake = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with suppress(ssl.SSLWantReadError):
        handshake.do_handshake()
    return outgoing.read()


# -- all of them --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attack:
    """What is tried, how often, and how it must end."""

    name: str
    play: Callable[[Scene], Coroutine[None, None, None]]
    tries: int
    at_once: int
    allowed: tuple[str, ...]
    """With what each answer begins; every one of them comes."""

    notes: tuple[str, ...] = ()
    """With what each note begins, and no others are there."""

    tls: bool = False


SILENT = "Fault silent: no greeting came within"
TURNED_AWAY = "Refuse busy: all 64 connections from one address are taken"
CROWDED = "Refuse busy: too many connections wait here"
AUTH = "Refuse auth: no token of this name and secret is known here"
REVOKED = "this token has been revoked"

ATTACKS = (
    Attack("no token", no_token, 500, 8, ("Refuse auth: the cloud wants an access token",)),
    Attack("wrong token", wrong_token, 500, 8, (AUTH,)),
    Attack(
        "revoked token",
        revoked_token,
        500,
        8,
        (f"Refuse auth: {REVOKED}",),
        ("the open connection: Fault auth: the access token has been revoked, after",),
    ),
    Attack("replayed handshake", replayed_handshake, 500, 8, (AUTH,)),
    Attack(
        "another's lease",
        others_lease,
        500,
        8,
        ("a new session, of which nothing is known",),
        ("the session goes on",),
    ),
    Attack("10,000 half-open connections", half_open, 10_000, 5_000, (TURNED_AWAY, CROWDED, SILENT)),
    Attack("slowloris", slowloris, 144, 80, (TURNED_AWAY, SILENT)),
    Attack("4 GB length prefix", huge_prefix, 500, 8, ("Fault oversized: a frame of 4294967295 bytes",)),
    Attack("deeply nested frame", nested, 500, 8, ("Fault malformed: the bytes of a frame are not one",)),
    Attack(
        "1,000 sessions of one token",
        many_sessions,
        63,
        32,
        (OPENED, "Fault busy: all 4 sessions of this token are open"),
        ("at most 4 sessions",),
    ),
    Attack("other version", other_version, 500, 8, ("Refuse version: it speaks version",)),
    Attack("no greeting", no_greeting, 500, 8, ("Fault out_of_phase", "Fault oversized")),
    Attack(
        "10,000 TLS handshakes not finished",
        no_handshake,
        10_000,
        5_000,
        (CUT_AT_ONCE, CUT_LATER),
        tls=True,
    ),
)


async def asked_for(what: str) -> None:
    """Have the benchmark do something, and wait until it has."""
    print(what, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)


async def play(order: Order) -> Outcome:
    attack = next(each for each in ATTACKS if each.name == order.attack)
    await asked_for("ready")
    scene = Scene(order, attack.tries, attack.at_once, Counter(), [])
    await attack.play(scene)
    return Outcome(scene.begun, scene.ended, dict(scene.answers), scene.notes)


def raise_limit_of_files() -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


if __name__ == "__main__":
    os.nice(LOWEST_PRIORITY)
    raise_limit_of_files()
    order = msgspec.json.decode(sys.stdin.readline(), type=Order)
    print(msgspec.json.encode(asyncio.run(play(order))).decode(), flush=True)
