"""Attacks on a cloud, their outcome, and what an edge notes that writes beside them.

A cloud as users start it, with access tokens, and one edge write answer after answer, from 127.0.0.1;
strangers (``attacks_strangers.py``) come from 127.0.0.2. Each has a process of its own, engines are scripted
and sleep, and strangers run at the lowest priority: they are to take the cloud's time, not the machine's. A
second such cloud and edge, which nobody attacks, show what the machine does. Quiet and attacks alternate in
one run. Fails unless each attack ends as it must, the edge keeps its TPT, and the cloud's memory stays. Run
it as ``python -m benchmarks.attacks``, some five minutes; nothing else should run meanwhile.
"""

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import monotonic

import msgspec

from benchmarks.attacks_bench import Bench, Window, child, observed, said, tell
from benchmarks.attacks_scene import Order, Outcome
from benchmarks.attacks_strangers import ATTACKS, Attack
from pipesd.access import Limits
from pipesd.keys import LOCAL, make_pair
from pipesd.lab.markdown import bullets, heading, paragraph, table
from pipesd.launch import INTERRUPTED
from pipesd.tokens import create, revoke

WARM_UP_S, QUIET_S, ATTACK_S = 4.0, 6.0, 7.0
RATIO_MAX = 1.10
GROWTH_MB_MAX = 64.0
MB = 2**20
STRANGERS = (sys.executable, "-m", "benchmarks.attacks_strangers")
PAGE = Path(__file__).resolve().parent.parent / "docs" / "results" / "attacks.md"

LIMITED = {"narrow": Limits(sessions_max=4)}
INTRODUCTION = (
    "All figures are *scripted*, in wall time ({machine}): a cloud as users start it, with access tokens, "
    "and an edge that writes one answer after another; target and draft follow a script, and sleep as long "
    "as their steps are modelled to take. Strangers attack from another address, each attack for at least "
    "{attack:g} s, with {quiet:g} s of quiet before and after, all in one run. `python -m benchmarks.attacks "
    "--write` writes this page."
)
METHOD = (
    "Each attack goes on as fast as its connections are answered: 8 of them, up to 5,000 where many are the "
    "attack. The strangers' process has the lowest priority, clouds and edges have a high one if the system "
    "allows it: this is about what strangers cost the cloud, not about what they take of the machine. TPT "
    "is the time per token of one answer, from the prompt to its end; figures are medians over answers. What "
    "the machine does meanwhile shows *beside it*: at another such cloud with such an edge, which nobody "
    "attacks. An attack slows the edge if a token takes longer than in quiet by more than the limit, and by "
    "more than it does beside it. Another edge comes anew from the first one's address twice a second; how "
    "long it takes to be let in is in the last columns."
)
NOTES = (
    "The cloud's CPU is what its process takes beyond what it takes in quiet; its growth is the most that "
    "was resident in an attack, less what was at its beginning."
)
NAMES = ("edge", "newcomer", "own", "victim", "revoked", "narrow")


def tpt_ms(*windows: Window) -> float:
    return median(each for window in windows for each in window.tpt_ms)


