"""What a sample allows to say of the whole: Clopper and Pearson's upper bound, computed exactly."""

from __future__ import annotations

import math

CONFIDENCE = 0.95


def upper_bound(found: int, asked: int, confidence: float = CONFIDENCE) -> float:
    """Give the share that, with that confidence, is not reached in the whole.

    ``found`` of the ``asked`` ones had the trait; 1.0 when all had, or none was asked. One-sided:
    with a larger share, so few would be found with a probability below 1 - ``confidence``.
    """
    if found >= asked:
        return 1.0
    doubt = 1.0 - confidence
    if not found:
        return -math.expm1(math.log(doubt) / asked)
    ways = [_log_choose(asked, k) for k in range(found + 1)]
    low, high = found / asked, 1.0
    while low < (middle := (low + high) / 2) < high:
        yes, no = math.log(middle), math.log1p(-middle)
        at_most = math.fsum(
            math.exp(way + k * yes + (asked - k) * no) for k, way in enumerate(ways)
        )
        low, high = (middle, high) if at_most > doubt else (low, middle)
    return high


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def percent(share: float) -> str:
    """Write a share with two significant digits, rounded up so that "fewer than" stays true."""
    number = share * 100
    places = max(0, 1 - math.floor(math.log10(number))) if number > 0 else 0
    text = f"{math.ceil(round(number * 10**places, 6)) / 10**places:.{places}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"
