"""The report in Markdown: tables of what was played, beside what PipeSD's paper reports.

Whatever it says about figures is computed from them; the same figures give the same bytes.
"""

from collections.abc import Sequence
from itertools import product
from statistics import geometric_mean

from pipesd.engines.traces import agreement
from pipesd.lab import plots
from pipesd.lab.findings import findings
from pipesd.lab.markdown import (
    Lines,
    heading,
    image,
    less,
    paragraph,
    ratio,
    speed,
    table,
    thresholds,
    times,
    values,
)
from pipesd.lab.metrics import BUSY_W
from pipesd.lab.paper import (
    BASELINES,
    CODE,
    PASSES_SHARE,
    POLICIES,
    RIVALS,
    WIRES,
    Results,
    Sweep,
    trace_named,
)
from pipesd.lab.published import DATASETS, ENERGY_LESS, FIGURE_5, SCHEDULING, TABLE_1, TABLE_6
from pipesd.lab.run import BASIS
from pipesd.lab.scenarios import SCENARIOS, Scenario
from pipesd.lab.wires import DISTRIBUTION_BYTES, DISTRIBUTION_MESSAGE_S
from pipesd.planner.policies import ABLATIONS

DRAWN = (("vanilla", "ids"), ("pipesd", "ids"), ("pipesd", "full-distribution"))
"""The policies and wires that are drawn as a timeline."""

_S1 = SCENARIOS["s1"]


def report(results: Results) -> str:
    """The whole page."""
    parts = (_opening, _played, _time, _never_slower, _pace, _energy, _wire, _ablations, _bandwidth)
    lines = [line for part in (*parts, _sweeps, _timelines, findings) for line in part(results)]
    return "\n".join(lines).rstrip() + "\n"


def timeline_name(policy: str, wire: str) -> str:
    """The name of the picture of a timeline."""
    return f"timeline-{policy}-{wire}.png"


# -- what is played -----------------------------------------------------------------------------------------


def _opening(results: Results) -> Lines:
    grid = results.grid
    options = f"--seed {grid.seed}" + " --quick" * (grid.prompts_max is not None)
    lines = [
        *heading("PipeSD's experiments, replayed and modelled", 1),
        *paragraph(
            f"All figures are *{BASIS}*: texts, guesses and confidences are those of recorded real models;",
            "machines and links are models, given below; sessions, frames and decisions are pipesd's own,",
            "in virtual time. Every text was found to be the target's own, or there would be no report.",
        ),
        *paragraph(
            f"`pipesd-lab paper {options}` writes this page again, to the byte; its pictures too, with the",
            "same matplotlib. The seed is that of the link's luck; only s4 has any.",
        ),
    ]
    if grid.prompts_max is not None:
        few = f"only the first {grid.prompts_max} prompts of each trace were played (`--quick`)."
        lines += paragraph("**This is a look, not a result:**", few)
    if missing := [name for name in grid.traces if name not in grid.here]:
        lines += paragraph(f"Traces that are not there: {', '.join(missing)}.")
    return lines


def _played(results: Results) -> Lines:
    rows = []
    for name in results.grid.here:
        trace = trace_named(name, results.grid.prompts_max)
        tokens = sum(len(prompt.target) for prompt in trace.prompts)
        counts = (f"{len(trace.prompts)}", f"{tokens}", f"{agreement(trace.prompts):.1%}")
        rows.append((name, trace.header.draft, trace.header.target, *counts))
    heads = ("draft step, ms", "uplink, Mbit/s", "downlink, Mbit/s", "each way, ms", "pass of n tokens, ms")
    return [
        *heading("What is played"),
        *table(("trace", "draft", "target", "prompts", "tokens", "agreement"), rows, words=3),
        *table(("scenario", *heads), map(_machine, results.grid.places)),
        *paragraph(
            "*TPT* is the time from each prompt to its last token, per token. *Passes* are the target's,",
            f"per 100 tokens, those that read prompts included. *Energy* is {BUSY_W:g} W while the target",
            "works, per 100 tokens; a machine that waits counts nothing.",
        ),
        *paragraph(
            "The baselines are the same runtime with other data, at the paper's settings. For code: a",
            "verdict after 6 drafts (vanilla), at a confidence of 0.99 or less (hsl), at a joint",
            "confidence that starts at 0.92 (edgellm); for mathematics, and here for chat as well: 4, 0.7",
            "and 0.5. `edgellm` moves its threshold with every verdict, `edgellm-full` only with rounds",
            "that were accepted as a whole. *Best baseline*: the fastest of vanilla, hsl and edgellm.",
        ),
        *paragraph(
            "A *ratio* is what pipesd takes over what another takes: below 1 pipesd is the better one.",
            "What speaks against pipesd is **bold**.",
        ),
    ]


