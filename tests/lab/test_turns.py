import math

import pytest

from pipesd.lab.emulator import LinkEmulator, LinkModel
from pipesd.lab.turns import REPORTED, TOLD, WOKEN, Heap, Pipe
from pipesd.wire import frames

S = 1_000_000_000
CLOSE = frames.Close(0)


def test_what_is_to_come_comes_in_order_of_nanosecond_turn_and_setting():
    heap, done = Heap(), list[tuple[str, float]]()

    def note(name: str) -> None:
        done.append((name, heap.now))

    heap.at(2 * S, 2, note, "reported")
    heap.at(2 * S, 1, note, "woken")
    heap.at(2 * S, 1, note, "woken as well")
    heap.at(S, 1, note, "earlier")
    heap.run()
    assert done == [("earlier", 1.0), ("woken", 2.0), ("woken as well", 2.0), ("reported", 2.0)]


def test_a_timer_set_to_now_fires_in_the_next_turn():
    heap, done = Heap(), list[str]()

    def begin(_: None) -> None:
        heap.at(S, 0, done.append, "timer")
        heap.soon(1, done.append, "told")
        heap.soon(2, done.append, "later")

    heap.at(S, 1, begin, None)
    heap.run()
    assert done == ["timer", "told", "later"]


def test_the_next_turn_comes_at_once_if_nothing_lies_in_between():
    heap, done = Heap(), list[str]()

    def ask(name: str) -> None:
        heap.next(done.append, name)
        done.append(f"behind {name}")

    heap.at(S, 1, ask, "alone")
    heap.at(2 * S, 1, ask, "first")
    heap.at(2 * S, 1, ask, "second")
    heap.at(3 * S, 1, lambda _: heap.hold(), None)
    heap.at(3 * S, 1, ask, "held")
    heap.run()
    assert done[:2] == ["alone", "behind alone"]
    assert done[2:] == ["behind first", "behind second", "first", "second", "behind held", "held"]


def test_work_can_be_stopped_until_its_timer_fires():
    heap, seen = Heap(), list[bool]()
    ends = heap.after(1.0, lambda _: None, None)
    heap.at(S // 2, REPORTED, lambda _: seen.append(heap.can_stop(ends)), None)
    heap.at(S, REPORTED, lambda _: seen.append(heap.can_stop(ends)), None)
    heap.run()
    assert seen == [True, False]


def test_work_of_no_time_can_be_stopped_in_the_turn_in_which_it_was_told():
    heap, seen = Heap(), list[bool]()
    ends = heap.after(0.0, lambda _: None, None)
    seen.append(heap.can_stop(ends))
    heap.soon(TOLD, lambda _: seen.append(heap.can_stop(ends)), None)
    heap.run()
    assert seen == [True, False]


def test_frames_told_while_the_link_is_busy_leave_together_and_arrive_together():
    heap, arrived, idle = Heap(), list[tuple[float, int]](), list[tuple[float, int]]()
    pipe = Pipe(
        heap,
        LinkEmulator(LinkModel(delay_s=2.0, message_s=1.0)),
        lambda portion: arrived.append((heap.now, len(portion))),
        lambda frame: 10,
        lambda sent: idle.append((heap.now, sent)),
    )
    for moment in (0.0, 0.25, 0.5, 9.0):
        heap.at(round(moment * S), 1, pipe.tell, CLOSE)
    heap.at(S // 10, 1, lambda _: pipe.want_idle(), None)
    heap.run()
    assert arrived == [(3.0, 1), (4.0, 2), (12.0, 1)]
    assert idle == [(2.0, 3)]
    assert pipe.idle_since() == 10.0
    assert pipe.sent_bytes == 40


def test_a_link_that_gets_idle_in_silence_says_later_since_when():
    heap, seen, idle = Heap(), list[float | None](), list[int]()
    pipe = Pipe(
        heap, LinkEmulator(LinkModel(message_s=1.0)), lambda portion: None, lambda frame: 10, idle.append
    )

    def look(_: None) -> None:
        seen.append(pipe.idle_since())

    heap.at(0, 1, pipe.tell, CLOSE)
    for moment, turn in ((S // 2, 0), (S, WOKEN), (S, REPORTED), (S, REPORTED + 1), (3 * S, 0)):
        heap.at(moment, turn, look, None)
    heap.run()
    assert seen == [None, None, None, 1.0, None]
    assert idle == []


@pytest.mark.parametrize("last", [False, True])
def test_whoever_is_told_on_a_link_that_got_idle_in_silence_leaves_at_once(last: bool):
    heap, arrived = Heap(), list[float]()
    pipe = Pipe(
        heap,
        LinkEmulator(LinkModel(message_s=1.0)),
        lambda portion: arrived.append(heap.now),
        lambda frame: 10,
    )
    for moment in (0.0, 1.0, 1.5, 7.0):
        heap.at(round(moment * S), 1, lambda frame: pipe.tell(frame, last=last), CLOSE)
    heap.run()
    assert arrived == [1.0, 2.0, 3.0, 8.0]


def test_who_tells_on_such_a_link_can_want_to_know_when_it_is_idle_again():
    heap, arrived, idle = Heap(), list[float](), list[tuple[float, int]]()
    pipe = Pipe(
        heap,
        LinkEmulator(LinkModel(message_s=1.0)),
        lambda portion: arrived.append(heap.now),
        lambda frame: 10,
        lambda sent: idle.append((heap.now, sent)),
    )
    for moment, wants_idle in ((0.0, False), (5.0, True), (9.0, False)):
        heap.at(
            round(moment * S),
            1,
            lambda wanted: pipe.tell(CLOSE, last=True, wants_idle=wanted),
            wants_idle,
        )
    heap.run()
    assert arrived == [1.0, 6.0, 10.0]
    assert idle == [(6.0, 2)]


def test_what_was_sent_apart_and_arrives_at_one_moment_is_read_at_once():
    heap, arrived = Heap(), list[tuple[float, int]]()
    pipe = Pipe(
        heap,
        LinkEmulator(LinkModel(bytes_per_s=math.inf, delay_s=1.0)),
        lambda portion: arrived.append((heap.now, len(portion))),
        lambda frame: 10,
    )
    for moment, turn in ((0, 1), (0, 5), (S, 0), (S, REPORTED + 1)):
        heap.at(moment, turn, pipe.tell, CLOSE)
    heap.run()
    assert arrived == [(1.0, 2), (2.0, 2)]


def test_a_link_that_takes_no_time_is_idle_at_once():
    heap, happened = Heap(), list[str]()
    pipe = Pipe(
        heap,
        LinkEmulator(LinkModel(bytes_per_s=math.inf)),
        lambda portion: happened.append(f"arrived {len(portion)}"),
        lambda frame: 10,
        lambda sent: happened.append(f"idle {sent}"),
    )
    pipe.tell(CLOSE)
    pipe.tell(CLOSE)
    heap.run()
    assert happened == ["idle 2", "arrived 2"]
    assert heap.now == 0.0
