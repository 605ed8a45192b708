"""The file of tokens, and how a running cloud follows it."""

import base64
import logging
import os
import re
from pathlib import Path

import msgspec
import pytest

from pipesd import tokens
from pipesd.access import AccessToken, Limits
from pipesd.errors import ConfigError, PeerError, UsageError
from pipesd.session.proof import CloudProof, EdgeProof
from pipesd.tokens import Verifiers, create, default_place, load, revoke

LIMITS = Limits(sessions_max=4, context_tokens=8_192, tokens_per_minute=600)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    return tmp_path / "of" / "the" / "cloud" / "tokens.json"


def login(verifiers: Verifiers, token: AccessToken) -> str:
    edge, tokens = EdgeProof(token, "edge-nonce"), verifiers.current()
    cloud = CloudProof(tokens.verifiers, "cloud-nonce", edge.first, tokens.fake_key)
    owner, proved = cloud.judge(edge.answer(cloud.challenge))
    edge.check(proved)
    return owner


def test_who_was_given_a_token_is_let_in(place: Path):
    alice, bob = create(place, "alice", LIMITS), create(place, "bob", Limits())
    verifiers = Verifiers(place)
    assert (login(verifiers, alice), login(verifiers, bob)) == ("alice", "bob")
    assert AccessToken.parse(alice.text) == alice
    assert verifiers.current().verifiers["alice"].limits == LIMITS
    with pytest.raises(PeerError):
        login(verifiers, AccessToken("alice", bob.secret))


def test_the_file_holds_no_secret_and_is_its_owners(place: Path):
    token = create(place, "alice", LIMITS)
    text = place.read_text()
    raw = base64.urlsafe_b64decode(token.secret + "=")
    for secret in (
        token.secret,
        base64.b64encode(raw).decode(),
        base64.b64encode(token.secret.encode()).decode(),
    ):
        assert secret not in text
    assert '"alice"' in text
    assert place.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in place.parent.iterdir()] == ["tokens.json"]


def test_every_token_has_a_secret_and_a_salt_of_its_own(place: Path):
    made = [create(place, name, LIMITS) for name in ("a", "b", "c")]
    entries = load(place).entries
    assert len({token.secret for token in made}) == 3
    assert len({entry.salt for entry in entries}) == 3
    assert len({entry.stored_key for entry in entries} | {entry.server_key for entry in entries}) == 6


def test_a_revoked_token_is_refused_by_a_cloud_that_runs(place: Path):
    alice, bob = create(place, "alice", LIMITS), create(place, "bob", LIMITS)
    verifiers = Verifiers(place)
    assert login(verifiers, alice) == "alice"
    revoke(place, "alice")
    with pytest.raises(PeerError, match="has been revoked"):
        login(verifiers, alice)
    assert login(verifiers, bob) == "bob"


def test_a_new_token_opens_a_cloud_that_runs(place: Path):
    create(place, "alice", LIMITS)
    verifiers = Verifiers(place)
    assert login(verifiers, create(place, "bob", LIMITS)) == "bob"


def test_the_file_is_read_only_when_it_has_changed(place: Path):
    create(place, "alice", LIMITS)
    verifiers = Verifiers(place)
    before = verifiers.current()
    assert verifiers.current() is before
    revoke(place, "alice")
    assert verifiers.current() is not before


def test_a_second_revocation_changes_nothing(place: Path):
    create(place, "alice", LIMITS)
    revoke(place, "alice")
    once = load(place)
    revoke(place, "alice")
    assert load(place) == once


def test_the_name_of_a_revoked_token_may_be_given_anew(place: Path):
    old = create(place, "alice", LIMITS)
    with pytest.raises(UsageError, match="is called alice already; choose another name, or revoke"):
        create(place, "alice", LIMITS)
    revoke(place, "alice")
    new = create(place, "alice", Limits())
    verifiers = Verifiers(place)
    assert login(verifiers, new) == "alice"
    with pytest.raises(PeerError, match="no token of this name and secret"):
        login(verifiers, old)
    assert len(load(place).entries) == 1


def test_what_does_not_exist_cannot_be_revoked(place: Path):
    with pytest.raises(ConfigError, match=r"^tokens: cannot write"):
        revoke(place, "alice")
    assert not place.parent.exists()
    create(place, "alice", LIMITS)
    with pytest.raises(UsageError, match="no token is called bob"):
        revoke(place, "bob")


def test_an_impossible_name_makes_no_file(place: Path):
    with pytest.raises(UsageError, match="cannot be the name"):
        create(place, "no name", LIMITS)
    assert not place.parent.exists()


def test_a_change_leaves_the_file_to_those_who_could_read_it(place: Path):
    create(place, "alice", LIMITS)
    place.chmod(0o640)
    revoke(place, "alice")
    assert place.stat().st_mode & 0o777 == 0o640


def test_one_change_at_a_time(place: Path):
    create(place, "alice", LIMITS)
    before, other = place.read_bytes(), place.with_name("tokens.json.new")
    other.write_text("what another has written so far")
    with pytest.raises(ConfigError, match=r"^tokens: \S+tokens.json.new is there: another change"):
        revoke(place, "alice")
    assert other.read_text() == "what another has written so far"
    assert place.read_bytes() == before
    other.unlink()
    revoke(place, "alice")


