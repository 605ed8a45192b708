"""The real actors on both sides, in virtual time."""

import asyncio
import random
from dataclasses import replace
from typing import get_args

import pytest

from pipesd.actors.compute import Pace
from pipesd.errors import LinkError, PipeSDError, RefusedError, UsageError
from pipesd.lab.clock import StuckError, run_virtually
from pipesd.lab.link import LinkModel, memory_link
from pipesd.planner.policies import Policy
from pipesd.planner.trigger import R1Rule, Thresholds
from pipesd.session.rules import ASKS_MAX, CloudRules, EdgeRules, Patience
from pipesd.values import Ahead, Batching, Verify
from tests.actors.rig import (
    EndlessTarget,
    JitteredLink,
    JitteredPace,
    Plan,
    ToyTarget,
    edge,
    edge_over,
    gateway,
    generate,
    pair,
    prompt,
    read_all,
)
from tests.session.world import WORDS, epochs_that_stand_still, target_path

DRAFT_MS = 43
WAY_MS = 15
PASS_MS = 27


def scenario(*, ahead: Ahead, upper_tokens: int) -> Plan:
    """Draft and target always agree; uplink, pass and downlink take 57 ms together."""
    way = LinkModel(delay_s=WAY_MS / 1e3)
    limits = Thresholds(r1=0.0, r2=0.0, upper_tokens=upper_tokens, lower_tokens=1)
    return Plan(
        rules=EdgeRules(policy=Policy(thresholds=limits, ahead=ahead, batching="work_conserving")),
        up=way,
        down=way,
        draft_pace=Pace(DRAFT_MS / 1e3),
        pass_pace=Pace(PASS_MS / 1e3),
        target=EndlessTarget(),
        always_right=True,
    )


async def time_per_token_ms(plan: Plan, tokens: int) -> float:
    async with pair(plan) as runtime:
        loop = asyncio.get_running_loop()
        session = runtime.open_session()
        started = loop.time()
        output = await read_all(runtime.start(prompt(session, [0], tokens_max=tokens)))
        assert len(output) == tokens
        return 1e3 * (loop.time() - started) / tokens


def test_drafting_ahead_hides_the_link_and_the_pass_wholly():
    for upper_tokens in (1, 4, 8):
        measured = run_virtually(time_per_token_ms(scenario(ahead="always", upper_tokens=upper_tokens), 500))
        assert measured <= 1.02 * DRAFT_MS


def test_waiting_takes_what_stop_and_wait_takes_by_hand():
    tokens, upper = 501, 4
    measured = run_virtually(time_per_token_ms(scenario(ahead="never", upper_tokens=upper), tokens))
    round_ms = upper * DRAFT_MS + WAY_MS + PASS_MS + WAY_MS
    first_ms = WAY_MS + PASS_MS + WAY_MS
    rounds = (tokens - 1) / (upper + 1)
    assert measured == pytest.approx((first_ms + rounds * round_ms) / tokens, rel=1e-9)


def test_a_link_that_is_slower_than_the_drafter_carries_several_drafts_at_once():
    """Each message occupies it for as long as three drafts take; no draft waits behind more than one."""
    tokens = 300

    async def frames_sent(plan: Plan) -> int:
        async with pair(plan) as runtime:
            before = runtime.statistics().sent_frames
            stream = runtime.start(prompt(runtime.open_session(), [0], tokens_max=tokens))
            assert len(await read_all(stream)) == tokens
            return runtime.statistics().sent_frames - before

    free = scenario(ahead="always", upper_tokens=8)
    slow = replace(free, up=replace(free.up, message_s=3 * DRAFT_MS / 1e3))
    assert run_virtually(frames_sent(free)) > 0.9 * tokens
    assert run_virtually(frames_sent(slow)) < 0.5 * tokens
    assert run_virtually(time_per_token_ms(slow, tokens)) < 1.1 * DRAFT_MS


