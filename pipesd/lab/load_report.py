"""The page on many edges at one cloud in Markdown, and its picture. The same figures give the same bytes."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipesd.lab.load import System
from pipesd.lab.load_metrics import LoadFigures
from pipesd.lab.load_study import LoadComparison
from pipesd.lab.markdown import Lines, bullets, heading, image, paragraph, table
from pipesd.lab.plots import Curve, Panel, draw_panels
from pipesd.lab.run import BASIS

LOAD_PICTURE = "load.png"

_Measure = Callable[[LoadFigures], float]

_PANELS: Sequence[tuple[str, str, _Measure]] = (
    ("throughput", "tokens per s, all edges", lambda each: each.tokens_per_s),
    ("time per token, median prompt", "ms per token", lambda each: each.tpt_ms_p50),
    ("passes of the target", "passes per 100 tokens", lambda each: each.passes_per_100),
    ("energy, modelled", "J per 100 tokens", lambda each: each.energy_j_per_100),
)

_GAINS: Sequence[tuple[str, _Measure]] = (
    ("more tokens per s", lambda each: -each.tokens_per_s),
    ("less time per token (median prompt)", lambda each: each.tpt_ms_p50),
    ("fewer passes per 100 tokens", lambda each: each.passes_per_100),
    ("less of the target's time per token", lambda each: each.cloud_ms_per_100),
    ("less modelled energy per 100 tokens", lambda each: each.energy_j_per_100),
)
"""What pipesd may have over cloud-only; less is better."""


def load_report(comparison: LoadComparison, command: str) -> str:
    """The whole page; ``command`` is what writes it."""
    lines = [
        *_opening(comparison, command),
        *_gains(comparison),
        *image(LOAD_PICTURE, "Throughput, time per token, passes and modelled energy by number of edges"),
        *_scaling(comparison),
        *_figures(comparison),
    ]
    return "\n".join(lines).rstrip() + "\n"


def draw_load(comparison: LoadComparison, path: Path) -> None:
    """The picture. Raises ``UsageError`` as ``plots.picture`` does."""
    panels = [
        Panel(title=title, x="edges", y=y, curves=_curves(comparison, measure), x_is_log=True)
        for title, y, measure in _PANELS
    ]
    draw_panels(panels, path, columns=2, note=BASIS)


def _curves(comparison: LoadComparison, measure: _Measure) -> list[Curve]:
    return [
        Curve(system, [(each.edges, measure(each)) for each in comparison.of(system)])
        for system in comparison.study.systems
    ]


# -- parts of the page --------------------------------------------------------------------------------------


def _opening(comparison: LoadComparison, command: str) -> Lines:
    load = comparison.study.load
    first = comparison.of("batched")[0]
    users = (
        f"An edge's next prompt comes {load.think_s:g} s after its answer, on average"
        if load.arrivals == "closed" and load.think_s
        else "An edge's next prompt comes with the end of its answer"
        if load.arrivals == "closed"
        else f"Prompts come by Poisson, {load.rate:g} per s on all edges together"
    )
    return [
        *heading("Many edges on one cloud, replayed and modelled", 1),
        *paragraph(
            f"All figures are *{BASIS}*; see [the report](report.md) for what that means. `{command}` writes",
            "this page again, to the byte.",
        ),
        *paragraph(
            f"Each edge of {load.scenario.name} plays all prompts ({first.prompts}), from another one on, in",
            "a session each, over a link and with a draft model of its own; gateway and verifier are those",
            f"of the daemon, and the model's cache has a place for each. {users}. No two edges share a",
            "prompt, so none is copied in the cache.",
        ),
        *bullets(
            (
                "*batched* is pipesd: what is due of all sessions shares passes;",
                "*one-lock* is the same with one session to a pass;",
                "*cloud-only* lets the target write the same sessions by itself, batched in the same way.",
            )
        ),
        *paragraph(
            "Alone means: the same edge with the same prompts and the cloud to itself. Time per token (TPT)",
            "counts from a prompt to its last token. Jain's index is taken over each edge's TPT over its TPT",
            "alone.",
            f"Energy is {first.energy_is}, per 100 confirmed tokens.",
        ),
    ]


def _gains(comparison: LoadComparison) -> Lines:
    """Where pipesd is ahead of the target by itself, and where that ends."""
    ours, theirs = comparison.of("batched"), comparison.of("cloud-only")
    said = []
    for what, measure in _GAINS:
        ahead = [measure(one) < measure(other) for one, other in zip(ours, theirs, strict=True)]
        said.append(f"{what}: {_where(ahead, comparison.study.edges)}")
    return [*heading("Where the gain over cloud-only ends"), *_pace(comparison), *bullets(said)]


def _pace(comparison: LoadComparison) -> Lines:
    """Why an edge that drafts may be slower than the target by itself."""
    scenario = comparison.study.load.scenario
    pass_ms = scenario.pass_ms + scenario.pass_token_ms
    if scenario.phases or scenario.draft_ms <= pass_ms:
        return []
    return paragraph(
        f"A draft step takes {scenario.draft_ms:g} ms here, and a pass over one token {pass_ms:g} ms. An",
        "edge that drafts writes no faster than it guesses; the target by itself does, while it is not",
        "busy. What pipesd can save here is the target's work.",
    )


def _where(ahead: Sequence[bool], edges: Sequence[int]) -> str:
    yes = [number for number, is_ahead in zip(edges, ahead, strict=True) if is_ahead]
    no = [number for number in edges if number not in yes]
    if not no:
        return "at every load that was played"
    if not yes:
        return "**at no load that was played**"
    return f"at {_numbers(yes)}, **not at {_numbers(no)}**"


def _numbers(edges: Sequence[int]) -> str:
    *rest, last = map(str, edges)
    listed = f"{', '.join(rest)} and {last}" if rest else last
    return f"{listed} edge{'s' * (edges != [1])}"


def _scaling(comparison: LoadComparison) -> Lines:
    single = {system: comparison.of(system)[0] for system in comparison.study.systems}
    rows = [
        (
            str(ours.edges),
            f"{ours.tokens_per_s / single['batched'].tokens_per_s:.1f}",
            f"{ours.tokens_per_s / lock.tokens_per_s:.2f}",
            f"{ours.tokens_per_s / alone.tokens_per_s:.2f}",
            f"{alone.passes_per_100 / ours.passes_per_100:.2f}",
            f"{alone.cloud_ms_per_100 / ours.cloud_ms_per_100:.2f}",
            f"{alone.energy_j_per_100 / ours.energy_j_per_100:.2f}",
        )
        for ours, lock, alone in zip(*map(comparison.of, _ORDER), strict=True)
    ]
    head = (
        "edges",
        f"tokens per s over {_numbers([single['batched'].edges])}",
        "over one-lock",
        "over cloud-only",
        "cloud-only's passes over ours",
        "its target's time over ours",
        "its energy over ours",
    )
    return [*heading("Batched pipesd against the others"), *table(head, rows, words=0)]


_ORDER: tuple[System, System, System] = ("batched", "one-lock", "cloud-only")


def _figures(comparison: LoadComparison) -> Lines:
    rows = [_row(each) for system in comparison.study.systems for each in comparison.of(system)]
    head = (
        "system",
        "edges",
        "tokens per s",
        "Jain",
        "TPT p50, ms",
        "p95",
        "over alone, p95",
        "first token p95, ms",
        "passes per 100",
        "tokens per pass",
        "target's ms per 100",
        "busy",
        "J per 100",
    )
    return [*heading("All figures"), *table(head, rows)]


def _row(each: LoadFigures) -> Sequence[str]:
    return (
        each.system,
        str(each.edges),
        f"{each.tokens_per_s:.1f}",
        "" if each.jain is None else f"{each.jain:.4f}",
        f"{each.tpt_ms_p50:.1f}",
        f"{each.tpt_ms_p95:.1f}",
        "" if each.slowdown_p95 is None else f"{each.slowdown_p95:.2f}",
        f"{each.ttft_ms_p95:.0f}",
        f"{each.passes_per_100:.1f}",
        f"{each.tokens_per_pass:.1f}",
        f"{each.cloud_ms_per_100:.0f}",
        f"{each.busy_share:.0%}",
        f"{each.energy_j_per_100:.0f}",
    )
