"""Every figure here is computed by hand; luck is only held to its bounds and to its seed."""

import math
from dataclasses import FrozenInstanceError, dataclass, replace
from typing import Any

import pytest

from pipesd.errors import UsageError
from pipesd.lab.emulator import LinkEmulator, LinkModel, LinkPhase, both_ways

PLAIN = LinkModel(delay_s=0.05, message_s=0.01, bytes_per_s=1_000.0)
DRAWN = LinkModel(changes_every_s=20.0, drawn_bytes_per_s=(1_000.0, 9_000.0))


def sent(model: LinkModel, *messages: tuple[float, int], seed: int = 0) -> list[tuple[float, float]]:
    """(free again, arrival) of messages, each a moment and a number of bytes."""
    emulator = LinkEmulator(model, seed)
    return [emulator.send(now, message_bytes) for now, message_bytes in messages]


def near(*moments: tuple[float, float]) -> Any:
    return [pytest.approx(each) for each in moments]


def rate_at(moment: float, seed: int = 0, model: LinkModel = DRAWN) -> float:
    """Seen from how long one byte takes."""
    free_at, _ = LinkEmulator(model, seed).send(moment, 1)
    return 1 / (free_at - moment)


# -- plain links --------------------------------------------------------------------------------------------


def test_messages_occupy_the_link_one_after_another_and_travel_together():
    assert sent(PLAIN, (0.0, 10), (0.0, 30), (0.03, 0)) == near((0.02, 0.07), (0.06, 0.11), (0.07, 0.12))


def test_an_idle_link_is_free_at_once():
    assert sent(PLAIN, (0.0, 10), (5.0, 10)) == near((0.02, 0.07), (5.02, 5.07))


def test_an_ideal_link_takes_no_time():
    assert sent(LinkModel(), (3.0, 1_000_000)) == [(3.0, 3.0)]


def test_plain_arithmetic_is_a_sum_and_a_maximum_to_the_last_bit():
    model = LinkModel(delay_s=0.015, message_s=0.0002, bytes_per_s=2.5e6)
    free_at, expected, messages = 0.0, [], []
    for number in range(1_000):
        now, message_bytes = number * 0.0001003, number % 77
        free_at = max(free_at, now) + (0.0002 + message_bytes / 2.5e6)
        expected.append((free_at, free_at + 0.015))
        messages.append((now, message_bytes))
    assert sent(model, *messages) == expected


def test_a_model_may_say_for_itself_how_long_a_message_takes():
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Square(LinkModel):
        def occupancy_s(self, message_bytes: int) -> float:
            return float(message_bytes**2)

    assert sent(Square(delay_s=1.0), (0.0, 3), (0.0, 2)) == [(9.0, 10.0), (13.0, 14.0)]


def test_the_end_takes_no_time_and_follows_what_was_sent():
    emulator = LinkEmulator(PLAIN)
    emulator.send(0.0, 10)
    assert emulator.end(0.0) == pytest.approx(0.07)
    assert emulator.end(3.0) == pytest.approx(3.05)


# -- rates --------------------------------------------------------------------------------------------------


def test_a_message_that_spans_a_change_is_charged_by_both_rates():
    model = LinkModel(delay_s=0.5, message_s=1.0, bytes_per_s=100.0, rates=((2.0, 10.0), (5.0, math.inf)))
    assert sent(model, (0.0, 50)) == near((1.5, 2.0))
    assert sent(model, (0.0, 100)) == near((2.0, 2.5))
    assert sent(model, (0.0, 120)) == near((4.0, 4.5))
    assert sent(model, (0.0, 1_000)) == near((5.0, 5.5))
    assert sent(model, (6.0, 1_000)) == near((7.0, 7.5))


def test_a_rate_may_hold_from_the_beginning():
    assert sent(LinkModel(rates=((0.0, 10.0),)), (0.0, 5)) == near((0.5, 0.5))


def test_drawn_rates_stay_within_their_bounds_and_change_when_they_should():
    rates = [rate_at(20.0 * number + 7.0) for number in range(400)]
    assert all(1_000.0 <= rate <= 9_000.0 for rate in rates)
    assert sum(rates) / 400 == pytest.approx(5_000.0, rel=0.1)
    assert min(rates) < 1_200.0
    assert max(rates) > 8_800.0
    assert rate_at(47.0) == pytest.approx(rate_at(55.0))
    assert rate_at(47.0) != pytest.approx(rate_at(35.0))


def test_a_message_that_spans_a_drawn_change_is_charged_by_both_rates():
    first, second = rate_at(7.0), rate_at(27.0)
    message_bytes = int(10 * first + 5 * second)
    expected = 20.0 + (message_bytes - 10 * first) / second
    assert sent(DRAWN, (10.0, message_bytes)) == near((expected, expected))


