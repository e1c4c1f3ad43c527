"""Where the direct beam is: found in the patterns of a scan.

Owns the beam's place in each pattern, and that it jumps nowhere. Which of the spots it is,
`beam_places` says; what a user states of the centre is `calibration`'s.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from pyxem_nas.patterns.beam_places import (
    TOLERANCE,
    WEIGHTS,
    center_of_pairs,
    describe_places,
    list_places,
    locate_spots,
    read_sample,
)
from pyxem_nas.patterns.kernel import to_native

if TYPE_CHECKING:
    from hyperspy.signals import BaseSignal

__all__ = ["BeamSearch", "beam_position", "find_centers", "search_beam"]

_REACH = 0.12  # 1/angstrom from where the beam is expected to where it may be in a pattern
_LEAST_SHOWN = 0.7  # share of the pixels near the beam; else it is behind a stop
_LEAST_PRESENCE = 0.25  # share of the patterns with a spot where the beam is
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
    electrons that lost energy; how alike the background is at its two sides; how far from the
    detector's middle it lies. In each pattern the beam is then the centre of mass near the place
    that won. A plane is fitted to all of them (descan), and where a pattern's own is off it, or
    there is none, the plane's is taken: the beam jumps nowhere.
    """
    data = s.data
    nav_shape = data.shape[:-2]
    shown = np.ones(data.shape[-2:], bool) if mask is None else ~np.asarray(mask, bool)
    patterns = read_sample(data)
    spots = [locate_spots(pattern, shown, scale) for pattern in patterns]
    places = list_places(spots, shown.shape, scale)
    described = describe_places(places, spots, patterns, shown, scale)
    scores = described @ WEIGHTS
    likely = np.exp(scores - scores.max())
    likely /= likely.sum()
    order = np.argsort(-likely, kind="stable")
    places, likely = places[order], likely[order]
    # a beam that wanders has several places
    same = np.linalg.norm((places - places[0]) * scale[::-1], axis=1) < 2.5 * TOLERANCE
    reach = max(2, round(_REACH / float(np.mean(scale))))
    first = center_of_pairs(spots, places[0], scale)
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
    centers, seen = _smooth(centers, first, nav_shape, TOLERANCE / float(np.mean(scale)))
    probability = float(likely[same].sum())
    if described[order[0], 1] < _LEAST_PRESENCE:
        probability *= 0.9 * _CLEAR  # a beam that is seen nowhere is a guess
    left = likely[~same] * (1 - probability) / max(likely[~same].sum(), 1e-300)
    others = np.column_stack([places[~same], left])[:5]
    return BeamSearch(centers, seen, probability, others, True)


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
    x, y = float(column), float(row)
    for widening in range(1, 4):  # a saturated disc may fill the window
        half = widening * reach
        x, y = _settle(pattern, float(column), float(row), half)
        if _stands_out(pattern, x, y, half, shown):
            return x, y, 1.0
    return x, y, 0.0


@numba.njit(cache=True)
def _stands_out(pattern, x, y, half, shown):
    """Return whether a window is shown and darker at its edge than within."""
    ny, nx = pattern.shape
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
    return highest > 0 and hidden * 8 < n and n_edge > 0 and edge / max(n_edge, 1) < 0.7 * highest


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
