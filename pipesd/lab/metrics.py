"""The figures of an experiment, from the raw record of its answers."""

import hashlib
import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain, pairwise

from pipesd.lab.answers import Record

BUSY_W = 300.0
"""What the target's machine draws while it works on a pass: a large accelerator, assumed. As in PipeSD's own
measure, a machine that waits counts nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What was played, and where."""

    policy: str
    scenario: str
    wire: str
    clock: str
    seed: int
    basis: str
    """What all figures rest on."""

    changed: tuple[tuple[str, object], ...] = ()
    """(name, value) of what was set against the policy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What some prompts took; a token is a confirmed one, end ids included. None: there is no such figure."""

    setting: Setting
    prompts: int
    tokens: int
    tpt_ms: float
    """Time per token, from each prompt to its last token."""

    ttft_ms: float
    """From a prompt to its first token, mean."""

    itl_p50_ms: float
    """Between a token and the one before it; tokens that come together are nothing apart. Median."""

    itl_p95_ms: float
    passes_per_100: float
    """Passes of the target per 100 tokens, those that read prompts included."""

    drafted_per_token: float
    """Drafts made per token; aborted steps not."""

    uplink_bytes_per_token: float
    """As the wire charges them; the greeting aside."""

    downlink_bytes_per_token: float
    accept_rate: float | None
    """Share of the judged drafts that the target agreed with."""

    rollback_rate: float | None
    """Share of the verdicts that contradicted a draft."""

    cloud_ms_per_100: float
    """How long the target worked, per 100 tokens."""

    energy_j_per_100: float
    """Of the target's machine, per 100 tokens: ``BUSY_W`` while it works. Modelled."""

    draft_pace_ms: float
    """Per token, of a drafter that is never held up; a yardstick, see ``Scenario.draft_pace_ms``."""

    text_sha256: str
    """Over the ids delivered, in decimal: a space between two, a line break behind each prompt's."""

    verified: bool = True

    def as_json(self) -> dict[str, object]:
        """All by name, for machines."""
        whole = asdict(self)
        setting = whole.pop("setting")
        setting["changed"] = dict(self.setting.changed)
        return {**setting, **whole, "energy_is": f"modelled, {BUSY_W:g} W while the target works"}

    def line(self) -> str:
        """One line for a person."""
        setting = self.setting
        parts = [
            f"{setting.policy} at {setting.scenario}: {self.tpt_ms:.1f} ms per token",
            f"first after {self.ttft_ms:.0f} ms",
            f"{self.passes_per_100:.1f} passes per 100 tokens",
            f"{self.drafted_per_token:.2f} drafts per token",
        ]
        if self.accept_rate is not None:
            parts.append(f"acceptance {self.accept_rate:.1%}")
        up, down = self.uplink_bytes_per_token, self.downlink_bytes_per_token
        parts.append(f"{up:.1f} bytes up and {down:.1f} down per token")
        parts.append(f"{self.tokens} tokens of {self.prompts} prompt{'s' * (self.prompts != 1)}")
        unverified = "" if self.verified else "; unverified, the draft model alone"
        return ", ".join(parts) + f" ({setting.basis}{unverified})"


def measured(record: Record, setting: Setting, draft_pace_ms: float, *, verified: bool = True) -> Figures:
    """The figures of a record, which must hold at least one token."""
    answers = record.answers
    tokens = sum(len(answer.tokens) for answer in answers)
    accepted = sum(answer.stats.accepted for answer in answers)
    corrections = sum(answer.stats.corrections for answer in answers)
    verdicts = sum(answer.stats.verdicts for answer in answers)
    gaps_ms = sorted(chain.from_iterable(_gaps_ms(answer.moments) for answer in answers))
    return Figures(
        setting=setting,
        prompts=len(answers),
        tokens=tokens,
        tpt_ms=1e3 * math.fsum(answer.moments[-1][0] - answer.begun_s for answer in answers) / tokens,
        ttft_ms=1e3 * statistics.fmean(answer.moments[0][0] - answer.begun_s for answer in answers),
        itl_p50_ms=_percentile(gaps_ms, 0.5),
        itl_p95_ms=_percentile(gaps_ms, 0.95),
        passes_per_100=100 * record.passes / tokens,
        drafted_per_token=sum(answer.stats.drafted for answer in answers) / tokens,
        uplink_bytes_per_token=record.sent_bytes / tokens,
        downlink_bytes_per_token=record.received_bytes / tokens,
        accept_rate=accepted / (accepted + corrections) if accepted + corrections else None,
        rollback_rate=corrections / verdicts if verdicts else None,
        cloud_ms_per_100=1e3 * 100 * record.cloud_s / tokens,
        energy_j_per_100=BUSY_W * 100 * record.cloud_s / tokens,
        draft_pace_ms=draft_pace_ms,
        text_sha256=_digest([answer.tokens for answer in answers]),
        verified=verified,
    )


def _gaps_ms(moments: Sequence[tuple[float, int]]) -> list[float]:
    """Between each token and the one before it, the first aside; in no order."""
    waited_ms = [1e3 * (now - before) for (before, _), (now, _) in pairwise(moments)]
    together = sum(count - 1 for _, count in moments)
    return waited_ms + [0.0] * together


def _percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest value that is not below ``share`` of all; 0 without any."""
    return ordered[math.ceil(share * len(ordered)) - 1] if ordered else 0.0


def _digest(texts: Sequence[Sequence[int]]) -> str:
    said = "".join(" ".join(map(str, tokens)) + "\n" for tokens in texts)
    return hashlib.sha256(said.encode()).hexdigest()
