"""A self-signed pair: what is in it, who may read it, and what is left alone."""

import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509

from pipesd.errors import UsageError
from pipesd.keys import LOCAL, make_pair


def test_a_pair_is_for_the_hosts_it_was_made_for(tmp_path: Path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    make_pair(cert, key, ["cloud.example", "10.0.0.1", "::1"], days=3)
    made = x509.load_pem_x509_certificate(cert.read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["cloud.example"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1", "::1"]
    assert made.not_valid_before_utc < datetime.now(UTC) < made.not_valid_after_utc
    assert 2 <= (made.not_valid_after_utc - datetime.now(UTC)).days <= 3


def test_the_key_is_its_owners_only(tmp_path: Path):
    make_pair(tmp_path / "cert.pem", tmp_path / "key.pem", LOCAL)
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600


@pytest.mark.parametrize("there", ["cert.pem", "key.pem"])
def test_nothing_is_written_over(tmp_path: Path, there: str):
    (tmp_path / there).write_text("mine")
    with pytest.raises(UsageError, match=f"{there} is there already; move it away"):
        make_pair(tmp_path / "cert.pem", tmp_path / "key.pem", LOCAL)
    assert (tmp_path / there).read_text() == "mine"


def test_a_place_that_cannot_be_written_to_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"cannot write .*key.pem: No such file"):
        make_pair(tmp_path / "cert.pem", tmp_path / "nowhere" / "key.pem", LOCAL)


def test_a_host_that_cannot_be_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"^host: .*; give names or addresses$"):
        make_pair(tmp_path / "cert.pem", tmp_path / "key.pem", ["münchen.example"])
    assert list(tmp_path.iterdir()) == []
