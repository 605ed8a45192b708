"""What a draft's confidence is worth: how often drafts as sure as this one were accepted.

Learned while drafting, from each judged draft, in classes of equal width on a scale of -log2(1 - confidence):
most drafts are nearly sure, and 0.99 and 0.999 must be told apart. A draft's own confidence counts as much as
some observations of its class, so that few of these change little.
"""

from bisect import bisect_right

_CLASSES_PER_OCTAVE = 2
_CLASSES = 24
_BORDERS = [1.0 - 0.5 ** (number / _CLASSES_PER_OCTAVE) for number in range(1, _CLASSES)]
"""The least confidence of each class but the first."""

_PRIOR_DRAFTS = 8.0
_MEMORY_DRAFTS = 200.0
"""A class that has seen more than this forgets its oldest in proportion."""

_FIRST_ACCEPTANCE = 0.8


class Calibration:
    """Confidence to probability of acceptance."""

    def __init__(self) -> None:
        self._accepted = [0.0] * _CLASSES
        self._judged = [0.0] * _CLASSES
        self._all_accepted = _FIRST_ACCEPTANCE * _PRIOR_DRAFTS
        self._all_judged = _PRIOR_DRAFTS

    def learn(self, confidence: float, *, accepted: bool) -> None:
        """Note what became of a draft."""
        number, judged, right = bisect_right(_BORDERS, confidence), self._judged, self._accepted
        if judged[number] >= _MEMORY_DRAFTS:
            judged[number] /= 2.0
            right[number] /= 2.0
        if self._all_judged >= _MEMORY_DRAFTS:
            self._all_judged /= 2.0
            self._all_accepted /= 2.0
        judged[number] += 1.0
        self._all_judged += 1.0
        if accepted:
            right[number] += 1.0
            self._all_accepted += 1.0

    def survival(self, confidence: float) -> float:
        """The probability that such a draft is accepted, given that those before it are."""
        number = bisect_right(_BORDERS, confidence)
        return (_PRIOR_DRAFTS * confidence + self._accepted[number]) / (_PRIOR_DRAFTS + self._judged[number])

    @property
    def acceptance(self) -> float:
        """Share of the judged drafts that were accepted, of late."""
        return self._all_accepted / self._all_judged
