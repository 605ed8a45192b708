"""TLS between an edge and a cloud: who is let in, who is not, and what is said about it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipesd import tls
from pipesd.cloud import LEAVING_MAX, serve
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import connect
from pipesd.errors import ConfigError, LinkError
from pipesd.keys import LOCAL, make_pair
from tests.actors.helpers import LoopFactory, both_loops, run_on

CLOUD = CloudConfig(engine="scripted", listen="127.0.0.1:0", tuner="off")
EDGE = EdgeConfig(engine="scripted", tuner="off", tokens_max=12)


class Pair:
    def __init__(self, folder: Path, name: str, hosts: tuple[str, ...] = LOCAL) -> None:
        self.cert, self.key = str(folder / f"{name}.pem"), str(folder / f"{name}-key.pem")
        make_pair(Path(self.cert), Path(self.key), hosts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pairs")


@pytest.fixture(scope="module")
def ours(folder: Path) -> Pair:
    return Pair(folder, "ours")


@pytest.fixture(scope="module")
def stranger(folder: Path) -> Pair:
    return Pair(folder, "stranger")


@asynccontextmanager
async def serving(config: CloudConfig) -> AsyncIterator[str]:
    async with serve(config) as cloud:
        yield f"127.0.0.1:{cloud.address[1]}"


@asynccontextmanager
async def silent_caller(address: str) -> AsyncIterator[asyncio.StreamReader]:
    """Connects, and does not begin to speak TLS."""
    reader, writer = await asyncio.open_connection(*address.split(":"))
    try:
        yield reader
    finally:
        writer.transport.abort()


async def ended(reader: asyncio.StreamReader) -> bool:
    try:
        return not await reader.read()
    except ConnectionError:
        return True


async def answer(config: EdgeConfig) -> str:
    async with connect(config) as edge:
        return "".join([str(piece) async for piece in edge.generate("Once")])


@both_loops
def test_the_text_is_the_same_and_ends_in_good_order(loop_factory: LoopFactory, ours: Pair):
    async def main() -> tuple[str, str]:
        async with (
            serving(CLOUD) as plain,
            serving(replace(CLOUD, tls_cert=ours.cert, tls_key=ours.key)) as safe,
        ):
            return (
                await answer(replace(EDGE, cloud=plain)),
                await answer(replace(EDGE, cloud=safe, tls_ca=ours.cert)),
            )

    plain, safe = run_on(loop_factory, main())
    assert plain == safe != ""


async def test_a_cloud_that_nobody_vouches_for_is_not_spoken_to(ours: Pair, stranger: Pair):
    async with serving(replace(CLOUD, tls_cert=stranger.cert, tls_key=stranger.key)) as address:
        with pytest.raises(LinkError, match=r"cannot be trusted.*self-signed certificate.*check tls_ca"):
            await answer(replace(EDGE, cloud=address, tls_ca=ours.cert))


async def test_a_certificate_for_another_host_is_of_no_use(folder: Path):
    elsewhere = Pair(folder, "elsewhere", ("cloud.example",))
    async with serving(replace(CLOUD, tls_cert=elsewhere.cert, tls_key=elsewhere.key)) as address:
        with pytest.raises(LinkError, match="mismatch"):
            await answer(replace(EDGE, cloud=address, tls_ca=elsewhere.cert))


async def test_a_cloud_without_tls_is_found_out(ours: Pair):
    async with serving(CLOUD) as address:
        with pytest.raises(LinkError, match="speaks no TLS"):
            await answer(replace(EDGE, cloud=address, tls_ca=ours.cert))


async def test_an_edge_without_tls_is_not_let_in(ours: Pair):
    async with serving(replace(CLOUD, tls_cert=ours.cert, tls_key=ours.key)) as address:
        with pytest.raises(LinkError):
            await answer(replace(EDGE, cloud=address))


@both_loops
def test_handshakes_that_never_end_are_bounded_by_address_and_in_time(loop_factory: LoopFactory, ours: Pair):
    """Whoever comes once they were given up is served as ever."""
    config = replace(
        CLOUD, tls_cert=ours.cert, tls_key=ours.key, address_connections_max=1, handshake_timeout_s=1
    )
    room = 1 + LEAVING_MAX

    async def main() -> None:
        async with serving(config) as address, AsyncExitStack() as stack:
            silent = [await stack.enter_async_context(silent_caller(address)) for _ in range(room + 20)]
            for reader in silent[room:]:
                assert await ended(reader)
            assert not any(reader.at_eof() for reader in silent[:room])
            for reader in silent[:room]:
                assert await ended(reader)
            assert await answer(replace(EDGE, cloud=address, tls_ca=ours.cert)) != ""

    run_on(loop_factory, main())


@both_loops
def test_a_cloud_that_ends_waits_for_no_handshake(loop_factory: LoopFactory, ours: Pair):
    async def main() -> None:
        before = asyncio.all_tasks()
        async with AsyncExitStack() as stack:
            async with serving(replace(CLOUD, tls_cert=ours.cert, tls_key=ours.key)) as address:
                reader = await stack.enter_async_context(silent_caller(address))
                assert await answer(replace(EDGE, cloud=address, tls_ca=ours.cert)) != ""
            assert await ended(reader)
        assert asyncio.all_tasks() == before

    run_on(loop_factory, main())


async def test_an_edge_must_show_a_certificate_if_the_cloud_wants_one(ours: Pair, stranger: Pair):
    mutual = replace(CLOUD, tls_cert=ours.cert, tls_key=ours.key, tls_ca=stranger.cert)
    async with serving(mutual) as address:
        knows = replace(EDGE, cloud=address, tls_ca=ours.cert)
        assert await answer(replace(knows, tls_cert=stranger.cert, tls_key=stranger.key)) != ""
        for nobody in (knows, replace(knows, tls_cert=ours.cert, tls_key=ours.key)):
            with pytest.raises(LinkError):
                await answer(nobody)


def test_nothing_older_than_tls_1_3_is_spoken(ours: Pair):
    for context in (
        tls.of_cloud(replace(CLOUD, tls_cert=ours.cert, tls_key=ours.key)),
        tls.of_edge(replace(EDGE, tls_ca=ours.cert)),
        tls.of_edge(replace(EDGE, tls_ca="system")),
    ):
        assert context is not None
        assert context.minimum_version.name == "TLSv1_3"


def test_without_settings_there_is_no_tls():
    assert tls.of_cloud(CLOUD) is None
    assert tls.of_edge(EDGE) is None


def test_files_that_are_of_no_use_are_named(folder: Path, ours: Pair, stranger: Pair):
    nonsense = folder / "nonsense.pem"
    nonsense.write_text("no certificate")
    for config, says in (
        (replace(EDGE, tls_ca="nowhere.pem"), "tls_ca: cannot read nowhere.pem: No such file or directory"),
        (replace(EDGE, tls_ca=str(nonsense)), f"tls_ca: {nonsense} holds no certificate; give a file"),
    ):
        with pytest.raises(ConfigError) as caught:
            tls.of_edge(config)
        assert str(caught.value).startswith(says)
    for cert, key in ((str(nonsense), ours.key), (ours.cert, stranger.key), (ours.cert, str(nonsense))):
        with pytest.raises(ConfigError, match="are no certificate and its key without a password"):
            tls.of_cloud(replace(CLOUD, tls_cert=cert, tls_key=key))