@dataclass(frozen=True, slots=True)
class Row:
    """An attack between two stretches of quiet."""

    attack: Attack
    outcome: Outcome
    quiet: tuple[Window, Window]
    during: Window
    beside: float
    """How many times as long a token took meanwhile at the cloud that nobody attacks."""

    @property
    def tried(self) -> int:
        return sum(self.outcome.answers.values())

    @property
    def seconds(self) -> float:
        return self.outcome.ended - self.outcome.begun

    @property
    def quiet_ms(self) -> float:
        return tpt_ms(*self.quiet)

    @property
    def during_ms(self) -> float:
        return tpt_ms(self.during)

    @property
    def ratio(self) -> float:
        return self.during_ms / self.quiet_ms

    @property
    def slowdown(self) -> float:
        """What of the ratio neither quiet nor the machine accounts for."""
        return min(self.ratio, self.ratio / self.beside)

    @property
    def cpu_ms(self) -> float:
        """Of the cloud, for one try, beyond what it takes while all is quiet."""
        usual = sum(window.cpu_s for window in self.quiet) / sum(window.took_s for window in self.quiet)
        return 1e3 * (self.during.cpu_s - usual * self.during.took_s) / self.tried

    @property
    def growth_mb(self) -> float:
        return max(0, self.during.rss_most - self.during.rss_before) / MB

    @property
    def newcomer_ms(self) -> float:
        return median(self.during.newcomers_ms)

    @property
    def newcomer_quiet_ms(self) -> float:
        return median(each for window in self.quiet for each in window.newcomers_ms)

    def problems(self) -> list[str]:
        """What is not as it must be."""
        found = [
            f"said: {answer}" for answer in self.outcome.answers if not answer.startswith(self.attack.allowed)
        ]
        found += [
            f"never said: {way}"
            for way in self.attack.allowed
            if not any(answer.startswith(way) for answer in self.outcome.answers)
        ]
        if len(self.outcome.notes) != len(self.attack.notes) or not all(
            map(str.startswith, self.outcome.notes, self.attack.notes)
        ):
            found.append(f"noted: {self.outcome.notes}")
        if self.slowdown > RATIO_MAX:
            found.append(f"TPT is {self.ratio:.3f} times that of quiet ({self.beside:.3f} beside it)")
        if self.growth_mb > GROWTH_MB_MAX:
            found.append(f"the cloud grew by {self.growth_mb:.0f} MB; limit {GROWTH_MB_MAX:g} MB")
        return found


# -- playing ------------------------------------------------------------------------------------------------


Views = list[Window]
"""The same stretch of time at both clouds."""


async def quiet(both: Sequence[Bench]) -> Views:
    begun = monotonic()
    await asyncio.sleep(QUIET_S)
    return [bench.window(begun, monotonic()) for bench in both]


async def played(attack: Attack, both: Sequence[Bench], book: Path) -> tuple[Outcome, Views]:
    """One attack, on the first of them."""
    order = Order(attack.name, both[0].host, both[0].port, ATTACK_S, both[0].tokens)
    async with child(*STRANGERS) as strangers:
        await tell(strangers, msgspec.json.encode(order).decode())
        while not (line := await said(strangers.stdout)).startswith("{"):
            assert line, "the strangers have failed"
            if line == "revoke":
                revoke(book, "revoked")
            await tell(strangers, "go on")
    outcome = msgspec.json.decode(line, type=Outcome)
    return outcome, [bench.window(outcome.begun, outcome.ended) for bench in both]


async def scene(attacks: Sequence[Attack], folder: Path, *, tls: bool) -> list[Row]:
    """All attacks on one cloud, one after the other."""
    book, pair = folder / "tokens.json", (folder / "cert.pem", folder / "key.pem")
    tokens = {name: create(book, name, LIMITED.get(name, Limits())).text for name in NAMES}
    if tls:
        make_pair(*pair, LOCAL)
    rows: list[Row] = []
    async with AsyncExitStack() as stack:
        how = (tokens, book, pair if tls else None)
        both = [await stack.enter_async_context(observed(*how)) for _ in range(2)]
        await asyncio.sleep(WARM_UP_S)
        before = await quiet(both)
        for attack in attacks:
            outcome, during = await played(attack, both, book)
            after = await quiet(both)
            beside = tpt_ms(during[1]) / tpt_ms(before[1], after[1])
            rows.append(Row(attack, outcome, (before[0], after[0]), during[0], beside))
            print(as_text(rows[-1]), flush=True)
            before = after
        for line in both[0].complaints:
            print(f"the cloud said: {line}")
    return rows


