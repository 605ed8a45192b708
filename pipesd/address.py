"""Where daemons listen, HOST:PORT as text, taken apart; and by what those who connect are counted."""

import ipaddress

from pipesd.errors import ConfigError

_PORT_DIGITS_MAX = 10


def host_port(text: str, *, name: str = "address", lowest_port: int = 0) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPv6]:PORT. Raises ``ConfigError`` starting with ``name``."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
        is_host = _is_ipv6(host)
    else:
        is_host = bool(host) and not any(letter.isspace() or letter in "[]:/@" for letter in host)
    if not (colon and is_host and port.isascii() and port.isdigit() and len(port) <= _PORT_DIGITS_MAX):
        raise ConfigError(f"{name}: must be HOST:PORT, such as 127.0.0.1:7433 or [::1]:7433, not {text!r}")
    if not lowest_port <= int(port) <= 65_535:
        raise ConfigError(f"{name}: the port must be between {lowest_port} and 65535, not {port}")
    return host, int(port)


def host_ports(text: str, *, name: str, lowest_port: int = 0) -> list[tuple[str, int]]:
    """Hosts and ports of one or more HOST:PORT with commas between; as ``host_port``."""
    return [host_port(part.strip(), name=name, lowest_port=lowest_port) for part in text.split(",")]


def _is_ipv6(host: str) -> bool:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        return False
    return True


_SUBSCRIBER_BITS = 64
"""Whoever has IPv6 at all has so many bits of addresses of their own at least (RFC 6177)."""


def counted_as(host: str) -> str:
    """By what the connections of a numeric address are counted: itself, or its /64 for IPv6.

    IPv4 that was mapped into IPv6 counts as IPv4. What is no address stays as it is.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    network = int(address) >> _SUBSCRIBER_BITS << _SUBSCRIBER_BITS
    return f"{ipaddress.IPv6Address(network)}/{_SUBSCRIBER_BITS}"


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach what listens there."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