def test_a_drawn_rate_does_not_depend_on_what_was_asked_before():
    emulator = LinkEmulator(DRAWN, 3)
    for moment in (1.0, 5_000.0, 70_000.0):
        free_at, _ = emulator.send(moment, 1_000)
        assert (free_at - moment) * rate_at(moment, seed=3) == pytest.approx(1_000.0)


def test_stretches_of_any_length_follow_each_other_without_a_gap():
    """Their borders are no round numbers for a float."""
    model = LinkModel(changes_every_s=0.1, drawn_bytes_per_s=(1_000.0, 1_000.0))
    assert sent(model, *((0.1 * number, 250) for number in range(1_000)))[-1][0] == pytest.approx(250.0)


def test_the_seed_fixes_the_rates():
    rates = {seed: [rate_at(20.0 * number, seed) for number in range(5)] for seed in range(3)}
    assert rates[1] == [rate_at(20.0 * number, 1) for number in range(5)]
    assert rates[0] != rates[1] != rates[2] != rates[0]


# -- outages ------------------------------------------------------------------------------------------------

CUT = replace(PLAIN, outages=((1.0, 3.0), (3.0, 4.0), (10.0, 11.0)))


@pytest.mark.parametrize(
    ("now", "message_bytes", "free_at"),
    [
        (0.5, 10, 0.52),
        (0.98, 10, 1.0),
        (0.98, 20, 4.01),
        (0.995, 10, 4.015),
        (1.0, 10, 4.02),
        (3.0, 10, 4.02),
        (3.5, 10, 4.02),
        (4.0, 10, 4.02),
        (0.98, 8_000, 12.99),
    ],
    ids=str,
)
def test_nothing_leaves_in_an_outage_and_what_was_half_sent_goes_on(now, message_bytes, free_at):
    assert sent(CUT, (now, message_bytes)) == near((free_at, free_at + 0.05))


def test_what_had_left_arrives_in_an_outage():
    assert sent(CUT, (0.97, 10), (0.97, 0))[0] == pytest.approx((0.99, 1.04))


def test_the_end_waits_for_an_outage_as_well():
    emulator = LinkEmulator(CUT)
    assert emulator.end(2.0) == pytest.approx(4.05)
    assert emulator.free_at == 4.0


def test_an_ideal_link_has_outages_too():
    assert sent(LinkModel(outages=((1.0, 2.0),)), (0.5, 9), (1.5, 9)) == [(0.5, 0.5), (2.0, 2.0)]


def test_outages_and_rates_go_together():
    model = LinkModel(bytes_per_s=10.0, rates=((2.0, 100.0),), outages=((1.0, 3.0),))
    assert sent(model, (0.0, 110)) == near((4.0, 4.0))


# -- luck ---------------------------------------------------------------------------------------------------

EACH_SECOND = [(float(number), 10) for number in range(2_000)]


def extra_s(model: LinkModel, seed: int = 0) -> list[float]:
    """What each of many messages, a second apart, travelled beyond the delay."""
    moments = sent(model, *EACH_SECOND, seed=seed)
    return [arrival - free_at - model.delay_s for free_at, arrival in moments]


def test_jitter_is_anything_up_to_its_bound():
    extra = extra_s(replace(PLAIN, jitter_s=0.2))
    assert all(-1e-9 < each < 0.2 for each in extra)
    assert sum(extra) / len(extra) == pytest.approx(0.1, rel=0.05)
    assert min(extra) < 0.005
    assert max(extra) > 0.195


def test_luck_does_not_keep_others_from_leaving():
    lucky = sent(replace(PLAIN, jitter_s=0.2, loss=0.3), *EACH_SECOND)
    plain = sent(PLAIN, *EACH_SECOND)
    assert [free_at for free_at, _ in lucky] == pytest.approx([free_at for free_at, _ in plain])


def test_messages_arrive_in_order_behind_one_that_is_late():
    model = LinkModel(delay_s=0.1, message_s=0.001, jitter_s=0.05, loss=0.1, loss_delay_s=0.2)
    moments = sent(model, *((0.0, 0) for _ in range(500)))
    arrivals = [arrival for _, arrival in moments]
    assert arrivals == sorted(arrivals)
    assert len(set(arrivals)) < len(arrivals)
    assert all(arrival >= free_at + 0.1 for free_at, arrival in moments)
    emulator = LinkEmulator(replace(model, loss=1.0))
    _, last = emulator.send(0.0, 0)
    assert last > 0.3
    assert emulator.end(0.0) == last


