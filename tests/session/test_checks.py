"""What the edge holds its application and its cloud to."""

import re
from typing import Any

import msgspec
import pytest

from pipesd.errors import PeerError, UsageError
from pipesd.session.checks import check_prompt, check_verdict, unlike
from pipesd.session.events import PromptGiven
from pipesd.session.ledger import Ledger
from pipesd.values import Finish, Sampling
from pipesd.wire.frames import PROMPT_TOKENS_MAX, PROTOCOL_VERSION, Verdict, Welcome

CONFIRMED = 20
LIMIT = 30
END = 99

GRANT = Welcome(
    version=PROTOCOL_VERSION,
    model="toy",
    engine="toy",
    numerics="exact",
    vocabulary_size=100,
    vocabulary_hashes=b"",
    end_ids=(END, 98),
    begin_ids=(),
    template="",
    context_tokens=50,
    window_tokens=16,
    chunk_tokens=512,
    sessions_max=4,
)


def grant(**changes: Any) -> Welcome:
    return msgspec.structs.replace(GRANT, **changes)


def wish(
    *tokens: int, base: int = CONFIRMED, seed: int = 7, most: int = 5, temperature: float = 0.0
) -> PromptGiven:
    return PromptGiven(0, base, tokens, Sampling(temperature=temperature), seed, most)


def books(*suffix: int, sent: int = 0) -> Ledger:
    """Behind a text of ``CONFIRMED`` tokens."""
    ledger = Ledger(512)
    ledger.prompt(0, tuple(range(CONFIRMED)))
    for token in suffix:
        ledger.draft(token)
    ledger.send(sent)
    return ledger


def verdict(accepted: int, *tokens: int, finish: Finish | None = None, base: int = CONFIRMED) -> Verdict:
    return Verdict(0, 1, base, accepted, tokens, finish)


def check(said: Verdict, ledger: Ledger) -> None:
    news = (*ledger.suffix[: said.accepted], *said.tokens)
    check_verdict(said, news, ledger, LIMIT, GRANT.vocabulary_size, frozenset(GRANT.end_ids))


def has_all(*words: str) -> str:
    return "^" + "".join(rf"(?=.*(?<!\w){re.escape(word)}(?!\w))" for word in words)


# --- prompts ---


@pytest.mark.parametrize(
    "possible",
    [
        wish(1, 2),
        wish(1, base=0),
        wish(0, 99),
        wish(1, seed=0),
        wish(1, seed=2**63 - 1),
        wish(1, most=1),
        wish(1, most=2**31 - 1),
        wish(*[1] * 29),
        wish(*[1] * 49, base=0),
        wish(1, temperature=1.0),
    ],
)
def test_a_possible_prompt_passes(possible: PromptGiven) -> None:
    check_prompt(possible, CONFIRMED, GRANT)


@pytest.mark.parametrize(
    ("impossible", "words"),
    [
        (wish(1, base=21), ("base:", "between 0 and 20", "21")),
        (wish(1, base=-1), ("base:", "between 0 and 20", "not -1")),
        (wish(), ("prompt is empty", "at least one character")),
        (wish(1, most=0), ("tokens_max:", "at least 1", "not 0")),
        (wish(1, most=2**31), ("tokens_max:", "below 2**31")),
        (wish(1, seed=-1), ("seed:", "at least 0", "not -1")),
        (wish(1, seed=2**63), ("seed:", "below 2**63")),
        (wish(1, 100, 2), ("token 100", "target does not know")),
        (wish(1, -4, 2), ("token -4", "target does not know")),
        (wish(*[1] * 30), ("prompt has 30 tokens", "context of 50", "room for 29", "shorten it")),
        (wish(*[1] * 50, base=0), ("prompt has 50 tokens", "room for 49")),
    ],
)
def test_an_impossible_prompt_is_refused(impossible: PromptGiven, words: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match=has_all(*words)):
        check_prompt(impossible, CONFIRMED, GRANT)


def test_a_prompt_may_be_as_long_as_a_frame_takes() -> None:
    roomy = grant(context_tokens=2**31)
    check_prompt(wish(*[1] * PROMPT_TOKENS_MAX), CONFIRMED, roomy)
    with pytest.raises(UsageError, match=has_all(str(PROMPT_TOKENS_MAX), "in several turns")):
        check_prompt(wish(*[1] * (PROMPT_TOKENS_MAX + 1)), CONFIRMED, roomy)


