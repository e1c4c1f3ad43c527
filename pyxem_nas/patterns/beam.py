"""Where the direct beam is: found in the patterns of a scan.

Owns the choice among bright spots, by the inversion symmetry of all spots' positions and by what
all positions of the scan share, and the beam's place in each pattern. What a user states of the
centre is `calibration`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from pyxem_nas.patterns.kernel import to_native

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

__all__ = ["BeamSearch", "beam_position", "find_centers", "search_beam"]

_N_SIDE = 12  # positions of the scan along each axis whose spots are looked at
_N_SPOTS = 60  # of a pattern, the highest
_SPOT = 0.03  # 1/angstrom: blur that joins a spot's pixels
_BACKGROUND = 0.08  # 1/angstrom: blur that leaves the background
_LEAST_HEIGHT = 5.0  # standard deviations of the noise
_TOLERANCE = 0.03  # 1/angstrom: two places are one
_REACH = 0.12  # 1/angstrom from where the beam is expected to where it may be in a pattern
_N_CANDIDATES = 16
_ENOUGH_PIXELS = 320  # along a side, for finding spots
_DISC = 0.08  # 1/angstrom around a place whose light is summed: a saturated beam is wide
_HALO = 0.1, 25  # 1/angstrom around a place, and the percentile there that spots do not reach
# of symmetry, presence, halo, distance from the middle and dominance: a conditional logit fitted
# by `benchmarks/beam.py --fit`; figures are reported on other seeds and another set of patterns
# (dominance 0.55 there, where the beam is the brightest spot in a third of the scans; 2.0 for
# microscopes, where it is in about four of five)
_WEIGHTS = np.array([9.9, 2.6, 1.9, -13.0, 2.0])
_LEAST_SHOWN = 0.7  # share of the pixels near the beam; else it is behind a stop
_CLEAR = 0.8  # probability of a place from which on the choice is sure


@dataclass(frozen=True, eq=False)
class BeamSearch:
    """Direct-beam positions that were found, and how sure they are.

    Parameters
    ----------
    centers
        (column, row) in pixels, float32, shape (..., 2) over the navigation axes.
    seen
        Whether the beam is seen in the pattern itself; else its place is that of its neighbours.
        Shape of the navigation axes.
    probability
        That the place chosen is the beam, not another spot or the middle of two.
    others
        (column, row, probability) of other places, best first, shape (k, 3).
    was_sought
        False where the positions are those that a user stated.
    """

    centers: np.ndarray = field(repr=False)
    seen: np.ndarray = field(repr=False)
    probability: float
    others: np.ndarray = field(repr=False)
    was_sought: bool = False

    @property
    def is_open(self) -> bool:
        """Whether another place may be the beam as well."""
        return self.probability < _CLEAR


def find_centers(
    s: BaseSignal, scale: tuple[float, float], mask: np.ndarray | None = None
) -> np.ndarray:
    """Return the direct-beam positions of `search_beam`, shape (..., 2)."""
    return search_beam(s, scale, mask).centers


def search_beam(
    s: BaseSignal, scale: tuple[float, float], mask: np.ndarray | None = None
) -> BeamSearch:
    """Find the direct beam in the patterns of a scan.

    Parameters
    ----------
    s
        Signal, eager or lazy.
    scale
        Size of a pixel along y and x in 1/angstrom.
    mask
        True where a pixel is left out, shape (ny, nx): a beam may be behind it.

    Returns
    -------
    found
        Positions and how sure they are.

    Notes
    -----
    Spots are located in up to 144 patterns. Each place where spots come together, or the middles of
    pairs do, is scored: how many spots have a partner at its other side, beyond chance; in how many
    patterns there is a spot (how bright it is says nothing); how bright the halo around it is, of
    electrons that lost energy; how far from the detector's middle it lies. In each pattern the beam
    is then the centre of mass near the place that won. A plane is fitted to all of them (descan),
    and where a pattern's own is off it, or there is none, the plane's is taken: the beam jumps
    nowhere.
    """
    data = s.data
    nav_shape = data.shape[:-2]
    shown = np.ones(data.shape[-2:], bool) if mask is None else ~np.asarray(mask, bool)
    patterns = read_sample(data)
    spots = [locate_spots(pattern, shown, scale) for pattern in patterns]
    places = list_places(spots, shown.shape, scale)
    scores = describe_places(places, spots, patterns, shown, scale) @ _WEIGHTS
    likely = np.exp(scores - scores.max())
    likely /= likely.sum()
    order = np.argsort(-likely, kind="stable")
    places, likely = places[order], likely[order]
    # a beam that wanders has several places
    same = np.linalg.norm((places - places[0]) * scale[::-1], axis=1) < 2.5 * _TOLERANCE
    reach = max(2, round(_REACH / float(np.mean(scale))))
    first = _center_of_pairs(spots, places[0], scale)
    around = shown[
        tuple(slice(max(round(c) - reach, 0), round(c) + reach + 1) for c in first[::-1])
    ]
    if around.mean() >= _LEAST_SHOWN:
        first = _settle(np.where(shown, patterns.mean(axis=0), np.float32(0)), *first, reach)
    if around.mean() < _LEAST_SHOWN:
        centers = np.broadcast_to([*first, 0], (*nav_shape, 3)).astype(np.float32)
    elif nav_shape:
        centers = _locate_all(data, first, reach, shown)
    else:
        centers = _locate(to_native(np.asarray(data)[None]), first, reach, shown)[0]
    centers, seen = _smooth(centers, first, nav_shape, _TOLERANCE / float(np.mean(scale)))
    others = np.column_stack([places, likely])[~same][:5]
    return BeamSearch(centers, seen, float(likely[same].sum()), others, True)


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
    size = 2 * np.maximum(np.rint(_TOLERANCE / sizes), 1).astype(int) + 1
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
        near = np.hypot((x[:k] - x[k]) * sizes[1], (y[:k] - y[k]) * sizes[0]) < 2 * _TOLERANCE
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
    tolerance = _TOLERANCE / np.array(scale)[::-1]  # columns, rows
    angles = 2 * np.pi * np.arange(8) / 8
    shifts = 3 * tolerance * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    symmetry, presence, total = np.zeros(len(places)), np.zeros(len(places)), 1e-9
    for found in spots:
        if not len(found):
            continue
        weight = (found[:, 2] / found[0, 2]) ** 0.25
        total += weight.sum()
        for k, place in enumerate(places):
            presence[k] += (np.abs((found[:, :2] - place) / tolerance).max(axis=1) < 1).any()
            symmetry[k] += _count_pairs(found[:, :2], weight, place, tolerance)
            for shift in shifts:
                symmetry[k] -= _count_pairs(found[:, :2], weight, place + shift, tolerance) / 8
    halo = _light_around(places, patterns, shown, scale)
    columns, rows = np.rint(places).astype(int).T.clip(0, [[nx - 1], [ny - 1]])
    presence = np.where(shown[rows, columns], presence, 0.5 * len(spots))  # no spot can be seen
    off = np.linalg.norm((places - middle) / np.array([nx, ny]), axis=1)
    dominance = _measure_dominance(places, patterns, shown, scale)
    return np.stack([symmetry / total, presence / len(spots), halo, off, dominance], axis=1)


def _measure_dominance(
    places: np.ndarray, patterns: np.ndarray, shown: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """Return the logarithm of how much brighter the brightest place is than the next, else 0."""
    mean = np.where(shown, patterns.mean(axis=0), 0)
    mean = np.maximum(mean - np.median(mean[shown]) if shown.any() else mean, 0)
    rows, columns = np.indices(mean.shape)
    light = np.zeros(len(places))
    for k, (x, y) in enumerate(places):
        light[k] = mean[np.hypot((columns - x) * scale[1], (rows - y) * scale[0]) < _DISC].sum()
    dominance = np.zeros(len(places))
    best = int(light.argmax())
    apart = np.linalg.norm((places - places[best]) * scale[::-1], axis=1) > 2 * _DISC
    if light[best] > 0 and apart.any():
        dominance[best] = np.log(light[best] / max(light[apart].max(), 1e-3 * light[best]))
        # the places of one disc share it
        dominance[~apart] = np.where(light[~apart] > 0.8 * light[best], dominance[best], 0)
    return dominance


def _center_of_pairs(
    spots: list[np.ndarray], place: np.ndarray, scale: tuple[float, float]
) -> np.ndarray:
    """Return a place as the middles of the pairs of spots about it say, (column, row)."""
    tolerance = _TOLERANCE / np.array(scale)[::-1]
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
        around = shown & (radius > 1.2 * _TOLERANCE) & (radius < _HALO[0])
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
    tolerance = _TOLERANCE / np.array(scale)[::-1]
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


# ------------------------------------------------------------------------- in each pattern


def _locate_all(data: Any, first: np.ndarray, reach: int, shown: np.ndarray) -> np.ndarray:
    """Return the beam near a place in each pattern, (..., 3): column, row, 1 where it is seen."""
    import dask.array as da

    if isinstance(data, np.ndarray):
        data = da.from_array(data, chunks=_chunks(data.shape))
    data = data.rechunk({-1: -1, -2: -1})

    def locate(block: np.ndarray) -> np.ndarray:
        found = _locate(to_native(block.reshape(-1, *block.shape[-2:])), first, reach, shown)
        return found.reshape(*block.shape[:-2], 3)

    found = data.map_blocks(
        locate,
        dtype=np.float32,
        chunks=(*data.chunks[:-2], (3,)),
        drop_axis=data.ndim - 1,
        meta=np.empty((0,) * (data.ndim - 1), np.float32),
    )
    return np.asarray(found.compute())


def _locate(patterns: np.ndarray, first: np.ndarray, reach: int, shown: np.ndarray) -> np.ndarray:
    """Return column, row and 1 where a beam is seen, of each pattern of a stack."""
    column, row = round(float(first[0])), round(float(first[1]))
    found = np.empty((len(patterns), 3), np.float32)
    for i, pattern in enumerate(patterns):
        found[i] = _locate_one(pattern, column, row, reach, shown)
    return found


@numba.njit(cache=True)
def _locate_one(pattern, column, row, reach, shown):
    """Return the beam's place in a pattern; not seen where it is flat or mostly hidden."""
    ny, nx = pattern.shape
    x, y = _settle(pattern, float(column), float(row), reach)
    half = reach
    n, hidden, highest, edge, n_edge = 0, 0, 0.0, 0.0, 0
    for i in range(max(round(y) - half, 0), min(round(y) + half + 1, ny)):
        for j in range(max(round(x) - half, 0), min(round(x) + half + 1, nx)):
            n += 1
            value = float(pattern[i, j])
            if not shown[i, j]:
                hidden += 1
            elif value < 3e38:
                highest = max(highest, value)
                if abs(i - round(y)) == half or abs(j - round(x)) == half:
                    edge += value
                    n_edge += 1
    seen = highest > 0 and hidden * 8 < n and n_edge > 0 and edge / max(n_edge, 1) < 0.7 * highest
    return x, y, 1.0 if seen else 0.0