def _machine(scenario: Scenario) -> Sequence[str]:
    def rate(fixed: float, drawn: tuple[float, float] | None) -> str:
        return " to ".join(f"{each / 1e6:g}" for each in drawn or (fixed,))

    return (
        scenario.name,
        f"{scenario.draft_ms:g}",
        rate(scenario.up_bits_per_s, scenario.up_range_bits_per_s),
        rate(scenario.down_bits_per_s, scenario.down_range_bits_per_s),
        f"{scenario.delay_ms:g} + {scenario.alpha_ms:g}",
        f"{scenario.pass_ms:g} + {scenario.pass_token_ms:g} n",
    )


# -- token ids on the wire ----------------------------------------------------------------------------------


def _time(results: Results) -> Lines:
    grid = results.grid
    rows, gains = [], []
    for trace, scenario in product(grid.here, grid.places):
        cells = (speed(results.of(trace, scenario, policy)) for policy in POLICIES)
        rows.append((trace, scenario.name, *cells, ratio(results.ratio(trace, scenario))))
        if results.speedup(trace, scenario, "cloud-only") > 1:
            gains.append(f"{trace} in {scenario.name}")
    return [
        *heading("1. Time per token"),
        *paragraph(
            "TPT in ms, passes in brackets, token ids on the wire. The ratio is that to the best baseline.",
        ),
        *table(("trace", "scenario", *POLICIES, "ratio"), rows, words=2),
        *paragraph(
            f"pipesd is faster than the target alone (cloud-only) here: {'; '.join(gains) or 'nowhere'}.",
            "In all other rows the target alone is at least as fast, and pipesd saves passes only.",
        ),
        *image(plots.BARS, "time per token by trace, scenario and policy"),
        *_beside_table_1(results),
    ]


def _beside_table_1(results: Results) -> Lines:
    pairs = results.grid.compared
    columns = tuple(product(RIVALS, (*WIRES, "paper")))

    def speedup(pair: tuple[str, str], rival: str, source: str) -> float:
        name, trace = pair
        if source == "paper":
            return TABLE_1.values[pair][rival] / TABLE_1.values[pair]["pipesd"]
        return results.speedup(trace, SCENARIOS[name], rival, wire=source)

    rows = [
        (*pair, DATASETS[pair[1]], *(times(speedup(pair, *column)) for column in columns)) for pair in pairs
    ]
    if pairs:
        means = (geometric_mean([speedup(pair, *column) for pair in pairs]) for column in columns)
        rows.append(("all", "geometric mean", "", *map(times, means)))
    heads = (f"{rival}, {source}" for rival, source in columns)
    return [
        *heading("Beside the paper's Table 1", 3),
        *paragraph(
            "How many times as fast as a baseline pipesd is: with ids on the wire, with full",
            "distributions, which is the paper's regime, and in the paper. The paper's absolute times are",
            f"of other models, machines and links, so only ratios are compared. Source: {TABLE_1.citation}.",
            "In brackets behind a source: *paper*, read in the paper or on an official page of it;",
            "*project*, in a file of a project that reproduces it; *account*, in what others wrote about",
            "it.",
        ),
        *table(("scenario", "trace", "paper's data", *heads), rows, words=3),
    ]


def _never_slower(results: Results) -> Lines:
    grid = results.grid
    rows, ratios, tuned_ratios = [], [], []
    for trace, scenario in product(grid.studied, grid.places):
        best, ours = results.best(trace, scenario), results.of(trace, scenario, "pipesd")
        ratios.append(ours.tpt_ms / best.tpt_ms)
        other = 1 / results.speedup(trace, scenario, "edgellm-full")
        cells = [f"{best.setting.policy} {speed(best)}", speed(ours), ratio(ratios[-1]), ratio(other)]
        if found := results.fastest(trace, scenario, PASSES_SHARE * best.passes_per_100):
            tuned_ratios.append(found.tpt_ms / best.tpt_ms)
            cells += [thresholds(found), speed(found), ratio(tuned_ratios[-1])]
        else:
            cells += ["**none**", "", ""]
        rows.append((trace, scenario.name, *cells))
    mean, tuned_mean = (ratio(geometric_mean(each)) if each else "" for each in (ratios, tuned_ratios))
    rows.append(("all", "geometric mean", "", "", mean, "", "", "", tuned_mean))
    ours_heads = ("pipesd, default rules", "ratio", "ratio to edgellm-full")
    tuned_heads = ("r1 / r2 / upper_tokens", "pipesd, these", "ratio")
    pictures = [image(plots.passes_name(each), f"time over passes, {each}") for each in grid.studied]
    return [
        *heading("2. Never slower"),
        *paragraph(
            "TPT in ms, passes in brackets: pipesd by its default rules; and with those thresholds of a",
            f"grid that are fastest with no more than {PASSES_SHARE:.2f} times the best baseline's passes.",
            f"The grid: r1 {values(grid.r1)}; r2 {values(grid.r2)}; upper_tokens",
            f"{values(grid.upper_tokens)}.",
        ),
        *table(("trace", "scenario", "best baseline", *ours_heads, *tuned_heads), rows, words=2),
        *paragraph("The curves join those thresholds than which no others are as fast with as few passes."),
        *(line for picture in pictures for line in picture),
    ]


