"""TLS for both sides, from the files that the settings name. TLS 1.3 and nothing older.

Whoever is asked for a certificate must show one that the other side's authorities signed; a self-signed
certificate is its own authority.
"""

import ssl
from pathlib import Path

from pipesd.config import CloudConfig, EdgeConfig
from pipesd.errors import ConfigError

SYSTEM = "system"
"""In the place of a file of authorities: those that this machine trusts."""


def of_cloud(config: CloudConfig) -> ssl.SSLContext | None:
    """What the cloud listens with; None without TLS. Raises ``ConfigError`` for files that are of no use."""
    if not config.tls_cert:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _show(context, config.tls_cert, config.tls_key)
    if config.tls_ca:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, config.tls_ca)
    return context


def of_edge(config: EdgeConfig) -> ssl.SSLContext | None:
    """What the edge connects with; as ``of_cloud``."""
    if not config.tls_ca:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    _trust(context, config.tls_ca)
    if config.tls_cert:
        _show(context, config.tls_cert, config.tls_key)
    return context


def _trust(context: ssl.SSLContext, authorities: str) -> None:
    if authorities == SYSTEM:
        context.load_default_certs()
        return
    _require("tls_ca", authorities)
    try:
        context.load_verify_locations(authorities)
    except (ssl.SSLError, OSError):
        raise ConfigError(f"tls_ca: {authorities} holds no certificate; give a file in PEM format") from None


def _show(context: ssl.SSLContext, cert: str, key: str) -> None:
    _require("tls_cert", cert)
    _require("tls_key", key)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except (ssl.SSLError, OSError, ValueError):
        raise ConfigError(
            f"tls_cert: {cert} and tls_key: {key} are no certificate and its key without a password; "
            "give files in PEM format, such as pipesd-cloud keygen writes"
        ) from None


def _require(name: str, path: str) -> None:
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise ConfigError(f"{name}: cannot read {path}: {error.strerror or error}") from None


def _no_password() -> str:
    """Nobody is asked for one: OpenSSL would do so at the terminal."""
    raise ValueError("the key has a password")
