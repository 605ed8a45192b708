"""The last part of the report: where pipesd gains nothing or loses, how the paper differs, what is left open.

Every case in which it loses is counted, found in the figures and not by hand.
"""

from itertools import product
from statistics import geometric_mean

from pipesd.lab.markdown import Lines, bullets, heading, is_more, paragraph
from pipesd.lab.paper import BASELINES, CODE, PASSES_SHARE, RIVALS, WIRES, Results
from pipesd.lab.published import ENERGY_LESS, SCHEDULING, TABLE_1
from pipesd.lab.scenarios import SCENARIOS
from pipesd.planner.policies import ABLATIONS

_S1 = SCENARIOS["s1"]

_LEFT_OPEN = (
    (
        "**The machines are modelled.** A draft step always takes the same time, a pass v0 + v1 a token,",
        "however long the text is. No accelerator, radio or battery was measured. Energy is a constant",
        "power while the target works; what waits, the edge and the link count nothing. It tells which",
        "policy keeps the target busy, and no more.",
    ),
    (
        "**The models are small**, not the paper's pairs (1.3B and 6.7B, 1.1B and 7B), and were recorded",
        "on a processor, without sampling: two drafts of one target and a few dozen prompts. The problems",
        "in mathematics are not GSM8K's.",
    ),
    (
        "**The baselines are the same runtime with other data.** They bear none of the overhead that the",
        "paper's implementations of them may have had, and have all that makes pipesd quick: one stream,",
        "small frames, aborted steps.",
    ),
    (
        "**One text at a time**, on a link that loses nothing and never breaks. What many edges do to one",
        "cloud is not played here: nothing stands beside the paper's Tables 5 and 7 and its Appendix I. The",
        "tuner that looks for thresholds while a text is written has a page of its own, tuning.md.",
    ),
    (
        "**Thresholds of the grid are chosen in hindsight**, for the very prompts that they are measured",
        "with. They show what there is to gain; what a user gets without tuning is what the default rules",
        "give.",
    ),
    ("**The paper was read through others** for the most part, as is said beside its figures.",),
)

_NAMED_MAX = 12
_NOTHING = 0.005

Losses = list[tuple[str, float]]
"""(case, how many times as much pipesd takes)."""


def findings(results: Results) -> Lines:
    """Section 8, in lines."""
    parts = (_time, _target_alone, _tuned, _energy, _full_distributions, _parts, _swept)
    return [
        *heading("8. What this shows and what it does not"),
        *heading("Where pipesd gains nothing or loses", 3),
        *paragraph("In brackets how many times as much pipesd takes."),
        *bullets(line for part in parts for line in part(results)),
        *heading("Beside the paper", 3),
        *bullets(_beside_the_paper(results)),
        *heading("What it does not show", 3),
        *bullets(" ".join(lines) for lines in _LEFT_OPEN),
    ]


def _if_more(case: str, ratio: float) -> Losses:
    """The case, if it counts: as far as three decimals show."""
    return [(case, ratio)] if is_more(ratio) else []


def _counted(what: str, losses: Losses, total: int) -> str:
    """How many, and which: all, or the worst of many."""
    worst = sorted(losses, key=lambda loss: -loss[1])
    named = [f"{case} ({ratio:.3f})" for case, ratio in worst[:_NAMED_MAX]]
    if len(worst) > _NAMED_MAX:
        named = [f"most in {named[0]}", f"least in {worst[-1][0]} ({worst[-1][1]:.3f})"]
    return f"{what}: {len(losses)} of {total}{': ' * bool(named)}{'; '.join(named)}."


# -- where it loses -----------------------------------------------------------------------------------------


def _time(results: Results) -> list[str]:
    grid = results.grid
    slower, behind_full, busier = Losses(), Losses(), Losses()
    for trace, scenario in product(grid.here, grid.places):
        case = f"{trace} in {scenario.name}"
        ours, best = results.of(trace, scenario, "pipesd"), results.best(trace, scenario)
        slower += _if_more(case, results.ratio(trace, scenario))
        behind_full += _if_more(case, 1 / results.speedup(trace, scenario, "edgellm-full"))
        busier += _if_more(case, ours.passes_per_100 / best.passes_per_100)
    total = len(grid.here) * len(grid.places)
    return [
        _counted("Default rules, time: slower than the best baseline (section 1)", slower, total),
        _counted("Default rules, time: slower than edgellm-full", behind_full, total),
        _counted("Default rules, passes: more than the best baseline", busier, total),
    ]


