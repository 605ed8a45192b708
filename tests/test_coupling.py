import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from pipesd.coupling import distribution, noise, pick, propose
from pipesd.errors import EngineError
from pipesd.values import Sampling

Vector = NDArray[np.float64]

VOCABULARY = 151_936
PLAIN = Sampling(temperature=1.0)
DRAWS = 1500
CHANCE_LIMIT = 0.001

seeded = settings(derandomize=True, deadline=None, max_examples=150)


# --- the noise ---

GOLDEN = {
    # (seed, position, id): the float's own bits. A platform where one differs cannot pair with the others.
    (0, 0, 0): "0x1.38f100cace169p+0",
    (0, 0, 1): "0x1.31d06dec78563p-3",
    (0, 1, 0): "0x1.aed4cb2254d05p-1",
    (1, 0, 0): "0x1.11284cbd99332p+0",
    (42, 7, 151_935): "0x1.994adba33c70bp-1",
    (2**63 - 1, 2**31 - 1, 2**31 - 1): "0x1.924bf6004c8c6p-1",
    (2**63, 0, 2**63): "0x1.34322474ec29fp+0",
}


def one_noise(seed: int, position: int, token: int) -> float:
    return float(noise(seed, position, np.array([token], dtype=np.uint64))[0])


def scrambled(number: int) -> int:
    """The finaliser of splitmix64 on Python's integers."""
    number %= 2**64
    number = (number ^ number >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    number = (number ^ number >> 27) * 0x94D049BB133111EB % 2**64
    return number ^ number >> 31


def plain_noise(seed: int, position: int, token: int) -> float:
    step = 0x9E3779B97F4A7C15
    key = scrambled(scrambled(seed + step) + (position + 1) * step)
    uniform = ((scrambled(key + token * step) >> 12) + 0.5) / 2**52
    return -math.log1p(-uniform)


@pytest.mark.parametrize("place", GOLDEN)
def test_noise_has_the_same_bits_everywhere(place: tuple[int, int, int]) -> None:
    assert one_noise(*place).hex() == GOLDEN[place]


def test_scrambling_is_that_of_splitmix64() -> None:
    assert scrambled(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF  # its published first output for seed 0


@seeded
@given(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1), st.integers(0, 2**31 - 1))
def test_noise_is_what_its_definition_says(seed: int, position: int, token: int) -> None:
    assert one_noise(seed, position, token) == pytest.approx(plain_noise(seed, position, token), rel=1e-14)


def test_noise_is_accurate_at_both_ends() -> None:
    many = noise(3, 4, 2**20)
    # With a million variates the extremes are near 1e-6 and 14.
    assert 0.0 < many.min() < 1e-5
    assert 10.0 < many.max() < 37.0
    for token in (int(many.argmin()), int(many.argmax())):
        assert many[token] == pytest.approx(plain_noise(3, 4, token), rel=1e-14)


def test_noise_of_an_id_does_not_depend_on_the_others() -> None:
    every = noise(5, 6, 40_000)  # more than one block
    some = np.array([39_999, 0, 16_384, 16_383])
    assert np.array_equal(noise(5, 6, some), every[some])
    assert noise(5, 6, 0).shape == (0,)


@pytest.mark.parametrize("seed", range(5))
def test_noise_is_exponential_over_ids(seed: int) -> None:
    assert stats.kstest(noise(seed, 9, 50_000), "expon").pvalue > CHANCE_LIMIT


@pytest.mark.parametrize("token", [0, 1, 151_935])
def test_noise_is_exponential_over_positions_and_seeds(token: int) -> None:
    over_positions = [one_noise(1, position, token) for position in range(DRAWS)]
    over_seeds = [one_noise(seed, 1, token) for seed in range(DRAWS)]
    assert stats.kstest(over_positions, "expon").pvalue > CHANCE_LIMIT
    assert stats.kstest(over_seeds, "expon").pvalue > CHANCE_LIMIT


@pytest.mark.parametrize("other", [(8, 3), (7, 4), (8, 2), (7 + 2**32, 3), (7, 3 + 2**16)])
def test_neighbouring_seeds_and_positions_share_nothing(other: tuple[int, int]) -> None:
    count = 40_000
    here, there = noise(7, 3, count), noise(*other, count)
    for shift in range(3):
        found = np.corrcoef(here[shift:], there[: count - shift])[0, 1]
        assert abs(found) < 4 / math.sqrt(count)


# --- the distribution ---


def slow_distribution(logits: Vector, sampling: Sampling) -> dict[int, float]:
    """One token after the other; rejects cases in which a border is a matter of rounding."""
    temperature = sampling.temperature or 1.0
    top = max(logits)
    chances = renormalised(
        {token: math.exp((logit - top) / temperature) for token, logit in enumerate(logits)}
    )
    if sampling.greedy:
        return chances
    if sampling.top_k:
        order = sorted(chances, key=lambda token: (-logits[token], token))
        chances = renormalised({token: chances[token] for token in order[: sampling.top_k]})
    if sampling.top_p < 1.0:
        chances = renormalised(slow_nucleus(chances, sampling.top_p))
    floor = sampling.min_p * max(chances.values())
    assume(sampling.min_p == 1.0 or all(abs(chance - floor) > 1e-12 for chance in chances.values() if chance))
    return renormalised({token: chance for token, chance in chances.items() if chance >= floor})


def slow_nucleus(chances: dict[int, float], share: float) -> dict[int, float]:
    nucleus: dict[int, float] = {}
    for token in sorted(chances, key=lambda token: (-chances[token], token)):
        if math.fsum(nucleus.values()) < share:
            nucleus[token] = chances[token]
        assume(abs(math.fsum(nucleus.values()) - share) > 1e-12)
    return nucleus


def renormalised(chances: dict[int, float]) -> dict[int, float]:
    total = math.fsum(chances.values())
    return {token: chance / total for token, chance in chances.items()}


# Multiples of 1/16: equals are frequent, and differences are never a matter of rounding.
some_logits = st.lists(
    st.one_of(
        st.integers(-200, 200).map(lambda n: n / 16), st.integers(-2, 2).map(float), st.just(-math.inf)
    ),
    min_size=1,
    max_size=40,
).filter(lambda logits: max(logits) > -math.inf)

some_sampling = st.builds(
    Sampling,
    temperature=st.sampled_from([0.0, 1e-6, 0.25, 0.8, 1.0, 1.7, 100.0]),
    top_k=st.sampled_from([0, 0, 1, 2, 5, 39, 1000]),
    top_p=st.one_of(st.just(1.0), st.floats(0.001, 0.999)),
    min_p=st.one_of(st.just(0.0), st.floats(0.001, 0.999), st.just(1.0)),
)


@seeded
@given(some_logits, some_sampling, st.sampled_from([np.float32, np.float64]))
def test_distribution_equals_the_slow_one(
    logits: list[float], sampling: Sampling, kind: type[np.floating]
) -> None:
    expected = slow_distribution(np.array(logits), sampling)
    found = distribution(np.array(logits, dtype=kind), sampling)
    assert found.dtype == np.float64
    assert found.shape == (len(logits),)
    assert found == pytest.approx(
        [expected.get(token, 0.0) for token in range(len(logits))], rel=1e-12, abs=1e-300
    )


def of_chances(*chances: float) -> Vector:
    logits: Vector = np.log(np.array(chances))
    return logits


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        (Sampling(temperature=1.0), [0.4, 0.3, 0.2, 0.1]),
        (Sampling(temperature=0.5), [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        (Sampling(temperature=1.0, top_k=2), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(temperature=1.0, top_p=0.6), [4 / 7, 3 / 7, 0, 0]),
        (Sampling(temperature=1.0, min_p=0.4), [4 / 9, 3 / 9, 2 / 9, 0]),
        (Sampling(temperature=0.0, top_k=1, top_p=0.1, min_p=1.0), [0.4, 0.3, 0.2, 0.1]),
        # Order. Top-p before the temperature would keep two; before top-k, it would too (0.4 < 0.5).
        (Sampling(temperature=0.5, top_p=0.5), [1, 0, 0, 0]),
        (Sampling(temperature=1.0, top_k=2, top_p=0.5), [1, 0, 0, 0]),
        # Min-p before top-p would leave 4/9, 3/9, 2/9, of which two reach 0.75; of all four it takes three.
        (Sampling(temperature=1.0, top_p=0.75, min_p=0.4), [4 / 9, 3 / 9, 2 / 9, 0]),
    ],
)
def test_filters_and_their_order(sampling: Sampling, expected: list[float]) -> None:
    assert distribution(of_chances(0.4, 0.3, 0.2, 0.1), sampling) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sampling", "kept"),
    [
        (Sampling(temperature=1.0, top_k=3), [0, 1, 3]),
        (Sampling(temperature=1.0, top_p=0.5), [0, 1, 3]),
        (Sampling(temperature=1.0, top_p=0.1), [1]),
        (Sampling(temperature=1.0, top_k=1), [1]),
        (Sampling(temperature=1.0, min_p=1.0), [1, 3]),
    ],
)
def test_of_equals_at_a_border_the_lowest_ids_stay(sampling: Sampling, kept: list[int]) -> None:
    found = distribution(of_chances(0.1, 0.2, 0.1, 0.2, 0.1, 0.1, 0.1, 0.1), sampling)
    assert np.flatnonzero(found).tolist() == kept


