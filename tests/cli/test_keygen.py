"""``keygen`` as a user types it."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from pipesd.cli.keygen import keygen
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.errors import UsageError
from pipesd.tls import of_cloud, of_edge


def test_what_it_writes_is_what_both_sides_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(keygen, [], catch_exceptions=False)
    assert done.exit_code == 0
    assert "--tls-cert pipesd-cert.pem --tls-key pipesd-key.pem; give edges pipesd-cert.pem as" in done.stderr
    assert of_cloud(CloudConfig(tls_cert="pipesd-cert.pem", tls_key="pipesd-key.pem")) is not None
    assert of_edge(EdgeConfig(tls_ca="pipesd-cert.pem")) is not None


def test_a_second_time_nothing_is_written_over(tmp_path: Path):
    arguments = ["--cert", str(tmp_path / "c.pem"), "--key", str(tmp_path / "k.pem"), "--days", "2"]
    CliRunner().invoke(keygen, arguments, catch_exceptions=False)
    with pytest.raises(UsageError, match="is there already"):
        CliRunner().invoke(keygen, arguments, catch_exceptions=False)


@pytest.mark.parametrize("days", ["0", "3651", "soon"])
def test_days_that_cannot_be_are_bad_usage(days: str):
    assert CliRunner().invoke(keygen, ["--days", days]).exit_code == 2