def _pace(results: Results) -> Lines:
    rows = []
    for trace in results.grid.here:
        found = [results.of(trace, _S1, policy) for policy in POLICIES]
        cells = (f"{each.tpt_ms / each.draft_pace_ms:.2f} ({each.passes_per_100:.1f})" for each in found)
        rows.append((trace, f"{found[0].draft_pace_ms:.1f}", *cells))
    return [
        *heading("3. Beside the draft's own pace"),
        *paragraph(
            "TPT over the pace of a drafter that is never held up, passes in brackets; s1. At that pace a",
            "right draft costs a step, and a wrong one the way to a verdict and back: a yardstick, not a",
            "bound.",
        ),
        *table(("trace", "pace, ms", *POLICIES), rows),
    ]


def _energy(results: Results) -> Lines:
    grid = results.grid
    rows = []
    for trace, scenario, policy in product(grid.studied, grid.places, BASELINES):
        theirs, ours = results.of(trace, scenario, policy), results.of(trace, scenario, "pipesd")
        before = theirs.energy_j_per_100
        cells = ["**none**", "", ""]
        if found := results.thriftiest(trace, scenario, theirs.tpt_ms):
            after = found.energy_j_per_100
            cells = [thresholds(found), f"{after:.0f}", less(before, after)]
        cells += [f"{ours.energy_j_per_100:.0f}", less(before, ours.energy_j_per_100)]
        rows.append((trace, scenario.name, policy, f"{before:.0f}", *cells))
    low, high = (f"{100 * share:.1f}" for share in ENERGY_LESS.values)
    heads = ("J", "r1 / r2 / upper_tokens", "pipesd, these, J", "less", "pipesd, default rules, J", "less")
    return [
        *heading("4. Energy"),
        *paragraph(
            "Of the target's machine, modelled, J per 100 tokens: the baseline's; that of pipesd with",
            "those thresholds of the grid that take least and are at least as fast as this baseline; and",
            f"that of its default rules, which aim at time. The paper saves {low} to {high} %. Source:",
            f"{ENERGY_LESS.citation}.",
        ),
        *table(("trace", "scenario", "baseline", *heads), rows, words=3),
    ]


# -- full distributions -------------------------------------------------------------------------------------


def _wire(results: Results) -> Lines:
    rows = []
    for trace, policy in product(results.grid.studied, POLICIES):
        ids, full = (results.of(trace, _S1, policy, wire=wire) for wire in WIRES)
        bytes_up = (f"{each.uplink_bytes_per_token:.0f}" for each in (ids, full))
        rows.append((trace, policy, speed(ids), speed(full), f"{full.tpt_ms / ids.tpt_ms:.2f}", *bytes_up))
    heads = ("ids", "full distributions", "factor", "bytes up a token, ids", "full distributions")
    return [
        *heading("5. Full distributions on the wire"),
        *paragraph(
            f"The regime of the paper: a draft token takes {DISTRIBUTION_BYTES} bytes upward, and a message",
            f"occupies the uplink for {1e3 * DISTRIBUTION_MESSAGE_S:g} ms besides its bytes. The same",
            "policies in s1: TPT in ms, passes in brackets. The factor is what ids gain, the policy being",
            "the same.",
        ),
        *table(("trace", "policy", *heads), rows, words=2),
    ]


