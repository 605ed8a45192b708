"""Ahead or wait: whether drafting on while a verdict is pending is worth it, by expected value."""

import msgspec


class Outlook(msgspec.Struct, frozen=True, gc=False):
    """What is expected when a verdict has been asked for."""

    answer_s: float
    """From asking to the verdict."""

    draft_s: float
    """One draft step."""

    abort_s: float
    """How long a step that is stopped goes on holding the drafter up."""

    survival: float
    """Probability that all unverified drafts are accepted, 0..1."""

    agreement: float
    """Probability that the next draft is what the target says, 0..1."""


def gain_s(outlook: Outlook) -> float:
    """What drafting ahead saves on average, compared with waiting; negative if waiting is better.

    Whoever waits starts at the verdict, which brings one token for free. Whoever drafts has that token after
    ``draft_s`` and is ``answer_s - draft_s`` into the next ones when the verdict comes, provided that all
    drafts are accepted and the target's token is the one drafted first. If not, the step in flight is
    aborted, which takes ``abort_s``. A step that outlasts the answer is always aborted, and saves nothing.
    """
    reused = outlook.survival * outlook.agreement
    if outlook.answer_s <= outlook.draft_s:
        return -outlook.abort_s
    return reused * (outlook.answer_s - outlook.draft_s) - (1.0 - reused) * outlook.abort_s