@pytest.mark.parametrize(("temperature", "top_p"), [(0.7, 0.99), (9.0, 0.999), (0.4, 0.9999999)])
def test_top_p_ends_in_the_same_place_however_deep_it_sorts(temperature: float, top_p: float) -> None:
    sampling = Sampling(temperature=temperature, top_p=top_p)
    logits = np.random.default_rng(4).normal(0.0, 2.0, 3000)
    plain = distribution(logits, Sampling(temperature=temperature))
    descending = np.sort(plain)[::-1]
    size = int(np.searchsorted(np.cumsum(descending), top_p)) + 1
    found = distribution(logits, sampling)
    assert np.count_nonzero(found) == size
    assert plain[found > 0].min() == descending[size - 1]


def test_top_p_next_to_1_keeps_all() -> None:
    logits = np.random.default_rng(5).normal(0.0, 1.0, 3000)
    assert distribution(logits, Sampling(temperature=1.0, top_p=1.0 - 2**-53)).min() > 0.0


@pytest.mark.parametrize("temperature", [5e-324, 1e-300, 1e-6])
def test_a_temperature_next_to_0_is_nearly_greedy(temperature: float) -> None:
    logits = np.array([-3e38, 1.0, 3e38, 2.0, 3e38, -np.inf], dtype=np.float32)
    sampling = Sampling(temperature=temperature, top_p=0.9, min_p=0.1)
    assert distribution(logits, sampling).tolist() == [0.0, 0.0, 0.5, 0.0, 0.5, 0.0]
    assert propose(logits, sampling, 1, 2).confidence == 0.5


