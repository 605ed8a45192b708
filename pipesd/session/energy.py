"""What a pass of the target took, shared out. Arithmetic in whole microjoules, so that sums are exact."""

from collections.abc import Sequence

MICRO = 1_000_000


def spent_j(measured_j: float | None, busy_watts: float | None, lasted_s: float) -> float:
    """Joules of a pass: what was measured, else what the declared power model says, else none."""
    if measured_j is not None:
        return measured_j
    return (busy_watts or 0.0) * lasted_s


def shared_uj(energy_j: float, tokens: Sequence[int]) -> list[int]:
    """The microjoules of each share of a pass by the tokens it evaluated; they sum to the whole pass.

    Every sum of first shares is rounded down from what it would be exactly, so that a share is off by less
    than one microjoule.
    """
    energy_uj, whole = round(energy_j * MICRO), sum(tokens)
    shares: list[int] = []
    seen = given = 0
    for count in tokens:
        seen += count
        upto = energy_uj * seen // whole
        shares.append(upto - given)
        given = upto
    return shares


def useful_uj(energy_uj: int, accepted: int, judged: int) -> int:
    """What of a verdict's energy went into text that stands; the rest went into rejected drafts.

    A pass that judges n drafts works on n + 1 positions, of which those of the accepted drafts and the one
    that gave the target's own token are of use.
    """
    return energy_uj * (min(accepted, judged) + 1) // (judged + 1)
