"""Experiments against hand calculation, on small recordings; and on shipped prompts, against the target."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import pytest

from pipesd.engines.traces import Trace
from pipesd.errors import ConfigError, EngineError, PipeSDError, UsageError
from pipesd.lab.metrics import Figures
from pipesd.lab.run import KEYS, Experiment, chosen, run, settings_from, simulate
from pipesd.lab.scenarios import SCENARIOS, Scenario
from pipesd.lab.stages import play_virtually
from pipesd.lab.wires import WIRES
from pipesd.planner.policies import POLICIES
from pipesd.session.cloud import CloudSession
from pipesd.transcript import common_prefix
from tests.lab.recordings import DISTANT, END, IDEAL, MIXED, SHORT, SMALL, TWINS, sha256_of, shipped

VERIFIED = [name for name, policy in POLICIES.items() if policy.writers != "edge"]
LOSSY = replace(SCENARIOS["s1"], name="lossy", jitter_ms=30.0, loss=0.1, outages_s=((0.3, 0.9),))
EVERYWHERE = [*SCENARIOS.values(), LOSSY]

Perform = Callable[[Experiment], Figures]
both = pytest.mark.parametrize("perform", [run, simulate])


def experiment(trace: Trace, scenario: Scenario, policy: str = "pipesd", **changed: object) -> Experiment:
    return Experiment(trace=trace, scenario=scenario, policy=policy, changed=changed)


def one_by_one(trace: Trace, scenario: Scenario, ahead: str = "never") -> Experiment:
    return experiment(trace, scenario, n=1, ahead=ahead)


def elapsed_ms(figures: Figures) -> float:
    return figures.tpt_ms * figures.tokens


def about(value: float) -> object:
    return pytest.approx(value)


RIGHT, WRONG, _ = (chosen(SMALL, [each.id]) for each in SMALL.prompts)


# -- against hand calculation -----------------------------------------------------------------------------


@both
def test_drafting_one_by_one_is_as_computed_by_hand(perform: Perform):
    """The prompt takes 20 + 3 ms; then a draft of 10 and a pass over two tokens of 22 ms give two tokens."""
    figures = perform(one_by_one(RIGHT, IDEAL))
    assert figures.ttft_ms == pytest.approx(23.0)
    assert elapsed_ms(figures) == pytest.approx(23.0 + 3 * 32.0)
    assert figures.tpt_ms == pytest.approx(119.0 / 7)
    assert (figures.tokens, figures.accept_rate, figures.rollback_rate) == (7, 1.0, 0.0)
    assert figures.passes_per_100 == pytest.approx(400 / 7)
    assert figures.drafted_per_token == pytest.approx(3 / 7)
    assert figures.cloud_ms_per_100 == pytest.approx((23.0 + 3 * 22.0) * 100 / 7)
    assert (figures.itl_p50_ms, figures.itl_p95_ms) == (0.0, about(32.0))


@both
def test_a_wrong_draft_gives_one_token_instead_of_two(perform: Perform):
    figures = perform(one_by_one(WRONG, IDEAL))
    assert elapsed_ms(figures) == pytest.approx(22.0 + 3 * 32.0)
    assert figures.tokens == 6
    assert figures.passes_per_100 == pytest.approx(400 / 6)
    assert figures.accept_rate == pytest.approx(2 / 3)
    assert figures.rollback_rate == pytest.approx(1 / 4)


@both
def test_drafting_ahead_hides_the_pass_and_drops_steps_that_are_settled(perform: Perform):
    """With drafts of 30 ms. Aborted at 23: the draft of the first token; at 75: that of the third.

    Kept: that of the second token from 23 to 53, judged at 75, which gives the third as well; and so on.
    """
    figures = perform(one_by_one(RIGHT, replace(IDEAL, draft_ms=30.0), ahead="always"))
    assert elapsed_ms(figures) == pytest.approx(23.0 + 3 * (30.0 + 22.0))
    assert figures.drafted_per_token == pytest.approx(3 / 7)
    assert figures.passes_per_100 == pytest.approx(400 / 7)


@both
def test_with_the_verdict_far_away_drafting_ahead_gains(perform: Perform):
    ahead = perform(one_by_one(RIGHT, DISTANT, ahead="always"))
    waiting = perform(one_by_one(RIGHT, DISTANT))
    assert elapsed_ms(waiting) == pytest.approx(35.0 + 3 * (10.0 + 6.0 + 22.0 + 6.0))
    assert elapsed_ms(ahead) < elapsed_ms(waiting)


@both
def test_the_rounds_of_vanilla_are_as_computed_by_hand(perform: Perform):
    """Each round makes 2 drafts, judged in a pass over the token before them and both: 3 tokens more."""
    figures = perform(experiment(RIGHT, DISTANT, "vanilla", n=2))
    assert elapsed_ms(figures) == pytest.approx(35.0 + 2 * (2 * 10.0 + 6.0 + 23.0 + 6.0))
    assert (figures.itl_p50_ms, figures.itl_p95_ms) == (0.0, about(55.0))


@both
def test_the_target_alone_is_as_computed_by_hand(perform: Perform):
    figures = perform(experiment(RIGHT, IDEAL, "cloud-only"))
    assert figures.ttft_ms == pytest.approx(23.0)
    assert elapsed_ms(figures) == pytest.approx(23.0 + 6 * 21.0)
    assert (figures.tokens, figures.passes_per_100, figures.drafted_per_token) == (7, 100.0, 0.0)
    assert figures.accept_rate is None


@both
def test_the_link_adds_a_trip_each_way_to_the_first_token_of_the_target_alone(perform: Perform):
    figures = perform(experiment(RIGHT, DISTANT, "cloud-only"))
    assert figures.ttft_ms == pytest.approx(6.0 + 23.0 + 6.0)
    assert elapsed_ms(figures) == pytest.approx(35.0 + 6 * 21.0)


@both
@pytest.mark.parametrize(("where", "first_ms"), [("s1", 30.4), ("far", 120.4)])
def test_the_target_alone_streams_a_token_a_pass_and_not_a_token_a_round_trip(
    perform: Perform, where: str, first_ms: float
):
    """A pass over one token takes 26 ms there; only the first meets a round trip, of 30.4 or 120.4 ms."""
    prompt = shipped("HumanEval/0")
    figures = perform(experiment(prompt, SCENARIOS[where], "cloud-only"))
    assert figures.itl_p50_ms == pytest.approx(26.0, abs=0.01)
    assert figures.itl_p95_ms == pytest.approx(26.0, abs=0.01)
    reading_ms = 25.0 + len(prompt.prompts[0].prompt_tokens)
    assert figures.ttft_ms == pytest.approx(first_ms + reading_ms, abs=0.5)


@both
def test_the_draft_alone_writes_a_text_of_its_own_that_nobody_verified(perform: Perform):
    figures = perform(experiment(SMALL, DISTANT, "edge-only"))
    assert (figures.tpt_ms, figures.ttft_ms) == (about(10.0), about(10.0))
    assert (figures.passes_per_100, figures.uplink_bytes_per_token) == (0.0, 0.0)
    assert (figures.accept_rate, figures.rollback_rate, figures.verified) == (None, None, False)
    assert figures.text_sha256 == sha256_of(range(10, 17), (20, 1, END), (30, 31, END))


@both
def test_the_text_ends_with_an_end_id_or_where_the_recording_does(perform: Perform):
    for policy in VERIFIED:
        figures = perform(experiment(SMALL, IDEAL, policy))
        assert (figures.prompts, figures.tokens) == (3, 7 + 6 + 3)
        assert figures.text_sha256 == sha256_of(*(prompt.target for prompt in SMALL.prompts))


def test_the_pace_of_drafts_is_that_of_the_scenario_at_the_agreement_of_the_recording():
    """One of six guesses is wrong there."""
    assert run(experiment(WRONG, IDEAL)).draft_pace_ms == pytest.approx(IDEAL.draft_pace_ms(5 / 6))


# -- whatever is played -----------------------------------------------------------------------------------


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("policy", POLICIES)
def test_text_and_figures_are_the_same_however_it_is_played(policy: str, wire: str):
    """The text in every scenario; all figures from the heap and from the actors."""
    trace = shipped("chat/6", "HumanEval/7")
    right = sha256_of(*(prompt.target for prompt in trace.prompts))
    for number, scenario in enumerate(EVERYWHERE):
        there = replace(experiment(trace, scenario, policy), wire=wire, seed=number)
        figures = run(there)
        assert simulate(there) == figures
        assert (figures.text_sha256 == right) is figures.verified is (policy != "edge-only")


def test_the_text_is_the_same_in_wall_time():
    quick = replace(DISTANT, draft_ms=1.0, delay_ms=0.5, alpha_ms=0.1, pass_ms=2.0, pass_token_ms=0.1)
    played = replace(experiment(WRONG, quick), clock="wall")
    figures = run(played)
    assert figures.text_sha256 == sha256_of(SMALL.prompts[1].target)
    assert (figures.setting.clock, figures.setting.basis) == ("wall", "replayed and modelled; in wall time")


@both
@pytest.mark.parametrize("policy", ["pipesd", "edgellm", "cloud-only", "edge-only"])
def test_the_same_experiment_gives_the_same_json(perform: Perform, policy: str):
    played = replace(experiment(MIXED, LOSSY, policy), seed=4)
    once, again = (json.dumps(perform(played).as_json()) for _ in range(2))
    assert once == again


def test_another_seed_is_other_luck():
    played = experiment(MIXED, LOSSY)
    assert run(replace(played, seed=1)).tpt_ms != run(replace(played, seed=2)).tpt_ms


@cache
def there(name: str, policy: str = "pipesd") -> Figures:
    return run(experiment(shipped(*SHORT), SCENARIOS[name], policy))


def test_scenarios_stand_in_a_sensible_order():
    tpt_ms = {name: there(name).tpt_ms for name in SCENARIOS}
    assert tpt_ms["fast"] < tpt_ms["s1"] < tpt_ms["s2"] < tpt_ms["s3"]
    assert tpt_ms["s1"] < tpt_ms["far"]
    assert all(there(name).passes_per_100 < there(name, "cloud-only").passes_per_100 for name in SCENARIOS)


def test_to_the_target_alone_only_distance_matters_and_only_once():
    alone = {name: there(name, "cloud-only") for name in SCENARIOS}
    assert {alone[name].tpt_ms for name in ("s2", "s3", "fast")} == {alone["s1"].tpt_ms}
    assert alone["far"].ttft_ms == pytest.approx(alone["s1"].ttft_ms + 90.0)
    more_ms = elapsed_ms(alone["far"]) - elapsed_ms(alone["s1"])
    assert more_ms == pytest.approx(90.0 * len(SHORT))


def test_a_wire_of_distributions_costs_bytes_and_time():
    ids = experiment(MIXED, SCENARIOS["s1"], "vanilla")
    whole = run(replace(ids, wire="full-distribution"))
    assert whole.uplink_bytes_per_token > 290_304 * 0.9
    assert whole.tpt_ms > run(ids).tpt_ms + 100.0


def test_what_was_set_counts_and_is_said():
    often = run(experiment(MIXED, DISTANT, n=1, ahead="never"))
    assert often.passes_per_100 > run(experiment(MIXED, DISTANT)).passes_per_100
    assert often == replace(
        run(experiment(MIXED, DISTANT, upper_tokens=1, ahead="never")), setting=often.setting
    )
    assert often.setting.changed == (("n", 1), ("ahead", "never"))
    assert often.as_json()["changed"] == {"n": 1, "ahead": "never"}


def test_how_the_cloud_verifies_can_be_set():
    asked = run(experiment(MIXED, DISTANT, "pipesd-immediate", verify="on_request"))
    eager = run(experiment(MIXED, DISTANT, "pipesd-immediate", verify="eager"))
    assert eager.passes_per_100 > asked.passes_per_100


def test_figures_say_what_they_rest_on():
    for policy in ("pipesd", "cloud-only"):
        figures = run(experiment(SMALL, IDEAL, policy))
        assert figures.as_json()["basis"] == "replayed and modelled"
        assert figures.line().startswith(f"{policy} at ideal: ")
        assert figures.line().endswith(" (replayed and modelled)")


# -- what goes wrong --------------------------------------------------------------------------------------


@pytest.fixture
def one_wrong_draft_accepted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A target that lets one wrong draft pass; the list holds it afterwards."""
    honest, planted = CloudSession._judge, list[int]()

    def judge(self, flight, generation, picks, now):
        drafts = self._drafts[: flight.drafts]
        agreed = common_prefix(drafts, picks)
        if not planted and agreed < len(drafts):
            planted.append(drafts[agreed])
            picks = (*picks[:agreed], drafts[agreed], *picks[agreed + 1 :])
        return honest(self, flight, generation, picks, now)

    monkeypatch.setattr(CloudSession, "_judge", judge)
    return planted


