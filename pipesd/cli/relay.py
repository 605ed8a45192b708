"""``pipesd-lab link``: a modelled link between an edge and a cloud that run for real."""

import asyncio
import logging
import signal
import sys
from functools import partial

import click

from pipesd.address import host_port
from pipesd.cli.lab_options import SEED_MAX, scenario_option, seed_option, wire_option
from pipesd.cli.process import say, signals
from pipesd.errors import ConfigError
from pipesd.lab.faults import HONEST, KINDS, TAMPERING, FaultModel, kinds_from
from pipesd.lab.relay import Address, precise_loop, relaying
from pipesd.lab.scenario_file import scenario_from
from pipesd.lab.scenarios import Scenario
from pipesd.lab.storm import Storm
from pipesd.lab.wires import charge_of, uplink_of


@click.command("link")
@click.option(
    "--listen", default="127.0.0.1:7434", show_default=True, help="Where edges connect, as HOST:PORT."
)
@click.option(
    "--cloud", default="127.0.0.1:7433", show_default=True, help="Where the cloud listens, as HOST:PORT."
)
@scenario_option
@seed_option
@wire_option
@click.option(
    "--fault-every-s",
    type=click.FloatRange(0.001, 86_400.0),
    help="Inject a fault so often on the average, each into one connection. Default: never.",
)
@click.option(
    "--fault-kinds",
    default=",".join(HONEST),
    show_default=True,
    help=f"Which, equally often, of {', '.join(KINDS)}. The last {len(TAMPERING)} change bytes, as no "
    "network does by itself; without TLS they can make a text wrong.",
)
@click.option(
    "--fault-seed",
    type=click.IntRange(0, SEED_MAX),
    default=0,
    show_default=True,
    help="Fixes which fault comes when.",
)
def link(
    *,
    listen: str,
    cloud: str,
    scenario: str,
    seed: int,
    wire: str,
    fault_every_s: float | None,
    fault_kinds: str,
    fault_seed: int,
) -> None:
    """Stand between edges and a cloud as the link of a scenario, until interrupted or terminated.

    The scenario's machines do not count. In the end, the faults that were injected are counted.
    """
    logging.basicConfig(level=logging.WARNING, format="pipesd-lab: %(message)s", stream=sys.stderr)
    played = scenario_from(scenario)
    here, there = host_port(listen, name="listen"), host_port(cloud, name="cloud", lowest_port=1)
    if here == there:
        raise ConfigError(
            f"listen: {listen} is where the cloud is; choose another port, and give it to the edges"
        )
    storm = _storm(fault_every_s, fault_kinds, fault_seed)
    with asyncio.Runner(loop_factory=precise_loop) as runner:
        ended_by = runner.run(_link(here, there, played, seed, wire, storm))
    if storm is not None:
        say(f"pipesd-lab: {storm.summary()}")
    if ended_by == signal.SIGINT:
        raise KeyboardInterrupt


def _storm(every_s: float | None, kinds: str, seed: int) -> Storm | None:
    weights = dict.fromkeys(kinds_from(kinds), 1.0)
    return None if every_s is None else Storm(FaultModel(every_s=every_s, weights=weights, seed=seed))


async def _link(
    here: Address, there: Address, scenario: Scenario, seed: int, wire: str, storm: Storm | None
) -> signal.Signals:
    ended: asyncio.Future[signal.Signals] = asyncio.get_running_loop().create_future()

    def stop(which: signal.Signals) -> None:
        if not ended.done():
            ended.set_result(which)

    up = uplink_of(scenario.uplink, wire)
    charge = partial(charge_of, wire)
    down = scenario.downlink
    async with relaying(here, there, up, down, seed=seed, charge=charge, storm=storm) as (host, port):
        with signals(stop):
            shown = f"[{host}]" if ":" in host else host
            say(f"pipesd-lab: link {scenario.name} ready on {shown}:{port}")
            return await ended
