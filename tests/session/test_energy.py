import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipesd.session import commands, events
from pipesd.session.commands import FinishGeneration
from pipesd.session.energy import shared_uj, spent_j, useful_uj
from pipesd.session.rules import CloudRules
from pipesd.wire import frames
from tests.session.helpers import CloudTable, EdgeTable, draft, grant, prompt, verdict, wish

TOKENS = st.lists(st.integers(1, 5_000), min_size=1, max_size=64)


@given(st.floats(0.0, 1e5), TOKENS)
def test_shares_sum_to_the_pass_and_follow_the_tokens(energy_j: float, tokens: list[int]):
    shares = shared_uj(energy_j, tokens)
    whole = round(energy_j * 1e6)
    assert sum(shares) == whole
    assert all(
        abs(share * sum(tokens) - whole * count) < sum(tokens)
        for share, count in zip(shares, tokens, strict=True)
    )


@given(st.integers(0, 2**53), st.integers(0, 64), st.integers(0, 64))
def test_useful_work_is_part_of_all_work(energy_uj: int, accepted: int, judged: int):
    useful = useful_uj(energy_uj, accepted, judged)
    assert 0 <= useful <= energy_uj
    assert accepted < judged or useful == energy_uj


@pytest.mark.parametrize(
    ("accepted", "judged", "useful"), [(0, 0, 1000), (4, 4, 1000), (0, 3, 250), (1, 3, 500)]
)
def test_positions_of_rejected_drafts_are_of_no_use(accepted: int, judged: int, useful: int):
    assert useful_uj(1000, accepted, judged) == useful


@pytest.mark.parametrize(
    ("measured_j", "busy_watts", "joules"),
    [(3.0, None, 3.0), (3.0, 60.0, 3.0), (0.0, 60.0, 0.0), (None, 60.0, 30.0), (None, None, 0.0)],
)
def test_what_is_measured_comes_before_what_is_declared(
    measured_j: float | None, busy_watts: float | None, joules: float
):
    assert spent_j(measured_j, busy_watts, 0.5) == joules


# -- at the cloud ---------------------------------------------------------------------------------------


def verdicts(answer: list[commands.CloudCommand]) -> dict[int, frames.Verdict]:
    """By session."""
    told = [command.frame for command in answer if isinstance(command, commands.SendToPeer)]
    return {frame.session: frame for frame in told if isinstance(frame, frames.Verdict)}


def done(
    table: CloudTable, *picks: tuple[int, ...], energy_j: float | None = None, now: float = 0.0
) -> dict[int, frames.Verdict]:
    return verdicts(table.tell(events.PassDone(picks, energy_j), now))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.floats(0.0, 1e3))
def test_what_a_pass_took_is_what_its_sessions_are_told(lengths: list[int], energy_j: float):
    table = CloudTable(sessions=len(lengths))
    table.hears(prompt(1, 2, session=0))
    for session, length in enumerate(lengths[1:], start=1):
        table.hears(prompt(*range(1, 1 + length), session=session))
    (first,) = done(table, (11,), energy_j=energy_j).values()
    assert first.energy_uj == round(energy_j * 1e6)
    rest = done(table, *[(11,)] * (len(lengths) - 1), energy_j=energy_j) if lengths[1:] else {}
    assert sum(told.energy_uj for told in rest.values()) == (round(energy_j * 1e6) if rest else 0)
    assert len(rest) == len(lengths) - 1


def test_a_verdict_tells_of_every_pass_since_the_last():
    table = CloudTable(welcome=grant(chunk_tokens=2))
    table.hears(prompt(1, 2, 3))
    assert done(table, (), energy_j=2.0) == {}
    assert done(table, (11,), energy_j=1.0)[0].energy_uj == 3_000_000
    table.hears(draft(4, 12, 13, ask=6, epoch=1))
    answer = done(table, (12, 50, 51), energy_j=0.5)[0]
    assert (answer.accepted, answer.energy_uj) == (1, 500_000)


def test_what_is_not_measured_follows_from_the_declared_power_and_the_clock():
    table = CloudTable(CloudRules(busy_watts=60.0))
    table.hears(prompt(1, 2), now=1.0)
    assert done(table, (11,), now=1.25)[0].energy_uj == 15_000_000


def test_without_figures_nothing_is_told():
    table = CloudTable()
    table.hears(prompt(1, 2), now=1.0)
    assert done(table, (11,), now=1.25)[0].energy_uj == 0


@pytest.mark.parametrize("is_running", [True, False])
def test_an_answer_does_not_pay_for_one_that_was_given_up(is_running: bool):
    table = CloudTable(welcome=grant(chunk_tokens=2))
    table.hears(prompt(1, 2, 3, 4, 5))
    done(table, (), energy_j=2.0)
    if is_running:
        table.hears(prompt(6, epoch=2))
        assert done(table, (), energy_j=4.0) == {}
    else:
        table.hears(frames.Cancel(0, 2))
        assert done(table, (), energy_j=4.0) == {}
        table.hears(prompt(6, epoch=3))
    assert done(table, (11,), energy_j=1.0)[0].energy_uj == 1_000_000


# -- at the edge ----------------------------------------------------------------------------------------


def test_an_answer_sums_up_its_verdicts_and_splits_them():
    table = EdgeTable()
    table.tell(wish(1, 2, 3, most=3))
    for base, accepted, judged, energy_uj in ((3, 0, 0, 100), (4, 0, 3, 1001), (5, 0, 1, 50)):
        frame = verdict(base, accepted, base, finish="length" if base == 5 else None)
        answer = table.hears(msgspec.structs.replace(frame, judged=judged, energy_uj=energy_uj))
    (finished,) = [command for command in answer if isinstance(command, FinishGeneration)]
    assert (finished.stats.energy_uj, finished.stats.useful_uj) == (1151, 100 + 250 + 25)