@both
@pytest.mark.parametrize("policy", ["pipesd", "vanilla", "edgellm"])
def test_a_target_that_accepts_a_wrong_draft_is_found_out(
    perform: Perform, policy: str, one_wrong_draft_accepted: list[int]
):
    with pytest.raises(EngineError, match=r"^the text of wrong is not the recorded target's"):
        perform(experiment(SMALL, DISTANT, policy))
    assert one_wrong_draft_accepted == [1]


def test_the_digest_tells_of_it_too(one_wrong_draft_accepted: list[int]):
    played = experiment(SMALL, DISTANT)
    answers = play_virtually(played.play).answers
    assert one_wrong_draft_accepted == [1]
    assert answers[1].tokens[:2] == [20, 1]
    planted = sha256_of(*(answer.tokens for answer in answers))
    assert run(played).text_sha256 not in {planted, ""}


def test_prompts_that_cannot_be_told_apart_give_no_figures():
    with pytest.raises(EngineError, match=r"^the text of one is not the recorded target's"):
        run(experiment(TWINS, IDEAL))


def test_an_unknown_prompt_is_answered_with_some_that_are_known():
    with pytest.raises(UsageError) as caught:
        chosen(SMALL, ["right", "left"])
    assert str(caught.value) == (
        "prompt: 'left' is none of the 3 that were recorded; give the id of one, such as right, wrong, ended"
    )