def as_text(row: Row) -> str:
    lines = [
        f"{row.attack.name}: {row.tried:,} tried in {row.seconds:.1f} s",
        f"  cloud: {row.cpu_ms:.3f} ms of CPU for each; it grew by {row.growth_mb:.1f} MB",
        f"  edge: TPT {row.quiet_ms:.2f} ms, during {row.during_ms:.2f} ms, {row.ratio:.3f} times",
        f"  beside it, where nobody attacks: {row.beside:.3f} times",
        f"  newcomers: let in after {row.newcomer_quiet_ms:.0f} ms, during {row.newcomer_ms:.0f} ms",
    ]
    lines += [f"  {count:6,} {answer}" for answer, count in row.outcome.answers.items()]
    lines += [f"         {note}" for note in row.outcome.notes]
    return "\n".join(lines + [f"       ! {problem}" for problem in row.problems()])


async def all_scenes(only: str) -> list[Row]:
    rows: list[Row] = []
    for tls in (False, True):
        attacks = [each for each in ATTACKS if each.tls == tls and only in each.name]
        if attacks:
            with TemporaryDirectory() as folder:
                rows += await scene(attacks, Path(folder), tls=tls)
    return rows


# -- the page ----------------------------------------------------------------------------------------------


def page(rows: Sequence[Row], load: float) -> str:
    """All of it, in Markdown; ``load`` is what the machine had to do before."""
    today = datetime.now(UTC).date()
    machine = f"{os.cpu_count()} processors, measured on {today}, at a load of {load:.1f} before the run"
    problems = [f"**{row.attack.name}: {problem}**" for row in rows for problem in row.problems()]
    costs = (
        "attack",
        "cloud's CPU per try, ms",
        "cloud grew by, MB",
        "TPT, ms",
        "during, ms",
        "times",
        "beside it",
        "let in after, ms",
        "during, ms",
    )
    longest, worst = max(row.ratio for row in rows), max(row.slowdown for row in rows)
    most = max(row.growth_mb for row in rows)
    pace = (
        f"A token took the edge at most {longest:.3f} times as long as in quiet. Less what it took longer "
        f"meanwhile at the cloud that nobody attacks, {worst:.3f} times; the limit is {RATIO_MAX:.2f}."
    )
    lines = [
        *heading("Attacks on a cloud, with scripted engines that sleep", 1),
        *paragraph(INTRODUCTION.format(machine=machine, quiet=QUIET_S, attack=ATTACK_S)),
        *paragraph(METHOD),
        *heading("What came of it"),
        *bullets(
            [
                f"{sum(not row.problems() for row in rows)} of {len(rows)} attacks ended as they must.",
                pace,
                f"The cloud grew by at most {most:.1f} MB in an attack; the limit is {GROWTH_MB_MAX:g} MB.",
                *problems,
            ]
        ),
        *heading("What was said"),
        *table(("attack", "what the cloud said", "tried", "per s"), map(said_row, rows), words=2),
        *heading("What it cost"),
        *table(costs, map(cost_row, rows)),
        NOTES,
    ]
    return "\n".join(lines) + "\n"


def said_row(row: Row) -> tuple[str, ...]:
    answers = [f"{count:,}: {answer}" for answer, count in row.outcome.answers.items()]
    said = "; ".join([*answers, *row.outcome.notes])
    return row.attack.name, said, f"{row.tried:,}", f"{row.tried / row.seconds:,.0f}"


def cost_row(row: Row) -> tuple[str, ...]:
    return (
        row.attack.name,
        f"{row.cpu_ms:.2f}",
        f"{row.growth_mb:.1f}",
        f"{row.quiet_ms:.2f}",
        f"{row.during_ms:.2f}",
        f"{row.ratio:.3f}",
        f"{row.beside:.3f}",
        f"{row.newcomer_quiet_ms:.0f}",
        f"{row.newcomer_ms:.0f}",
    )


def main() -> None:
    """Play, print, and fail if something is not as it must be."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", default="", help="attacks whose name has this in it")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name} in docs/results")
    options = parser.parse_args()
    if options.write and options.only:
        parser.error("--write takes all attacks; leave --only out")
    load, _, _ = os.getloadavg()
    rows = asyncio.run(all_scenes(options.only))
    if options.write:
        PAGE.write_text(page(rows, load), encoding="utf-8")
    sys.exit(1 if any(row.problems() for row in rows) else 0)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        print("attacks.py: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