def test_a_share_of_the_messages_is_lost_and_comes_later():
    extra = extra_s(replace(PLAIN, loss=0.25, loss_delay_s=0.3))
    lost = [each for each in extra if each > 0.1]
    assert lost == pytest.approx([0.3] * len(lost))
    assert len(lost) / len(extra) == pytest.approx(0.25, abs=0.03)
    assert [each for each in extra if each <= 0.1] == pytest.approx(
        [0.0] * (len(extra) - len(lost)), abs=1e-9
    )


@pytest.mark.parametrize(("loss", "expected"), [(0.0, 0.0), (1.0, 0.2)])
def test_none_or_all_may_be_lost(loss: float, expected: float):
    extra = extra_s(LinkModel(delay_s=0.1, jitter_s=1e-12, loss=loss))
    assert extra == pytest.approx([expected] * len(extra), abs=1e-6)


def test_the_seed_fixes_the_luck():
    model = replace(PLAIN, jitter_s=0.2, loss=0.1)
    assert extra_s(model, 5) == extra_s(model, 5)
    assert extra_s(model, 5) != extra_s(model, 6)


def test_the_luck_of_a_message_is_its_own_whatever_else_the_link_does():
    """So two models can be compared under the same luck."""
    jitter, both = (extra_s(replace(PLAIN, jitter_s=0.2, loss=loss)) for loss in (0.0, 0.1))
    assert sum(one != pytest.approx(other) for one, other in zip(jitter, both, strict=True)) in range(
        100, 300
    )


def test_the_two_directions_have_luck_of_their_own():
    model = replace(DRAWN, jitter_s=0.2)
    seen = [
        [emulator.send(float(20 * number), 10) for number in range(20)]
        for seed in (0, 1, 2)
        for emulator in both_ways(model, model, seed)
    ]
    assert all(one != other for place, one in enumerate(seen) for other in seen[:place])
    up, down = both_ways(PLAIN, LinkModel())
    assert (up.send(0.0, 10)[1], down.send(0.0, 10)[1]) == pytest.approx((0.07, 0.0))


# -- what is possible ---------------------------------------------------------------------------------------


# -- phases -----------------------------------------------------------------------------------------------

NEAR = LinkPhase(duration_s=10.0, delay_s=0.5, message_s=1.0, bytes_per_s=100.0)
FAR = LinkPhase(duration_s=5.0, delay_s=3.0, message_s=0.0, bytes_per_s=10.0)
BY_TURNS = LinkModel(phases=(NEAR, FAR))


@pytest.mark.parametrize(
    ("now", "message_bytes", "expected"),
    [
        (0.0, 100, (2.0, 2.5)),
        (10.0, 20, (12.0, 15.0)),
        (15.0, 100, (17.0, 17.5)),
        (9.5, 10, (11.5, 14.5)),  # a message of 1 s that begins late leaves in the next phase
        (14.0, 110, (16.0, 16.5)),  # 10 bytes slowly, 100 fast
        (8.5, 60, (11.0, 14.0)),  # 50 bytes fast, 10 slowly
        (3_008.5, 60, (3_011.0, 3_014.0)),
    ],
)
def test_phases_hold_by_turns(now: float, message_bytes: int, expected: tuple[float, float]):
    assert LinkEmulator(BY_TURNS).send(now, message_bytes) == pytest.approx(expected)


def test_what_left_in_a_far_phase_is_not_overtaken():
    link = LinkEmulator(BY_TURNS)
    _, slow = link.send(14.8, 1)
    _, quick = link.send(15.0, 0)
    assert (slow, quick) == pytest.approx((17.9, 17.9))


def test_the_end_travels_as_long_as_its_phase_says():
    assert LinkEmulator(BY_TURNS).end(11.0) == 14.0
    assert LinkEmulator(BY_TURNS).end(16.0) == 16.5


def test_drawn_rates_count_instead_of_those_of_phases():
    drawn = replace(BY_TURNS, changes_every_s=4.0, drawn_bytes_per_s=(50.0, 50.0))
    assert LinkEmulator(drawn).send(0.0, 100) == (3.0, 3.5)


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        (LinkModel(bytes_per_s=7.0), [7.0] * 4),
        (LinkModel(bytes_per_s=7.0, rates=((9.0, 3.0),)), [7.0, 3.0, 3.0, 3.0]),
        (BY_TURNS, [100.0, 10.0, 10.0, 100.0]),
    ],
)
def test_the_rate_of_a_moment_can_be_asked_for(model: LinkModel, rates: list[float]):
    assert [LinkEmulator(model).bytes_per_s(moment) for moment in (0.0, 10.0, 14.9, 15.0)] == rates


def test_so_can_a_drawn_one():
    link = LinkEmulator(LinkModel(changes_every_s=2.0, drawn_bytes_per_s=(100.0, 200.0)), 3)
    rate = link.bytes_per_s(4.0)
    assert link.send(4.0, 100)[0] == pytest.approx(4.0 + 100 / rate)
    assert 100.0 <= rate <= 200.0