def test_prompts_are_chosen_in_the_order_given_and_as_often():
    assert [each.id for each in chosen(SMALL, ["ended", "right", "ended"]).prompts] == [
        *("ended", "right", "ended")
    ]
    assert chosen(SMALL, []) is SMALL


@both
@pytest.mark.parametrize(
    ("what", "value", "words"),
    [
        ("policy", "psd", r"^policy: 'psd' is not known; choose one of pipesd, vanilla, "),
        ("wire", "letters", r"^wire: 'letters' is not known; choose one of ids, full-distribution$"),
        ("clock", "sand", r"^clock: must be virtual or wall, not 'sand'$"),
    ],
)
def test_an_unknown_name_is_answered_with_the_known_ones(perform: Perform, what: str, value: str, words: str):
    with pytest.raises(UsageError, match=words):
        perform(replace(experiment(SMALL, IDEAL), **{what: value}))  # type: ignore[arg-type]


# -- settings ---------------------------------------------------------------------------------------------


def test_settings_are_numbers_or_words():
    pairs = ["r1=0.25", "n=6", "lower_tokens=2", "ahead=never", "batching=planned", "verify=eager"]
    assert settings_from(pairs) == {
        "r1": 0.25,
        "n": 6,
        "lower_tokens": 2,
        "ahead": "never",
        "batching": "planned",
        "verify": "eager",
    }
    assert settings_from([]) == {}


