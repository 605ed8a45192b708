"""Numbers that look drawn, and are computed: what is pure has no luck of its own."""

from hashlib import blake2b


def share_of(luck: int, *what: int | str) -> float:
    """Between 0 and 1, and another one for every edge's ``luck`` and for everything that it is for."""
    text = " ".join(map(str, (luck, *what)))
    return int.from_bytes(blake2b(text.encode(), digest_size=7).digest(), "big") / 2**56


def full_jitter_s(base_s: float, tries: int, most_s: float, share: float) -> float:
    """How long to wait before the next try: up to ``base_s``, doubled with each, and any time up to that.

    "Full jitter", as in Brooker, "Exponential Backoff And Jitter" (2015).
    """
    return share * min(most_s, base_s * 2.0 ** min(tries, 60))
