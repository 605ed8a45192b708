"""One struct per frame; what may cross the wire and nothing else.

On the wire a frame is a MessagePack array: its tag, then its fields in order. Tags are never reused. Any
change of a vector in ``tests/wire/golden.txt`` is a change of the protocol and of ``PROTOCOL_VERSION``.
``Hello`` and ``Refuse`` keep their first fields for ever, so that two versions can still tell each other so.
"""

from typing import Annotated

import msgspec

from pipesd.values import Finish, Objective, Position, Sampling, Seed, Share, TokenId, TrialReport

PROTOCOL_VERSION = 6

PROMPT_TOKENS_MAX = 200_000
"""Most tokens of one prompt; at 5 bytes each they still fit a frame."""

Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]
"""A count, an epoch, or a time in microseconds."""

SessionNumber = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
"""The edge's own number of a session; unique in its connection."""

Line = Annotated[str, msgspec.Meta(max_length=1_000)]
Credential = Annotated[bytes, msgspec.Meta(max_length=512)]
"""A message of SCRAM-SHA-256 (RFC 7677)."""

Lease = Annotated[bytes, msgspec.Meta(max_length=64)]
Template = Annotated[str, msgspec.Meta(max_length=200_000)]

_LINE_CHARACTERS_MAX = 1_000


def as_line(text: str) -> str:
    """Make any text fit a ``Line``: shortened if it is too long, and without what UTF-8 cannot say."""
    sayable = text.encode(errors="replace").decode()
    return sayable if len(sayable) <= _LINE_CHARACTERS_MAX else sayable[: _LINE_CHARACTERS_MAX - 1] + "…"


class Frame(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Base of all frames."""


class Hello(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """edge → cloud. Who calls, in which version; fields of later versions are passed over."""

    version: Number
    client: Line
    vocabulary_size: Number
    credential: Credential = b""
    """Who calls, as the client's first message; empty if it has no token."""


class Challenge(Frame, frozen=True, tag=2):
    """cloud → edge. Prove that you know the token's secret."""

    credential: Credential


class Proof(Frame, frozen=True, tag=3):
    """edge → cloud. Here is the proof, without the secret."""

    credential: Credential


class Welcome(Frame, frozen=True, tag=4):
    """cloud → edge. You may open sessions; this is what they will meet."""

    version: Number
    model: Line
    engine: Line
    numerics: Line
    """``exact`` if passes of any shape give the same picks, ``fast`` otherwise."""

    vocabulary_size: Number
    vocabulary_hashes: bytes
    """8 bytes per 1,024 ids, see ``vocabulary.Vocabulary``."""

    end_ids: tuple[TokenId, ...]
    begin_ids: tuple[TokenId, ...]
    """Put before the first prompt of a session."""

    template: Template
    """The chat template, as Jinja source; empty if the model has none."""

    context_tokens: Number
    window_tokens: Number
    """Most unverified drafts a session may hold."""

    chunk_tokens: Number
    """Prompts are evaluated in chunks of this many tokens, counted from each prompt's start."""

    sessions_max: Number
    """Most sessions open at once on this connection."""

    greedy_only: bool = False
    control_ids: tuple[TokenId, ...] = ()
    """Tokens that steer the model and are never shown as text, the end ids aside."""

    cutting: Annotated[bytes, msgspec.Meta(max_length=64)] = b""
    """See ``vocabulary.Vocabulary``; empty if it is not known."""

    tunes: bool = False
    """Whether this cloud answers ``Telemetry``."""

    credential: Credential = b""
    """The cloud's own proof that it knows the token; empty if none was asked for."""

    energy: Line = ""
    """Where figures of energy come from: what measures them, or ``modelled: …``; empty without any."""


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag=5):
    """cloud → edge. You may not, and why."""

    code: Line
    message: Line
    retry_ms: Number = 0
    """When it may be worth trying again; 0 if that is not known."""


class Open(Frame, frozen=True, tag=6):
    """edge → cloud. A new session with an empty text."""

    session: SessionNumber


class Opened(Frame, frozen=True, tag=7):
    """cloud → edge. The session is there."""

    session: SessionNumber
    lease: Lease = b""
    """Proves ownership when resuming; empty if this cloud keeps nothing for those who are away."""


class Prompt(Frame, frozen=True, tag=8):
    """edge → cloud. The text is cut to ``base``, these tokens follow, and a generation starts."""

    session: SessionNumber
    epoch: Number
    base: Position
    tokens: tuple[TokenId, ...]
    sampling: Sampling
    seed: Seed
    tokens_max: Number


