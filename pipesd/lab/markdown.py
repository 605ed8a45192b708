"""How the report writes paragraphs, tables and figures in Markdown.

Decimals are fixed, so that the same figures give the same bytes. What speaks against pipesd is bold.
"""

from collections.abc import Iterable, Sequence

from pipesd.lab.metrics import Figures

Lines = list[str]


def heading(text: str, depth: int = 2) -> Lines:
    """A heading."""
    return [f"{'#' * depth} {text}", ""]


def paragraph(*sentences: str) -> Lines:
    """Some sentences on one line: a line that breaks might begin with what Markdown takes for a list."""
    return [" ".join(sentences), ""]


def bullets(items: Iterable[str]) -> Lines:
    """A list."""
    return [*(f"* {item}" for item in items), ""]


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, words: int = 1) -> Lines:
    """A table, whose first columns hold so many ``words`` and whose others hold figures."""
    rule = ["---"] * words + ["--:"] * (len(head) - words)
    return [*(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows)), ""]


def image(name: str, what: str) -> Lines:
    """A picture beside the report."""
    return [f"![{what}]({name})", ""]


# -- figures ------------------------------------------------------------------------------------------------


def speed(figures: Figures) -> str:
    """TPT, and passes in brackets."""
    return f"{figures.tpt_ms:.1f} ({figures.passes_per_100:.1f})"


def ratio(value: float) -> str:
    """What pipesd takes over what something else takes; bold above 1, as far as it shows."""
    return f"**{value:.3f}**" if is_more(value) else f"{value:.3f}"


def is_more(ratio: float) -> bool:
    """Whether it is above 1, as far as three decimals show."""
    return round(ratio, 3) > 1


def times(value: float) -> str:
    """How many times as fast pipesd is; bold below 1, as far as it shows."""
    return f"**{value:.2f}**" if round(value, 2) < 1 else f"{value:.2f}"


def less(before: float, after: float) -> str:
    """The share by which it became less; bold if it became more."""
    share = round(100 * (1 - after / before), 1) + 0.0  # not minus zero
    return f"**{share:.1f} %**" if share < 0 else f"{share:.1f} %"


def thresholds(figures: Figures) -> str:
    """What was set against the policy."""
    return " / ".join(f"{value}" for _, value in figures.setting.changed)


def values(numbers: Iterable[float]) -> str:
    """All of them."""
    return ", ".join(f"{number:g}" for number in numbers)
