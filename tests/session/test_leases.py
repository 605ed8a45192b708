"""Who is kept while its edge is away, for how long, and by what it is found."""

import math

import pytest

from pipesd.session.cloud import CloudSession
from pipesd.session.leases import LEASE_BYTES, Leases
from tests.session.helpers import grant

KEEP_S = 30.0


def leases(key: bytes = b"secret", keep_s: float = KEEP_S) -> Leases:
    return Leases(key, keep_s)


def session(owner: str = "") -> CloudSession:
    made = CloudSession(0, 0, grant())
    made.owner = owner
    return made


def leased(book: Leases, owner: str = "") -> CloudSession:
    made = session(owner)
    assert book.grant(made) == made.lease != b""
    return made


def parked(book: Leases, *moments: float, owner: str = "") -> list[CloudSession]:
    made = [leased(book, owner) for _ in moments]
    for one, now in zip(made, moments, strict=True):
        assert book.park(one, now)
    return made


def test_every_session_has_a_lease_of_its_own() -> None:
    book = leases()
    granted = [leased(book).lease for _ in range(100)]
    assert len(set(granted)) == 100
    assert {len(lease) for lease in granted} == {LEASE_BYTES}


def test_another_process_with_another_key_grants_other_leases() -> None:
    assert leased(leases(b"one")).lease != leased(leases(b"two")).lease
    assert leased(leases(b"one")).lease == leased(leases(b"one")).lease


def test_a_session_is_found_by_its_lease_whether_its_edge_is_away_or_not() -> None:
    book = leases()
    one, other = leased(book), leased(book)
    assert book.find(one.lease, "") is one
    book.park(other, 0.0)
    assert book.find(other.lease, "") is other


@pytest.mark.parametrize("wrong", [b"", b"x", bytes(LEASE_BYTES), bytes(64)])
def test_a_lease_that_was_never_granted_finds_nothing(wrong: bytes) -> None:
    book = leases()
    leased(book)
    assert book.find(wrong, "") is None


@pytest.mark.parametrize(("owner", "asks"), [("ann", "bob"), ("ann", ""), ("", "bob")])
def test_anothers_lease_finds_nothing(owner: str, asks: str) -> None:
    book = leases()
    one = leased(book, owner)
    assert book.find(one.lease, asks) is None
    assert book.find(one.lease, owner) is one


def test_where_nothing_is_kept_there_are_no_leases() -> None:
    book = leases(keep_s=0.0)
    one = session()
    assert book.grant(one) == one.lease == b""
    assert book.find(b"", "") is None
    assert not book.park(one, 1.0)
    assert not book.is_parked(one)
    assert math.isinf(book.deadline())


def test_a_session_is_kept_for_as_long_as_was_said() -> None:
    book = leases()
    one, other = parked(book, 1.0, 2.0)
    assert book.is_parked(one)
    assert book.deadline() == 1.0 + KEEP_S
    assert book.expired(1.0 + KEEP_S - 0.001) == []
    assert book.expired(1.0 + KEEP_S) == [one]
    assert book.expired(2.0 + KEEP_S) == [one, other]


def test_whose_edge_is_back_is_not_given_up() -> None:
    book = leases()
    one, other = parked(book, 1.0, 2.0)
    book.unpark(one)
    assert not book.is_parked(one)
    assert book.deadline() == 2.0 + KEEP_S
    assert book.expired(math.inf) == [other]
    assert book.find(one.lease, "") is one
    book.unpark(one)


def test_who_goes_away_again_is_kept_from_then_on() -> None:
    book = leases()
    one, other = parked(book, 1.0, 2.0)
    book.unpark(one)
    book.park(one, 3.0)
    assert book.oldest() is other
    assert book.deadline() == 2.0 + KEEP_S
    assert book.expired(3.0 + KEEP_S - 0.001) == [other]


def test_a_session_that_is_over_is_forgotten() -> None:
    book = leases()
    (one,) = parked(book, 1.0)
    book.forget(one)
    assert book.find(one.lease, "") is None
    assert not book.is_parked(one)
    assert book.expired(math.inf) == []
    assert math.isinf(book.deadline())
    book.forget(one)


def test_what_a_session_without_a_lease_leaves_is_nothing() -> None:
    book = leases(keep_s=0.0)
    book.forget(session())
    assert book.find(b"", "") is None
    assert book.oldest() is None


def test_the_one_that_is_away_longest_comes_first() -> None:
    book = leases()
    assert book.oldest() is None
    leased(book)
    first, second = parked(book, 1.0, 2.0)
    assert book.oldest() is first
    book.forget(first)
    assert book.oldest() is second


def test_of_one_owner_the_one_that_is_away_longest() -> None:
    book = leases()
    parked(book, 1.0, owner="ann")
    bobs, _ = parked(book, 2.0, 3.0, owner="bob")
    assert book.oldest("bob") is bobs
    assert book.oldest("carl") is None
