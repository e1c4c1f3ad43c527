"""Proportions and probabilities: how sure a share is, and how right a probability.

Owns intervals of shares and of their differences, and the calibration of stated probabilities.
Plain arrays only; maps belong to `evaluation`.
"""

from __future__ import annotations

from statistics import NormalDist
from typing import NamedTuple

import numpy as np


def wilson_interval(n_right: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a proportion.

    Parameters
    ----------
    n_right, n
        Number of successes and of trials.
    confidence
        Coverage, between 0 and 1.

    Returns
    -------
    low, high
        Bounds; (0, 1) without trials.

    Raises
    ------
    ValueError
        If not 0 <= n_right <= n.

    References
    ----------
    Wilson, J. Am. Stat. Assoc. 22 (1927) 209, doi:10.1080/01621459.1927.10502953.

    Examples
    --------
    >>> [round(bound, 3) for bound in wilson_interval(81, 263)]
    [0.255, 0.366]
    """
    if not 0 <= n_right <= n:
        raise ValueError(f"n_right must lie between 0 and n, got {n_right!r} of {n!r}")
    if n == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    share = n_right / n
    centre = share + z**2 / (2 * n)
    half = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    scale = 1 + z**2 / n
    # exact at the ends, where rounding would leave 1e-17
    low = 0.0 if n_right == 0 else float((centre - half) / scale)
    high = 1.0 if n_right == n else float((centre + half) / scale)
    return low, high


def paired_interval(
    correct_a: np.ndarray, correct_b: np.ndarray, *, confidence: float = 0.95
) -> tuple[float, float, float]:
    """Return the difference of two proportions on the same patterns, and its interval.

    Parameters
    ----------
    correct_a, correct_b
        Whether each method was right, pattern by pattern, boolean, shapes (n,).
    confidence
        Coverage, between 0 and 1.

    Returns
    -------
    difference, low, high
        Share of ``correct_a`` minus share of ``correct_b`` and the bounds of its interval.

    Raises
    ------
    ValueError
        If the arrays are empty or differ in length.

    Notes
    -----
    Newcombe's square-and-add interval from Wilson bounds (his method 10, with the continuity
    correction of the correlation). It takes patterns as independent: positions of one grain are
    not, so give one row per grain, or read the interval as too narrow.

    References
    ----------
    Newcombe, Stat. Med. 17 (1998) 2635,
    doi:10.1002/(SICI)1097-0258(19981130)17:22<2635::AID-SIM954>3.0.CO;2-C.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.repeat([True, True, False], [36, 12, 2])  # an example of the paper
    >>> b = np.repeat([True, False, True], [36, 12, 2])
    >>> [round(value, 4) for value in paired_interval(a, b)]
    [0.2, 0.0569, 0.3404]
    """
    a, b = np.asarray(correct_a, dtype=bool).ravel(), np.asarray(correct_b, dtype=bool).ravel()
    if a.size != b.size or a.size == 0:
        raise ValueError(
            f"correct_a and correct_b must judge the same patterns, got {a.size} and {b.size}"
        )
    n, n_a, n_b = a.size, int(a.sum()), int(b.sum())
    share_a, share_b = n_a / n, n_b / n
    low_a, high_a = wilson_interval(n_a, n, confidence=confidence)
    low_b, high_b = wilson_interval(n_b, n, confidence=confidence)
    both = int(np.count_nonzero(a & b))
    covariance = both * (n - n_a - n_b + both) - (n_a - both) * (n_b - both)
    if covariance > 0:
        covariance = max(covariance - n / 2, 0)
    norm = np.sqrt(float(n_a) * (n - n_a) * n_b * (n - n_b))
    phi = covariance / norm if norm else 0.0

    def width(first: float, second: float) -> float:
        return float(np.sqrt(max(first**2 - 2 * phi * first * second + second**2, 0.0)))

    difference = share_a - share_b
    low = difference - width(share_a - low_a, high_b - share_b)
    high = difference + width(high_a - share_a, share_b - low_b)
    return difference, low, high


class CalibrationCurve(NamedTuple):
    """Stated probability against observed share, bin by bin; arrays of shape (n_bins,)."""

    probability: np.ndarray
    """Mean stated probability, NaN in empty bins."""
    accuracy: np.ndarray
    """Share that was right, NaN in empty bins."""
    count: np.ndarray
    """Number of answers."""


def calibration_curve(
    probability: np.ndarray, correct: np.ndarray, n_bins: int = 15
) -> CalibrationCurve:
    """Return the observed share of right answers for bins of stated probability.

    Parameters
    ----------
    probability
        Stated probabilities of being right, shape (n,). NaN (not calibrated) is left out.
    correct
        Whether the answer was right, boolean, shape (n,).
    n_bins
        Number of bins of equal width over [0, 1], closed on the right.

    Returns
    -------
    curve
        Mean probability, accuracy and number of each bin.

    Raises
    ------
    ValueError
        If the shapes differ, or a probability lies outside [0, 1].

    References
    ----------
    Guo et al., ICML 2017, arXiv:1706.04599, section 2.

    Examples
    --------
    >>> import numpy as np
    >>> calibration_curve(np.array([0.2, 0.9, 0.9]), np.array([False, True, False]), 2).accuracy
    array([0. , 0.5])
    """
    p, right = np.asarray(probability, dtype=float).ravel(), np.asarray(correct, bool).ravel()
    if p.size != right.size:
        raise ValueError(f"probability has {p.size} rows, correct has {right.size}")
    p, right = p[~np.isnan(p)], right[~np.isnan(p)]
    if p.size and (p.min() < 0 or p.max() > 1):
        raise ValueError(f"probability must lie in [0, 1], found {p.min()!r} to {p.max()!r}")
    bins = np.clip(np.ceil(p * n_bins).astype(int) - 1, 0, n_bins - 1)
    count = np.bincount(bins, minlength=n_bins)
    with np.errstate(invalid="ignore"):  # 0 / 0 of an empty bin is the NaN wanted
        mean = np.bincount(bins, weights=p, minlength=n_bins) / count
        accuracy = np.bincount(bins, weights=right, minlength=n_bins) / count
    return CalibrationCurve(mean, accuracy, count)


def expected_calibration_error(
    probability: np.ndarray, correct: np.ndarray, n_bins: int = 15
) -> float:
    """Return the mean distance of stated probability from observed share, weighted by number.

    Parameters
    ----------
    probability, correct, n_bins
        As for :func:`calibration_curve`.

    Returns
    -------
    error
        Between 0 and 1; NaN without a probability.

    References
    ----------
    Guo et al., ICML 2017, arXiv:1706.04599, equation 3.

    Examples
    --------
    >>> import numpy as np
    >>> expected_calibration_error(np.array([0.75, 0.75]), np.array([True, False]))
    0.25
    """
    curve = calibration_curve(probability, correct, n_bins)
    filled = curve.count > 0
    if not filled.any():
        return float("nan")
    distance = np.abs(curve.accuracy - curve.probability)[filled]
    return float(np.average(distance, weights=curve.count[filled]))
