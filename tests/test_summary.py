from dataclasses import replace

import pytest

from pipesd.summary import UNVERIFIED, Summary, total


def summary(**changes: object) -> Summary:
    figures: dict[str, object] = {
        "tokens": 50,
        "finish": "length",
        "elapsed_ms": 1_500.0,
        "first_token_ms": 120.4,
        "accepted": 39,
        "judged": 48,
        "passes": 13,
        "sent_bytes": 700,
        "received_bytes": 1_001,
        **changes,
    }
    return Summary(**figures)  # type: ignore[arg-type]


def alone(**changes: object) -> Summary:
    """Of the target alone: nothing was guessed, and nothing crossed a link."""
    return summary(
        **{"accepted": None, "judged": None, "sent_bytes": None, "received_bytes": None, **changes}
    )


def test_the_line_says_it_all():
    assert summary().line() == (
        "50 tokens (length), 30.0 ms per token, first after 120 ms, acceptance 81.2%, "
        "26.0 passes per 100 tokens, 1400 bytes up and 2002 down per 100 tokens"
    )


def test_the_line_leaves_out_what_was_not_measured():
    line = alone().line()
    assert line == "50 tokens (length), 30.0 ms per token, first after 120 ms, 26.0 passes per 100 tokens"


@pytest.mark.parametrize("half", [{"sent_bytes": None}, {"received_bytes": None}])
def test_one_direction_alone_is_no_figure(half: dict[str, object]):
    assert "bytes" not in summary(**half).line()


def test_an_acceptance_of_nothing_is_a_figure():
    assert "acceptance 0.0%" in summary(accepted=0).line()


@pytest.mark.parametrize("unknown", [{"judged": 0, "accepted": 0}, {"judged": None}, {"accepted": None}])
def test_without_judged_drafts_there_is_no_acceptance(unknown: dict[str, object]):
    assert summary(**unknown).acceptance is None
    assert "acceptance" not in summary(**unknown).line()


def test_the_share_of_the_drafter_is_counted_in_tokens_of_the_text():
    assert summary().draft_share == 39 / 50
    assert summary(accepted=0, judged=0).draft_share == 0.0
    assert summary(accepted=0, judged=0, tokens=0).draft_share == 0.0
    assert alone().draft_share is None


def test_modelled_figures_say_so():
    assert summary(modelled=True).line().endswith(" (modelled)")
    assert "modelled" not in summary().line()


def test_a_text_that_no_target_confirmed_says_so():
    drafted = alone(drafted=50, passes=0, verified=False)
    assert drafted.line() == f"50 tokens (length), 30.0 ms per token, first after 120 ms, {UNVERIFIED}"
    assert (drafted.figures()["verified"], drafted.figures()["passes_per_100"]) == (False, 0.0)
    assert replace(drafted, modelled=True).line().endswith(f"{UNVERIFIED} (modelled)")
    assert UNVERIFIED not in alone().line()


def test_an_answer_without_tokens_divides_by_nothing():
    empty = summary(tokens=0, elapsed_ms=40.0, passes=1)
    assert "0 tokens" in empty.line()
    assert empty.figures()["ms_per_token"] == 40.0


def test_amounts_are_told_per_hundred_tokens():
    assert summary().per_100(13) == 26.0
    assert summary(tokens=200).per_100(13) == 6.5


def test_the_figures_hold_every_field_and_what_follows_from_them():
    figures = summary().figures()
    assert figures == {
        "tokens": 50,
        "finish": "length",
        "elapsed_ms": 1_500.0,
        "first_token_ms": 120.4,
        "accepted": 39,
        "judged": 48,
        "acceptance": 0.8125,
        "draft_share": 0.78,
        "drafted": None,
        "passes": 13,
        "sent_bytes": 700,
        "received_bytes": 1_001,
        "modelled": False,
        "verified": True,
        "ms_per_token": 30.0,
        "passes_per_100": 26.0,
        "sent_bytes_per_100": 1_400.0,
        "received_bytes_per_100": 2_002.0,
        "useful_j": None,
        "rejected_j": None,
        "energy_j": None,
        "energy_source": "",
        "energy_j_per_100": None,
        "useful_j_per_100": None,
        "rejected_j_per_100": None,
    }


def test_energy_is_told_per_hundred_tokens_with_its_source():
    measured = summary(useful_j=12.0, rejected_j=4.0, energy_source="modelled: 60 W busy")
    assert measured.line().endswith(
        "2002 down per 100 tokens, 32 J per 100 tokens (24 useful, 8 rejected; modelled: 60 W busy)"
    )
    figures = measured.figures()
    names = ("energy_j", "energy_j_per_100", "useful_j_per_100", "rejected_j_per_100", "energy_source")
    assert [figures[name] for name in names] == [16.0, 32.0, 24.0, 8.0, "modelled: 60 W busy"]


@pytest.mark.parametrize("half", [{"useful_j": 1.0}, {"rejected_j": 1.0}])
def test_half_of_the_energy_is_no_figure(half: dict[str, object]):
    assert " J " not in summary(**half).line()
    assert summary(**half).energy_j is None


def test_energy_in_total_is_known_if_it_is_known_of_all():
    first = summary(useful_j=1.5, rejected_j=0.5, energy_source="zeus: GPU")
    last = summary(useful_j=2.0, rejected_j=0.0, energy_source="modelled: 60 W busy")
    both = total([first, last, first])
    assert (both.useful_j, both.rejected_j) == (5.0, 1.0)
    assert both.energy_source == "zeus: GPU + modelled: 60 W busy"
    unknown = total([first, summary()])
    assert (unknown.useful_j, unknown.rejected_j, unknown.energy_source) == (None, None, "zeus: GPU")


def test_figures_that_were_not_measured_stay_none():
    figures = alone().figures()
    names = ("acceptance", "draft_share", "sent_bytes_per_100", "received_bytes_per_100")
    assert [figures[name] for name in names] == [None] * 4


def test_several_answers_are_told_as_one():
    first = summary(drafted=60, modelled=True)
    last = summary(
        tokens=30,
        finish="stop",
        elapsed_ms=500.0,
        first_token_ms=80.4,
        accepted=1,
        judged=2,
        drafted=9,
        passes=29,
        sent_bytes=300,
        received_bytes=99,
    )
    assert total([first, last]) == summary(
        tokens=80,
        finish="stop",
        elapsed_ms=2_000.0,
        first_token_ms=100.4,
        accepted=40,
        judged=50,
        drafted=69,
        passes=42,
        sent_bytes=1_000,
        received_bytes=1_100,
        modelled=True,
    )
    assert total([first, last]).acceptance == 0.8


def test_one_answer_in_total_is_that_answer():
    assert total([summary()]) == summary()
    assert total([alone(modelled=True)]) == alone(modelled=True)


def test_one_unverified_answer_makes_the_sum_unverified():
    assert not total([summary(), summary(verified=False), summary()]).verified
    assert total([summary(), summary()]).verified


def test_a_sum_with_something_that_was_not_measured_is_not_known():
    both = total([summary(), alone()])
    assert (both.accepted, both.judged, both.sent_bytes, both.received_bytes) == (None,) * 4
    assert both.tokens == 100
