"""Users in virtual time, at an edge that is faked here and says what the test wants."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest

from pipesd.actors.token_stream import TokenStream
from pipesd.engines.alone import TextAlone
from pipesd.errors import LinkError
from pipesd.lab.clock import run_virtually
from pipesd.lab.stormy_cloud import stormy_target
from pipesd.lab.stormy_trip import GO_ON, Trip
from pipesd.lab.stormy_user import DEADLINE_S, Part, User
from pipesd.session.commands import Failure, FinishGeneration, GenerationStats
from pipesd.session.events import PromptGiven
from pipesd.values import Finish
from tests.lab.tiny_storm import trip_of, turn

LOST = Failure("link", "the connection was lost")

Say = Callable[["FakeEdge", TokenStream, list[int]], None]
"""Says something of the target's tokens to the prompt."""


def ended(stream: TokenStream, finish: Finish | None) -> None:
    stream.end(FinishGeneration(0, finish, GenerationStats()))


def whole(edge: "FakeEdge", stream: TokenStream, path: list[int]) -> None:
    stream.push(tuple(path))
    ended(stream, "length")


def first(count: int) -> Say:
    """Says so many, and waits for what its reader does."""
    return lambda edge, stream, path: stream.push(tuple(path[:count]))


def breaks(count: int) -> Say:
    """Says so many, and loses the connection."""

    def say(edge: "FakeEdge", stream: TokenStream, path: list[int]) -> None:
        if count:
            stream.push(tuple(path[:count]))
        stream.end(LOST)

    return say


def silent(edge: "FakeEdge", stream: TokenStream, path: list[int]) -> None:
    """Says nothing, ever."""


@dataclass
class FakeEdge:
    """Says one thing after another."""

    saying: list[Say]
    heard: list[PromptGiven] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    refusals: int = 0
    truth: TextAlone = field(default_factory=lambda: TextAlone(stormy_target()))

    def open_session(self) -> int:
        return 4

    def start(self, wish: PromptGiven) -> TokenStream:
        if self.refusals:
            self.refusals -= 1
            raise LinkError("away")
        self.heard.append(wish)
        given = {"sampling": wish.sampling, "seed": wish.seed, "tokens_max": wish.tokens_max}
        path = list(self.truth.answer(wish.base, wish.tokens, **given))  # type: ignore[arg-type]
        stream = TokenStream()
        self.saying.pop(0)(self, stream, path)
        return stream

    def cancel(self, session: int, stream: TokenStream) -> None:
        self.done.append("cancel")
        if stream.finish is None:
            ended(stream, None)

    def close_session(self, session: int) -> None:
        self.done.append(f"close {session}")


def heard_by(edge: FakeEdge, trip: Trip) -> list[Part]:
    """What the only user of the trip notes, until the end or what is raised."""
    parts: list[Part] = []

    async def main() -> None:
        user = User(edge, trip, parts.append, lambda: edge.done.append("stall"))
        await user.converse(trip.talks[0])

    run_virtually(main())
    return parts


def only(edge: FakeEdge, trip: Trip) -> Part:
    [part] = heard_by(edge, trip)
    return part


def test_an_answer_that_is_the_targets_is_right():
    edge = FakeEdge([whole])
    part = only(edge, trip_of((turn(9, 5),)))
    assert (part.end, part.is_right, part.is_wanted_whole, part.tokens) == ("whole", True, True, 9)
    assert edge.done == ["close 4"]


def altered(say: Callable[[list[int]], Sequence[int]], finish: Finish = "length") -> Say:
    def wrongly(edge: FakeEdge, stream: TokenStream, path: list[int]) -> None:
        stream.push(tuple(say(path)))
        ended(stream, finish)

    return wrongly


@pytest.mark.parametrize(
    "say",
    [
        altered(lambda path: [*path[:4], path[4] ^ 1, *path[5:]]),
        altered(lambda path: path[:-1]),
        altered(lambda path: [*path[:3], *path]),
        altered(lambda path: [*path, path[-1]]),
        altered(lambda path: path, "stop"),
    ],
    ids=["another token", "one missing", "some twice", "one more", "another reason"],
)
def test_any_difference_is_found(say: Say):
    part = only(FakeEdge([say]), trip_of((turn(9, 5),)))
    assert (part.end, part.is_right) == ("whole", False)