def test_a_change_that_fails_leaves_all_as_it_was(place: Path):
    place.parent.mkdir(parents=True)
    place.write_text("{")
    with pytest.raises(ConfigError, match="is broken"):
        create(place, "alice", LIMITS)
    assert [(path.name, path.read_text()) for path in place.parent.iterdir()] == [("tokens.json", "{")]


def test_a_folder_that_cannot_be_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match=r"^tokens: cannot write"):
        create(tmp_path / "file" / "tokens.json", "alice", LIMITS)


def test_without_a_file_the_way_to_one_is_told(place: Path):
    with pytest.raises(ConfigError, match=r"^tokens: .* is not there; pipesd-cloud token create makes it"):
        load(place)
    with pytest.raises(ConfigError, match="is not there"):
        Verifiers(place)


def test_what_is_no_file_cannot_be_read(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^tokens: cannot read"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        (r"^\{", "", "is broken"),
        (r"^.*", "[", "is broken"),
        ('"version": 1', '"version": 2', "is of version 2, and this pipesd reads version 1 only"),
        ('"version": 1', '"version": "1"', "is broken"),
        ('"fake_key": "[^"]*"', '"fake_key": "AAAA"', "is broken"),
        ('"stored_key": "[^"]*"', '"stored_key": "AAAA"', "is broken"),
        ('"server_key": "[^"]*"', '"server_key": "?"', "is broken"),
        ('"salt": "[^"]*"', '"salt": "AAAA"', "is broken"),
        ('"iterations": 4096', '"iterations": 4095', "is broken"),
        ('"iterations": 4096', '"iterations": 10000000', "is broken"),
        ('"sessions_max": 4', '"sessions_max": 0', "is broken"),
        ('"name": "bob"', '"name": "Bob"', "is broken"),
        ('"name": "bob"', '"name": "bob\\\\n"', "is broken"),
        ('"name": "bob"', '"name": "alice"', "two tokens have the same name"),
        ('"created": "[^"]*"', '"created": "today"', "is broken"),
        ('"revoked": false', '"revoked": 0', "is broken"),
        ('"revoked": false,', '"revoked": false, "admin": true,', "is broken"),
    ],
)
def test_a_broken_file_is_refused(place: Path, old: str, new: str, says: str):
    for name in ("alice", "bob"):
        create(place, name, LIMITS)
    text, changes = re.subn(old, new, place.read_text(), count=1)
    assert changes == 1
    place.write_text(text)
    with pytest.raises(ConfigError, match=f"^tokens: .*{says}"):
        load(place)


def test_bytes_that_are_no_text_are_a_broken_file(place: Path):
    create(place, "alice", LIMITS)
    place.write_bytes(place.read_bytes().replace(b'"alice"', b'"\xff\xfe"'))
    with pytest.raises(ConfigError, match="is broken"):
        load(place)


@pytest.mark.parametrize("damage", ["truncated", "gone", "folder"])
def test_while_the_file_cannot_be_read_the_last_tokens_count(
    place: Path, caplog: pytest.LogCaptureFixture, damage: str
):
    alice = create(place, "alice", LIMITS)
    verifiers, whole = Verifiers(place), place.read_bytes()
    if damage == "truncated":
        place.write_bytes(whole[:-20])
    else:
        place.unlink()
        if damage == "folder":
            place.mkdir()
    with caplog.at_level(logging.WARNING, "pipesd.cloud"):
        assert [login(verifiers, alice) for _ in range(3)] == ["alice"] * 3
    (record,) = caplog.records
    assert record.message.startswith("! tokens: ")
    assert record.message.endswith("until then the tokens that were read last still count")
    assert alice.secret not in record.message
    if damage == "folder":
        place.rmdir()
    place.write_bytes(whole)
    revoke(place, "alice")
    with pytest.raises(PeerError, match="revoked"):
        login(verifiers, alice)


def test_a_file_that_cannot_be_read_for_a_moment_is_read_at_the_next_login(place: Path):
    alice = create(place, "alice", LIMITS)
    verifiers = Verifiers(place)
    revoke(place, "alice")
    hidden = place.with_name("hidden")
    os.rename(place, hidden)
    assert login(verifiers, alice) == "alice"
    os.rename(hidden, place)
    with pytest.raises(PeerError, match="revoked"):
        login(verifiers, alice)


def test_a_restart_does_not_tell_which_names_there_are(place: Path):
    create(place, "alice", LIMITS)

    def challenge() -> bytes:
        verifiers = Verifiers(place)
        tokens = verifiers.current()
        return CloudProof(tokens.verifiers, "n", b"n,,n=carol,r=edge", tokens.fake_key).challenge

    before = challenge()
    revoke(place, "alice")
    assert challenge() == before


def test_the_file_is_for_people_to_look_at_too(place: Path):
    create(place, "alice", LIMITS)
    document = msgspec.json.decode(place.read_bytes())
    (entry,) = document.pop("entries")
    assert document.keys() == {"version", "fake_key"}
    assert entry["limits"] == {"sessions_max": 4, "context_tokens": 8_192, "tokens_per_minute": 600}
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", entry["created"])
    assert len(place.read_text().splitlines()) > 10


def test_by_default_it_is_in_the_users_data_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_place() == tmp_path / "pipesd" / "tokens.json"
    assert tokens.VERSION == 1
