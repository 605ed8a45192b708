"""A self-signed certificate and its key, for a first try and for machines that know each other."""

import ipaddress
import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from pipesd.errors import ConfigError, UsageError

if TYPE_CHECKING:
    from cryptography.x509 import GeneralName

LOCAL = ("localhost", "127.0.0.1", "::1")
DAYS = 365


def make_pair(cert: Path, key: Path, hosts: Sequence[str], days: int = DAYS) -> None:
    """Write a certificate for ``hosts`` (names or addresses), valid for ``days`` from now, and its key.

    The key is readable by its owner only. Raises ``ConfigError`` without the library, and ``UsageError`` if a
    file is there already or cannot be written, or a host is impossible.
    """
    try:
        from cryptography import x509  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ec  # noqa: PLC0415
    except ImportError:
        raise ConfigError("keygen needs another package; run pip install 'pipesd[tls]'") from None
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "pipesd")])
    now = datetime.now(UTC)
    try:
        names = x509.SubjectAlternativeName([_name_of(host) for host in hosts])
    except ValueError as error:
        raise UsageError(f"host: {error}; give names or addresses") from None
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(names, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(private, hashes.SHA256())
    )
    secret = private.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    _write_new(key, secret, 0o600)
    _write_new(cert, made.public_bytes(serialization.Encoding.PEM), 0o644)


def _name_of(host: str) -> "GeneralName":
    from cryptography import x509  # noqa: PLC0415

    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(data)
    except FileExistsError:
        raise UsageError(f"{path} is there already; move it away, or choose another name") from None
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror or error}") from None
