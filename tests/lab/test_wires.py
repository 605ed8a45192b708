import asyncio

import pytest

from pipesd.errors import UsageError
from pipesd.lab.clock import run_virtually
from pipesd.lab.emulator import LinkModel
from pipesd.lab.link import memory_link
from pipesd.lab.scenarios import scenario_named
from pipesd.lab.wires import WIRES, charge_of, draft_bytes, frame_bytes, frame_charge_of, uplink_of
from pipesd.values import Sampling
from pipesd.wire.codec import encode
from pipesd.wire.frames import PROTOCOL_VERSION, Draft, Hello, Open, Prompt

PER_TOKEN = 290_304
HELLO = encode(Hello(PROTOCOL_VERSION, "a test", 50))
ONE, THREE, NONE = (encode(Draft(0, 1, 4, tokens)) for tokens in ((7,), (7, 8, 300), ()))


def in_pieces(data: bytes, length: int) -> list[bytes]:
    return [data[start : start + length] for start in range(0, len(data), length)]


def test_there_are_two():
    assert WIRES == ("ids", "full-distribution")


def test_ids_cost_their_bytes_at_the_alpha_of_the_scenario():
    uplink, charge = scenario_named("s1").uplink, charge_of("ids")
    assert uplink_of(uplink, "ids") == uplink
    assert [charge(chunk) for chunk in (HELLO, ONE, THREE, b"")] == [len(HELLO), len(ONE), len(THREE), 0]
    assert draft_bytes("ids", 5) == 0


def test_a_distribution_goes_up_with_every_draft_token_and_each_message_takes_25_ms():
    uplink, charge = scenario_named("s1").uplink, charge_of("full-distribution")
    charged = uplink_of(uplink, "full-distribution")
    assert (charged.message_s, charged.bytes_per_s, charged.delay_s) == (0.025, 2.5e6, 0.015)
    assert charge(HELLO) == len(HELLO)
    assert charge(ONE) == len(ONE) + PER_TOKEN
    assert charge(THREE + NONE + ONE) == len(THREE + NONE + ONE) + 4 * PER_TOKEN
    assert draft_bytes("full-distribution", 3) == 3 * PER_TOKEN
    assert charged.occupancy_s(PER_TOKEN) == pytest.approx(0.025 + 0.1161216)


def test_each_message_does_so_in_every_phase():
    uplink = scenario_named("wifi-4g").uplink
    assert [phase.message_s for phase in uplink.phases] == [0.0002, 0.002]
    charged = uplink_of(uplink, "full-distribution")
    assert [phase.message_s for phase in charged.phases] == [0.025, 0.025]
    assert [phase.bytes_per_s for phase in charged.phases] == [5e6, 1.25e6]


@pytest.mark.parametrize("wire", WIRES)
def test_a_frame_is_charged_for_what_its_bytes_are(wire: str):
    for frame in (
        Hello(PROTOCOL_VERSION, "a test", 50),
        Open(3),
        Draft(0, 1, 4, (7, 8, 300)),
        Draft(70_000, 1, 1 << 20, (), 9),
        Prompt(1, 2, 0, tuple(range(100_000)), Sampling(), 3, 64),
    ):
        assert frame_bytes(frame) == len(encode(frame))
        assert frame_charge_of(wire)(frame) == charge_of(wire)(encode(frame))


@pytest.mark.parametrize("length", [1, 3, 7, 50])
def test_a_frame_is_charged_with_the_chunk_that_completes_it(length: int):
    charge, stream = charge_of("full-distribution"), HELLO + THREE + NONE + ONE
    ends = {len(HELLO + THREE): 3, len(stream): 1}
    completed = [
        sum(tokens for end, tokens in ends.items() if start < end <= start + length)
        for start in range(0, len(stream), length)
    ]
    extra = [charge(piece) - len(piece) for piece in in_pieces(stream, length)]
    assert extra == [PER_TOKEN * tokens for tokens in completed]


def test_each_link_counts_for_itself():
    one, other = charge_of("full-distribution"), charge_of("full-distribution")
    assert one(ONE[:3]) == 3
    assert other(ONE) == len(ONE) + PER_TOKEN
    assert one(ONE[3:]) == len(ONE) - 3 + PER_TOKEN


@pytest.mark.parametrize("noise", [b"\xff" * 9, b"\0\0\0\1\x07", encode(Open(3))[:4] + b"\xc1" * 20])
def test_what_is_no_frame_costs_its_bytes_from_then_on(noise: bytes):
    charge = charge_of("full-distribution")
    assert charge(ONE + noise) == len(ONE + noise) + PER_TOKEN
    assert charge(THREE) == len(THREE)


def test_a_modelled_link_charges_by_the_wire():
    model = LinkModel(bytes_per_s=1e6)

    async def main() -> float:
        ours, _ = memory_link(model, model, up_bytes=charge_of("full-distribution"))
        await ours.send(THREE)
        return asyncio.get_running_loop().time()

    assert run_virtually(main()) == pytest.approx((len(THREE) + 3 * PER_TOKEN) / 1e6)


@pytest.mark.parametrize("wire", ["", "IDS", "probabilities"])
def test_an_unknown_wire_is_answered_with_the_known_ones(wire: str):
    words = f"^wire: {wire!r} is not known; choose one of ids, full-distribution$"
    for ask in (
        lambda: uplink_of(LinkModel(), wire),
        lambda: charge_of(wire),
        lambda: draft_bytes(wire, 1),
        lambda: frame_charge_of(wire),
    ):
        with pytest.raises(UsageError, match=words):
            ask()
