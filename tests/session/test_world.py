"""Any interleaving gives the target's own text: the claim the whole design rests on."""

import random
from collections import Counter
from typing import get_args

from hypothesis import given, settings
from hypothesis import strategies as st

from pipesd.errors import LinkError
from pipesd.planner.policies import Policy
from pipesd.planner.trigger import R1Rule, Thresholds
from pipesd.session.cloud import CloudSession
from pipesd.session.rules import ASKS_MAX, EdgeRules, Patience
from pipesd.transcript import Transcript
from pipesd.values import Ahead, Batching, Objective, Offline, TunerPlace, Verify
from tests.session.helpers import policies, thresholds
from tests.session.world import WORDS, Turn, World, epochs_that_stand_still, welcome

prompts = st.lists(st.integers(0, WORDS - 1), min_size=1, max_size=11).map(tuple)
turns = st.builds(
    Turn, back=st.integers(0, 12), prompt=prompts, tokens_max=st.integers(1, 40), cancel=st.booleans()
)
rules = st.builds(
    EdgeRules,
    policy=policies,
    window_tokens=st.integers(1, 24),
    tuner=st.sampled_from(get_args(TunerPlace)),
    objective=st.sampled_from(get_args(Objective)),
)
proposals = st.lists(thresholds | st.none(), min_size=1, max_size=5)
edges = st.lists(
    st.tuples(rules, st.lists(st.lists(turns, min_size=1, max_size=4), min_size=1, max_size=2)),
    min_size=1,
    max_size=2,
)
sizes = st.tuples(st.integers(1, 9), st.sampled_from([60, 200]), st.integers(1, 4), st.integers(0, 3))
"""Of a chunk and of the context; how many places the cache has, and how often the engine is lost."""

choices = st.lists(st.integers(0, 1_000_000), max_size=400)
verifies = st.sampled_from(get_args(Verify))


@given(edges, choices, verifies, st.booleans(), sizes, proposals)
@settings(max_examples=300, deadline=None)
def test_any_interleaving_gives_the_targets_text(edges, choices, verify, drafts_fail, sizes, proposals):
    """Whatever thresholds are proposed meanwhile, and whenever; and however often the engine is lost."""
    chunk, context, kv_sequences, losses = sizes
    world = World(edges, welcome(chunk=chunk, context=context, tunes=True), verify, kv_sequences=kv_sequences)
    world.proposals = proposals
    world.losses = losses
    for edge in world.edges:
        edge.drafts_fail = drafts_fail
        edge.whims = len(proposals)
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
    rule = EdgeRules(
        policy=policy, window_tokens=dice.randint(2, 20), tuner=dice.choice(get_args(TunerPlace))
    )
    sessions = [[turn() for _ in range(3)]]
    world = World([(rule, sessions)], welcome(tunes=True), dice.choice(get_args(Verify)))
    world.proposals = [
        None,
        *[Thresholds(dice.random(), dice.random(), dice.randint(1, 12), 1) for _ in range(4)],
    ]
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


def test_random_worlds_are_tuned():
    """Trials are long for texts so short, yet many of them are told and answered, in either place."""
    answered = dict.fromkeys(get_args(TunerPlace), 0)
    for seed in range(150):
        world, picks = random_world(seed)
        world.play(picks)
        answered[world.edges[0].side._rules.tuner] += world.proposed
    assert answered["off"] == 0
    assert min(answered[place] for place in ("edge", "cloud", "auto")) > 10


def test_a_fault_in_the_epoch_rule_is_found():
    with epochs_that_stand_still():
        assert worlds_that_fail(range(30)) > 0


COMMON = (1, 2, 3, 4, 5, 0, 1)
"""What many prompts begin with, as with a system's."""


def crowded_world(seed: int) -> tuple[World, list[int]]:
    """Too few sessions and places, an engine that is lost, and beginnings that are alike."""
    dice = random.Random(seed)

    def turn(number: int) -> Turn:
        own = tuple(dice.randrange(WORDS) for _ in range(dice.randint(1, 6)))
        begin = COMMON[: dice.choice([0, 3, 7])] if number == 0 else ()
        return Turn(dice.randint(0, 5), begin + own, dice.randint(1, 20), dice.random() < 0.3)

    rule = EdgeRules(window_tokens=dice.randint(2, 12))
    edges = [(rule, [[turn(number) for number in range(2)] for _ in range(2)]) for _ in range(3)]
    world = World(
        edges,
        welcome(chunk=3),
        dice.choice(get_args(Verify)),
        kv_sequences=dice.randint(1, 4),
        sessions_max=dice.randint(1, 6),
        prefill_tokens_max=dice.choice([1, 10, 1_000]),
    )
    world.losses = dice.randint(0, 3)
    return world, [dice.randrange(1_000_000) for _ in range(900)]