@pytest.mark.parametrize("key", ["duration_s", "delay_s", "message_s", "bytes_per_s"])
@pytest.mark.parametrize("value", [-1.0, math.nan])
def test_what_no_phase_can_be_is_named(key: str, value: float):
    with pytest.raises(UsageError, match=f"^{key}: must be at least "):
        replace(NEAR, **{key: value})


# -- what is possible -------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["delay_s", "message_s", "jitter_s", "loss_delay_s"])
@pytest.mark.parametrize("value", [-0.1, 86_401.0, math.inf, math.nan])
def test_an_impossible_time_is_named(key: str, value: float):
    with pytest.raises(UsageError, match=f"^{key}: must be at least 0 and at most 86400, not {value}$"):
        LinkModel(**{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"loss": 1.1}, "loss: must be at least 0 and at most 1, not 1.1"),
        ({"loss": math.nan}, "loss: must be"),
        ({"bytes_per_s": 0.0}, "bytes_per_s: must be at least 0.001, not 0.0"),
        ({"bytes_per_s": math.nan}, "bytes_per_s: "),
        ({"outages": ((2.0, 1.0),)}, r"outages: .*, not \(2.0, 1.0\)"),
        ({"outages": ((1.0, 1.0),)}, "outages: "),
        ({"outages": ((-1.0, 1.0),)}, "outages: "),
        ({"outages": ((1.0, 3.0), (2.0, 4.0))}, r"outages: .*, not \(2.0, 4.0\)"),
        ({"outages": ((1.0, math.inf),)}, "outages: "),
        ({"outages": ((math.nan, 2.0),)}, "outages: "),
        ({"rates": ((-1.0, 5.0),)}, "rates: must begin at 0 or later"),
        ({"rates": ((1.0, 5.0), (1.0, 6.0))}, "rates: .* not at 1.0"),
        ({"rates": ((2.0, 5.0), (1.0, 6.0))}, "rates: .* not at 1.0"),
        ({"rates": ((math.inf, 5.0),)}, "rates: "),
        ({"rates": ((math.nan, 5.0),)}, "rates: "),
        ({"rates": ((1.0, 0.0),)}, "rates: must be at least 0.001, not 0.0"),
        ({"changes_every_s": -1.0}, "changes_every_s: must be at least 0.001"),
        ({"changes_every_s": math.nan}, "changes_every_s: "),
        ({"changes_every_s": 20.0}, "changes_every_s: goes together with drawn_bytes_per_s"),
        ({"drawn_bytes_per_s": (1.0, 2.0)}, "changes_every_s: goes together with drawn_bytes_per_s"),
        (
            {"changes_every_s": 1.0, "drawn_bytes_per_s": (2.0, 1.0)},
            r"drawn_bytes_per_s: .* not \(2.0, 1.0\)",
        ),
        ({"changes_every_s": 1.0, "drawn_bytes_per_s": (0.0, 1.0)}, "drawn_bytes_per_s: "),
        ({"changes_every_s": 1.0, "drawn_bytes_per_s": (1.0, math.inf)}, "drawn_bytes_per_s: "),
        ({"changes_every_s": 1.0, "drawn_bytes_per_s": (math.nan, 1.0)}, "drawn_bytes_per_s: "),
        (
            {"changes_every_s": 1.0, "drawn_bytes_per_s": (1.0, 2.0), "rates": ((1.0, 5.0),)},
            "rates: cannot be given together with drawn_bytes_per_s",
        ),
        ({"phases": (NEAR,), "rates": ((1.0, 5.0),)}, "rates: cannot be given together with phases"),
    ],
    ids=str,
)
def test_what_no_link_can_be_is_named(fields: dict[str, Any], words: str):
    with pytest.raises(UsageError, match=f"^{words}"):
        LinkModel(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"jitter_s": 0.1},
        {"loss": 0.1},
        {"outages": ((1.0, 2.0),)},
        {"rates": ((1.0, 2.0),)},
        {"changes_every_s": 1.0, "drawn_bytes_per_s": (1.0, 2.0)},
        {"phases": (NEAR, FAR)},
    ],
    ids=str,
)
def test_only_a_link_that_treats_all_alike_is_plain(fields: dict[str, Any]):
    assert PLAIN.is_plain
    assert replace(PLAIN, loss=0.5, loss_delay_s=0.0).is_plain
    assert not replace(PLAIN, **fields).is_plain


def test_a_model_stays_as_it_is():
    with pytest.raises(FrozenInstanceError):
        PLAIN.delay_s = 1.0  # type: ignore[misc]
