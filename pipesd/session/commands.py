"""Every wish the two sides can have. Imperative, frozen; who obeys it is in the docstring."""

from dataclasses import dataclass

from pipesd.errors import LinkError, PeerError, PipeSDError, RefusedError, UsageError
from pipesd.values import Finish, Objective, Sampling, Slice, Stretch, TrialReport
from pipesd.wire.faults import is_retryable
from pipesd.wire.frames import CloudFrame, EdgeFrame, Welcome


@dataclass(frozen=True, slots=True)
class Failure:
    """Why something ended badly, as data; the shell turns it into an exception."""

    code: str
    """A key of ``wire.faults.FAULTS``, or ``link``, ``peer``, ``usage``, ``vocabulary``."""

    message: str
    retry_ms: int = 0
    """When it may be worth trying again; 0 if that is not known."""

    def error(self) -> PipeSDError:
        """The exception that says so."""
        if self.code in {"link", "silent"}:
            return LinkError(self.message)
        if self.code == "usage":
            return UsageError(self.message)
        if self.code == "peer":
            return PeerError("protocol", self.message)
        retryable, retry_s = is_retryable(self.code), self.retry_ms / 1e3
        return RefusedError(self.code, self.message, retryable=retryable, retry_s=retry_s)


@dataclass(frozen=True, slots=True)
class GenerationStats:
    """What one generation took."""

    tokens: int = 0
    """Confirmed, end id included."""

    drafted: int = 0
    """Drafts made, discarded ones included."""

    accepted: int = 0
    """Confirmed tokens that the drafter had guessed right."""

    corrections: int = 0
    """Verdicts that contradicted a draft."""

    verdicts: int = 0
    """Passes of the target whose result reached this generation."""

    energy_uj: int = 0
    """Its share of what those passes took, in microjoules; 0 if the cloud has no figures."""

    useful_uj: int = 0
    """What of that went into text that stands; the rest went into rejected drafts."""


@dataclass(frozen=True, slots=True)
class SendFrame:
    """sender. In order, as soon as the link takes it."""

    frame: EdgeFrame


@dataclass(frozen=True, slots=True)
class DraftNext:
    """drafter. Keep ``keep`` tokens of the session's cache, append ``feed``, guess the token behind them."""

    step: int
    session: int
    keep: int
    feed: tuple[Stretch, ...]
    sampling: Sampling
    seed: int


@dataclass(frozen=True, slots=True)
class TuneThresholds:
    """tuner. Learn from this trial, and propose the next."""

    report: TrialReport


@dataclass(frozen=True, slots=True)
class AbortStep:
    """drafter. The step in flight is of no use any more; stop it if it still runs."""

    step: int


@dataclass(frozen=True, slots=True)
class ReleaseDraft:
    """drafter. The session's cache is not needed any more."""

    session: int


@dataclass(frozen=True, slots=True)
class AnnounceReady:
    """runtime. Sessions may be opened; this is the grant they get."""

    welcome: Welcome
    foreign: tuple[tuple[int, bytes], ...] = ()
    """(id, bytes) of the target's tokens that lie behind the draft's last one."""


@dataclass(frozen=True, slots=True)
class EmitTokens:
    """application's stream. Confirmed text."""

    session: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ShowDrafts:
    """application's stream. Guesses behind the text shown so far, until what is confirmed replaces them."""

    session: int
    tokens: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class FinishGeneration:
    """application's stream. The answer is complete, or was cancelled."""

    session: int
    finish: Finish | None
    """None if it was cancelled."""

    stats: GenerationStats


@dataclass(frozen=True, slots=True)
class FailGeneration:
    """application's stream. The answer will not be completed."""

    session: int
    failure: Failure


@dataclass(frozen=True, slots=True)
class NoteWait:
    """runtime. Say that the cloud is busy, and is asked again after a while."""

    session: int
    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class NoteAway:
    """runtime. Say that the connection is lost, and that the next try comes after a while."""

    reason: str
    wait_s: float


@dataclass(frozen=True, slots=True)
class OpenLink:
    """runtime. Connect to the cloud of this number, counted from 0."""

    link: int
    cloud: int


@dataclass(frozen=True, slots=True)
class DropLink:
    """runtime. Send what is queued, then close; another connection will follow."""


@dataclass(frozen=True, slots=True)
class CloseLink:
    """runtime. Send what is queued, then close; ``failure`` is what later requests are told."""

    failure: Failure


@dataclass(frozen=True, slots=True)
class SendToPeer:
    """peer's sender. In order, as soon as the link takes it."""

    peer: int
    frame: CloudFrame


@dataclass(frozen=True, slots=True)
class TunePeer:
    """tuner. Learn from a trial of this peer, and propose the next; None: it has gone."""

    peer: int
    trial: tuple[Objective, TrialReport] | None


@dataclass(frozen=True, slots=True)
class ClosePeer:
    """gateway. Send what is queued, then close."""

    peer: int


@dataclass(frozen=True, slots=True)
class RunPass:
    """verifier. One pass of the target over these slices."""

    slices: tuple[Slice, ...]
    evicted: int = 0
    """How many sessions lost their place in the model's cache for it."""

    @property
    def tokens(self) -> int:
        """Tokens evaluated."""
        return sum(len(part.tokens) for part in self.slices)


@dataclass(frozen=True, slots=True)
class ReleaseSequence:
    """verifier. The sequence's cache is not needed any more; the number may be used again."""

    sequence: int


EdgeCommand = (
    SendFrame
    | DraftNext
    | AbortStep
    | TuneThresholds
    | ReleaseDraft
    | AnnounceReady
    | EmitTokens
    | ShowDrafts
    | FinishGeneration
    | FailGeneration
    | NoteWait
    | NoteAway
    | OpenLink
    | DropLink
    | CloseLink
)

CloudCommand = SendToPeer | ClosePeer | RunPass | ReleaseSequence | TunePeer