def test_crowded_worlds_are_sound():
    seen = Counter[str]()
    for seed in range(60):
        world, picks = crowded_world(seed)
        planned = world.losses
        world.play(picks)
        waits = sum(edge.waits for edge in world.edges)
        seen.update(
            evictions=world.evictions, copies=world.copies, losses=planned - world.losses, waits=waits
        )
    assert min(seen.values()) > 20, seen


def test_a_place_that_holds_less_than_is_thought_is_found(monkeypatch):
    sound = CloudSession.sit
    monkeypatch.setattr(
        CloudSession,
        "sit",
        lambda self, sequence, cached, copy_of: sound(self, sequence, self.prefix_tokens, copy_of),
    )
    found = 0
    for seed in range(20):
        world, picks = crowded_world(seed)
        try:
            world.play(picks)
        except AssertionError:
            found += 1
    assert found > 0


def broken_world(seed: int) -> tuple[World, list[int]]:
    """Connections that are cut and not noticed, clouds that are killed or stop, engines that are lost."""
    dice = random.Random(seed)

    def turn() -> Turn:
        prompt = tuple(dice.randrange(WORDS) for _ in range(dice.randint(1, 9)))
        return Turn(dice.randint(0, 9), prompt, dice.randint(1, 40), dice.random() < 0.4)

    def rule() -> EdgeRules:
        return EdgeRules(
            policy=Policy(
                thresholds=Thresholds(
                    dice.choice([0.0, 0.4]), dice.choice([0.0, 0.5]), dice.randint(2, 10), 1
                ),
                batching=dice.choice(get_args(Batching)),
                ahead=dice.choice(get_args(Ahead)),
                asks_max=dice.choice([ASKS_MAX, 1]),
                writers=dice.choice(["both", "both", "both", "cloud"]),
            ),
            window_tokens=dice.randint(2, 20),
            offline=dice.choice(get_args(Offline)),
            offline_tokens=dice.choice([4, 30]),
            patience=Patience(away_s=1e6),
            clouds=dice.randint(1, 3),
            luck=seed,
            tuner=dice.choice(get_args(TunerPlace)),
        )

    edges = [(rule(), [[turn() for _ in range(3)] for _ in range(dice.randint(1, 2))]) for _ in range(2)]
    world = World(
        edges,
        welcome(chunk=dice.randint(1, 5), tunes=True),
        dice.choice(get_args(Verify)),
        kv_sequences=dice.randint(1, 4),
        sessions_max=dice.choice([2, 16]),
        prefill_tokens_max=dice.choice([10, 1_000]),
        lease_s=dice.choice([0, 0.01, 30, 30, 30]),
    )
    world.losses = dice.randint(0, 3)
    world.restarts = dice.randint(0, 3)
    world.calm_steps = dice.choice([1, 7, 20])
    for edge in world.edges:
        edge.cuts = dice.randint(0, 12)
    return world, [dice.randrange(1_000_000) for _ in range(1_200)]


@given(st.integers(0, 10_000), choices)
@settings(max_examples=100, deadline=None)
def test_any_fault_at_any_time_leaves_the_targets_text(seed, choices):
    """And every answer ends, since connections and clouds come back in the end."""
    world, _ = broken_world(seed)
    world.play(choices)


def broken_worlds_that_fail(seeds: range) -> int:
    failures = 0
    for seed in seeds:
        world, picks = broken_world(seed)
        try:
            world.play(picks)
        except (AssertionError, LinkError):
            failures += 1
    return failures


def test_a_cloud_that_takes_up_another_turn_is_found(monkeypatch):
    """The planted fault: what was said last before the cut is not compared."""

    def careless(self, frame):
        self._is_parked = False
        return self._go_on(frame.epoch, min(frame.confirmed, self.length))

    monkeypatch.setattr(CloudSession, "resume", careless)
    assert broken_worlds_that_fail(range(30)) > 0


def test_a_cache_that_is_kept_for_another_text_is_found(monkeypatch):
    """The planted fault: all that was read of the old text counts for the new one."""
    sound = Transcript.take

    def careless(self, segments):
        sound(self, segments)
        return len(self.tokens)

    monkeypatch.setattr(Transcript, "take", careless)
    assert broken_worlds_that_fail(range(60)) > 0


def test_broken_worlds_are_sound():
    seen = Counter[str]()
    for seed in range(200):
        world, picks = broken_world(seed)
        world.play(picks)
        seen.update(
            comebacks=sum(edge.comebacks for edge in world.edges),
            stops=sum(edge.stops for edge in world.edges),
            shown=sum(edge.shown for edge in world.edges),
            restarts=world.rules.secret.count(b"!"),
        )
    assert min(seen.values()) > 100, seen