def _ablations(results: Results) -> Lines:
    studied = results.grid.studied
    columns = tuple(product(studied, WIRES))
    rows = []
    for policy in ("pipesd", *ABLATIONS, "vanilla"):
        found = (results.speedup(trace, _S1, policy, wire=wire) for trace, wire in columns)
        passes = (f"{results.of(trace, _S1, policy).passes_per_100:.1f}" for trace in studied)
        paper = TABLE_6.values.get(policy)
        cell = times(paper / TABLE_6.values["pipesd"]) if paper else ""
        rows.append((policy, *map(times, found), cell, *passes))
    heads = (f"{trace}, {wire}" for trace, wire in columns)
    low, high = SCHEDULING.values
    return [
        *heading("Parts left out, or done otherwise", 3),
        *paragraph(
            "TPT in s1 over that of the whole pipesd by its default rules: above 1 the part is worth",
            f"having. Passes are those with ids. Source: {TABLE_6.citation}, HumanEval. In",
            f"{SCHEDULING.where} planned batches are {low:.2f} to {high:.2f} times as fast as greedy and",
            f"immediate ones ({SCHEDULING.source}).",
        ),
        *table(("policy", *heads, "paper", *(f"passes, {trace}" for trace in studied)), rows),
    ]


def _bandwidth(results: Results) -> Lines:
    sweep = results.grid.bandwidth
    rows = []
    for mbps, wire in product(sweep.at, WIRES):
        scenario = sweep.place(mbps)[0]
        ours = results.of(CODE, scenario, "pipesd", wire=wire).tpt_ms
        cells = [times(results.speedup(CODE, scenario, policy, wire=wire)) for policy in BASELINES]
        published = FIGURE_5.values.get(mbps, {})
        cells += [times(published[rival]) if published else "" for rival in RIVALS]
        rows.append((f"{mbps:g}", wire, f"{ours:.1f}", *cells))
    heads = (*BASELINES, *(f"{rival}, paper" for rival in RIVALS))
    return [
        *heading("Bandwidth", 3),
        *paragraph(
            f"{CODE} in s1 with other uplinks: TPT of pipesd in ms, and how many times as fast as a",
            f"baseline it is. Source: {FIGURE_5.citation}.",
        ),
        *table(("uplink, Mbit/s", "wire", "pipesd", *heads), rows, words=2),
        *image(plots.BANDWIDTHS, "time per token over bandwidth, both wires"),
    ]


# -- one thing at a time ------------------------------------------------------------------------------------


def _sweeps(results: Results) -> Lines:
    pace_ms = _S1.pass_ms + _S1.pass_token_ms
    tables = [_swept(results, sweep) for sweep in results.grid.sweeps]
    return [
        *heading("6. One thing at a time"),
        *paragraph(
            "s1 with one thing varied: TPT in ms of the target alone, of the best baseline and of pipesd,",
            "whose ratio is that to the best baseline. The target alone streams its text at a pace of v0 +",
            f"v1 a token, {pace_ms:g} ms in s1, however far it is. Prompts are made longer by repeating",
            "themselves in front, and shorter by losing their beginning.",
        ),
        *(line for each in tables for line in each),
        *image(plots.SWEEPS, "time per token over round trip, prompt length, draft step and pass"),
    ]


def _swept(results: Results, sweep: Sweep) -> Lines:
    studied = results.grid.studied
    behind: dict[str, list[float]] = {trace: [] for trace in studied}
    rows = []
    for value in sweep.at:
        scenario, tokens = sweep.place(value)
        cells = []
        for trace in studied:
            best = results.best(trace, scenario, prompt_tokens=tokens)
            alone, ours = (
                results.of(trace, scenario, policy, prompt_tokens=tokens)
                for policy in ("cloud-only", "pipesd")
            )
            cells += [f"{each.tpt_ms:.1f}" for each in (alone, best, ours)]
            cells += [ratio(ours.tpt_ms / other.tpt_ms) for other in (best, alone)]
            if alone.tpt_ms < ours.tpt_ms:
                behind[trace].append(value)
        rows.append((f"{value:g}", *cells))
    columns = ("target alone", "best baseline", "pipesd", "ratio", "ratio to the target alone")
    heads = (f"{trace}: {name}" if name == columns[0] else name for trace in studied for name in columns)
    where = "; ".join(f"{trace} at {values(at) or 'none of these'}" for trace, at in behind.items())
    return [
        *table((sweep.axis, *heads), rows),
        *paragraph(f"The target alone is faster than pipesd, {sweep.axis}: {where}."),
    ]


def _timelines(results: Results) -> Lines:
    lines = [
        *heading("7. Who works when"),
        *paragraph(
            f"The answer to {results.grid.drawn} in s1, through the production actors in virtual time.",
            "Numbers are positions of drafts, tokens of messages and passes, and new tokens of verdicts.",
        ),
    ]
    for policy, wire in DRAWN:
        name = timeline_name(policy, wire)
        lines += [*paragraph(f"{policy}, wire {wire}:"), *image(name, f"timeline, {policy}, {wire}")]
    return lines
