"""The compiled blur of a pattern, the first step of every descriptor.

Owns how counts become float32, what counts as empty, and the Gaussian convolution that leaves
masked pixels out. Long flat loops over pieces that fit the first-level cache.
"""

from __future__ import annotations

import numba
import numpy as np

FASTMATH = {"contract", "reassoc", "nsz"}  # NaN and infinity keep their meaning
_UNSEEN = np.float32(-1e30)  # a blurred pixel that the mask hides
_BAND = 16  # rows that are blurred together


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _clean(pattern, weight, out):
    """Copy flat counts to float32; NaN, infinite and negative pixels become zero."""
    for i in range(pattern.size):
        value = np.float32(pattern[i])
        good = (value > 0) & (value < np.float32(1e37))
        out[i] = value * weight[i] if good else np.float32(0)


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
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


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _convolve(out, source, start, step, kernel):
    """Convolve with a symmetric kernel: ``out[i]`` from ``source[start + i + t step]``."""
    radius = kernel.size // 2
    for t in range(1, _guard(kernel), 2):
        inner = kernel[radius + t] if t <= radius else np.float32(0)
        outer = kernel[radius + t + 1] if t + 1 <= radius else np.float32(0)
        centre = kernel[radius] if t == 1 else np.float32(0)
        _add_pairs(out, source, start, t * step, (t + 1) * step, centre, inner, outer)


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
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


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _normalise(flat, scale):
    for i in range(flat.size):
        flat[i] = flat[i] * scale[i] if scale[i] > 0 else _UNSEEN


@numba.njit(cache=True)
def make_blur_work(shape, kernel_y, kernel_x):
    """Return scratch of `blur_into`: rows between empty rows, and a band of rows; zeros."""
    ny, nx = shape
    padded = np.zeros((ny + 2 * _guard(kernel_y)) * nx, np.float32)
    return padded, np.zeros(_BAND * nx + 2 * _guard(kernel_x), np.float32)


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def blur_into(blurred, pattern, weight, normalisation, kernel_y, kernel_x, work):
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


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def blur_pattern(pattern, weight, normalisation, kernel_y, kernel_x, buffer, blurred):
    """Blur one pattern into `blurred`, without scratch of one's own; `buffer` is not used."""
    work = make_blur_work(weight.shape, kernel_y, kernel_x)
    blur_into(blurred, pattern, weight, normalisation, kernel_y, kernel_x, work)