# --- the picks ---


def naive_pick(logits: Vector, sampling: Sampling, seed: int, position: int) -> int:
    chances = distribution(logits, sampling)
    with np.errstate(divide="ignore", over="ignore"):
        return int(np.argmin(noise(seed, position, len(logits)) / chances))


places = st.tuples(st.integers(0, 2**63 - 1), st.integers(0, 2**31 - 1))
some_random_sampling = some_sampling.filter(lambda sampling: not sampling.greedy)


@seeded
@given(some_logits, some_random_sampling, places)
def test_pick_is_the_naive_race(logits: list[float], sampling: Sampling, place: tuple[int, int]) -> None:
    values = np.array(logits)
    assert pick(values, sampling, *place) == naive_pick(values, sampling, *place)


@seeded
@given(some_logits, some_random_sampling, places)
def test_pick_is_the_gumbel_argmax(logits: list[float], sampling: Sampling, place: tuple[int, int]) -> None:
    values = np.array(logits)
    with np.errstate(divide="ignore"):
        scores = np.log(distribution(values, sampling)) - np.log(noise(*place, len(logits)))
    assert scores[pick(values, sampling, *place)] == pytest.approx(scores.max(), abs=1e-12)


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("sampling", [PLAIN, Sampling(temperature=1.0, top_p=0.95, min_p=0.01)])
def test_pick_is_the_naive_race_over_a_full_vocabulary(scale: float, sampling: Sampling) -> None:
    logits = np.random.default_rng(6).normal(0.0, scale, VOCABULARY)
    assert pick(logits, sampling, 1, 2) == naive_pick(logits, sampling, 1, 2)


@seeded
@given(some_logits, some_sampling, places)
def test_confidence_is_that_of_the_pick(
    logits: list[float], sampling: Sampling, place: tuple[int, int]
) -> None:
    values = np.array(logits, dtype=np.float32)
    proposal = propose(values, sampling, *place)
    assert proposal.token == pick(values, sampling, *place)
    assert proposal.confidence == pytest.approx(distribution(values, sampling)[proposal.token], rel=1e-12)
    assert 0.0 < proposal.confidence <= 1.0


def test_greedy_takes_the_lowest_of_equals_and_no_noise() -> None:
    logits = np.array([-np.inf, 1.0, 3.0, 3.0, 2.0], dtype=np.float32)
    assert {pick(logits, Sampling(), seed, position) for seed in range(5) for position in range(5)} == {2}
    confidence = 1 / (2 + math.exp(-1) + math.exp(-2))
    assert propose(logits, Sampling(), 0, 0).confidence == pytest.approx(confidence)


@pytest.mark.parametrize(
    "logits", [[1.0, np.nan, 2.0], [np.nan], [-np.inf, -np.inf], [1.0, np.inf], [np.inf, np.nan], []]
)
@pytest.mark.parametrize("sampling", [Sampling(), PLAIN, Sampling(temperature=1.0, top_k=1)])
def test_impossible_logits_are_the_engines_fault(logits: list[float], sampling: Sampling) -> None:
    values = np.array(logits, dtype=np.float32)
    for ask in (distribution, partial(pick, seed=0, position=0), partial(propose, seed=0, position=0)):
        with pytest.raises(EngineError, match="no token can be picked"):
            ask(values, sampling)


