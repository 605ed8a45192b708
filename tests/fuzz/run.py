"""Runs targets under libFuzzer, one after the other, each in a process of its own, and says what came of it.

Whatever libFuzzer stops for is a failure: an exception, an input that takes too long, too much memory. The
input is kept, and can be played again without libFuzzer.
"""

import hashlib
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import click
import platformdirs

from tests.fuzz.scratch import FOLDER_VARIABLE, scratch_folder
from tests.fuzz.seeds import SEEDS
from tests.fuzz.targets import TARGETS, play_of, weighed

SECONDS = 60
INPUT_TIMEOUT_S = 20
RSS_MB_MAX = 512
_GO_BETWEEN = "import subprocess, sys; sys.exit(subprocess.run(sys.argv[1:]).returncode)"
"""Starts a target. The system counts the memory of whoever starts a process as the process's own, and a run
of all tests holds gigabytes."""

_SHOWN_LINES_MAX = 40
_NAMES = ", ".join(TARGETS)


@dataclass(frozen=True)
class Outcome:
    """What became of one target."""

    name: str
    seconds: float
    exit_code: int
    log: str
    found: Path | None
    """The input that libFuzzer stopped for."""

    @property
    def is_sound(self) -> bool:
        """libFuzzer looks at the memory once a second only, and a short run may end before."""
        return self.exit_code == 0 and self.peak_mb <= RSS_MB_MAX

    @property
    def executions(self) -> int:
        return self._last(r"stat::number_of_executed_units: +(\d+)")

    @property
    def peak_mb(self) -> int:
        return self._last(r"stat::peak_rss_mb: +(\d+)")

    @property
    def edges(self) -> int:
        return self._last(r" cov: (\d+) ")

    @property
    def features(self) -> int:
        return self._last(r" ft: (\d+) ")

    def _last(self, pattern: str) -> int:
        found = re.findall(pattern, self.log)
        return int(found[-1]) if found else 0

    @property
    def complaint(self) -> str:
        """What libFuzzer says of its end, without what it says of the bytes."""
        lines = self.log.splitlines()
        begins = [at for at, line in enumerate(lines) if line.startswith((" ===", "==")) or "Error" in line]
        shown = lines[begins[0] :] if begins else lines
        return "\n".join(shown[:_SHOWN_LINES_MAX])


def fuzz(name: str, folder: Path, seeds: Iterable[bytes], options: Sequence[str]) -> Outcome:
    """Run a target, with its inputs and its log in a folder; libFuzzer's ``options`` say for how long."""
    corpus, found, log = folder / "corpus", folder / "found", folder / "log.txt"
    for each in (corpus, found):
        each.mkdir(parents=True, exist_ok=True)
    for seed in seeds:
        (corpus / hashlib.sha1(seed).hexdigest()).write_bytes(seed)
    before = set(found.iterdir())
    limits = [f"-timeout={INPUT_TIMEOUT_S}", f"-rss_limit_mb={RSS_MB_MAX}"]
    places = [f"-artifact_prefix={found}{os.sep}", "-print_final_stats=1", "-reload=0", str(corpus)]
    child = [sys.executable, "-P", "-m", "tests.fuzz.child"]
    began = time.monotonic()
    with log.open("wb") as file, scratch_folder() as scratch:  # libFuzzer's end leaves no time to clean up
        ended = subprocess.run(
            [sys.executable, "-c", _GO_BETWEEN, *child, name, *limits, *options, *places],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, FOLDER_VARIABLE: scratch},
            check=False,
        )
    fresh = sorted(set(found.iterdir()) - before, key=lambda path: path.stat().st_mtime)
    return Outcome(
        name=name,
        seconds=time.monotonic() - began,
        exit_code=ended.returncode,
        log=log.read_text(encoding="utf-8", errors="replace"),
        found=fresh[-1] if fresh else None,
    )


