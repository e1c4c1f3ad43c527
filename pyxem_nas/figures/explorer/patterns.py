"""Patterns for the explorer's file: which, how small, in how many levels.

Owns the choice of positions whose patterns are embedded, their binning and their rounding, so that
the file keeps to its size. Lazy scans are read piece by piece. Centres come from `patterns`.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pyxem_nas.diffraction import laue_operations
from pyxem_nas.maps import NOT_INDEXED, best_rotations, segment_grains

if TYPE_CHECKING:
    from pyxem_nas.figures.solutions import SolutionViewer

__all__ = ["EmbeddedPatterns", "PatternReader", "embed_patterns", "reduce_pattern"]

N_LEVELS = 64
_LIVE_LEVELS, _LIVE_SIDE = 256, 288  # of a pattern that is sent when it is clicked
_PER_CHUNK = 16  # patterns that are decompressed together when one of them is clicked
_SIDES = (192, 144, 112, 72)  # longest side in pixels: the first that fits all positions is taken
_FEWER_SIDE = 112  # where even the smallest does not: fewer positions, but patterns that show
_SAMPLE = 24  # patterns whose compressed size is measured
_BATCH = 64 * 2**20  # bytes of raw patterns in memory
_BEAM = 0.12  # radius of the direct beam, 1/angstrom: it does not set the brightness
_MIN_GRAIN = 4  # positions of a grain that gets a pattern of its own


@dataclass(frozen=True)
class EmbeddedPatterns:
    """Patterns as the page holds them.

    Parameters
    ----------
    header
        Plain values: shape, factor, patterns per chunk, how many of how many.
    positions
        Row-major grid position of each pattern, rising, int32.
    scales
        Counts that level 63 stands for, float32: counts = scale (level / 63)^2.
    centers
        Direct beam (column, row) in pixels of the camera, float32, shape (n, 2).
    chunks
        Levels of 16 patterns each, compressed by deflate.
    """

    header: dict[str, Any]
    positions: np.ndarray = field(repr=False)
    scales: np.ndarray = field(repr=False)
    centers: np.ndarray = field(repr=False)
    chunks: list[bytes] = field(repr=False)


def embed_patterns(viewer: SolutionViewer, *, budget: int) -> EmbeddedPatterns:
    """Return the patterns of as many positions of a scan as fit, binned where that lets more fit.

    Parameters
    ----------
    viewer
        Scan, map and frames.
    budget
        Bytes that the compressed patterns may take.
    """
    n_all = len(viewer.rows)
    shape = viewer.detector.shape
    factors = sorted({max(1, -(-max(shape) // side)) for side in _SIDES})
    sample = np.unique(np.linspace(0, n_all - 1, _SAMPLE).astype(int))
    images, centers = next(_read(viewer, sample))
    sizes = {f: _measure(images, centers, viewer, f) for f in factors}
    fitting = [f for f in factors if sizes[f] * n_all <= budget]
    fewer = max(1, -(-max(shape) // _FEWER_SIDE))
    factor = fitting[0] if fitting else min(factors, key=lambda f: abs(f - fewer))
    n = n_all if fitting else max(1, int(budget / sizes[factor]))
    positions = np.arange(n_all) if n >= n_all else _choose(viewer, n)
    levels, scales, kept = [], [], []
    for part, center in _read(viewer, positions):
        reduced = [
            reduce_pattern(image, c, factor, _beam_radius(viewer))
            for image, c in zip(part, center, strict=True)
        ]
        levels += [level for level, _ in reduced]
        scales += [scale for _, scale in reduced]
        kept.append(center)
    header = {
        "shape": levels[0].shape,
        "factor": factor,
        "per_chunk": _PER_CHUNK,
        "n": len(positions),
        "n_all": n_all,
        "levels": N_LEVELS,
    }
    chunks = [
        zlib.compress(np.stack(levels[i : i + _PER_CHUNK]).tobytes(), 9)
        for i in range(0, len(levels), _PER_CHUNK)
    ]
    return EmbeddedPatterns(
        header,
        positions.astype(np.int32),
        np.array(scales, np.float32),
        np.concatenate(kept).astype(np.float32),
        chunks,
    )


class PatternReader:
    """Reads the pattern of one position of a scan, for a page that is alive.

    Parameters
    ----------
    viewer
        Scan, map and frames.
    """

    def __init__(self, viewer: SolutionViewer) -> None:
        self._viewer = viewer

    def read(self, position: int) -> tuple[dict[str, Any], np.ndarray]:
        """Return what the page must know of the pattern at a row-major position, and its levels.

        Raises
        ------
        IndexError
            If the scan has no such position.
        """
        viewer = self._viewer
        if not 0 <= position < len(viewer.rows):
            raise IndexError(f"the scan has {len(viewer.rows)} positions, got {position!r}")
        images, centers = next(_read(viewer, np.array([position])))
        factor = max(1, -(-max(viewer.detector.shape) // _LIVE_SIDE))
        levels, scale = reduce_pattern(
            images[0], centers[0], factor, _beam_radius(viewer), n_levels=_LIVE_LEVELS
        )
        about = {
            "shape": levels.shape,
            "factor": factor,
            "highest": _LIVE_LEVELS - 1,
            "scale": scale,
            "center": [float(c) for c in centers[0]],
        }
        return about, levels


def reduce_pattern(
    image: np.ndarray,
    center: np.ndarray,
    factor: int,
    beam_radius: tuple[float, float],
    *,
    n_levels: int = N_LEVELS,
) -> tuple[np.ndarray, float]:
    """Return a pattern as levels of its square root, uint8, and the counts of the highest level.

    Parameters
    ----------
    image
        Counts, shape (ny, nx).
    center
        Direct beam (column, row) in pixels.
    factor
        Pixels along each side that are averaged into one.
    beam_radius
        Half axes (columns, rows) in pixels of the direct beam: brighter than the rest it is cut.
    n_levels
        Number of levels, up to 256.
    """
    counts = bin_patterns(np.nan_to_num(np.asarray(image, np.float32)).clip(0), factor)
    rows, columns = np.ogrid[: counts.shape[0], : counts.shape[1]]
    column, row = (np.asarray(center, float) + 0.5) / factor - 0.5
    a, b = (max(radius / factor, 1.0) for radius in beam_radius)
    outside = ((columns - column) / a) ** 2 + ((rows - row) / b) ** 2 > 1
    highest = float(counts[outside].max(initial=0))
    if highest <= 0:
        highest = float(counts.max(initial=0))
    share = np.sqrt(np.minimum(counts / highest, 1)) if highest > 0 else np.zeros_like(counts)
    return np.round((n_levels - 1) * share).astype(np.uint8), highest


def bin_patterns(images: np.ndarray, factor: int) -> np.ndarray:
    """Return the mean over squares of `factor` pixels; what is over at the far edges is cut."""
    if factor == 1:
        return images
    *lead, ny, nx = images.shape
    ny, nx = ny // factor, nx // factor
    cut = images[..., : ny * factor, : nx * factor]
    return cut.reshape(*lead, ny, factor, nx, factor).mean(axis=(-3, -1))


def _beam_radius(viewer: SolutionViewer) -> tuple[float, float]:
    scale_y, scale_x = viewer.detector.scale
    return _BEAM / scale_x, _BEAM / scale_y


def _measure(images: np.ndarray, centers: np.ndarray, viewer: SolutionViewer, factor: int) -> float:
    """Return the mean compressed size of patterns in bytes."""
    radius = _beam_radius(viewer)
    levels = [
        reduce_pattern(image, center, factor, radius)[0]
        for image, center in zip(images, centers, strict=True)
    ]
    return len(zlib.compress(np.stack(levels).tobytes(), 9)) / len(levels) + 12  # its numbers


def _choose(viewer: SolutionViewer, n: int) -> np.ndarray:
    """Return n positions: one in each of the larger grains, the others on a regular lattice."""
    shape = viewer.grid_shape
    ny, nx = shape
    grains = _segment(viewer).reshape(shape)
    chosen: list[int] = []
    numbers, counts = np.unique(grains[grains >= 0], return_counts=True)
    order = np.argsort(-counts, kind="stable")
    wanted = set(numbers[order][counts[order] >= _MIN_GRAIN][: n // 2].tolist())
    rows, columns = np.nonzero(grains >= 0)
    labels = grains[rows, columns]
    sort = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[sort], numbers)
    for number, members in zip(numbers, np.split(sort, bounds[1:]), strict=True):
        if number in wanted:
            y, x = rows[members], columns[members]
            nearest = np.argmin((y - y.mean()) ** 2 + (x - x.mean()) ** 2)
            chosen.append(int(y[nearest] * nx + x[nearest]))
    step = np.sqrt(ny * nx / max(n - len(chosen), 1))
    lattice = [
        np.arange(step / 2, size, step).astype(int) if size > 1 else np.zeros(1, int)
        for size in (ny, nx)
    ]
    regular = (lattice[0][:, np.newaxis] * nx + lattice[1]).ravel()
    return np.unique(np.concatenate([np.array(chosen, int), regular]))[: max(n, 1)]


def _segment(viewer: SolutionViewer) -> np.ndarray:
    """Return the grain of each position of the grid, -1 for none."""
    xmap, rows = viewer.xmap, viewer.rows
    ids = {int(i): k for k, i in enumerate(i for i in xmap.phases.ids if i != NOT_INDEXED)}
    phases = [xmap.phases[i] for i in ids]
    if any(phase.point_group is None for phase in phases):
        return np.full(len(rows), -1)
    phase_id = np.full(len(rows), -1)
    quaternions = np.tile([1.0, 0, 0, 0], (len(rows), 1))
    there = rows >= 0
    phase_id[there] = [ids.get(int(i), -1) for i in xmap.phase_id[rows[there]]]
    quaternions[there] = best_rotations(xmap).data[rows[there]]
    operations = [laue_operations(phase) for phase in phases]
    return segment_grains(phase_id, quaternions, viewer.grid_shape, operations)


def _read(viewer: SolutionViewer, positions: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield patterns (m, ny, nx) and their centres (m, 2), batch by batch."""
    data = viewer.signal.data
    shape = data.shape[:-2]
    flat_centers = None if viewer.centers is None else viewer.centers.reshape(-1, 2)
    bytes_each = int(np.prod(data.shape[-2:])) * data.dtype.itemsize
    size = max(1, _BATCH // bytes_each)
    for start in range(0, len(positions), size):
        part = positions[start : start + size]
        images = _take(data, shape, part)
        if flat_centers is None:
            centers = viewer.locate_beams(images)
        else:
            centers = flat_centers[part]
        yield images, centers


def _take(data: Any, shape: tuple[int, ...], positions: np.ndarray) -> np.ndarray:
    """Return patterns of eager or lazy data, shape (m, ny, nx); a chunk is read once."""
    if not shape:
        return np.asarray(data)[np.newaxis]
    index = np.unravel_index(positions, shape)
    if isinstance(data, np.ndarray):
        return data[index]
    return np.asarray(data.vindex[tuple(list(i) for i in index)].compute())