def test_who_leaves_has_read_as_many_tokens_and_goes_on_from_there():
    edge = FakeEdge([first(6), whole])
    left, after = heard_by(edge, trip_of((turn(9, 5, 6, leaves_after=4), turn(3, 8))))
    assert (left.end, left.is_right, left.is_wanted_whole, left.tokens) == ("left", True, False, 6)
    assert edge.heard[1].base == 3 + 4
    assert (after.end, after.is_right) == ("whole", True)
    assert edge.done == ["cancel", "close 4"]


def test_who_leaves_at_once_reads_nothing():
    edge = FakeEdge([silent, whole])
    left, _ = heard_by(edge, trip_of((turn(9, 5, leaves_after=0), turn(3, 8))))
    assert (left.end, left.tokens, edge.heard[1].base) == ("left", 0, 2)


def test_who_leaves_too_late_has_a_whole_answer():
    part = only(FakeEdge([whole]), trip_of((turn(9, 5, leaves_after=9),)))
    assert (part.end, part.is_right, part.is_wanted_whole) == ("whole", True, False)


def test_the_link_stalls_just_before_a_reader_leaves():
    edge = FakeEdge([first(2)])
    heard_by(edge, trip_of((turn(9, 5, leaves_after=1, leaves_in_stall=True),)))
    assert edge.done == ["stall", "cancel", "close 4"]


def test_what_was_left_must_be_right_too():
    wrong = altered(lambda path: [path[0] ^ 1])
    assert not only(FakeEdge([wrong]), trip_of((turn(9, 5, leaves_after=1),))).is_right


def test_a_turn_that_is_taken_back_begins_where_the_one_before_did():
    edge = FakeEdge([whole, whole, whole])
    heard_by(edge, trip_of((turn(3, 5), turn(4, 8), turn(5, 8, 9, again=True))))
    assert [wish.base for wish in edge.heard] == [0, 5, 5]


def test_the_rest_is_asked_for_where_an_answer_stops():
    edge = FakeEdge([breaks(4), breaks(0), whole])
    stopped, nothing, rest = heard_by(edge, trip_of((turn(9, 5),), offline="stop"))
    assert (stopped.end, stopped.is_right, stopped.tokens) == ("stopped", True, 4)
    assert (nothing.end, nothing.is_right, nothing.tokens) == ("stopped", True, 0)
    assert (rest.end, rest.is_right, rest.turn_tokens) == ("whole", True, 9)
    first, *others = edge.heard
    assert (first.base, first.tokens_max) == (0, 9)
    assert [(wish.base, wish.tokens, wish.tokens_max) for wish in others] == [(6, GO_ON, 5)] * 2


def test_nothing_is_asked_for_where_an_answer_stops_that_would_have_been_left():
    part = only(FakeEdge([breaks(2)]), trip_of((turn(9, 5, leaves_after=4),), offline="stop"))
    assert (part.end, part.is_wanted_whole) == ("stopped", False)


def test_who_may_not_begin_tries_again_and_that_takes_time():
    part = only(FakeEdge([whole], refusals=6), trip_of((turn(9, 5),), offline="stop"))
    assert part.is_right
    assert 0.2 < part.turn_s < 1.0


@pytest.mark.parametrize("edge", [FakeEdge([breaks(2)]), FakeEdge([whole], refusals=1)])
def test_an_answer_must_not_stop_where_the_rules_do_not_want_it(edge: FakeEdge):
    with pytest.raises(LinkError):
        heard_by(edge, trip_of((turn(9, 5),)))


def test_an_answer_that_never_ends_is_given_up():
    async def main() -> float:
        trip, parts = trip_of((turn(9, 5, think_s=0.0),)), list[Part]()
        with pytest.raises(TimeoutError):
            await User(FakeEdge([silent]), trip, parts.append, lambda: None).converse(trip.talks[0])
        assert parts == []
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == DEADLINE_S


@pytest.mark.parametrize(("shift", "corrected"), [(0, False), (1, True)])
def test_drafts_count_only_as_shown(shift: int, corrected: bool):
    def say(edge: FakeEdge, stream: TokenStream, path: list[int]) -> None:
        asyncio.get_running_loop().call_later(1.0, whole, edge, stream, path)
        stream.show(tuple(token ^ shift for token in path[:3]))

    part = only(FakeEdge([say]), trip_of((turn(9, 5),), offline="draft"))
    assert (part.is_right, part.showed, part.corrected) == (True, True, corrected)