@pytest.mark.parametrize("pairs", [["n=6", "n=7"], ["n=6", "upper_tokens=6"], ["r1=0.5", "n=6", "r1=0.5"]])
def test_a_setting_is_given_once(pairs: list[str]):
    with pytest.raises(UsageError, match=r"^set: (upper_tokens|r1) is given twice"):
        settings_from(pairs)


@pytest.mark.parametrize("policy", ["cloud-only", "edge-only"])
def test_a_setting_that_would_change_nothing_is_refused(policy: str):
    with pytest.raises(UsageError, match=f"^r1: changes nothing in {policy}"):
        run(experiment(SMALL, IDEAL, policy, r1=0.5))


@pytest.mark.parametrize("key", KEYS)
def test_every_key_is_one_of_an_experiment(key: str):
    values = {"ahead": "always", "batching": "immediate", "verify": "on_request", "window_tokens": 8}
    value = values.get(key, 1)
    assert run(experiment(SMALL, IDEAL, "pipesd", **{key: value})).tokens == 16


@pytest.mark.parametrize("pair", ["", "r1", "=3", "policy=hsl", "R1=0.5", "temperature=1", " n=3"])
def test_an_unknown_key_is_answered_with_the_known_ones(pair: str):
    with pytest.raises(UsageError) as caught:
        settings_from([pair])
    assert str(caught.value) == (
        f"set: {pair!r} must be KEY=VALUE with one of the keys "
        "r1, r2, upper_tokens, lower_tokens, ahead, batching, window_tokens, n, verify"
    )


@pytest.mark.parametrize("text", ["", "-", "1,", "1 2", ".5", "01", "1e999", "²", "3\n4"])
def test_what_begins_as_a_number_and_is_none_is_refused(text: str):
    with pytest.raises(UsageError) as caught:
        settings_from([f"r1={text}"])
    assert str(caught.value) == f"set: {text!r} is no value for r1"


@pytest.mark.parametrize(
    ("pair", "words"),
    [
        ("n=0", "upper_tokens: must be at least 1"),
        ("n=many", "upper_tokens: must be a whole number, not 'many'"),
        ("r1=2", "r1: must be at least 0 and at most 1, not 2"),
        ("r2=nan", "r2: must be a number, not 'nan'"),
        ("window_tokens=1.5", "window_tokens: must be a whole number, not 1.5"),
        ("ahead=maybe", "ahead: must be never or always or expected, not 'maybe'"),
        ("batching=all", "batching: must be at_trigger or immediate"),
        ("verify=never", "verify: must be one of on_request, piggyback, eager, not 'never'"),
        pytest.param("n=" + "9" * 400, "upper_tokens: must be ", id="n=999…"),
    ],
)
def test_a_value_that_cannot_be_is_named_with_what_can(pair: str, words: str):
    with pytest.raises((UsageError, ConfigError)) as caught:
        run(experiment(SMALL, IDEAL, "pipesd", **settings_from([pair])))
    assert isinstance(caught.value, PipeSDError)
    assert str(caught.value).startswith(words)
    assert "\n" not in str(caught.value)
