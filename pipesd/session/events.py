"""Every fact the two sides can be told. Past tense, frozen; who reports it is in the docstring."""

from dataclasses import dataclass

from pipesd.planner.trigger import Thresholds
from pipesd.session.proof import Tokens
from pipesd.values import Sampling
from pipesd.wire.frames import CloudFrame, EdgeFrame


@dataclass(frozen=True, slots=True)
class LinkOpened:
    """runtime. The edge's connection is there: the first one, or that which ``OpenLink`` asked for."""

    link: int = 0
    nonce: str = ""
    """For the proof of who calls; another one for each connection."""


@dataclass(frozen=True, slots=True)
class LinkClosed:
    """receiver, sender, runtime. That connection of the edge is gone, or cannot be made."""

    reason: str
    link: int = 0


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """receiver. The cloud said something."""

    frame: CloudFrame
    link: int = 0


@dataclass(frozen=True, slots=True)
class BytesRejected:
    """receiver. The cloud sent what is no frame; the link cannot be read further."""

    code: str
    message: str
    link: int = 0


@dataclass(frozen=True, slots=True)
class LinkIdle:
    """sender. Everything that it was told has left: so many frames since that connection began."""

    frames: int
    link: int = 0


@dataclass(frozen=True, slots=True)
class TokenDrafted:
    """drafter. The draft model made its guess."""

    step: int
    token: int
    confidence: float


@dataclass(frozen=True, slots=True)
class StepAborted:
    """drafter. The step was stopped half-way; its tokens are not in the cache."""

    step: int


@dataclass(frozen=True, slots=True)
class ThresholdsProposed:
    """tuner. What is to be tried next."""

    trial: int
    thresholds: Thresholds | None
    """None leaves R1 to the closed form."""


@dataclass(frozen=True, slots=True)
class DraftFailed:
    """drafter. The draft model failed."""

    step: int
    reason: str


@dataclass(frozen=True, slots=True)
class SessionWanted:
    """application. A new session under a number never used before on this connection."""

    session: int


@dataclass(frozen=True, slots=True)
class SessionLeft:
    """application. The session is not needed any more."""

    session: int


@dataclass(frozen=True, slots=True)
class PromptGiven:
    """application. Cut the text to ``base`` tokens, append these, and generate."""

    session: int
    base: int
    tokens: tuple[int, ...]
    sampling: Sampling
    seed: int
    tokens_max: int


@dataclass(frozen=True, slots=True)
class GenerationCancelled:
    """application. No more of this answer is wanted."""

    session: int


@dataclass(frozen=True, slots=True)
class ReaderPaused:
    """application's stream. Much text lies unread: draft no more."""

    session: int


@dataclass(frozen=True, slots=True)
class ReaderResumed:
    """application's stream. The text was read."""

    session: int


@dataclass(frozen=True, slots=True)
class DeadlineReached:
    """runtime. The moment that ``deadline()`` named has come."""


@dataclass(frozen=True, slots=True)
class StopRequested:
    """application. Close everything in good order."""


@dataclass(frozen=True, slots=True)
class PeerConnected:
    """gateway. An edge has connected."""

    peer: int
    address: str = ""
    """From where; empty if that means nothing."""

    nonce: str = ""
    """For the proof of who calls; another one for each connection."""


@dataclass(frozen=True, slots=True)
class TokensRead:
    """gateway. These access tokens are good from now on."""

    tokens: Tokens


@dataclass(frozen=True, slots=True)
class PeerClosed:
    """receiver. The edge's connection is gone."""

    peer: int
    reason: str


@dataclass(frozen=True, slots=True)
class PeerFrame:
    """receiver. An edge said something."""

    peer: int
    frame: EdgeFrame


@dataclass(frozen=True, slots=True)
class PeerRejected:
    """receiver. An edge cannot be listened to any longer: it sent no frame, or does not read replies."""

    peer: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class PeerTuned:
    """tuner. What this peer is to try next."""

    peer: int
    trial: int
    thresholds: Thresholds | None
    """None leaves R1 to the closed form."""


@dataclass(frozen=True, slots=True)
class PassDone:
    """verifier. The picks of each slice of the pass, in order."""

    picks: tuple[tuple[int, ...], ...]
    energy_j: float | None = None
    """What the pass took, if that was measured."""


@dataclass(frozen=True, slots=True)
class PassFailed:
    """verifier. The target model failed; the caches of the sequences in the pass are undefined."""

    reason: str
    lost: bool = False
    """Whether the caches of all sequences are gone: the engine was started anew."""


EdgeEvent = (
    LinkOpened
    | LinkClosed
    | FrameReceived
    | BytesRejected
    | LinkIdle
    | TokenDrafted
    | StepAborted
    | DraftFailed
    | ThresholdsProposed
    | SessionWanted
    | SessionLeft
    | PromptGiven
    | GenerationCancelled
    | ReaderPaused
    | ReaderResumed
    | DeadlineReached
    | StopRequested
)

CloudEvent = (
    PeerConnected
    | TokensRead
    | PeerClosed
    | PeerFrame
    | PeerRejected
    | PeerTuned
    | PassDone
    | PassFailed
    | DeadlineReached
    | StopRequested
)
