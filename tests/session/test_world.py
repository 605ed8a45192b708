"""Any interleaving gives the target's own text: the claim the whole design rests on."""

import random
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.planner.policies import Policy
from pipesd.planner.trigger import R1Rule, Thresholds
from pipesd.session.rules import ASKS_MAX, EdgeRules
from pipesd.values import Ahead, Batching, Verify
from tests.session.helpers import policies
from tests.session.world import WORDS, Turn, World, epochs_that_stand_still, welcome

prompts = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=11).map(tuple)
turns = st.builds(
    Turn, back=st.integers(0, 12), prompt=prompts, tokens_max=st.integers(1, 40), cancel=st.booleans()
)
rules = st.builds(EdgeRules, policy=policies, window_tokens=st.integers(1, 24))
edges = st.lists(
    st.tuples(rules, st.lists(st.lists(turns, min_size=1, max_size=4), min_size=1, max_size=2)),
    min_size=1,
    max_size=2,
)
choices = st.lists(st.integers(0, 1_000_000), max_size=400)
verifies = st.sampled_from(get_args(Verify))


@given(edges, choices, verifies, st.booleans(), st.integers(1, 9), st.sampled_from([60, 200]))
@settings(max_examples=300, deadline=None)
def test_any_interleaving_gives_the_targets_text(edges, choices, verify, drafts_fail, chunk, context):
    world = World(edges, welcome(chunk=chunk, context=context), verify)
    for edge in world.edges:
        edge.drafts_fail = drafts_fail
    world.play(choices)


def random_world(seed: int) -> tuple[World, list[int]]:
    dice = random.Random(seed)

    def turn() -> Turn:
        prompt = tuple(dice.randrange(WORDS) for _ in range(dice.randint(1, 9)))
        return Turn(dice.randint(0, 9), prompt, dice.randint(1, 40), dice.random() < 0.4)

    policy = Policy(
        thresholds=Thresholds(dice.choice([0.0, 0.4]), dice.choice([0.0, 0.5]), dice.randint(2, 10), 1),
        r1_rule=dice.choice(get_args(R1Rule)),
        batching=dice.choice(get_args(Batching)),
        ahead=dice.choice(get_args(Ahead)),
        upload_ahead=dice.random() < 0.7,
        asks_max=dice.choice([ASKS_MAX, 1]),
    )
    rule = EdgeRules(policy=policy, window_tokens=dice.randint(2, 20))
    world = World([(rule, [[turn() for _ in range(3)]])], welcome(), dice.choice(get_args(Verify)))
    world.edges[0].drafts_fail = dice.random() < 0.3
    return world, [dice.randrange(1_000_000) for _ in range(600)]


def worlds_that_fail(seeds: range) -> int:
    failures = 0
    for seed in seeds:
        world, picks = random_world(seed)
        try:
            world.play(picks)
        except AssertionError:
            failures += 1
    return failures


def test_random_worlds_are_sound():
    assert worlds_that_fail(range(150)) == 0


def test_a_fault_in_the_epoch_rule_is_found():
    with epochs_that_stand_still():
        assert worlds_that_fail(range(30)) > 0