def jittered(seed: int) -> Plan:
    dice = random.Random(seed)
    policy = Policy(
        thresholds=Thresholds(dice.choice([0.0, 0.3]), dice.choice([0.0, 0.4]), dice.randint(1, 9), 1),
        r1_rule=dice.choice(get_args(R1Rule)),
        batching=dice.choice(get_args(Batching)),
        ahead=dice.choice(get_args(Ahead)),
        upload_ahead=dice.random() < 0.7,
        asks_max=dice.choice([ASKS_MAX, 1]),
    )
    return Plan(
        rules=EdgeRules(policy=policy, window_tokens=dice.randint(1, 20)),
        up=JitteredLink(delay_s=0.01, dice=dice),
        down=JitteredLink(delay_s=0.01, dice=dice),
        draft_pace=JitteredPace(0.01, dice=dice),
        pass_pace=JitteredPace(0.02, 0.001, dice=dice),
        cloud_rules=CloudRules(verify=dice.choice(get_args(Verify))),
    )


async def conversation(plan: Plan, seed: int) -> None:
    """Two sessions at once, several turns each, text taken back, some answers left early."""

    async def talk(number: int) -> None:
        dice = random.Random(100 * seed + number)
        session = runtime.open_session()
        text: list[int] = []
        for _ in range(4):
            base = max(0, len(text) - dice.randint(0, 6))
            text = [*text[:base], *(dice.randrange(WORDS) for _ in range(dice.randint(1, 9)))]
            tokens_max = dice.randint(1, 40)
            expected = target_path(text, tokens_max, context=10_000)
            stream = runtime.start(prompt(session, text[base:], base=base, tokens_max=tokens_max))
            if dice.random() < 0.3:
                first = list((await stream.next()).tokens)
                runtime.cancel(session, stream)
                assert first == expected[: len(first)]
                text += first
            else:
                assert await read_all(stream) == expected
                text += expected

    async with pair(plan) as runtime, asyncio.TaskGroup() as group:
        for number in range(2):
            group.create_task(talk(number))


def conversations_that_fail(seeds: range) -> int:
    failures = 0
    for seed in seeds:
        try:
            run_virtually(conversation(jittered(seed), seed))
        except* (AssertionError, PipeSDError, StuckError):
            failures += 1
    return failures


def test_any_timing_gives_the_targets_text():
    assert conversations_that_fail(range(40)) == 0


def test_a_fault_in_the_epoch_rule_is_found():
    with epochs_that_stand_still():
        assert conversations_that_fail(range(10)) > 0


def test_the_same_run_gives_the_same_instants():
    async def instants() -> list[float]:
        async with pair(jittered(3)) as runtime:
            loop = asyncio.get_running_loop()
            stream = runtime.start(prompt(runtime.open_session(), [1, 2]))
            moments = []
            while (await stream.next()).tokens:
                moments.append(loop.time())
            return moments

    first = run_virtually(instants())
    assert len(first) > 3
    assert run_virtually(instants()) == first


def test_a_lost_frame_is_noticed_at_once_and_not_waited_for():
    async def lose_the_answer() -> None:
        ours, _ = memory_link(LinkModel(), LinkModel())
        async with edge_over(Plan(), ours) as runtime:
            await runtime.wait_ready()

    with pytest.raises(StuckError):
        run_virtually(lose_the_answer())


def test_a_cloud_that_never_greets_is_given_up():
    async def main() -> None:
        ours, _ = memory_link(LinkModel(), LinkModel())
        plan = Plan(rules=EdgeRules(patience=Patience(greeting_s=5.0)))
        async with edge_over(plan, ours) as runtime:
            await runtime.wait_ready()

    with pytest.raises(LinkError, match="greeting in 5 s"):
        run_virtually(main())