def test_the_callers_logits_are_left_alone() -> None:
    logits = np.array([1.0, 2.0, 3.0])
    pick(logits, Sampling(temperature=0.5, top_k=2, top_p=0.9, min_p=0.1), 0, 0)
    assert logits.tolist() == [1.0, 2.0, 3.0]


# --- exactness ---

SHAPE = np.array([2.0, 1.5, 1.5, 1.0, 0.5, 0.0, 0.0, -0.5, -1.0, -np.inf])

GRID = [
    Sampling(temperature=1.0),
    Sampling(temperature=0.6),
    Sampling(temperature=1.8),
    Sampling(temperature=1.0, top_k=4),
    Sampling(temperature=1.0, top_p=0.8),
    Sampling(temperature=1.0, min_p=0.2),
    Sampling(temperature=1.3, top_k=7, top_p=0.9, min_p=0.15),
]


def fit(picks: Sequence[int], sampling: Sampling) -> float:
    """Chance of picks at least this far from ``distribution``, by chi-square."""
    chances = distribution(SHAPE, sampling)
    counts = np.bincount(picks, minlength=SHAPE.size)
    assert not counts[chances == 0.0].any(), "a token without a chance was picked"
    possible = chances > 0.0
    return float(stats.chisquare(counts[possible], chances[possible] * len(picks)).pvalue)


@pytest.mark.parametrize("sampling", GRID, ids=str)
def test_picks_over_positions_follow_the_distribution(sampling: Sampling) -> None:
    picks = [pick(SHAPE, sampling, 11, position) for position in range(DRAWS)]
    assert fit(picks, sampling) > CHANCE_LIMIT


@pytest.mark.parametrize("sampling", GRID, ids=str)
def test_picks_over_seeds_follow_the_distribution(sampling: Sampling) -> None:
    picks = [pick(SHAPE, sampling, seed, 11) for seed in range(DRAWS)]
    assert fit(picks, sampling) > CHANCE_LIMIT


@pytest.mark.parametrize("flawed", [lambda _: 0, lambda n: n % 16, lambda n: n // 64])
def test_a_sampler_that_ignores_the_position_is_found_out(flawed: Callable[[int], int]) -> None:
    picks = [pick(SHAPE, PLAIN, 11, flawed(position)) for position in range(DRAWS)]
    assert fit(picks, PLAIN) < CHANCE_LIMIT


def test_a_pick_tells_nothing_about_the_next() -> None:
    logits = of_chances(0.5, 0.3, 0.2)
    picks = [pick(logits, PLAIN, 12, position) for position in range(DRAWS)]
    pairs = np.zeros((3, 3))
    np.add.at(pairs, (picks[:-1], picks[1:]), 1)
    assert stats.chi2_contingency(pairs).pvalue > CHANCE_LIMIT


# --- how often both sides agree ---


def agreement(target: Vector, draft: Vector) -> float:
    """The exact chance of equal picks, by the race of exponentials; every entry must be above 0."""
    worse = np.maximum(target[None, :] / target[:, None], draft[None, :] / draft[:, None])
    return float((1.0 / worse.sum(axis=1)).sum())


@pytest.mark.parametrize("distance", [0.0, 0.3, 0.8, 2.0])
def test_near_distributions_mostly_agree(distance: float) -> None:
    random = np.random.default_rng(13)
    target_logits = random.normal(0.0, 1.5, 30)
    draft_logits = target_logits + random.normal(0.0, distance, 30)
    sampling = Sampling(temperature=1.0)
    target, draft = distribution(target_logits, sampling), distribution(draft_logits, sampling)
    same = sum(
        pick(target_logits, sampling, 14, n) == pick(draft_logits, sampling, 14, n) for n in range(DRAWS)
    )
    variation = 0.5 * float(np.abs(target - draft).sum())
    bound, exact = (1 - variation) / (1 + variation), agreement(target, draft)
    error = 4 * math.sqrt(exact * (1 - exact) / DRAWS) + 1e-9
    assert exact >= bound - 1e-12
    assert same / DRAWS >= bound - error
    assert same / DRAWS == pytest.approx(exact, abs=error)


def test_sides_with_other_filters_disagree_only_where_one_forbids_the_winner() -> None:
    filtered, plain = Sampling(temperature=1.0, top_k=4), Sampling(temperature=1.0)
    # Whoever wins among all and survives the filter wins among the survivors too.
    for position in range(DRAWS):
        winner = pick(SHAPE, plain, 15, position)
        assert (winner == pick(SHAPE, filtered, 15, position)) == (winner in (0, 1, 2, 3))
