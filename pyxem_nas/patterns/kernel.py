"""Polar intensity descriptors of diffraction patterns.

Owns the one compiled kernel behind every path: measured patterns, simulated images and the polar
patterns that refinement and template matching correlate with. What a descriptor is, `spec` says;
the blur before it is `blur`'s, where a detector is sampled `sampler`'s. Knows arrays and pixels
only; calibration belongs to `calibration`, HyperSpy to `signals`, what is in a pattern to
`diffraction` and `scans`.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.patterns.blur import FASTMATH, blur_into, make_blur_work
from pyxem_nas.patterns.sampler import PolarSampler

_FASTMATH_FINITE = FASTMATH | {"nnan", "ninf"}  # for what `_clean` has been through
_N_QUARTERINGS = 6  # the ring median is exact to 4**-6 of the ring's range
_OUTSIDE = np.float32(-9)  # in place of a fraction: the sampling point is not on the detector
_BLANK = np.float32(3e38)  # above every intensity
_FLAT = np.float32(1e-3)  # a ring whose spread is below this share of its level holds no signal
_LANES = 32  # rings are filled up to a multiple: no loop over the odd bins that remain
_N_RINGS = 8  # rings that are sampled together
_GROUP = 16  # patterns that share one thread's scratch


def to_native(patterns: np.ndarray) -> np.ndarray:
    """Return patterns, any real dtype, as a contiguous array of a type that compiled code takes.

    uint8 and uint16 stay, all else becomes float32, the precision of the kernel: few types are
    compiled, of native byte order, and not once more for read-only arrays.
    """
    kept = patterns.dtype.kind == "u" and patterns.dtype.itemsize <= 2
    dtype = patterns.dtype.newbyteorder("=") if kept else np.dtype(np.float32)
    with np.errstate(over="ignore"):  # too large for the type is infinite, hence no count
        native = np.ascontiguousarray(patterns, dtype)
    return native if native.flags.writeable else native.copy()


def compute_descriptors(
    patterns: np.ndarray, centers: np.ndarray, sampler: PolarSampler
) -> tuple[np.ndarray, ...]:
    """Compute the descriptors of a stack of patterns, one array per specification.

    Parameters
    ----------
    patterns
        Stack of shape (n, ny, nx), any real dtype, counts. NaN, infinite and negative pixels count
        as empty.
    centers
        Direct-beam position of each pattern, shape (n, 2), as (column, row) in pixels.
    sampler
        From `make_sampler` for this detector.

    Returns
    -------
    descriptors
        For each specification an array of shape (n, n_radial, n_azimuthal), float32, unit root mean
        square; all zero for a pattern without signal.
    """
    outputs = tuple(np.empty((len(patterns), *spec.shape), np.float32) for spec in sampler.specs)
    run_rows(
        _describe_stack,
        len(patterns),
        patterns,
        centers.astype(np.float32),
        sampler.offsets,
        np.array([spec.subtracts_background for spec in sampler.specs]),
        *sampler.kernels,
        sampler.pixel_weight,
        sampler.normalisation,
        outputs,
        rows=_GROUP,
    )
    return outputs


# --------------------------------------------------------------------------- the kernel
# Long flat loops over pieces that fit the first-level cache: each runs on vector registers, except
# the gather. Arrays are sliced once per loop, not once per row, as slicing costs more than a row.


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, forceinline=True, error_model="numpy")
def _locate(center_x, center_y, dx, dy, shape, index, fraction_x, fraction_y):
    """Find the pixel and the place in it of each sampling point; `_OUTSIDE` marks those outside."""
    ny, nx = shape
    width = np.int32(nx)
    last_x, last_y = np.float32(nx - 1), np.float32(ny - 1)
    high_x, high_y = np.float32(nx - 1.001), np.float32(ny - 1.001)
    for a in range(dx.size):
        x = center_x + dx[a]
        y = center_y + dy[a]
        inside = (x >= 0) & (y >= 0) & (x <= last_x) & (y <= last_y)
        x = x if x > 0 else np.float32(0)
        x = x if x < high_x else high_x
        y = y if y > 0 else np.float32(0)
        y = y if y < high_y else high_y
        x0 = np.int32(x)
        y0 = np.int32(y)
        fraction_x[a] = x - np.float32(x0)
        fraction_y[a] = y - np.float32(y0) if inside else _OUTSIDE
        index[a] = y0 * width + x0


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, forceinline=True, error_model="numpy")
def _interpolate(flat, width, index, fraction_x, fraction_y, out):
    """Interpolate a flat image bilinearly."""
    below = flat[np.uint64(width) :]
    for a in range(index.size):
        i = np.uint64(np.uint32(index[a]))
        j = i + np.uint64(1)
        upper = flat[i] + fraction_x[a] * (flat[j] - flat[i])
        lower = below[i] + fraction_x[a] * (below[j] - below[i])
        out[a] = upper + fraction_y[a] * (lower - upper)


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, forceinline=True, error_model="numpy")
def _take_root(values, fraction_y, ring):
    """Fill a ring with square roots, -1 where unseen; return (least, greatest, number) of seen."""
    low = _BLANK
    high = np.float32(0)
    n_seen = np.float32(0)
    for a in range(values.size):
        value = values[a]
        # rounding may take an empty bin just below zero; only an unseen pixel takes it below -1
        seen = (value > np.float32(-0.5)) & (fraction_y[a] > _OUTSIDE)
        value = np.sqrt(value if value > 0 else np.float32(0))
        ring[a] = value if seen else np.float32(-1)
        n_seen += np.float32(1) if seen else np.float32(0)
        least = value if seen else _BLANK
        greatest = value if seen else np.float32(0)
        low = least if least < low else low
        high = greatest if greatest > high else high
    return low, high, n_seen


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, forceinline=True, error_model="numpy")
def _ring_median(ring, n_bins, low, high, n_seen):
    """Return the median of the seen bins of a ring, -1 if they are fewer than a quarter.

    `ring` is longer than its `n_bins`, filled up with `_BLANK`. Each pass leaves a quarter of the
    range, by three thresholds, so that the ring is read half as often as by bisection.
    """
    if 4 * n_seen < n_bins:
        return np.float32(-1)
    n_unseen = n_bins - int(n_seen)
    half = np.float32(n_unseen + (int(n_seen) + 1) // 2)
    quarter = np.float32(0.25) * (high - low)
    for _ in range(_N_QUARTERINGS):
        first = low + quarter
        second = first + quarter
        third = second + quarter
        n_first, n_second, n_third = np.float32(0), np.float32(0), np.float32(0)
        for a in range(ring.size):
            value = ring[a]
            n_first += np.float32(1) if value <= first else np.float32(0)
            n_second += np.float32(1) if value <= second else np.float32(0)
            n_third += np.float32(1) if value <= third else np.float32(0)
        above = second if n_third >= half else third
        above = first if n_second >= half else above
        low = low if n_first >= half else above
        quarter *= np.float32(0.25)
    return low + np.float32(2) * quarter


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, forceinline=True, error_model="numpy")
def _subtract(ring, level, out):
    """Fill `out` with what exceeds a level; return the sum of its squares."""
    power = np.float32(0)
    for a in range(out.size):
        value = ring[a] - level
        value = value if value > 0 else np.float32(0)
        out[a] = value
        power += value * value
    return power


@numba.njit(cache=True)
def _make_ring_work(n_azimuthal):
    """Return scratch of `_describe_into` for rings of up to `n_azimuthal` bins."""
    n = _N_RINGS * n_azimuthal
    index, ring = np.empty(n, np.int32), np.empty(n_azimuthal + _LANES, np.float32)
    return index, np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.float32), ring


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _describe_into(descriptor, blurred, center_x, center_y, offsets, subtract, work):
    """Fill one descriptor from a blurred pattern."""
    n_radial, n_azimuthal = descriptor.shape
    ring = work[4][: (n_azimuthal + _LANES - 1) // _LANES * _LANES]
    ring[n_azimuthal:] = _BLANK
    flat, dx, dy = blurred.ravel(), offsets[0].ravel(), offsets[1].ravel()
    power = np.float32(0)
    level = np.float32(0)
    for first in range(0, n_radial, _N_RINGS):
        last = min(first + _N_RINGS, n_radial)
        part = slice(first * n_azimuthal, last * n_azimuthal)
        n = (last - first) * n_azimuthal
        index, fraction_x, fraction_y, values = work[0][:n], work[1][:n], work[2][:n], work[3][:n]
        _locate(
            center_x, center_y, dx[part], dy[part], blurred.shape, index, fraction_x, fraction_y
        )
        _interpolate(flat, blurred.shape[1], index, fraction_x, fraction_y, values)
        for r in range(first, last):
            bins = slice((r - first) * n_azimuthal, (r - first + 1) * n_azimuthal)
            low, high, n_seen = _take_root(values[bins], fraction_y[bins], ring[:n_azimuthal])
            median = np.float32(0)
            if subtract:
                median = _ring_median(ring, n_azimuthal, low, high, n_seen)
                if high - median < _FLAT * high:
                    median = np.float32(-1)
            if median < 0:
                descriptor[r, :] = np.float32(0)
                continue
            power += _subtract(ring, median, descriptor[r])
            level = max(level, high)
    rms = np.sqrt(power / np.float32(n_radial * n_azimuthal))
    scale = np.float32(1) / rms if rms > np.float32(1e-6) * level else np.float32(0)
    whole = descriptor.ravel()
    for a in range(whole.size):
        whole[a] *= scale


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def describe_pattern(blurred, center_x, center_y, offsets, subtract, descriptor):
    """Fill one descriptor from a blurred pattern, without scratch of one's own."""
    work = _make_ring_work(descriptor.shape[1])
    _describe_into(descriptor, blurred, center_x, center_y, offsets, subtract, work)


@numba.njit(cache=True, nogil=True, fastmath=FASTMATH)
def _describe_stack(
    start, stop, patterns, centers, offsets, subtract, kernel_y, kernel_x, weight, normalisation,
    outputs,
):  # fmt: skip
    """Fill the descriptors of all specifications; each pattern is blurred once."""
    n_azimuthal = 0
    for k in range(len(offsets)):
        n_azimuthal = max(n_azimuthal, offsets[k].shape[2])
    blur_work = make_blur_work(weight.shape, kernel_y, kernel_x)
    ring_work = _make_ring_work(n_azimuthal)
    blurred = np.empty(weight.shape, np.float32)
    for i in range(start, stop):
        blur_into(blurred, patterns[i], weight, normalisation, kernel_y, kernel_x, blur_work)
        for k in range(len(offsets)):
            _describe_into(
                outputs[k][i], blurred, centers[i, 0], centers[i, 1], offsets[k], subtract[k],
                ring_work,
            )  # fmt: skip
