"""Who is let in: connections are counted, and each has a while to greet in."""

import math

import pytest
from msgspec import structs

from pipesd.access import AccessToken, Limits
from pipesd.session.admission import Admission
from pipesd.session.proof import REVOKED, SALT_BYTES, EdgeProof, Tokens, Verifier, verifier_of
from pipesd.session.rules import CloudRules, Patience
from pipesd.wire.frames import PROTOCOL_VERSION, Challenge, Hello, Proof, Refuse, Welcome
from tests.session.helpers import HELLO, WELCOME, grant

PATIENT = Patience(greeting_s=5.0)
ANN = AccessToken("ann", "a" * 43)


def admission(**rules: int) -> Admission:
    return Admission(CloudRules(patience=PATIENT, **rules), WELCOME)  # type: ignore[arg-type]


def meets(door: Admission, peer: int, address: str = "", now: float = 0.0) -> Refuse | None:
    return door.meet(peer, address, f"nonce{peer}", now, is_stopping=False)


def met(*addresses: str, **rules: int) -> Admission:
    """A door behind which there is a peer from each of these."""
    door = admission(**rules)
    for peer, address in enumerate(addresses):
        assert meets(door, peer, address) is None
    return door


# -- connections ------------------------------------------------------------------------------------------


def test_a_cloud_that_stops_lets_nobody_in() -> None:
    door = admission()
    assert door.meet(0, "", "", 0.0, is_stopping=True) == Refuse("stopping", "it is stopping")
    assert math.isinf(door.deadline())


def test_connections_are_counted_and_given_back() -> None:
    door = met("a", "b", connections_max=2)
    assert meets(door, 2, "c") == Refuse("busy", "no connection is free", 2_000)
    door.forget(0)
    assert meets(door, 3, "c") is None
    assert meets(door, 4, "a") == Refuse("busy", "no connection is free", 2_000)


def test_connections_from_one_address_are_counted_too() -> None:
    door = met("a", "a", "b", address_connections_max=2)
    message = "all 2 connections from one address are taken"
    assert meets(door, 3, "a") == Refuse("busy", message, 2_000)
    assert meets(door, 4, "b") is None
    door.forget(0)
    assert meets(door, 5, "a") is None
    assert meets(door, 6, "a") == Refuse("busy", message, 2_000)


def test_who_has_ipv6_cannot_take_another_address_for_each_connection() -> None:
    door = met("2001:db8::1", "2001:db8::2", address_connections_max=2)
    assert meets(door, 2, "2001:db8::3") is not None
    assert meets(door, 3, "2001:db8:0:1::1") is None
    door.forget(0)
    assert meets(door, 4, "2001:db8::3") is None


def test_where_addresses_mean_nothing_only_connections_are_counted() -> None:
    door = met("", "", "", address_connections_max=1, connections_max=3)
    assert meets(door, 3) == Refuse("busy", "no connection is free", 2_000)


def test_those_that_are_let_in_count_as_well() -> None:
    door = met("a", "a", address_connections_max=2)
    door.hear(0, HELLO)
    door.admit(0)
    assert meets(door, 2, "a") is not None


def test_who_was_refused_takes_nothing() -> None:
    door = met("a", address_connections_max=1, connections_max=2)
    for peer in range(1, 9):
        assert meets(door, peer, "a") is not None
        door.forget(peer)
    assert meets(door, 9, "b") is None
    assert meets(door, 10, "c") == Refuse("busy", "no connection is free", 2_000)
    door.forget(0)
    assert meets(door, 11, "a") is None


def test_nothing_is_kept_of_addresses_that_are_gone() -> None:
    door = admission(connections_max=1)
    for peer in range(100):
        assert meets(door, peer, f"10.0.0.{peer}") is None
        door.forget(peer)
    assert not door._addresses
    assert not door._guests
    assert math.isinf(door.deadline())


def test_a_peer_that_is_gone_may_be_forgotten_again() -> None:
    door = met("a", "a", address_connections_max=2)
    door.forget(0)
    door.forget(0)
    assert meets(door, 2, "a") is None
    assert meets(door, 3, "a") is not None


# -- greetings --------------------------------------------------------------------------------------------


def test_a_greeting_in_our_version_is_welcomed() -> None:
    door = met("a")
    assert door.hear(0, HELLO) == WELCOME
    assert door.admit(0) == ""


@pytest.mark.parametrize("version", [PROTOCOL_VERSION - 1, PROTOCOL_VERSION + 1, 0])
def test_another_version_is_refused_with_ours(version: int) -> None:
    answer = met("a").hear(0, Hello(version, "another", 10, b"who"))
    assert isinstance(answer, Refuse)
    assert answer.code == "version"
    assert f"version {PROTOCOL_VERSION} of the protocol, not {version}" in answer.message


