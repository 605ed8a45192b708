import pytest

from pipesd.summary import Summary


def summary(**changes: object) -> Summary:
    figures: dict[str, object] = {
        "tokens": 50,
        "finish": "length",
        "elapsed_ms": 1_500.0,
        "first_token_ms": 120.4,
        "acceptance": 0.8125,
        "draft_share": 0.7,
        "passes": 13,
        "sent_bytes": 700,
        "received_bytes": 1_001,
        **changes,
    }
    return Summary(**figures)  # type: ignore[arg-type]


def test_the_line_says_it_all():
    assert summary().line() == (
        "50 tokens (length), 30.0 ms per token, first after 120 ms, acceptance 81.2%, "
        "26.0 passes per 100 tokens, 1400 bytes up and 2002 down per 100 tokens"
    )


def test_the_line_leaves_out_what_was_not_measured():
    line = summary(acceptance=None, draft_share=None, sent_bytes=None, received_bytes=None).line()
    assert line == "50 tokens (length), 30.0 ms per token, first after 120 ms, 26.0 passes per 100 tokens"


@pytest.mark.parametrize("half", [{"sent_bytes": None}, {"received_bytes": None}])
def test_one_direction_alone_is_no_figure(half: dict[str, object]):
    assert "bytes" not in summary(**half).line()


def test_an_acceptance_of_nothing_is_a_figure():
    assert "acceptance 0.0%" in summary(acceptance=0.0).line()


def test_modelled_figures_say_so():
    assert summary(modelled=True).line().endswith(" (modelled)")
    assert "modelled" not in summary().line()


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
        "acceptance": 0.8125,
        "draft_share": 0.7,
        "drafted": None,
        "passes": 13,
        "sent_bytes": 700,
        "received_bytes": 1_001,
        "modelled": False,
        "ms_per_token": 30.0,
        "passes_per_100": 26.0,
        "sent_bytes_per_100": 1_400.0,
        "received_bytes_per_100": 2_002.0,
    }


def test_figures_that_were_not_measured_stay_none():
    figures = summary(sent_bytes=None, received_bytes=None, acceptance=None).figures()
    assert [figures[name] for name in ("acceptance", "sent_bytes_per_100", "received_bytes_per_100")] == [
        None
    ] * 3
