"""What ties an edge's session to the one at the cloud: whether it may speak, and how it is taken up again."""

from pipesd.errors import PeerError
from pipesd.session.doorstep import Doorstep
from pipesd.session.generation import Generation
from pipesd.session.ledger import Ledger
from pipesd.session.rules import EdgeRules
from pipesd.values import Sampling
from pipesd.wire.codec import FRAME_BYTES_MAX
from pipesd.wire.frames import Close, Open, Restore, Resume

_TOKEN_BYTES, _PART_BYTES, _REST_BYTES = 5, 7, 100
"""What a token, a part of the text beside its tokens, and the rest take of a frame at most."""


class Tie:
    """Not there before the session is opened, while it is away, and while it waits at the doorstep."""

    def __init__(self, number: int, rules: EdgeRules) -> None:
        self._number = number
        self._rules = rules
        self.door = Doorstep(number, rules)
        """What to do if the cloud has no room for it."""

        self.is_there = False
        """Whether frames of it may be sent."""

        self.is_known = False
        """Whether this connection's cloud has heard of it."""

        self._is_open = False
        """Whether this connection's cloud has said so."""

        self._lease = b""
        self._turn_epoch = 0
        """That of the last frame which began or ended an answer."""

        self._resumed_turn: int | None = None
        """That which a Resume told that is not answered yet."""

    @property
    def shows_drafts(self) -> bool:
        """Whether the reader sees drafts, for there is no cloud to confirm them."""
        return self._rules.offline == "draft" and not (self.is_there or self.door.is_waiting)

    def away_tokens(self, window: int) -> int:
        """How many drafts may be unverified while nothing of the session may be sent."""
        if self.door.is_waiting:
            return 0
        return self._rules.offline_tokens if self._rules.offline == "draft" else window

    def note_turn(self, epoch: int) -> bool:
        """An answer begins or ends with this epoch; whether the cloud may be told at once."""
        self._turn_epoch = epoch
        return self.is_there

    def opened(self, lease: bytes) -> None:
        """The cloud has the session."""
        self._is_open = True
        self._lease = lease

    def cut(self) -> None:
        """The connection is gone."""
        self.door.leave()
        self.is_there = self.is_known = self._is_open = False
        self._resumed_turn = None

    def turn_away(self, retry_ms: int, now: float) -> float | None:
        """The cloud has no room: as ``Doorstep.turn_away``."""
        self.is_there = False
        self._resumed_turn = None
        return self.door.turn_away(retry_ms, now)

    def take_up(self, books: Ledger) -> Resume | Open:
        """The first thing to say on a new connection."""
        self.is_known = True
        if not self._lease:
            self.is_there = True
            return Open(self._number)
        self._resumed_turn = self._turn_epoch
        return Resume(self._number, self._lease, books.epoch, self._turn_epoch, books.confirmed)

    def resumed(self, *, need: bool) -> bool:
        """The cloud has answered; whether it needs the whole text. Raises ``PeerError`` if nobody asked."""
        told, self._resumed_turn = self._resumed_turn, None
        if told is None:
            raise PeerError("protocol", f"session {self._number} was resumed, which nobody asked for")
        self.is_there = self._is_open = True
        return need or self._turn_epoch != told

    def knock(self) -> list[Close | Open]:
        """Before the whole text is said again to a cloud that had no room."""
        self.door.leave()
        self.is_there = True
        return [] if self._is_open else [Close(self._number), Open(self._number)]

    def restore(self, books: Ledger, generation: Generation | None) -> Restore | None:
        """The whole text; None if it is too long for a frame."""
        segments = books.segments()
        if _TOKEN_BYTES * books.confirmed + _PART_BYTES * len(segments) > FRAME_BYTES_MAX - _REST_BYTES:
            return None
        self._turn_epoch = books.epoch
        running = generation or Generation(0, 0, books.confirmed, Sampling(), 0)
        return Restore(
            session=self._number,
            epoch=books.epoch,
            segments=segments,
            sampling=running.sampling,
            seed=running.seed,
            generation_start=running.start,
            tokens_max=running.tokens_max,
        )