def test_a_greeting_has_its_time() -> None:
    door = admission()
    meets(door, 0, now=1.0)
    meets(door, 1, now=2.0)
    assert door.deadline() == 6.0
    assert door.late(5.9) == []
    assert door.late(6.0) == [0]
    assert door.late(7.0) == [0, 1]


def test_who_is_let_in_or_gone_is_not_late() -> None:
    door = admission()
    for peer in range(3):
        meets(door, peer, now=float(peer))
    door.admit(1)
    door.forget(0)
    assert door.deadline() == 7.0
    assert door.late(100.0) == [2]


# -- tokens -----------------------------------------------------------------------------------------------


def verifier(limits: Limits | None = None) -> Verifier:
    return verifier_of(ANN.secret, bytes(SALT_BYTES), limits or Limits())


def guarded(welcome: Welcome = WELCOME, limits: Limits | None = None) -> Admission:
    door = Admission(CloudRules(), welcome)
    assert door.learn(Tokens({"ann": verifier(limits)}, b"fake")) == []
    meets(door, 0)
    return door


def proves(
    door: Admission, token: AccessToken, peer: int = 0, meanwhile: Tokens | None = None
) -> Welcome | Challenge | Refuse:
    """Whatever is answered to a proof, before which other tokens may be read; the cloud's own is checked."""
    edge = EdgeProof(token, f"edge{peer}")
    challenge = door.hear(peer, Hello(PROTOCOL_VERSION, "toy", 100, edge.first))
    assert isinstance(challenge, Challenge)
    if meanwhile is not None:
        assert door.learn(meanwhile) == []
    answer = door.hear(peer, Proof(edge.answer(challenge.credential)))
    if isinstance(answer, Welcome):
        edge.check(answer.credential)
    return answer


def test_who_has_a_token_is_let_in_by_its_name() -> None:
    door = guarded()
    assert isinstance(proves(door, ANN), Welcome)
    assert door.admit(0) == "ann"


@pytest.mark.parametrize("token", [AccessToken("ann", "b" * 43), AccessToken("bob", "a" * 43)])
def test_who_has_none_is_not(token: AccessToken) -> None:
    answer = proves(guarded(), token)
    assert isinstance(answer, Refuse)
    assert answer.code == "auth"


def test_who_shows_none_where_one_is_wanted_is_told_so() -> None:
    answer = guarded().hear(0, HELLO)
    assert isinstance(answer, Refuse)
    assert answer.code == "auth"
    assert "token" in answer.message


def test_what_is_no_proof_is_refused() -> None:
    door = guarded()
    assert isinstance(door.hear(0, Hello(PROTOCOL_VERSION, "toy", 100, b"\xff\x00")), Refuse)


def test_a_proof_that_was_listened_to_is_of_no_use_on_another_connection() -> None:
    door = guarded()
    meets(door, 1)
    edge = EdgeProof(ANN, "edge")
    hello = Hello(PROTOCOL_VERSION, "toy", 100, edge.first)
    challenge = door.hear(0, hello)
    assert isinstance(challenge, Challenge)
    proof = Proof(edge.answer(challenge.credential))
    assert isinstance(door.hear(1, hello), Challenge)
    answer = door.hear(1, proof)
    assert isinstance(answer, Refuse)
    assert answer.code == "auth"
    assert isinstance(door.hear(0, proof), Welcome)


def test_whose_token_is_revoked_is_named_and_others_are_not() -> None:
    door = guarded()
    proves(door, ANN)
    door.admit(0)
    meets(door, 1)
    assert door.learn(Tokens({"ann": verifier()}, b"fake")) == []
    assert door.learn(Tokens({}, b"fake")) == [0]


@pytest.mark.parametrize("left", [{}, {"ann": structs.replace(verifier(), revoked=True)}])
def test_a_token_that_is_revoked_during_the_greeting_lets_nobody_in(left: dict[str, Verifier]) -> None:
    answer = proves(guarded(), ANN, meanwhile=Tokens(left, b"fake"))
    assert answer == Refuse("auth", REVOKED)


@pytest.mark.parametrize(("own", "granted"), [(None, 1_000), (50, 50), (5_000, 1_000)])
def test_a_token_may_grant_less_context_and_never_more(own: int | None, granted: int) -> None:
    answer = proves(guarded(grant(context_tokens=1_000), Limits(context_tokens=own)), ANN)
    assert isinstance(answer, Welcome)
    assert answer.context_tokens == granted