def _target_alone(results: Results) -> list[str]:
    grid = results.grid
    slower = Losses()
    energy = {"cloud-only": list[float](), "pipesd": list[float]()}
    for trace, scenario in product(grid.here, grid.places):
        ratio = 1 / results.speedup(trace, scenario, "cloud-only")
        slower += _if_more(f"{trace} in {scenario.name}", ratio)
        for policy, found in energy.items():
            found.append(results.of(trace, scenario, policy).energy_j_per_100)
    alone, ours = (f"{min(found):.0f} to {max(found):.0f} J" for found in energy.values())
    what = "Default rules, time: slower than the target alone (section 1)"
    counted = _counted(what, slower, len(grid.here) * len(grid.places))
    return [f"{counted} Its energy is {alone} per 100 tokens, that of pipesd {ours}."]


def _tuned(results: Results) -> list[str]:
    grid = results.grid
    slower, without = Losses(), []
    for trace, scenario in product(grid.studied, grid.places):
        case, best = f"{trace} in {scenario.name}", results.best(trace, scenario)
        found = results.fastest(trace, scenario, PASSES_SHARE * best.passes_per_100)
        if found is None:
            without.append(case)
        else:
            slower += _if_more(case, found.tpt_ms / best.tpt_ms)
    total = len(grid.studied) * len(grid.places)
    limit = f"with at most {PASSES_SHARE:.2f} times its passes"
    lines = [_counted(f"Thresholds of the grid, time: slower than the best baseline {limit}", slower, total)]
    return lines + [f"No thresholds of the grid {limit}: {'; '.join(without)}."] * bool(without)


def _energy(results: Results) -> list[str]:
    grid = results.grid
    lowest, highest = ENERGY_LESS.values
    without, dearer, by_default, below, within, above = [], Losses(), Losses(), 0, 0, 0
    for trace, scenario, policy in product(grid.studied, grid.places, BASELINES):
        case, theirs = f"{trace} in {scenario.name}, {policy}", results.of(trace, scenario, policy)
        ours = results.of(trace, scenario, "pipesd").energy_j_per_100
        by_default += _if_more(case, ours / theirs.energy_j_per_100)
        found = results.thriftiest(trace, scenario, theirs.tpt_ms)
        if found is None:
            without.append(case)
            continue
        share = found.energy_j_per_100 / theirs.energy_j_per_100
        dearer += _if_more(case, share)
        saved = round(1 - share, 3)
        below += saved < lowest
        within += lowest <= saved <= highest
        above += saved > highest
    total = len(grid.studied) * len(grid.places) * len(BASELINES)
    paper = f"{100 * lowest:.1f} to {100 * highest:.1f} %"
    savings = f"in {below} of {total}, as much in {within}, more in {above}"
    lines = [
        _counted("Default rules, energy: more than a baseline", by_default, total),
        _counted("Thresholds of the grid, energy: more than a baseline that is no faster", dearer, total),
        f"Thresholds of the grid, energy: less than the paper's {paper} saved {savings}.",
    ]
    return lines + [f"No thresholds of the grid as fast as a baseline: {'; '.join(without)}."] * bool(without)


def _full_distributions(results: Results) -> list[str]:
    grid = results.grid
    places = dict.fromkeys((*((trace, "s1") for trace in grid.studied), *((b, a) for a, b in grid.compared)))
    slower = Losses()
    for (trace, name), policy in product(places, BASELINES):
        speedup = results.speedup(trace, SCENARIOS[name], policy, wire="full-distribution")
        slower += _if_more(f"{trace} in {name}, {policy}", 1 / speedup)
    what = "Default rules, time, full distributions on the wire: slower than a baseline"
    return [_counted(what, slower, len(places) * len(BASELINES))]


def _parts(results: Results) -> list[str]:
    studied = results.grid.studied
    useless, idle = Losses(), []
    for policy, trace, wire in product(ABLATIONS, studied, WIRES):
        case = f"{policy}, {trace}, {wire}"
        speedup = results.speedup(trace, _S1, policy, wire=wire)
        useless += _if_more(case, 1 / speedup)
        if abs(speedup - 1) < _NOTHING:
            idle.append(case)
    total = len(ABLATIONS) * len(studied) * len(WIRES)
    what = "Default rules in s1, time: slower than without one of its parts, or with it done otherwise"
    lines = [_counted(what, useless, total)]
    if idle:
        what = f"Parts that change nothing in s1 (less than {100 * _NOTHING:g} %)"
        lines.append(f"{what}: {len(idle)} of {total}: {'; '.join(idle)}.")
    return lines


