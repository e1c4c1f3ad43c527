"""Which of the places in a scan's patterns is the direct beam.

Owns spots, the places where they or the middles of their pairs come together, and what speaks for
each: the inversion symmetry of all spots' positions, the background about it, what all positions of
the scan share. How bright a spot is says nothing.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from pyxem_nas.patterns.kernel import to_native

__all__ = [
    "TOLERANCE",
    "WEIGHTS",
    "center_of_pairs",
    "describe_places",
    "list_places",
    "locate_spots",
    "read_sample",
]

TOLERANCE = 0.03  # 1/angstrom: two places are one
# of symmetry, presence, halo, distance from the middle and balance of the background: a conditional
# logit fitted by `benchmarks/beam.py --fit` to the half of the patterns that no figure is of
WEIGHTS = np.array([7.7, 2.5, 0.4, -18.0, 3.9])
_N_SIDE = 12  # positions of the scan along each axis whose spots are looked at
_N_SPOTS = 60  # of a pattern, the highest
_SPOT = 0.03  # 1/angstrom: blur that joins a spot's pixels
_BACKGROUND = 0.08  # 1/angstrom: blur that leaves the background
_LEAST_HEIGHT = 5.0  # standard deviations of the noise
_N_CANDIDATES = 16
_ENOUGH_PIXELS = 320  # along a side, for finding spots
_HALO = 0.1, 25  # 1/angstrom around a place, and the percentile there that spots do not reach
_CELL = 0.04  # 1/angstrom: the background is smooth
_LEAST_BACKGROUND = 5e-4  # of the spots' height, that it changes by
_BACKGROUND_TO = 0.7  # 1/angstrom around a place


# ------------------------------------------------------------------------- spots


def read_sample(data: Any) -> np.ndarray:
    """Return some patterns of the scan as one stack in memory, finite."""
    nav_shape = data.shape[:-2]
    steps = tuple(slice(None, None, max(1, -(-n // _N_SIDE))) for n in nav_shape)
    sample = np.asarray(data[steps]).reshape(-1, *data.shape[-2:])
    sample = to_native(sample).astype(np.float32)
    # what the descriptors leave out counts as empty here, too: one NaN would spoil all
    return np.where((sample > 0) & (sample < 3e38), sample, np.float32(0))


def locate_spots(pattern: np.ndarray, shown: np.ndarray, scale: tuple[float, float]) -> np.ndarray:
    """Return (column, row, height) of a pattern's spots, the highest first, shape (n, 3)."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    n = max(1, max(pattern.shape) // _ENOUGH_PIXELS)
    if n > 1:
        ny, nx = (size // n * n for size in pattern.shape)
        pattern = pattern[:ny, :nx].reshape(ny // n, n, nx // n, n).sum(axis=(1, 3))
        shown = shown[:ny, :nx].reshape(ny // n, n, nx // n, n).all(axis=(1, 3))
    sizes = np.array(scale) * n
    weight = shown.astype(np.float32)
    image = pattern * weight

    def blur(width: float) -> np.ndarray:
        sigma = np.maximum(width / sizes, 0.7)
        share = gaussian_filter(weight, sigma, mode="constant")
        return gaussian_filter(image, sigma, mode="constant") / np.maximum(share, 0.05)

    contrast = (blur(_SPOT) - blur(_BACKGROUND)) * weight
    noise = 1.4826 * np.median(np.abs(contrast[shown])) if shown.any() else 0.0
    size = 2 * np.maximum(np.rint(TOLERANCE / sizes), 1).astype(int) + 1
    peak = (contrast == maximum_filter(contrast, size)) & (
        contrast > max(_LEAST_HEIGHT * noise, 1e-3 * contrast.max(), 1e-12)
    )
    rows, columns = np.nonzero(peak)
    inner = (rows > 0) & (rows < peak.shape[0] - 1) & (columns > 0) & (columns < peak.shape[1] - 1)
    rows, columns = rows[inner], columns[inner]
    order = np.argsort(-contrast[rows, columns], kind="stable")[: 2 * _N_SPOTS]
    rows, columns = rows[order], columns[order]
    at = contrast[rows, columns]
    x = columns + _vertex(contrast[rows, columns - 1], at, contrast[rows, columns + 1])
    y = rows + _vertex(contrast[rows - 1, columns], at, contrast[rows + 1, columns])
    # a saturated disc has several maxima: the highest stands for those beside it
    apart = np.ones(len(x), bool)
    for k in range(1, len(x)):
        near = np.hypot((x[:k] - x[k]) * sizes[1], (y[:k] - y[k]) * sizes[0]) < 2 * TOLERANCE
        apart[k] = not (near & apart[:k]).any()
    place = np.stack([x, y], axis=1) * n + 0.5 * (n - 1)
    return np.column_stack([place, contrast[rows, columns]])[apart][:_N_SPOTS]


def _vertex(before: np.ndarray, at: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return where the parabola through three neighbours is highest, -0.5 to 0.5."""
    bend = np.minimum(before - 2 * at + after, -1e-12)
    return np.clip(0.5 * (before - after) / bend, -0.5, 0.5)


# ------------------------------------------------------------------------- which of them


def describe_places(
    places: np.ndarray,
    spots: list[np.ndarray],
    patterns: np.ndarray,
    shown: np.ndarray,
    scale: tuple[float, float],
) -> np.ndarray:
    """Return what speaks for each place, shape (k, 5), in the order of the weights."""
    ny, nx = shown.shape
    middle = np.array([0.5 * (nx - 1), 0.5 * (ny - 1)])
    tolerance = TOLERANCE / np.array(scale)[::-1]  # columns, rows
    angles = 2 * np.pi * np.arange(8) / 8
    shifts = 3 * tolerance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    symmetry, presence, total = np.zeros(len(places)), np.zeros(len(places)), 1e-9
    columns, rows = np.rint(places).astype(int).T.clip(0, [[nx - 1], [ny - 1]])
    for found, pattern in zip(spots, patterns, strict=True):
        if not len(found):
            continue
        weight = (found[:, 2] / found[0, 2]) ** 0.25
        total += weight.sum()
        saturated = pattern[rows, columns] > 0.9 * pattern.max()  # the middle of a flat disc
        for k, place in enumerate(places):
            near = (np.abs((found[:, :2] - place) / tolerance).max(axis=1) < 1).any()
            presence[k] += near or saturated[k]
            symmetry[k] += _count_pairs(found[:, :2], weight, place, tolerance)
            for shift in shifts:
                symmetry[k] -= _count_pairs(found[:, :2], weight, place + shift, tolerance) / 8
    halo = _light_around(places, patterns, shown, scale)
    presence = np.where(shown[rows, columns], presence, 0.5 * len(spots))  # no spot can be seen
    off = np.linalg.norm((places - middle) / np.array([nx, ny]), axis=1)
    balance = -np.log(_measure_asymmetry(places, patterns, shown, scale) + 0.02)
    return np.stack([symmetry / total, presence / len(spots), halo, off, balance], axis=1)


def _measure_asymmetry(
    places: np.ndarray, patterns: np.ndarray, shown: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """Return how unlike the background is at both sides of each place, 0 to 1.

    The background, of electrons that lost energy or met no crystal, lies about the beam whatever
    crystals diffract. Spots are left out by a low percentile of what lies around each pixel.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates, percentile_filter

    n = max(1, round(_CELL / float(np.mean(scale))))
    ny, nx = (size // n * n for size in shown.shape)
    count = shown[:ny, :nx].reshape(ny // n, n, nx // n, n).sum(axis=(1, 3))
    mean = np.where(shown, patterns.mean(axis=0), 0)[:ny, :nx]
    mean = mean.reshape(ny // n, n, nx // n, n).sum(axis=(1, 3)) / np.maximum(count, 1)
    seen = count > 0
    filled = np.where(seen, mean, np.median(mean[seen]) if seen.any() else 0.0)
    smooth = gaussian_filter(percentile_filter(filled, _HALO[1], size=5), 1.0)
    # the feet of spots are no background
    least = (_LEAST_BACKGROUND * np.percentile(filled, 99.8)) ** 2
    rows, columns = np.nonzero(seen)
    asymmetry = np.ones(len(places))
    for k, place in enumerate(places):
        x, y = (place - 0.5 * (n - 1)) / n
        there = np.stack([2 * y - rows, 2 * x - columns])
        near = np.hypot((rows - y) * n * scale[0], (columns - x) * n * scale[1]) < _BACKGROUND_TO
        near &= (there >= 0).all(axis=0)
        near &= (there <= np.array(smooth.shape)[:, None] - 1).all(axis=0)
        if near.sum() < 30:
            continue
        here = smooth[rows[near], columns[near]]
        other = map_coordinates(smooth, there[:, near], order=1)
        both = ((here - here.mean()) ** 2).sum() + ((other - other.mean()) ** 2).sum()
        least_of_all = max(least * near.sum(), 1e-30)
        unlike = ((here - other) ** 2).sum()
        asymmetry[k] = min((unlike + least_of_all) / (both + least_of_all), 1.0)
    return asymmetry


def center_of_pairs(
    spots: list[np.ndarray], place: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """Return a place as the middles of the pairs of spots about it say, (column, row)."""
    tolerance = TOLERANCE / np.array(scale)[::-1]
    middles = []
    for found in spots:
        i, j = np.triu_indices(len(found), 1)
        middle = 0.5 * (found[i, :2] + found[j, :2])
        middles.append(middle[(np.abs(middle - place) < tolerance).all(axis=1)])
    near = np.concatenate([*middles, np.zeros((0, 2))])
    return np.median(near, axis=0) if len(near) >= 5 else np.asarray(place, float)


def _light_around(
    places: np.ndarray, patterns: np.ndarray, shown: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """Return logarithms of how bright the halos around places are, over the brightest one's."""
    mean = patterns.mean(axis=0)
    rows, columns = np.indices(mean.shape)
    halo = np.zeros(len(places))
    for k, (x, y) in enumerate(places):
        radius = np.hypot((columns - x) * scale[1], (rows - y) * scale[0])
        around = shown & (radius > 1.2 * TOLERANCE) & (radius < _HALO[0])
        halo[k] = np.percentile(mean[around], _HALO[1]) if around.sum() >= 12 else np.nan
    best = np.nanmax(halo) if np.isfinite(halo).any() else 0.0
    least = 1e-3 * best + 1e-12
    # nothing is known of one that is hidden: it speaks for no other place
    return np.nan_to_num(np.log((halo + least) / (best + least)), nan=0.0)


def list_places(
    spots: list[np.ndarray], shape: tuple[int, int], scale: tuple[float, float]
) -> np.ndarray:
    """Return (column, row) where spots of many patterns, or middles of many pairs, come together.

    The middle of the detector where there is no spot at all.
    """
    tolerance = TOLERANCE / np.array(scale)[::-1]
    votes, middles = np.zeros(shape), np.zeros(shape)
    for found in spots:
        if not len(found):
            continue
        weight = (found[:, 2] / found[0, 2]) ** 0.25
        _vote(votes, found[:, :2], weight)
        i, j = np.triu_indices(min(len(found), 30), 1)
        _vote(middles, 0.5 * (found[i, :2] + found[j, :2]), np.minimum(weight[i], weight[j]))
    best = _peaks(votes, tolerance, _N_CANDIDATES)
    if not len(best):
        return np.array([[0.5 * (shape[1] - 1), 0.5 * (shape[0] - 1)]])
    more = _peaks(middles, tolerance, _N_CANDIDATES // 2)
    far = [np.abs((best - place) / tolerance).max(axis=1).min() > 1 for place in more]
    return np.concatenate([best, more[np.array(far, bool)]])


def _vote(image: np.ndarray, places: np.ndarray, weight: np.ndarray) -> None:
    """Add weights at the pixels nearest to places."""
    columns, rows = np.rint(places).astype(int).T
    inside = (columns >= 0) & (columns < image.shape[1]) & (rows >= 0) & (rows < image.shape[0])
    np.add.at(image, (rows[inside], columns[inside]), weight[inside])


def _peaks(votes: np.ndarray, tolerance: np.ndarray, n: int) -> np.ndarray:
    """Return the (column, row) of the n highest maxima of blurred votes."""
    from scipy.ndimage import gaussian_filter, maximum_filter

    blurred = gaussian_filter(votes, np.maximum(0.4 * tolerance[::-1], 0.5), mode="constant")
    size = 2 * np.maximum(np.rint(tolerance[::-1]), 1).astype(int) + 1
    rows, columns = np.nonzero((blurred == maximum_filter(blurred, size)) & (blurred > 0))
    order = np.argsort(-blurred[rows, columns], kind="stable")[:n]
    return np.stack([columns[order], rows[order]], axis=1).astype(float)


@numba.njit(cache=True)
def _count_pairs(places, weight, center, tolerance):
    """Return the weight of the spots that have a partner at the other side of a centre."""
    total = 0.0
    for i in range(len(places)):
        x, y = 2 * center[0] - places[i, 0], 2 * center[1] - places[i, 1]
        # the centre itself is its own partner
        if (
            abs(places[i, 0] - center[0]) < tolerance[0]
            and abs(places[i, 1] - center[1]) < tolerance[1]
        ):
            continue
        best = 0.0
        for j in range(len(places)):
            if abs(places[j, 0] - x) < tolerance[0] and abs(places[j, 1] - y) < tolerance[1]:
                best = max(best, min(weight[i], weight[j]))
        total += best
    return total