@numba.njit(cache=True)
def _settle(pattern, x, y, reach):
    """Return the centre of mass near a place, in a window that follows it: it holds all of it."""
    start_x, start_y = x, y
    for _ in range(4):
        column, row = round(x), round(y)
        x, y = beam_position(pattern, column, row, reach)
        if round(x) == column and round(y) == row:
            break
    if abs(x - start_x) > reach or abs(y - start_y) > reach:  # it ran away to another spot
        return beam_position(pattern, round(start_x), round(start_y), reach)
    return x, y


@numba.njit(cache=True)
def beam_position(pattern, column, row, reach):
    """Return the centre of mass (column, row) of what rises over half the maximum near a pixel."""
    ny, nx = pattern.shape
    highest = 0.0
    for y in range(max(row - reach, 0), min(row + reach + 1, ny)):
        for x in range(max(column - reach, 0), min(column + reach + 1, nx)):
            value = float(pattern[y, x])
            if value > highest and value < 3e38:
                highest = value
    total, sum_x, sum_y = 0.0, 0.0, 0.0
    for y in range(max(row - reach, 0), min(row + reach + 1, ny)):
        for x in range(max(column - reach, 0), min(column + reach + 1, nx)):
            weight = float(pattern[y, x]) - 0.5 * highest
            if weight > 0 and weight < 3e38:
                total += weight
                sum_x += weight * x
                sum_y += weight * y
    if total <= 0:
        return float(column), float(row)
    return sum_x / total, sum_y / total


