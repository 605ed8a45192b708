"""Embedding the edge: answers, sessions and errors as an application meets them, in virtual time."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipesd import cloud, edge
from pipesd.actors.compute import ModelledCompute, Pace
from pipesd.actors.gateway import Gateway
from pipesd.actors.runtime import Hooks
from pipesd.alone import Alone
from pipesd.config import CloudConfig, EdgeConfig
from pipesd.edge import Edge
from pipesd.edge_session import Result, Session
from pipesd.engines.alone import target_alone
from pipesd.engines.scripted import ScriptedDraft, ScriptedTarget, ScriptedTokenizer
from pipesd.errors import ConfigError, LinkError, RefusedError, UsageError
from pipesd.lab.clock import run_virtually
from pipesd.lab.link import LinkModel, MemoryLink, memory_link
from pipesd.planner.policies import POLICIES
from pipesd.planner.trigger import Thresholds
from pipesd.session.tuned import Learned
from pipesd.values import Sampling, Slice
from pipesd.vocabulary import Vocabulary
from tests.actors.helpers import until
from tests.speech import CHATML, TOKENIZER, SpeechTarget, rendered
from tests.speech import as_text as as_spoken

WAY = LinkModel(delay_s=0.01)
SETTINGS = {
    "engine": "scripted",
    "tuner": "off",
    "ping_after_s": 80_000.0,
    "silent_after_s": 86_400.0,
    "tokens_max": 40,
}
GREEDY = Sampling()
WITH_A_CLOUD = [name for name, policy in POLICIES.items() if policy.writers != "edge"]


def the_target_says(text: str, tokens_max: int = 40, sampling: Sampling = GREEDY, seed: int = 0) -> list[int]:
    target = ScriptedTarget()
    tokens = target.tokenizer.encode(text)
    return list(target_alone(target, tokens, sampling=sampling, seed=seed, tokens_max=tokens_max))


def as_text(tokens: list[int]) -> str:
    pieces = ScriptedTarget().tokenizer.vocabulary.pieces
    return b"".join(pieces[token] for token in tokens).decode()


@asynccontextmanager
async def clouded(target: ScriptedTarget | None = None, **settings: object) -> AsyncIterator[Gateway]:
    compute = ModelledCompute(Pace(0.02, 0.001))
    plain = CloudConfig(engine="scripted", ping_after_s=80_000.0, silent_after_s=86_400.0)
    config = replace(plain, **settings)  # type: ignore[arg-type]
    gateway = cloud.make_gateway(config, target or ScriptedTarget(), compute, Hooks())
    async with gateway.running():
        yield gateway


@asynccontextmanager
async def connected(
    gateway: Gateway, draft: ScriptedDraft | None = None, **settings: object
) -> AsyncIterator[Edge]:
    ours, theirs = memory_link(WAY, WAY)
    gateway.accept(theirs)
    config = EdgeConfig(**{**SETTINGS, **settings})  # type: ignore[arg-type]
    compute = ModelledCompute(Pace(0.005))
    async with edge.connect_over(config, ours, draft or ScriptedDraft(), compute, Hooks()) as connection:
        yield connection


@asynccontextmanager
async def both(**settings: object) -> AsyncIterator[Edge]:
    async with clouded() as gateway, connected(gateway, None, **settings) as connection:
        yield connection


@asynccontextmanager
async def chatting(template: str, **settings: object) -> AsyncIterator[Edge]:
    """With a target that has a chat template, unless it is empty."""
    target = SpeechTarget(template, ends_every=9)
    draft = ScriptedDraft(tokenizer=TOKENIZER, ends_every=9)
    async with clouded(target) as gateway, connected(gateway, draft, **settings) as connection:
        yield connection


async def text_of(pieces: AsyncIterator[object]) -> str:
    return "".join([str(piece) async for piece in pieces])


def test_an_answer_is_the_targets_text_in_whole_pieces():
    async def main() -> None:
        async with both() as connection:
            answer = [piece async for piece in connection.generate("Tell me")]
            assert "".join(piece.text for piece in answer) == as_text(the_target_says("Tell me"))
            assert [token for piece in answer for token in piece.tokens] == the_target_says("Tell me")
            assert len(answer) > 3, "it was not streamed"

    run_virtually(main())


class ShortTokenizer(ScriptedTokenizer):
    """Knows fewer words than the target."""

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(super().vocabulary.pieces[:270])


def test_words_that_the_draft_does_not_know_are_shown():
    async def main() -> str:
        draft = ScriptedDraft(tokenizer=ShortTokenizer())
        async with clouded() as gateway, connected(gateway, draft) as connection:
            return await text_of(connection.generate("Tell me"))

    said = the_target_says("Tell me")
    assert max(said) >= 270
    assert run_virtually(main()) == as_text(said)


def test_an_answer_that_a_stop_string_ended_is_over_before_its_last_piece_is_read():
    """The reader may take its time with that, and the cloud may go meanwhile."""

    async def main() -> Result | None:
        async with AsyncExitStack() as cloud_side:
            gateway = await cloud_side.enter_async_context(clouded())
            async with connected(gateway) as connection, connection.session() as session:
                word = as_text(the_target_says("Tell me")[4:5])
                answer = session.generate("Tell me", stop=[word])
                read = 0
                async for piece in answer:
                    read += len(piece.tokens)
                    if read > answer.kept_tokens:
                        await cloud_side.aclose()
                return answer.result

    result = run_virtually(main())
    assert result is not None
    assert result.finish == "stop"


def test_a_sampled_answer_depends_on_the_seed_and_on_nothing_else():
    warm = Sampling(temperature=0.9, top_p=0.9)

    async def main(seed: int, **settings: object) -> str:
        async with both(**settings) as connection:
            return await text_of(connection.generate("Tell me", sampling=warm, seed=seed))

    for seed in (1, 2):
        expected = as_text(the_target_says("Tell me", sampling=warm, seed=seed))
        assert run_virtually(main(seed)) == expected
        assert run_virtually(main(seed, ahead="never", upper_tokens=3)) == expected
    assert run_virtually(main(1)) != run_virtually(main(2))


def test_every_policy_gives_the_same_text():
    async def main(policy: str) -> str:
        async with both(policy=policy) as connection:
            return await text_of(connection.generate("Tell me"))

    assert len(WITH_A_CLOUD) > 3
    assert {run_virtually(main(policy)) for policy in WITH_A_CLOUD} == {as_text(the_target_says("Tell me"))}


def test_a_cloud_that_does_not_tune_cannot_be_told_to():
    async def main() -> None:
        async with clouded(tuner="off") as gateway:
            with pytest.raises(UsageError, match="this cloud does not tune; choose edge or off"):
                async with connected(gateway, tuner="cloud"):
                    raise AssertionError("it connected")

    run_virtually(main())


def test_answers_at_the_same_time_take_turns_and_do_not_mix():
    async def main() -> None:
        async with both() as connection, asyncio.TaskGroup() as group:
            prompts = ["One", "Two", "Three"]
            answers = [group.create_task(text_of(connection.generate(prompt))) for prompt in prompts]
        assert [answer.result() for answer in answers] == [as_text(the_target_says(text)) for text in prompts]

    run_virtually(main())


def test_two_edges_share_a_cloud():
    async def main() -> None:
        async with clouded() as gateway, connected(gateway) as one, connected(gateway, ahead="never") as two:
            async with asyncio.TaskGroup() as group:
                answers = [group.create_task(text_of(each.generate("Same"))) for each in (one, two)]
            assert {answer.result() for answer in answers} == {as_text(the_target_says("Same"))}

    run_virtually(main())


def test_turns_continue_one_text_and_may_take_some_of_it_back():
    async def main() -> None:
        async with both() as connection, connection.session() as session:
            first = await text_of(aiter(session.generate("Hello")))
            said = the_target_says("Hello")
            assert first == as_text(said)
            assert session.length == 5 + len(said)

            target, text = ScriptedTarget(), [*b"Hello", *said, *b"More"]
            path = list(target_alone(target, text, sampling=GREEDY, seed=0, tokens_max=40))
            assert await text_of(aiter(session.generate("More"))) == as_text(path)

            text = [*b"Hell", *b"p!"]
            path = list(target_alone(target, text, sampling=GREEDY, seed=0, tokens_max=40))
            assert await text_of(aiter(session.generate("p!", base=4))) == as_text(path)

    run_virtually(main())


def test_a_stop_string_cuts_the_text_and_the_next_turn_follows_the_cut():
    async def main() -> None:
        said = the_target_says("Hello")
        pieces = [as_text([token]) for token in said]
        stop = pieces[7] + pieces[8][:2]
        async with both() as connection, connection.session() as session:
            answer = session.generate("Hello", stop=[stop])
            expected = as_text(said)
            expected = expected[: expected.index(stop)]
            assert await text_of(aiter(answer)) == expected
            assert answer.result is not None
            assert answer.result.finish == "stop"
            kept = said[: session.length - 5]
            assert expected.startswith(as_text(kept))

            text = [*b"Hello", *kept, *b"Go"]
            path = list(target_alone(ScriptedTarget(), text, sampling=GREEDY, seed=0, tokens_max=40))
            assert await text_of(aiter(session.generate("Go"))) == as_text(path)

    run_virtually(main())


def test_leaving_an_answer_early_ends_it_and_keeps_the_session():
    async def main() -> None:
        async with both() as connection, connection.session() as session:
            read: list[int] = []
            answer = session.generate("Hello")
            async for piece in answer:
                read += piece.tokens
                if len(read) > 4:
                    break
            await asyncio.sleep(1)
            assert session.length == 5 + len(read)
            text = [*b"Hello", *read, *b"?"]
            path = list(target_alone(ScriptedTarget(), text, sampling=GREEDY, seed=0, tokens_max=40))
            assert await text_of(aiter(session.generate("?"))) == as_text(path)

    run_virtually(main())


def test_a_turn_evaluates_what_is_new_and_the_rest_is_in_the_caches():
    judged_from: list[int] = []
    drafted_from: list[int] = []

    class Target(ScriptedTarget):
        def forward(self, slices: Sequence[Slice]) -> list[tuple[int, ...]]:
            judged_from.extend(part.base for part in slices)
            return super().forward(slices)

    class Draft(ScriptedDraft):
        def extend(self, sequence: int, tokens: Sequence[int], *, prompt: bool = False) -> None:
            drafted_from.append(self._contexts.length(sequence))
            super().extend(sequence, tokens, prompt=prompt)

    async def main() -> None:
        async with (
            clouded(Target()) as gateway,
            connected(gateway, Draft()) as connection,
            connection.session() as session,
        ):
            await text_of(aiter(session.generate("Hello")))
            await asyncio.sleep(1)
            assert min(judged_from) == min(drafted_from) == 0
            judged_from.clear()
            drafted_from.clear()
            length = session.length
            await text_of(aiter(session.generate("More")))
            assert min(judged_from) >= length - 1
            assert min(drafted_from) >= length - 1

    run_virtually(main())


SAYINGS = ("Tell me of the water.", "And?", "So  what <|im_end|>\n then?", "Hm")


@pytest.mark.parametrize("settings", [{}, {"temperature": 0.9, "seed": 3}, {"tokens_max": 5}], ids=str)
@pytest.mark.parametrize("template", ["", CHATML], ids=["raw", "chat"])
def test_turns_are_those_of_the_target_alone(template: str, settings: dict[str, object]):
    async def main() -> None:
        config = CloudConfig(**{"engine": "scripted", "tokens_max": 40, **settings})  # type: ignore[arg-type]
        target = Alone(config, SpeechTarget(template, ends_every=9), ModelledCompute(Pace(0.01)))
        async with chatting(template, **settings) as connection, connection.session() as session:
            for said in SAYINGS:
                answer, reference = session.generate(said), target.generate(said)
                text = await text_of(aiter(answer))
                assert text == await text_of(aiter(reference))
                assert answer.prompt_ids == reference.prompt_ids != ()
                assert answer.kept_tokens == reference.kept_tokens
                assert answer.result is not None
                assert answer.result.finish == reference.finish
                assert session.length == target.length

    run_virtually(main())


def test_a_conversation_is_put_into_the_targets_chat_template():
    async def main() -> None:
        async with chatting(CHATML, system="Be brief.") as connection, connection.session() as session:
            first = session.generate("Hi")
            said = await text_of(aiter(first))
            second = session.generate("And?")
            assert second.prompt_ids == ()
            await text_of(aiter(second))
        whole = as_spoken(first.prompt_ids) + said + as_spoken(second.prompt_ids)
        assert whole == rendered(CHATML, "Hi", said, "And?", system="Be brief.")

    run_virtually(main())


def test_prompts_are_raw_if_that_is_asked_for_and_token_ids_always():
    async def main() -> None:
        async with chatting(CHATML, prompts="raw") as connection, connection.session() as session:
            answer = session.generate("Hi")
            await text_of(aiter(answer))
            assert answer.prompt_ids == tuple(b"Hi")
        async with chatting(CHATML) as connection, connection.session() as session:
            answer = session.generate([72, 105])
            await text_of(aiter(answer))
            assert answer.prompt_ids == (72, 105)

    run_virtually(main())


@pytest.mark.parametrize(
    ("template", "settings", "words"),
    [
        ("", {"prompts": "chat"}, "no chat template"),
        ("", {"system": "Be brief."}, "^system: "),
        (CHATML, {"system": "Be brief.", "prompts": "raw"}, "^system: "),
        ("{{ messages[9].content }}", {}, "chat template cannot be used"),
    ],
)
def test_a_way_of_prompting_that_cannot_be_is_the_callers_error_at_once(
    template: str, settings: dict[str, object], words: str
):
    async def main() -> None:
        async with chatting(template, **settings):
            raise AssertionError("it connected")

    with pytest.raises(UsageError, match=words):
        run_virtually(main())


def test_what_was_read_behind_a_stop_string_is_not_kept():
    async def main() -> None:
        said = the_target_says("Hello")
        async with both() as connection, connection.session() as session:
            answer = session.generate("Hello", stop=[as_text(said[7:8])])
            read = [token async for piece in answer for token in piece.tokens]
            assert read[: answer.kept_tokens] == said[: answer.kept_tokens]
            assert len(read) > answer.kept_tokens
            assert session.length == 5 + answer.kept_tokens

    run_virtually(main())


def test_the_result_counts_what_the_answer_took():
    async def main() -> None:
        async with both() as connection, connection.session() as session:
            answer = session.generate("Hello")
            tokens = [token async for piece in answer for token in piece.tokens]
            assert answer.result is not None
            stats = answer.result.stats
            assert stats.tokens == len(tokens) == 40
            assert answer.result.finish == "length"
            assert 0 < stats.accepted <= stats.tokens
            assert stats.accepted + stats.corrections <= stats.drafted
            assert 0 < stats.verdicts < stats.tokens
            assert connection.statistics().sent_bytes > 100

    run_virtually(main())


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"prompt": ""}, "empty"),
        ({"prompt": []}, "empty"),
        ({"prompt": "x" * 9_000}, "shorten it"),
        ({"prompt": "x", "tokens_max": 0}, "tokens_max"),
        ({"prompt": "x", "base": 7}, "base"),
        ({"prompt": "x", "stop": [""]}, "stop"),
        ({"prompt": [70_000]}, "token 70000"),
        ({"prompt": [-1]}, "token -1"),
        ({"prompt": "x", "seed": -1}, "seed"),
        ({"prompt": [1.5]}, "prompt"),
        ({"prompt": b"ab"}, "not bytes"),
        ({"prompt": "x", "tokens_max": 2.5}, "tokens_max"),
        ({"prompt": "x", "seed": "1"}, "seed"),
        ({"prompt": "x", "base": "0"}, "base"),
        ({"prompt": "x", "sampling": 0.7}, "sampling"),
        ({"prompt": "x", "stop": [b"x"]}, "stop"),
    ],
)
def test_an_impossible_wish_is_the_callers_error_and_costs_nothing(wish, words):
    async def main() -> None:
        async with both() as connection, connection.session() as session:
            with pytest.raises(UsageError, match=words):
                await text_of(aiter(session.generate(**wish)))
            assert await text_of(aiter(session.generate("Hello"))) == as_text(the_target_says("Hello"))

    run_virtually(main())


def test_numbers_of_numpy_are_numbers():
    async def main() -> None:
        async with both() as connection:
            prompt = np.frombuffer(b"Hello", dtype=np.uint8)
            sampling = Sampling(np.float32(0), np.int64(0))  # type: ignore[arg-type]
            answer = connection.generate(
                prompt,  # type: ignore[arg-type]
                sampling=sampling,
                seed=np.int64(0),  # type: ignore[arg-type]
                tokens_max=np.int16(40),  # type: ignore[arg-type]
            )
            assert await text_of(answer) == as_text(the_target_says("Hello"))

    run_virtually(main())


def test_answers_of_one_session_are_read_one_after_the_other():
    async def main() -> None:
        async with both() as connection, connection.session() as session:
            first, second = session.generate("One", tokens_max=5), session.generate(" two", tokens_max=5)
            said = [token async for piece in first for token in piece.tokens]
            with pytest.raises(UsageError, match="read before"):
                await anext(aiter(first))
            await text_of(aiter(second))
            assert session.length == len("One two") + len(said) + 5

            third, fourth = aiter(session.generate("a")), aiter(session.generate("b"))
            await anext(third)
            await anext(fourth)
            await text_of(fourth)
            length = session.length
            with pytest.raises(UsageError, match="newer prompt"):
                await text_of(third)
            assert session.length == length, "an answer that was given up moved the text"

    run_virtually(main())


def test_a_closed_session_on_a_living_connection_says_so():
    async def main() -> None:
        async with both() as connection:
            async with connection.session() as session:
                pass
            with pytest.raises(UsageError, match="session is closed"):
                await text_of(aiter(session.generate("Hello")))

    run_virtually(main())


def test_another_tokenizer_is_refused_by_name():
    class Odd(ScriptedDraft):
        @property
        def tokenizer(self):
            ours = super().tokenizer
            pieces = list(ours.vocabulary.pieces)
            pieces[300] = b" odd"
            vocabulary = type(ours.vocabulary)(pieces)
            return type("Tokenizer", (), {"vocabulary": vocabulary, "encode": ours.encode})()

    async def main() -> None:
        async with clouded() as gateway:
            ours, theirs = memory_link(WAY, WAY)
            gateway.accept(theirs)
            async with edge.connect_over(
                EdgeConfig(engine="scripted"), ours, Odd(), ModelledCompute(Pace(0.005)), Hooks()
            ):
                raise AssertionError("it was let in")

    with pytest.raises(RefusedError, match="token 300 is b' odd' here"):
        run_virtually(main())


def test_a_session_of_a_closed_connection_says_so():
    async def main() -> None:
        async with clouded() as gateway:
            async with connected(gateway) as connection:
                session = Session(connection._means)
            with pytest.raises(LinkError, match="closed"):
                await text_of(aiter(session.generate("Hello")))

    run_virtually(main())


async def test_connect_and_serve_over_tcp_in_one_loop():
    async with cloud.serve(CloudConfig(engine="scripted", listen="127.0.0.1:0")) as served:
        host, port = served.address
        config = EdgeConfig(engine="scripted", tuner="off", cloud=f"{host}:{port}", tokens_max=40)
        async with edge.connect(config) as one, edge.connect(config) as two, asyncio.TaskGroup() as group:
            answers = [group.create_task(text_of(each.generate("Same"))) for each in (one, two)]
        assert {answer.result() for answer in answers} == {as_text(the_target_says("Same"))}


async def test_nobody_there_is_a_link_error():
    with pytest.raises(LinkError, match="pipesd-cloud"):
        async with edge.connect(EdgeConfig(engine="scripted", cloud="127.0.0.1:9")):
            raise AssertionError("somebody answered")


async def test_what_was_learned_is_the_next_connection_s_start(state_folder: Path):
    limits = Thresholds(0.8, 0.6, 8, 2)
    async with cloud.serve(CloudConfig(engine="scripted", listen="127.0.0.1:0")) as served:
        host, port = served.address
        config = EdgeConfig(engine="scripted", cloud=f"{host}:{port}", tokens_max=40)
        async with edge.connect(config) as first:
            first.tuned.remember(Learned(limits, ((0.9, 0.9, True),) * 30, ()))
        (kept,) = (state_folder / "pipesd" / "tuning").iterdir()
        async with edge.connect(config) as second:
            assert second.tuned.thresholds == limits
            assert second.tuned.learned == Learned(limits, ((0.9, 0.9, True),) * 30, ())
            assert await text_of(second.generate("Same")) == as_text(the_target_says("Same"))
        before = kept.read_bytes()
        async with edge.connect(replace(config, tuner="off")) as third:
            assert third.tuned.thresholds is None
        assert kept.read_bytes() == before


async def test_a_tuner_with_nothing_to_do_is_refused_before_anybody_is_called():
    with pytest.raises(ConfigError, match="tuner: there is nothing to tune, since r2 is given"):
        async with edge.connect(EdgeConfig(engine="scripted", tuner="edge", r2=0.5, cloud="127.0.0.1:9")):
            raise AssertionError("somebody answered")


def test_sessions_that_find_no_room_wait_for_it_and_say_so(caplog: pytest.LogCaptureFixture):
    words = ("one", "two", "three")

    async def one(gateway: Gateway, word: str) -> str:
        async with connected(gateway) as connection:
            return await text_of(connection.generate(word))

    async def main() -> list[str]:
        async with clouded(sessions_max=1) as gateway, asyncio.TaskGroup() as group:
            texts = [group.create_task(one(gateway, word)) for word in words]
        return [text.result() for text in texts]

    assert run_virtually(main()) == [as_text(the_target_says(word)) for word in words]
    assert "the cloud is busy (all 1 sessions are taken); trying again in" in caplog.text


def test_a_cloud_without_room_is_not_waited_for_for_ever():
    async def main() -> None:
        async with (
            clouded(sessions_max=1) as gateway,
            connected(gateway) as first,
            connected(gateway, busy_timeout_s=9) as second,
            first.session(),
        ):
            with pytest.raises(RefusedError, match="all 1 sessions are taken"):
                await text_of(second.generate("two"))

    run_virtually(main())


async def test_a_cloud_without_a_free_connection_is_called_again(caplog: pytest.LogCaptureFixture):
    config = CloudConfig(engine="scripted", listen="127.0.0.1:0", connections_max=1, busy_retry_s=0.05)
    async with cloud.serve(config) as served:
        address = f"127.0.0.1:{served.address[1]}"
        settings = EdgeConfig(engine="scripted", tuner="off", cloud=address)
        async with AsyncExitStack() as first:
            await first.enter_async_context(edge.connect(settings))
            with pytest.raises(RefusedError, match="no connection is free"):
                async with edge.connect(replace(settings, busy_timeout_s=0.01)):
                    raise AssertionError("it connected")
            async with asyncio.TaskGroup() as group:
                second = group.create_task(_one_answer(settings))
                await until(lambda: "trying again" in caplog.text)
                await first.aclose()
        assert second.result() == as_text(the_target_says("two", tokens_max=5))


async def _one_answer(settings: EdgeConfig) -> str:
    async with edge.connect(settings) as connection:
        return await text_of(connection.generate("two", tokens_max=5))


async def test_a_first_cloud_that_lets_nobody_in_is_left_for_the_next_one(caplog: pytest.LogCaptureFixture):
    plain = CloudConfig(engine="scripted", listen="127.0.0.1:0")
    async with cloud.serve(replace(plain, connections_max=1)) as full, cloud.serve(plain) as roomy:
        one, two = (f"127.0.0.1:{each.address[1]}" for each in (full, roomy))
        settings = EdgeConfig(engine="scripted", tuner="off", cloud=one)
        async with edge.connect(settings):
            said = await _one_answer(replace(settings, cloud=f"{one},{two}"))
    assert said == as_text(the_target_says("two", tokens_max=5))
    assert f"{one}: the cloud refused the connection: no connection is free" in caplog.text


@pytest.mark.parametrize("agreement", [0.95, 1.0])
def test_what_is_written_in_ten_seconds_without_a_cloud_is_unverified_and_then_judged(agreement: float):
    """On a clock that shows what came when: the cloud is away from the first second to the eleventh."""
    asked = the_target_says("The sea", 400)
    verified: list[int] = []
    seen: list[tuple[float, bool, int]] = []

    async def main() -> None:
        now = asyncio.get_running_loop().time
        async with clouded() as gateway:

            async def dial(_: int) -> MemoryLink:
                if now() < 11.0:
                    raise LinkError("the cloud is away")
                ours, theirs = memory_link(WAY, WAY)
                gateway.accept(theirs)
                return ours

            ours, theirs = memory_link(WAY, WAY)
            gateway.accept(theirs)
            asyncio.get_running_loop().call_at(1.0, ours.abort)
            config = EdgeConfig(**{**SETTINGS, "tokens_max": 400, "offline": "draft"})  # type: ignore[arg-type]
            draft, compute = ScriptedDraft(agreement=agreement), ModelledCompute(Pace(0.045))
            async with edge.connect_over(config, ours, draft, compute, Hooks(), dial) as connection:
                async for piece in connection.generate("The sea"):
                    assert piece.preview != piece.verified
                    seen.append((now(), piece.verified, len(piece.tokens)))
                    verified.extend(piece.tokens if piece.verified else ())

    run_virtually(main())
    assert verified == asked
    away = [(is_verified, tokens) for when, is_verified, tokens in seen if 1.0 < when < 11.0]
    assert not any(is_verified for is_verified, _ in away)
    assert sum(tokens for _, tokens in away) > 150, "a draft takes 45 ms"
    judged = [tokens for when, is_verified, tokens in seen if 11.0 <= when < 16.0 and is_verified]
    if agreement == 1.0:
        assert sum(judged) > 150, "what was right is confirmed, window by window, and not drafted again"