def _table(outcomes: Sequence[Outcome]) -> str:
    head = f"{'target':14}{'executions':>12}{'per second':>12}{'edges':>8}{'features':>10}{'peak MB':>9}"
    rows = [
        f"{each.name:14}{each.executions:>12,}{each.executions / each.seconds:>12,.0f}{each.edges:>8,}"
        f"{each.features:>10,}{each.peak_mb:>9,}  {'' if each.is_sound else 'FAILED'}".rstrip()
        for each in outcomes
    ]
    return "\n".join([head, *rows])


def _tell_failure(outcome: Outcome) -> None:
    name = outcome.name.partition(":")[0]
    click.echo(outcome.complaint, err=True)
    if outcome.found is not None:
        again = f"bin/fuzz --input {outcome.found} {name}"
        click.echo(
            f"bin/fuzz: {outcome.name} failed for {outcome.found}; play it again with {again}", err=True
        )
    elif outcome.exit_code == 0:
        click.echo(f"bin/fuzz: {outcome.name} took more than {RSS_MB_MAX} MB of memory", err=True)
    else:
        click.echo(f"bin/fuzz: {outcome.name} failed, see above", err=True)


def _home() -> Path:
    home = os.environ.get("PIPESD_HOME") or platformdirs.user_cache_dir("pipesd", appauthor=False)
    return Path(home).absolute() / "fuzz"


def _checked(_context: click.Context, _parameter: click.Parameter, names: tuple[str, ...]) -> tuple[str, ...]:
    for name in names:
        if name.partition(":")[0] not in TARGETS:
            raise click.BadParameter(f"{name!r} is no target; choose among {_NAMES}")
    return names or tuple(TARGETS)


@click.command()
@click.option(
    "--seconds", type=click.IntRange(min=1), help=f"How long each target is run; {SECONDS} if not said."
)
@click.option("--runs", type=click.IntRange(min=1), help="How many inputs each target is given instead.")
@click.option("--jobs", type=click.IntRange(min=1), default=1, help="How many targets are run at once.")
@click.option("--seed", type=click.IntRange(min=1), help="Fixes the fuzzer's luck.")
@click.option(
    "--folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where inputs are kept, and taken up again the next time; the user's cache if not said.",
)
@click.option(
    "--input",
    "played",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Only play this input, without libFuzzer.",
)
@click.argument("names", metavar="[TARGET]...", nargs=-1, callback=_checked)
def main(
    *,
    seconds: int | None,
    runs: int | None,
    jobs: int,
    seed: int | None,
    folder: Path | None,
    played: Path | None,
    names: tuple[str, ...],
) -> None:
    """Fuzz TARGETs, all of them if none is named. Fails if any input is not borne."""
    if seconds is not None and runs is not None:
        raise click.UsageError("--seconds and --runs exclude each other; give one of them")
    if played is not None:
        if len(names) != 1:
            raise click.UsageError("--input is for one target; name it")
        name = names[0].partition(":")[0]
        play = play_of(name)
        with weighed(TARGETS[name]):
            play(played.read_bytes())
        click.echo(f"bin/fuzz: {name} bears {played}", err=True)
        return
    options = [f"-runs={runs}" if runs is not None else f"-max_total_time={seconds or SECONDS}"]
    options += [] if seed is None else [f"-seed={seed}"]

    def run(name: str) -> Outcome:
        place = (folder or _home()) / name.replace(":", "-")
        click.echo(f"bin/fuzz: fuzzing {name}; its log is {place / 'log.txt'}", err=True)
        outcome = fuzz(name, place, SEEDS[name.partition(":")[0]](), options)
        if not outcome.is_sound:
            _tell_failure(outcome)
        return outcome

    with ThreadPoolExecutor(jobs) as pool:
        outcomes = list(pool.map(run, names))
    click.echo(_table(outcomes))
    sys.exit(0 if all(outcome.is_sound for outcome in outcomes) else 1)


if __name__ == "__main__":
    main(prog_name="bin/fuzz")