def test_a_cloud_that_is_greedy_only_is_not_asked_to_sample() -> None:
    check_prompt(wish(1), CONFIRMED, grant(greedy_only=True))
    with pytest.raises(UsageError, match=has_all("temperature:", "greedily only", "leave it at 0")):
        check_prompt(wish(1, temperature=0.1), CONFIRMED, grant(greedy_only=True))


@pytest.mark.parametrize("context_tokens", [CONFIRMED, CONFIRMED + 1])
def test_a_text_that_fills_the_context_is_not_told_of_less_than_no_room(context_tokens: int) -> None:
    full = has_all(f"fills the target's context of {context_tokens}", "new session", "give a base")
    with pytest.raises(UsageError, match=full) as caught:
        check_prompt(wish(1), CONFIRMED, grant(context_tokens=context_tokens))
    assert "-1" not in str(caught.value)
    check_prompt(wish(1, base=CONFIRMED - 1), CONFIRMED, grant(context_tokens=CONFIRMED + 1))


def test_a_text_that_leaves_room_for_one_token_takes_a_prompt_of_one() -> None:
    almost = grant(context_tokens=CONFIRMED + 2)
    check_prompt(wish(1), CONFIRMED, almost)
    with pytest.raises(UsageError, match=has_all("prompt has 2 tokens", "room for 1", "shorten it")):
        check_prompt(wish(1, 2), CONFIRMED, almost)


# --- verdicts ---


@pytest.mark.parametrize(
    "said",
    [
        verdict(0, 5),
        verdict(2, 7),
        verdict(1, 8, 9),
        verdict(3, *[1] * 6),
        verdict(3, *[1] * 7, finish="length"),
        verdict(3, finish="length"),
        verdict(0, finish="context"),
        verdict(1, END, finish="stop"),
        verdict(1, 98, finish="stop"),
        verdict(0, 0),
    ],
)
def test_a_verdict_that_fits_passes(said: Verdict) -> None:
    check(said, books(5, 6, 7, 8, sent=3))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (verdict(0, 5, base=19), ("verdict at 19", "20 are confirmed")),
        (verdict(0, 5, base=21), ("verdict at 21", "20 are confirmed")),
        (verdict(4, 5), ("4 drafts accepted of 3 sent",)),
        (verdict(2), ("without a token",)),
        (verdict(3, *[1] * 8, finish="length"), ("beyond the limit of 30",)),
        (verdict(3, *[1] * 7), ("beyond the limit of 30",)),
        (verdict(1, 100), ("not in the vocabulary",)),
        (verdict(1, 4, 250, 3), ("not in the vocabulary",)),
        (verdict(1, END), ("end id", "no finish")),
        (verdict(1, 98, 5), ("text behind an end id",)),
        (verdict(1, END, 5, finish="stop"), ("text behind an end id",)),
        (verdict(1, END, END, finish="stop"), ("text behind an end id",)),
    ],
)
def test_a_verdict_that_contradicts_what_was_sent_is_the_clouds_fault(
    said: Verdict, words: tuple[str, ...]
) -> None:
    with pytest.raises(PeerError, match=has_all(*words)) as caught:
        check(said, books(5, 6, 7, 8, sent=3))
    assert caught.value.code == "protocol"


def test_an_accepted_end_id_ends_the_text_too() -> None:
    ended = books(5, END, sent=2)
    check(verdict(2, finish="stop"), ended)
    for wrong in (verdict(2, 4), verdict(2, 4, finish="stop")):
        with pytest.raises(PeerError, match="end id"):
            check(wrong, ended)


def test_drafts_that_were_not_sent_cannot_be_accepted() -> None:
    with pytest.raises(PeerError, match="1 drafts accepted of 0 sent"):
        check(verdict(1, 7), books(5, 6))


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({}, []),
        (
            {
                "context_tokens": 9,
                "window_tokens": 2,
                "sessions_max": 1,
                "tunes": True,
                "energy": "modelled: x",
            },
            [],
        ),
        ({"credential": b"another", "greedy_only": True}, []),
        ({"model": "another"}, ["model"]),
        ({"numerics": "fast", "chunk_tokens": 64}, ["numerics", "chunk_tokens"]),
        (
            {"end_ids": (98, END), "template": "x", "vocabulary_hashes": b"x"},
            ["vocabulary_hashes", "end_ids", "template"],
        ),
        ({"engine": "another"}, ["engine"]),
    ],
)
def test_what_differs_between_clouds_that_decides_the_text_is_named(
    changes: dict[str, object], named: list[str]
) -> None:
    assert unlike(GRANT, grant(**changes)) == named
    assert unlike(grant(**changes), GRANT) == named
