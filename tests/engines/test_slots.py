from collections.abc import Container, Sequence
from itertools import groupby
from operator import itemgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.engines.slots import Slots
from pipesd.values import Stretch


def filled(count: int, *sequences: int) -> Slots:
    """Slots that were taken in this order."""
    slots = Slots(count)
    for sequence in sequences:
        assert slots.take(sequence) is not None
    return slots


def holders(slots: Slots) -> dict[int, int]:
    """The slot of each sequence that has one."""
    found = ((sequence, slots.slot(sequence)) for sequence in slots)
    return {sequence: slot for sequence, slot in found if slot is not None}


def output(*tokens: int) -> Stretch:
    return Stretch(tokens, prompt=False)


def chunk(*tokens: int) -> Stretch:
    return Stretch(tokens, prompt=True)


# --- who has a slot ---


def test_a_sequence_gets_a_slot_to_fill_and_keeps_it() -> None:
    slots = Slots(2)
    assert (slots.slot(7), list(slots)) == (None, [])
    assert slots.take(7) == (0, True)
    assert slots.take(8) == (1, True)
    assert slots.take(7) == (0, False)
    assert holders(slots) == {7: 0, 8: 1}


def test_the_sequence_used_longest_ago_loses_its_slot() -> None:
    slots = filled(3, 10, 11, 12, 10)
    assert slots.take(13) == (1, True)
    assert holders(slots) == {10: 0, 12: 2, 13: 1}
    assert slots.take(14) == (2, True)
    assert holders(slots) == {10: 0, 13: 1, 14: 2}
    assert slots.take(11) == (0, True)
    assert holders(slots) == {11: 0, 13: 1, 14: 2}


def test_only_taking_counts_as_use() -> None:
    slots = filled(2, 10, 11)
    slots.append(10, [1, 2], prompt=False)
    slots.truncate(10, 1)
    assert (slots.length(10), slots.slot(10)) == (1, 0)
    assert slots.take(12) == (0, True)
    assert list(slots) == [10, 11, 12]


def test_a_busy_sequence_keeps_its_slot() -> None:
    slots = filled(3, 10, 11, 12)
    assert slots.take(13, busy={10, 11}) == (2, True)
    assert slots.take(14, busy=range(100)) is None
    assert holders(slots) == {10: 0, 11: 1, 13: 2}


def test_a_sequence_that_got_no_slot_is_the_latest_used_when_it_gets_one() -> None:
    slots = filled(1, 10)
    assert slots.take(11, busy={10}) is None
    assert (slots.slot(11), slots.stretches(11)) == (None, ())
    assert slots.take(11, busy={11}) == (0, True)
    assert holders(slots) == {11: 0}


def test_a_busy_sequence_may_take_its_own_slot_again() -> None:
    slots = filled(1, 10)
    assert slots.take(10, busy={10}) == (0, False)
    slots.vacate(10)
    assert slots.take(10, busy={10}) == (0, True)


def test_a_free_slot_is_given_before_one_is_taken_away() -> None:
    slots = filled(3, 10, 11, 12)
    assert slots.release(11) == 1
    assert slots.take(13) == (1, True)
    slots.vacate(12)
    assert slots.take(14) == (2, True)
    assert holders(slots) == {10: 0, 13: 1, 14: 2}


def test_a_vacated_sequence_keeps_its_text_and_must_be_filled_anew() -> None:
    slots = filled(2, 10)
    slots.append(10, [1, 2], prompt=True)
    for _ in range(2):
        slots.vacate(10)
        assert (slots.slot(10), slots.length(10), slots.stretches(10)) == (None, 2, (chunk(1, 2),))
    assert slots.take(10) == (0, True)
    assert slots.take(11) == (1, True)


def test_a_released_sequence_is_forgotten() -> None:
    slots = filled(1, 10)
    slots.append(10, [1, 2], prompt=True)
    assert slots.release(10) == 0
    assert (list(slots), slots.slot(10), slots.length(10), slots.stretches(10)) == ([], None, 0, ())
    assert slots.take(11) == (0, True)
    assert slots.take(10) == (0, True)
    assert slots.stretches(10) == ()


