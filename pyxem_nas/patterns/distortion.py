"""How a detector's image differs from the calibration: beam centre, scale, ellipticity.

Owns `CalibrationFit` and the way to it: where the spots of known orientations lie against where
they should, and the robust fit of that. Plain arrays; which positions of a scan are looked at, and
their orientations, belong to `map_refinement`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows

_WINDOW = 0.03  # 1/angstrom: standard deviation of the window that a spot is sought through
_LEAST_CONTRAST = 3.0  # of a spot over the noise around it
_TUKEY = 4.685  # standard deviations: 95 % as good as least squares where no outliers are
_N_ITERATIONS = 20


@dataclass(frozen=True, eq=False)
class CalibrationFit:
    """What a scan's own patterns say of its calibration.

    Parameters
    ----------
    center_shift
        (column, row) in pixels to add to the beam centre that was given.
    scale_factor
        Patterns are this much larger than the calibration says; the true size of a pixel in
        1/angstrom is the calibrated one divided by it.
    ellipticity
        Ratio of the long to the short axis of what should be circles, minus 1.
    azimuth
        Direction of the long axis in degrees, counter-clockwise from +x, y up; 0 to 180.
    distortion
        Matrix of shape (2, 2) that takes a true position (x, y), y up, to where the detector shows
        it: the argument of `index_phase_orientation`.
    correlation_before, correlation_after
        Mean correlation of the refined orientations without and with the fit, 0 to 1.
    n_patterns
        Number of patterns that were looked at.
    n_spots
        Number of their spots.
    spread
        Standard deviation of the spots from where they should be, 1/angstrom; robust.
    largest_spread
        Up to which spots are as near as those of a crystal that is there, at their contrast.

    See Also
    --------
    pyxem_nas.fit_distortion
    """

    center_shift: tuple[float, float]
    scale_factor: float
    ellipticity: float
    azimuth: float
    distortion: np.ndarray = field(repr=False)
    correlation_before: float
    correlation_after: float
    n_patterns: int
    n_spots: int
    spread: float = float("nan")
    largest_spread: float = float("nan")

    def __repr__(self) -> str:
        column, row = self.center_shift
        return (
            f"CalibrationFit of {self.n_spots} spots in {self.n_patterns} patterns\n"
            f"  centre: {column:+.2f} columns, {row:+.2f} rows\n"
            f"  scale: {100 * (self.scale_factor - 1):+.2f} %\n"
            f"  ellipticity: {100 * self.ellipticity:.2f} %, long axis at {self.azimuth:.0f} deg\n"
            f"  spots within {self.spread:.4f} 1/angstrom of where they should be\n"
            f"  mean correlation: {self.correlation_before:.3f} -> {self.correlation_after:.3f}"
        )


def describe_matrix(distortion: np.ndarray) -> tuple[float, float, float]:
    """Return scale factor, ellipticity and azimuth in degrees of a distortion matrix.

    Examples
    --------
    >>> scale, ellipticity, azimuth = describe_matrix(np.diag([1.0, 1.21]))
    >>> round(scale, 3), round(ellipticity, 3), round(azimuth)
    (1.1, 0.21, 90)
    """
    axes, lengths, _ = np.linalg.svd(distortion)
    azimuth = np.rad2deg(np.arctan2(axes[1, 0], axes[0, 0])) % 180
    return float(np.sqrt(lengths[0] * lengths[1])), float(lengths[0] / lengths[1] - 1), azimuth


def measure_spots(
    patterns: np.ndarray,
    owner: np.ndarray,
    expected: np.ndarray,
    scale: tuple[float, float],
    mask: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Find spots near where they are expected.

    Parameters
    ----------
    patterns
        Stack of shape (n, ny, nx), real and finite.
    owner
        Pattern of each spot, shape (m,).
    expected
        Where it should be, (column, row) in pixels, shape (m, 2).
    scale
        Size of a pixel along y and x in 1/angstrom.
    mask
        True where a pixel is left out, shape (ny, nx).

    Returns
    -------
    displacement
        (column, row) in pixels from where it is expected to where it is, shape (m, 2).
    weight
        0 where no spot stands out, up to 1; shape (m,).
    """
    hidden = np.zeros(patterns.shape[1:], bool) if mask is None else np.asarray(mask, bool)
    sigma = np.maximum(_WINDOW / np.array(scale), 1.2)
    displacement, weight = np.zeros((len(owner), 2)), np.zeros(len(owner))
    run_rows(
        _measure,
        len(owner),
        np.ascontiguousarray(patterns, np.float32),
        np.asarray(owner, np.int64),
        np.ascontiguousarray(expected, np.float64),
        sigma[0],
        sigma[1],
        hidden,
        displacement,
        weight,
    )
    return displacement, weight


