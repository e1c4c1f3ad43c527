"""Polar intensity descriptors of diffraction patterns.

Owns the one compiled kernel behind every path: measured patterns, simulated images and the polar
patterns that refinement and template matching correlate with. What a descriptor is, `spec` says.
Knows arrays and pixels only; calibration belongs to `calibration`, HyperSpy to `signals`, what is
in a pattern to `diffraction` and `scans`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.patterns.spec import DescriptorSpec, Detector, PatternSpec

FASTMATH = {"contract", "reassoc", "nsz"}  # NaN and infinity keep their meaning
_FASTMATH_FINITE = FASTMATH | {"nnan", "ninf"}  # for what `_clean` has been through
_N_QUARTERINGS = 6  # the ring median is exact to 4**-6 of the ring's range
_UNSEEN = np.float32(-1e30)  # a blurred pixel that the mask hides
_OUTSIDE = np.float32(-9)  # in place of a fraction: the sampling point is not on the detector
_BLANK = np.float32(3e38)  # above every intensity
_FLAT = np.float32(1e-3)  # a ring whose spread is below this share of its level holds no signal
_LANES = 32  # rings are filled up to a multiple: no loop over the odd bins that remain
_BAND = 16  # rows that are blurred together
_N_RINGS = 8  # rings that are sampled together
_GROUP = 16  # patterns that share one thread's scratch


@dataclass(frozen=True)
class PolarSampler:
    """Precomputed sampling of one detector for one or more descriptor specifications.

    Make it once per scan with `make_sampler`; it holds small arrays only and travels with each
    block of patterns.
    """

    specs: tuple[DescriptorSpec | PatternSpec, ...]
    detector_shape: tuple[int, int]
    offsets: tuple[np.ndarray, ...]  # per spec: (2, n_radial, n_azimuthal) float32 column, row
    kernels: tuple[np.ndarray, np.ndarray]  # blur along y and x, float32, odd length
    pixel_weight: np.ndarray  # (ny, nx) float32, 0 where masked
    normalisation: np.ndarray  # (ny, nx) float32, 1 / blurred weight, 0 where nothing is seen

    def without(self, k: int) -> PolarSampler:
        """Return the sampler of all specifications but the k-th."""
        kept = [i for i in range(len(self.specs)) if i != k]
        return replace(
            self,
            specs=tuple(self.specs[i] for i in kept),
            offsets=tuple(self.offsets[i] for i in kept),
        )


def make_sampler(detector: Detector, *specs: DescriptorSpec | PatternSpec) -> PolarSampler:
    """Precompute the sampling of patterns of one detector.

    Parameters
    ----------
    detector
        Geometry and mask.
    *specs
        One or more specifications; they must share one blur.

    Returns
    -------
    sampler
        Argument of `compute_polar` and `compute_descriptors`.

    Raises
    ------
    ValueError
        If the specifications have different blurs or the mask another shape than the detector.
    """
    blurs = {spec.blur for spec in specs}
    if len(blurs) != 1:
        raise ValueError(f"specifications sampled together must share one blur, got {blurs!r}")
    blur = blurs.pop()
    ny, nx = detector.shape
    weight = np.ones((ny, nx), np.float32)
    if detector.mask is not None:
        if np.shape(detector.mask) != (ny, nx):
            raise ValueError(
                f"mask must have the detector's shape {(ny, nx)}, got {np.shape(detector.mask)}"
            )
        weight[np.asarray(detector.mask, bool)] = 0
    kernels = tuple(_gaussian_kernel(blur / s) for s in detector.scale)
    ones = np.ones_like(weight)
    seen = _blur_once(weight, ones, ones, *kernels)
    full = seen if detector.mask is None else _blur_once(ones, ones, ones, *kernels)
    normalisation = np.zeros_like(weight)
    # Where over half of the blur's weight is masked, the value would be a guess.
    np.divide(1, seen, out=normalisation, where=seen > 0.5 * full)
    offsets = []
    for spec in specs:
        offsets.append(np.tensordot(detector.matrix, spec.positions, 1).astype(np.float32))
    return PolarSampler(specs, (ny, nx), tuple(offsets), kernels, weight, normalisation)


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


def _gaussian_kernel(sigma: float) -> np.ndarray:
    """Return a normalised odd-length Gaussian kernel, float32."""
    radius = math.ceil(2 * sigma) if sigma > 0.2 else 0
    x = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (x / max(sigma, 1e-6)) ** 2)
    return (kernel / kernel.sum()).astype(np.float32)


# --------------------------------------------------------------------------- the kernel
# Long flat loops over pieces that fit the first-level cache: each runs on vector registers, except
# the gather. Arrays are sliced once per loop, not once per row, as slicing costs more than a row.


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _clean(pattern, weight, out):
    """Copy flat counts to float32; NaN, infinite and negative pixels become zero."""
    for i in range(pattern.size):
        value = np.float32(pattern[i])
        good = (value > 0) & (value < np.float32(1e37))
        out[i] = value * weight[i] if good else np.float32(0)


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _add_pairs(out, source, start, near, far, centre, inner, outer):
    """Set (near is a first pair's distance) or increase `out` by two pairs of taps."""
    n = out.size
    a1, b1 = source[start - near : start - near + n], source[start + near : start + near + n]
    a2, b2 = source[start - far : start - far + n], source[start + far : start + far + n]
    if centre > 0:
        c = source[start : start + n]
        for i in range(n):
            out[i] = centre * c[i] + inner * (a1[i] + b1[i]) + outer * (a2[i] + b2[i])
    else:
        for i in range(n):
            out[i] += inner * (a1[i] + b1[i]) + outer * (a2[i] + b2[i])


@numba.njit(cache=True)
def _guard(kernel):
    """Return how many taps from the centre `_convolve` reads on each side, at least 2, even."""
    return max(2, (kernel.size // 2 + 1) // 2 * 2)


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _convolve(out, source, start, step, kernel):
    """Convolve with a symmetric kernel: ``out[i]`` from ``source[start + i + t step]``."""
    radius = kernel.size // 2
    for t in range(1, _guard(kernel), 2):
        inner = kernel[radius + t] if t <= radius else np.float32(0)
        outer = kernel[radius + t + 1] if t + 1 <= radius else np.float32(0)
        centre = kernel[radius] if t == 1 else np.float32(0)
        _add_pairs(out, source, start, t * step, (t + 1) * step, centre, inner, outer)


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _mend_ends(source, width, kernel, out):
    """Redo the ends of rows, to which a flat convolution brings the neighbouring rows."""
    radius = kernel.size // 2
    n_rows = out.size // width
    reach = min(radius, width)
    for end in range(2 * reach):
        x = end if end < reach else width - 2 * reach + end
        for row in range(n_rows):
            out[row * width + x] = np.float32(0)
        for t in range(kernel.size):
            other = x + t - radius
            if 0 <= other < width:
                for row in range(n_rows):
                    out[row * width + x] += kernel[t] * source[row * width + other]


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _normalise(flat, scale):
    for i in range(flat.size):
        flat[i] = flat[i] * scale[i] if scale[i] > 0 else _UNSEEN


@numba.njit(cache=True)
def _make_blur_work(shape, kernel_y, kernel_x):
    """Return scratch of `_blur_into`: rows between empty rows, and a band of rows; zeros."""
    ny, nx = shape
    padded = np.zeros((ny + 2 * _guard(kernel_y)) * nx, np.float32)
    return padded, np.zeros(_BAND * nx + 2 * _guard(kernel_x), np.float32)


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def _blur_into(blurred, pattern, weight, normalisation, kernel_y, kernel_x, work):
    """Blur a pattern; pixels where nothing is seen become hugely negative."""
    ny, nx = weight.shape
    padded, band = work
    above, before = _guard(kernel_y) * nx, _guard(kernel_x)
    _clean(pattern.ravel(), weight.ravel(), padded[above : above + ny * nx])
    flat, scale = blurred.ravel(), normalisation.ravel()
    for start in range(0, ny * nx, _BAND * nx):
        stop = min(start + _BAND * nx, ny * nx)
        lines = band[before : before + stop - start]
        out = flat[start:stop]
        _convolve(lines, padded, above + start, nx, kernel_y)
        _convolve(out, band, before, 1, kernel_x)
        _mend_ends(lines, nx, kernel_x, out)
        _normalise(out, scale[start:stop])


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
def blur_pattern(pattern, weight, normalisation, kernel_y, kernel_x, buffer, blurred):
    """Blur one pattern into `blurred`, without scratch of one's own; `buffer` is not used."""
    work = _make_blur_work(weight.shape, kernel_y, kernel_x)
    _blur_into(blurred, pattern, weight, normalisation, kernel_y, kernel_x, work)


def _blur_once(pattern, weight, normalisation, kernel_y, kernel_x) -> np.ndarray:
    blurred = np.empty_like(weight)
    blur_pattern(pattern, weight, normalisation, kernel_y, kernel_x, blurred, blurred)
    return blurred


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, error_model="numpy")
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


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, error_model="numpy")
def _interpolate(flat, width, index, fraction_x, fraction_y, out):
    """Interpolate a flat image bilinearly."""
    below = flat[np.uint64(width) :]
    for a in range(index.size):
        i = np.uint64(np.uint32(index[a]))
        j = i + np.uint64(1)
        upper = flat[i] + fraction_x[a] * (flat[j] - flat[i])
        lower = below[i] + fraction_x[a] * (below[j] - below[i])
        out[a] = upper + fraction_y[a] * (lower - upper)


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, error_model="numpy")
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


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, error_model="numpy")
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


@numba.njit(cache=True, fastmath=_FASTMATH_FINITE, error_model="numpy")
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


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
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


@numba.njit(cache=True, fastmath=FASTMATH, error_model="numpy")
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
    blur_work = _make_blur_work(weight.shape, kernel_y, kernel_x)
    ring_work = _make_ring_work(n_azimuthal)
    blurred = np.empty(weight.shape, np.float32)
    for i in range(start, stop):
        _blur_into(blurred, patterns[i], weight, normalisation, kernel_y, kernel_x, blur_work)
        for k in range(len(offsets)):
            _describe_into(
                outputs[k][i], blurred, centers[i, 0], centers[i, 1], offsets[k], subtract[k],
                ring_work,
            )  # fmt: skip