def test_releasing_what_has_no_slot_frees_none() -> None:
    slots = filled(1, 10, 11)
    assert slots.release(10) is None
    assert slots.release(99) is None
    assert list(slots) == [11]
    assert slots.take(12, busy={11}) is None


def test_no_slots_are_our_own_fault() -> None:
    with pytest.raises(AssertionError, match="no slots"):
        Slots(0)


# --- what a sequence consists of ---


def test_a_sequence_starts_empty() -> None:
    slots = Slots(1)
    for _ in range(2):
        assert (slots.length(10), slots.stretches(10), slots.truncate(10, 0)) == (0, (), False)
        slots.take(10)


def test_output_is_one_stretch_and_every_prompt_chunk_its_own() -> None:
    slots = filled(1, 10)
    for token, prompt in enumerate((True, True, False, False, True, False)):
        slots.append(10, [token, token], prompt=prompt)
    assert slots.stretches(10) == (chunk(0, 0), chunk(1, 1), output(2, 2, 3, 3), chunk(4, 4), output(5, 5))
    assert slots.length(10) == 12


def test_what_was_evaluated_does_not_change_with_the_callers_list() -> None:
    slots, tokens = filled(1, 10), [1, 2]
    slots.append(10, tokens, prompt=False)
    before = slots.stretches(10)
    tokens.append(3)
    slots.append(10, [4], prompt=False)
    assert (before, slots.stretches(10)) == ((output(1, 2),), (output(1, 2, 4),))


@pytest.mark.parametrize("prompt", [False, True])
def test_no_token_is_no_stretch(prompt: bool) -> None:
    slots = filled(1, 10)
    slots.append(10, [], prompt=prompt)
    assert (slots.stretches(10), slots.length(10)) == ((), 0)
    for token in (1, 2):
        slots.append(10, [token], prompt=prompt)
        before = slots.stretches(10)
        slots.append(10, [], prompt=prompt)
        assert slots.stretches(10) == before


@pytest.mark.parametrize(
    ("length", "kept"),
    [
        (7, (chunk(1, 2), chunk(3, 4), output(5, 6, 7))),
        (6, (chunk(1, 2), chunk(3, 4), output(5, 6))),
        (4, (chunk(1, 2), chunk(3, 4))),
        (3, (chunk(1, 2), chunk(3))),
        (2, (chunk(1, 2),)),
        (0, ()),
    ],
)
def test_what_is_left_of_a_text_that_was_cut(length: int, kept: tuple[Stretch, ...]) -> None:
    slots = filled(1, 10)
    slots.append(10, [1, 2], prompt=True)
    slots.append(10, [3, 4], prompt=True)
    slots.append(10, [5, 6, 7], prompt=False)
    assert slots.truncate(10, length) is (length < 7)
    assert (slots.stretches(10), slots.length(10), slots.slot(10)) == (kept, length, 0)
    slots.append(10, [8], prompt=True)
    slots.append(10, [9], prompt=False)
    assert slots.stretches(10) == (*kept, chunk(8), output(9))
    assert slots.truncate(10, length + 3) is False


def test_output_goes_on_behind_a_cut() -> None:
    slots = filled(1, 10)
    slots.append(10, [1, 2, 3], prompt=False)
    slots.append(10, [4], prompt=True)
    slots.truncate(10, 2)
    slots.append(10, [5], prompt=False)
    assert slots.stretches(10) == (output(1, 2, 5),)


def test_a_sequence_without_a_slot_is_remembered_and_can_be_cut() -> None:
    slots = filled(1, 10)
    slots.append(10, [1, 2, 3], prompt=True)
    slots.take(11)
    assert slots.slot(10) is None
    assert slots.truncate(10, 1) is True
    assert (slots.take(10), slots.stretches(10)) == ((0, True), (chunk(1),))


# --- anything, compared with plain lists ---