def test_a_lost_link_fails_the_answer_after_what_was_confirmed():
    async def main() -> list[int]:
        plan = Plan(target=EndlessTarget())
        ours, theirs = memory_link(LinkModel(), LinkModel())
        confirmed: list[int] = []
        async with gateway(plan) as served:
            served.accept(theirs)
            async with edge_over(plan, ours) as runtime:
                await runtime.wait_ready()
                stream = runtime.start(prompt(runtime.open_session(), [1], tokens_max=1_000))
                confirmed += (await stream.next()).tokens
                theirs.abort()
                with pytest.raises(LinkError, match="connection"):
                    await read_all(stream)
                with pytest.raises(LinkError):
                    runtime.open_session()
        return confirmed

    assert len(run_virtually(main())) >= 1


def test_a_failing_target_fails_the_answer_and_says_why():
    async def main() -> None:
        async with pair(Plan(target=ToyTarget(fails_after=3))) as runtime:
            with pytest.raises(RefusedError, match="the target failed: planned") as caught:
                await generate(runtime, [1, 2])
            assert caught.value.retryable
            assert await generate(runtime, [1, 2]) == target_path([1, 2], 40)

    run_virtually(main())


def test_an_impossible_prompt_is_the_callers_error_and_changes_nothing():
    async def main() -> None:
        async with pair(Plan()) as runtime:
            session = runtime.open_session()
            with pytest.raises(UsageError, match="empty"):
                runtime.start(prompt(session, []))
            with pytest.raises(UsageError, match="base"):
                runtime.start(prompt(session, [1], base=3))
            assert await read_all(runtime.start(prompt(session, [1, 2]))) == target_path([1, 2], 40)

    run_virtually(main())


def test_too_many_sessions_are_refused_and_the_others_go_on():
    async def main() -> None:
        impatient = EdgeRules(patience=Patience(busy_s=5.0))
        plan = Plan(rules=impatient, cloud_rules=CloudRules(sessions_max=2))
        async with gateway(plan) as served, edge(plan, served) as first, edge(plan, served) as second:
            kept = [first.open_session(), first.open_session()]
            with pytest.raises(RefusedError, match="sessions are taken") as caught:
                await generate(second, [1])
            assert caught.value.retryable
            answers = [first.start(prompt(session, [1, 2])) for session in kept]
            assert [await read_all(answer) for answer in answers] == [target_path([1, 2], 40)] * 2

    run_virtually(main())


def test_an_unread_answer_pauses_drafting_and_goes_on_when_read():
    async def main() -> tuple[int, int]:
        plan = Plan(target=EndlessTarget(), always_right=True)
        async with pair(plan) as runtime:
            stream = runtime.start(prompt(runtime.open_session(), [1], tokens_max=3_000))
            await asyncio.sleep(60)
            unread = stream.unread_tokens
            return unread, len(await read_all(stream))

    unread, total = run_virtually(main())
    assert 512 < unread < 600
    assert total == 3_000


def test_cancelling_the_application_anywhere_leaves_nothing_behind():
    async def main(delay_s: float) -> None:
        async def use() -> None:
            async with edge(plan, served) as runtime:
                await generate(runtime, [1, 2])
                await generate(runtime, [2, 3])

        plan = Plan(up=LinkModel(delay_s=0.02), down=LinkModel(delay_s=0.02))
        async with gateway(plan) as served:
            before = asyncio.all_tasks()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await use()
            await asyncio.sleep(5)
            assert asyncio.all_tasks() == before

    for moment in range(25):
        run_virtually(main(0.001 + 0.017 * moment))


def test_what_the_application_raises_comes_out_as_it_is():
    async def main() -> None:
        async with pair(Plan()):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_virtually(main())


def test_leaving_in_good_order_tells_the_cloud():
    async def main() -> int:
        plan = Plan()
        async with gateway(plan) as served:
            async with edge(plan, served) as runtime:
                session = runtime.open_session()
                runtime.start(prompt(session, [1], tokens_max=5))
            await asyncio.sleep(1)
            return len(plan.target.caches)

    assert run_virtually(main()) == 0


def test_a_link_is_not_kept_once_it_is_lost():
    async def main() -> None:
        plan = Plan()
        async with gateway(plan) as served, edge(plan, served) as runtime:
            assert runtime._link is None, "it is the lines', who forget it"

    run_virtually(main())
