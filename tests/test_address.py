import pytest

from pipesd.address import counted_as, host_port, host_ports, is_loopback
from pipesd.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7433", ("127.0.0.1", 7433)),
        ("cloud.example:0", ("cloud.example", 0)),
        ("[::1]:65535", ("::1", 65535)),
        ("[fe80::1%eth0]:1", ("fe80::1%eth0", 1)),
    ],
)
def test_an_address_is_taken_apart(text: str, address: tuple[str, int]) -> None:
    assert host_port(text) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "host",
        "host:",
        ":7433",
        "::1:7433",
        "[]:1",
        "[host]:1",
        "[::1]",
        "host:-1",
        "host:1.5",
        "ho st:1",
        "http://host:80",
        "host:٣",
        "host:65536",
        "host:99999999999999999999",
        "user@host:1",
        "[::1]x:1",
    ],
)
def test_a_broken_address_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^listen: "):
        host_port(text, name="listen")


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("cloud.example:7433", [("cloud.example", 7433)]),
        ("one:1,two:2", [("one", 1), ("two", 2)]),
        (" one:1 , [::1]:2,one:1 ", [("one", 1), ("::1", 2), ("one", 1)]),
    ],
)
def test_several_addresses_have_commas_between(text: str, addresses: list[tuple[str, int]]) -> None:
    assert host_ports(text, name="cloud") == addresses


@pytest.mark.parametrize("text", ["", ",", "one:1,", ",one:1", "one:1,,two:2", "one:1;two:2", "one:1 two:2"])
def test_one_broken_address_among_several_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^cloud: must be HOST:PORT"):
        host_ports(text, name="cloud")


def test_the_lowest_port_holds_for_each_of_several() -> None:
    assert host_ports("one:1,two:0", name="cloud") == [("one", 1), ("two", 0)]
    with pytest.raises(ConfigError, match=r"^cloud: the port must be between 1 and 65535, not 0$"):
        host_ports("one:1,two:0", name="cloud", lowest_port=1)


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        *((host, True) for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost")),
        *((host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "localhost.example")),
    ],
)
def test_what_only_this_machine_can_reach(host: str, is_here: bool) -> None:
    assert is_loopback(host) == is_here


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("2001:db8:0:1:ffff:ffff:ffff:ffff", "2001:db8:0:1::/64"),
        ("2001:db8:0:2::1", "2001:db8:0:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::/64"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("", ""),
        ("somewhere", "somewhere"),
    ],
)
def test_connections_over_ipv6_are_counted_by_who_has_the_address(host: str, counted: str) -> None:
    assert counted_as(host) == counted