def _swept(results: Results) -> list[str]:
    slower, behind_target, total = Losses(), Losses(), 0
    for sweep, trace in product(results.grid.sweeps, results.grid.studied):
        for value in sweep.at:
            case, total = f"{trace}, {sweep.axis} {value:g}", total + 1
            scenario, tokens = sweep.place(value)
            slower += _if_more(case, results.ratio(trace, scenario, prompt_tokens=tokens))
            target, ours = (
                results.of(trace, scenario, policy, prompt_tokens=tokens).tpt_ms
                for policy in ("cloud-only", "pipesd")
            )
            behind_target += _if_more(case, ours / target)
    return [
        _counted("One thing at a time, time: slower than the best baseline", slower, total),
        _counted("One thing at a time, time: slower than the target alone (section 6)", behind_target, total),
    ]


# -- beside the paper ---------------------------------------------------------------------------------------


def _beside_the_paper(results: Results) -> list[str]:
    pairs, published = results.grid.compared, TABLE_1.values
    lines = []
    for rival in RIVALS if pairs else ():
        ids, full = (
            geometric_mean(
                [results.speedup(trace, SCENARIOS[name], rival, wire=wire) for name, trace in pairs]
            )
            for wire in WIRES
        )
        paper = geometric_mean([published[pair][rival] / published[pair]["pipesd"] for pair in pairs])
        lines.append(
            f"pipesd is {ids:.2f} times as fast as {rival} with ids, {full:.2f} times with full "
            f"distributions and {paper:.2f} times in the paper (geometric means, section 1)."
        )
    others = (_order_of_baselines, _batches, _changing_link, _bandwidth)
    return [*lines, *(line for part in others if (line := part(results)))]


def _order_of_baselines(results: Results) -> str:
    def quicker(wire: str) -> int:
        """In how many cases edgellm is faster than hsl."""
        return sum(
            results.of(trace, SCENARIOS[name], "edgellm", wire=wire).tpt_ms
            < results.of(trace, SCENARIOS[name], "hsl", wire=wire).tpt_ms
            for name, trace in results.grid.compared
        )

    pairs = results.grid.compared
    paper = sum(TABLE_1.values[pair]["edgellm"] < TABLE_1.values[pair]["hsl"] for pair in pairs)
    ids, full = map(quicker, WIRES)
    return (
        f"Of {len(pairs)} cases edgellm is faster than hsl in {ids} with ids, in {full} with full "
        f"distributions and in {paper} in the paper."
    )


def _batches(results: Results) -> str:
    low, high = SCHEDULING.values
    wire = "full-distribution"
    others = ("pipesd-no-plan", "pipesd-immediate", "pipesd-work-conserving")
    found = (
        f"{results.speedup(trace, _S1, policy, wire=wire):.3f} times as fast as {policy} ({trace})"
        for policy, trace in product(others, results.grid.studied)
    )
    return (
        f"Planned batches, with full distributions in s1: {', '.join(found)}; in the paper {low:.2f} to "
        f"{high:.2f} times as fast as greedy and immediate ones."
    )


def _changing_link(results: Results) -> str:
    pairs = [(name, CODE) for name in ("s1", "s4")]
    if not all(pair in results.grid.compared for pair in pairs):
        return ""
    before, after = (TABLE_1.values[pair]["pipesd"] for pair in pairs)
    shares = [after / before]
    for wire in WIRES:
        before, after = (results.of(CODE, SCENARIOS[name], "pipesd", wire=wire).tpt_ms for name, _ in pairs)
        shares.append(after / before)
    paper, ids, full = shares
    with_wires = f"{ids:.2f} of itself with ids, {full:.2f} with full distributions"
    return f"From s1 to s4, {CODE}, pipesd's time goes to {with_wires} and {paper:.2f} in the paper."


def _bandwidth(results: Results) -> str:
    sweep = results.grid.bandwidth
    spans = []
    for wire in WIRES:
        found = [results.of(CODE, sweep.place(mbps)[0], "pipesd", wire=wire).tpt_ms for mbps in sweep.at]
        spans.append(f"from {found[0]:.1f} to {found[-1]:.1f} ms with {wire}")
    link = f"From {sweep.at[0]:g} to {sweep.at[-1]:g} Mbit/s, {CODE} in s1"
    return f"{link}, pipesd's time goes {' and '.join(spans)}."