@numba.njit(cache=True, nogil=True)
def _measure(
    start, stop, patterns, owner, expected, sigma_y, sigma_x, hidden, displacement, weight
):  # fmt: skip
    """Mean shift through a Gaussian window, of what rises over the window's edge."""
    ny, nx = hidden.shape
    # the edge lies outside of broad spots; neighbours on it are few: it is seen by medians
    reach_y, reach_x = int(np.ceil(3 * sigma_y)), int(np.ceil(3 * sigma_x))
    for k in range(start, stop):
        image = patterns[owner[k]]
        x, y = expected[k, 0], expected[k, 1]
        contrast = 0.0
        for _ in range(12):
            x0, y0 = int(np.round(x)), int(np.round(y))
            if not (reach_x <= x0 < nx - reach_x and reach_y <= y0 < ny - reach_y):
                contrast = 0.0
                break
            # the edge of the window tells background and noise
            edge = np.empty(4 * (reach_x + reach_y))
            n_edge, n_hidden = 0, 0
            for row in range(y0 - reach_y, y0 + reach_y + 1):
                for column in range(x0 - reach_x, x0 + reach_x + 1):
                    n_hidden += hidden[row, column]
                    if abs(row - y0) == reach_y or abs(column - x0) == reach_x:
                        edge[n_edge] = image[row, column]
                        n_edge += 1
            if n_hidden > 0:
                contrast = 0.0
                break
            level = np.median(edge)
            noise = 1.4826 * np.median(np.abs(edge - level)) + 0.3 * np.sqrt(max(level, 0.0)) + 1e-9
            total, sum_x, sum_y, highest = 0.0, 0.0, 0.0, 0.0
            for row in range(y0 - reach_y, y0 + reach_y + 1):
                for column in range(x0 - reach_x, x0 + reach_x + 1):
                    value = max(image[row, column] - level, 0.0)
                    u, v = (column - x) / sigma_x, (row - y) / sigma_y
                    value *= np.exp(-0.5 * (u * u + v * v))
                    total += value
                    sum_x += value * (column - x)
                    sum_y += value * (row - y)
                    highest = max(highest, value)
            if total <= 0:
                contrast = 0.0
                break
            contrast = highest / noise
            step_x, step_y = sum_x / total, sum_y / total
            # a Gaussian spot under a Gaussian window shows half its way, and more if narrower
            x += 1.5 * step_x
            y += 1.5 * step_y
            if step_x * step_x + step_y * step_y < 1e-4:
                break
        displacement[k, 0], displacement[k, 1] = x - expected[k, 0], y - expected[k, 1]
        far = ((x - expected[k, 0]) / sigma_x) ** 2 + ((y - expected[k, 1]) / sigma_y) ** 2 > 6.25
        if contrast > _LEAST_CONTRAST and not far:
            weight[k] = min(contrast / 20.0, 1.0)


def fit_displacements(
    positions: np.ndarray, displacement: np.ndarray, weight: np.ndarray, owner: np.ndarray
) -> tuple[np.ndarray, np.ndarray, int]:
    """Fit a common matrix, and each pattern's own offset, to displacements of spots.

    Parameters
    ----------
    positions
        Where spots should be, (x, y) in 1/angstrom, shape (m, 2).
    displacement
        How far from there they are, same unit and shape.
    weight
        Shape (m,), 0 leaves a spot out.
    owner
        Pattern of each spot, shape (m,).

    Returns
    -------
    matrix
        Shape (2, 2): displacement = offset + matrix @ position. Its antisymmetric part is a turn
        about the beam.
    offset
        Median of the patterns' offsets, shape (2,).
    n_used
        Number of spots that the fit did not leave out.

    Notes
    -----
    Iteratively reweighted least squares with Tukey's biweight; the spread is the median absolute
    deviation. Offsets of the patterns (descan) are eliminated by taking weighted means off.

    References
    ----------
    Holland, P. W. and Welsch, R. E. (1977) Comm. Statist. A 6, 813, doi:10.1080/03610927708827533.
    """
    _, owner = np.unique(owner, return_inverse=True)
    n_patterns = owner.max(initial=-1) + 1

    def means(values: np.ndarray, w: np.ndarray) -> np.ndarray:
        total = np.bincount(owner, w, n_patterns)
        sums = [np.bincount(owner, w * column, n_patterns) for column in values.T]
        return np.stack(sums, axis=1) / np.maximum(total, 1e-12)[:, None]

    robust = np.ones(len(weight))
    for _ in range(_N_ITERATIONS):
        w = weight * robust
        mean_x, mean_d = means(positions, w), means(displacement, w)
        x, d = positions - mean_x[owner], displacement - mean_d[owner]
        root = np.sqrt(w)[:, None]
        matrix = np.linalg.lstsq(x * root, d * root, rcond=None)[0].T
        distance = np.linalg.norm(d - x @ matrix.T, axis=1)
        # the median length of a two-dimensional normal deviate is 1.18 standard deviations
        spread = np.median(distance[weight > 0]) / 1.18 + 1e-9
        robust = np.clip(1 - (distance / (_TUKEY * spread)) ** 2, 0, None) ** 2
    seen = np.bincount(owner, weight * robust, n_patterns) > 0
    offsets = (mean_d - mean_x @ matrix.T)[seen]
    return matrix, np.median(offsets, axis=0), int(((weight > 0) & (robust > 0)).sum())