class Plain:
    """What ``Slots`` does, the obvious way; a slot is whichever ``Slots`` gave."""

    def __init__(self) -> None:
        self.used: list[int] = []
        self.slots: dict[int, int] = {}
        self.texts: dict[int, list[tuple[int, int]]] = {}  # (token, number of its chunk, or 0 for output)
        self.chunks = 0

    def loser(self, busy: Container[int]) -> int | None:
        idle = [sequence for sequence in self.used if sequence in self.slots and sequence not in busy]
        return idle[0] if idle else None

    def use(self, sequence: int) -> None:
        self.used = [other for other in self.used if other != sequence] + [sequence]
        self.texts.setdefault(sequence, [])

    def append(self, sequence: int, tokens: Sequence[int], prompt: bool) -> None:
        self.chunks += 1
        self.texts[sequence] += [(token, self.chunks if prompt else 0) for token in tokens]

    def forget(self, sequence: int) -> None:
        self.used = [other for other in self.used if other != sequence]
        self.texts.pop(sequence, None)

    def stretches(self, sequence: int) -> tuple[Stretch, ...]:
        groups = groupby(self.texts.get(sequence, []), key=itemgetter(1))
        return tuple(Stretch(tuple(token for token, _ in group), number > 0) for number, group in groups)


class Both:
    """``Slots`` and the plain lists, told the same and compared."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.slots = Slots(count)
        self.plain = Plain()

    def take(self, sequence: int, busy: frozenset[int]) -> None:
        plain = self.plain
        has = plain.slots.get(sequence)
        loser = plain.loser(busy) if has is None and len(plain.slots) == self.count else None
        answer = self.slots.take(sequence, busy=busy)
        plain.use(sequence)
        if has is not None:
            assert answer == (has, False)
        elif loser is not None:
            assert answer == (plain.slots.pop(loser), True)
        elif len(plain.slots) == self.count:
            assert answer is None
        else:
            assert answer is not None
            assert answer[0] in set(range(self.count)) - set(plain.slots.values())
            assert answer[1]
        if answer is not None:
            plain.slots[sequence] = answer[0]

    def append(self, sequence: int, tokens: list[int], prompt: bool) -> None:
        if sequence in self.plain.texts:
            self.slots.append(sequence, tokens, prompt=prompt)
            self.plain.append(sequence, tokens, prompt)

    def truncate(self, sequence: int, length: int) -> None:
        text = self.plain.texts.get(sequence, [])
        assert self.slots.truncate(sequence, length) is (len(text) > length)
        del text[length:]

    def vacate(self, sequence: int) -> None:
        if sequence in self.plain.texts:
            self.slots.vacate(sequence)
            self.plain.slots.pop(sequence, None)

    def release(self, sequence: int) -> None:
        assert self.slots.release(sequence) == self.plain.slots.pop(sequence, None)
        self.plain.forget(sequence)

    def compare(self) -> None:
        assert list(self.slots) == self.plain.used
        assert holders(self.slots) == self.plain.slots
        assert len(set(self.plain.slots.values())) == len(self.plain.slots) <= self.count
        for sequence in SEQUENCES:
            assert self.slots.stretches(sequence) == self.plain.stretches(sequence)
            assert self.slots.length(sequence) == len(self.plain.texts.get(sequence, []))


SEQUENCES = range(4)
some = st.sampled_from(SEQUENCES)
take = st.tuples(st.just("take"), some, st.frozensets(some, max_size=2))
append = st.tuples(st.just("append"), some, st.lists(st.integers(0, 9), max_size=3), st.booleans())
truncate = st.tuples(st.just("truncate"), some, st.integers(0, 6))
rare = st.tuples(st.sampled_from(["vacate", "release"]), some)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 3), st.lists(st.one_of(take, append, append, truncate, rare), min_size=30, max_size=30))
def test_slots_are_as_plain_lists_would_have_them(count: int, story: list[tuple[str, ...]]) -> None:
    both = Both(count)
    for verb, *arguments in story:
        getattr(both, verb)(*arguments)
        both.compare()