class Draft(Frame, frozen=True, tag=9):
    """edge → cloud. Guesses from ``base`` on; a verdict is owed until the text is ``ask`` long."""

    session: SessionNumber
    epoch: Number
    base: Position
    tokens: tuple[TokenId, ...]
    ask: Position = 0


class Cancel(Frame, frozen=True, tag=10):
    """edge → cloud. The generation ends, the session stays."""

    session: SessionNumber
    epoch: Number


class Close(Frame, frozen=True, tag=11):
    """edge → cloud. The session ends."""

    session: SessionNumber


class Verdict(Frame, frozen=True, tag=12):
    """cloud → edge. From ``base`` on ``accepted`` drafts stand and ``tokens`` follow them."""

    session: SessionNumber
    epoch: Number
    base: Position
    accepted: Number
    tokens: tuple[TokenId, ...]
    finish: Finish | None = None
    arrivals: tuple[tuple[Number, Number], ...] = ()
    """(tokens, µs on the cloud's clock) of each Draft frame since the last verdict; use differences only."""

    queue_us: Number = 0
    """How long the verdict was due before its pass started."""

    pass_us: Number = 0
    """How long the pass took."""

    judged: Number = 0
    """Drafts that were in the pass."""

    energy_uj: Number = 0
    """This session's share of what passes took since the last verdict, by tokens, in microjoules."""


class Resume(Frame, frozen=True, tag=13):
    """edge → cloud. I am back, and know the text up to ``confirmed``. The session may have a new number."""

    session: SessionNumber
    lease: Lease
    epoch: Number
    prompt_epoch: Number
    """That of the last ``Prompt``, ``Cancel`` or ``Restore`` that was sent."""

    confirmed: Position


class Restore(Frame, frozen=True, tag=14):
    """edge → cloud. The whole text of an open session, whatever the cloud has of it."""

    session: SessionNumber
    epoch: Number
    segments: tuple[tuple[bool, tuple[TokenId, ...]], ...]
    """(whether it was a prompt, its tokens), in order."""

    sampling: Sampling
    seed: Seed
    generation_start: Position
    """Where the answer that is being written began."""

    tokens_max: Number
    """Of that answer, counted from its beginning; 0 if none is being written."""

    @property
    def length(self) -> int:
        """Tokens of the text."""
        return sum(len(tokens) for _, tokens in self.segments)


class Resumed(Frame, frozen=True, tag=15):
    """cloud → edge. The session goes on, or needs ``Restore`` first. A new lease comes before this."""

    session: SessionNumber
    need: bool


class Telemetry(Frame, frozen=True, tag=16):
    """edge → cloud. What one trial of the tuner measured; its answer is ``Thresholds``."""

    objective: Objective
    report: TrialReport


class Thresholds(Frame, frozen=True, tag=17):
    """cloud → edge. What the tuner proposes for the next trial."""

    trial: Number
    r1: Share | None
    """None leaves R1 to the closed form, and the others as they were at first."""

    r2: Share
    upper_tokens: Number
    lower_tokens: Number


class Fault(Frame, frozen=True, tag=18):
    """both ways. This session (or, without one, this connection) cannot go on."""

    session: SessionNumber | None
    code: Line
    """A key of ``wire.faults.FAULTS``."""

    message: Line
    retry_ms: Number = 0
    """If above 0, the session's last ``Open`` or ``Prompt`` was not taken, and may be said again then."""


class Ping(Frame, frozen=True, tag=19):
    """both ways. Are you there?"""

    number: Number


class Pong(Frame, frozen=True, tag=20):
    """both ways. I am; the number is the Ping's."""

    number: Number


class Bye(Frame, frozen=True, tag=21):
    """both ways. I close this connection in good order."""

    reason: Line


class BlockWanted(Frame, frozen=True, tag=22):
    """edge → cloud. Show me the tokens of this block of the vocabulary; our hashes differ."""

    block: Number


class Block(Frame, frozen=True, tag=23):
    """cloud → edge. The bytes of up to 1,024 tokens of block number ``block``."""

    block: Number
    pieces: tuple[bytes, ...]


EdgeFrame = (
    Hello
    | Proof
    | Open
    | Prompt
    | Draft
    | Cancel
    | Close
    | Resume
    | Restore
    | Telemetry
    | Fault
    | Ping
    | Pong
    | Bye
    | BlockWanted
)
"""What the edge may send."""

CloudFrame = (
    Challenge | Welcome | Refuse | Opened | Verdict | Resumed | Thresholds | Fault | Ping | Pong | Bye | Block
)
"""What the cloud may send."""

AnyFrame = EdgeFrame | CloudFrame