def _smooth(
    found: np.ndarray, first: np.ndarray, nav_shape: tuple[int, ...], tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return centres without jumps, and where each pattern's own was kept."""
    own = found[..., :2].reshape(-1, 2).astype(float)
    seen = found[..., 2].reshape(-1) > 0
    if seen.sum() < 12:  # too few for a plane
        place = np.median(own[seen], axis=0) if seen.any() else np.asarray(first, float)
        plane = np.broadcast_to(place, own.shape)
    else:
        index = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in nav_shape), indexing="ij"))
        terms = np.column_stack([np.ones(len(own)), index.reshape(len(nav_shape), -1).T])
        keep = seen.copy()
        for _ in range(10):
            fit, *_ = np.linalg.lstsq(terms[keep], own[keep], rcond=None)
            plane = terms @ fit
            away = np.linalg.norm(own - plane, axis=1)
            spread = 1.4826 * np.median(away[keep])
            now = seen & (away < max(4 * spread, 0.5))
            if np.array_equal(now, keep) or now.sum() < 12:
                break
            keep = now
    away = np.linalg.norm(own - plane, axis=1)
    limit = max(1.5 * tolerance, 5 * 1.4826 * float(np.median(away[seen])) if seen.any() else 0.0)
    kept = seen & (away < limit)
    centers = np.where(kept[:, None], own, plane).astype(np.float32)
    return centers.reshape(*nav_shape, 2), kept.reshape(nav_shape)


def _chunks(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return chunks of whole patterns of about 64 MiB."""
    n = max(1, int(2**26 // (8 * shape[-1] * shape[-2])))
    side = max(1, int(n ** (1 / max(len(shape) - 2, 1))))
    return (*(min(side, m) for m in shape[:-2]), *shape[-2:])
