"""What exhaustive matching compares: templates drawn, and descriptors as Fourier coefficients.

Owns these two compiled loops; the comparison is `matching_kernel`'s. Row i depends on pattern i
alone.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.diffraction import excitation_error, rocking_factor
from pyxem_nas.indexing.vector_loops import COLUMNS, compress, multiply

SIDE_BY_SIDE = 8  # patterns that are transformed at once
_REACH = 3.5  # standard deviations at which spots end
_EXCITED = 3.0  # standard deviations at which rocking curves end


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw(
    start, stop, matrices, vectors, intensities, exponent, wavenumber, precession, rod_width, sigma,
    radii, templates,
):  # fmt: skip
    """Add to templates (n, n_radial, n_azimuthal), float32, a Gaussian for each excited spot."""
    _, n_radial, n_azimuthal = templates.shape
    step = radii[1] - radii[0]
    turn = 2 * np.pi / n_azimuthal
    for i in range(start, stop):
        matrix = matrices[i]
        for j in range(len(vectors)):
            gx, gy, gz = vectors[j, 0], vectors[j, 1], vectors[j, 2]
            x = gx * matrix[0, 0] + gy * matrix[1, 0] + gz * matrix[2, 0]
            y = gx * matrix[0, 1] + gy * matrix[1, 1] + gz * matrix[2, 1]
            z = gx * matrix[0, 2] + gy * matrix[1, 2] + gz * matrix[2, 2]
            radius2 = x * x + y * y
            radius, azimuth = np.sqrt(radius2), np.arctan2(y, x)
            error = excitation_error(x, y, z, wavenumber)
            # the small power that follows would draw spots far from their Bragg condition, too
            if abs(error) > _EXCITED * rod_width + radius * precession:
                continue
            share = rocking_factor(error, radius, precession, rod_width, 1, 0.0, 0.0)
            weight = (intensities[j] * share) ** exponent
            first = max(0, int(np.ceil((radius - _REACH * sigma - radii[0]) / step)))
            last = min(n_radial - 1, int(np.floor((radius + _REACH * sigma - radii[0]) / step)))
            for r in range(first, last + 1):
                across = (radius - radii[r]) / sigma
                product = radius * radii[r] / (sigma * sigma)
                # |difference|^2 = across^2 + 2 product (1 - cos angle)
                rest = 1 - 0.5 * (_REACH * _REACH - across * across) / max(product, 1e-9)
                half = np.pi if rest <= -1 else np.arccos(min(rest, 1.0))
                low = int(np.ceil((azimuth - half) / turn))
                high = int(np.floor((azimuth + half) / turn))
                if high - low >= n_azimuthal:
                    low, high = 0, n_azimuthal - 1
                for a in range(low, high + 1):
                    along = product * (1 - np.cos(a * turn - azimuth))
                    templates[i, r, a % n_azimuthal] += weight * np.exp(
                        -0.5 * across * across - along
                    )


@numba.njit(cache=True, error_model="numpy")
def _fold(rooted, n_azimuthal, column, folded):
    """Fill in what cosines and sines of even and of odd harmonics are multiplied with.

    `rooted` (n_radial, n_azimuthal or more) is a descriptor; `folded` (4, n_folded, n_columns)
    takes it from a column on. Of an even number of bins four are joined that have the same wave,
    but for its sign: half a turn apart, and on both sides of where azimuth begins.
    """
    n, half = len(rooted), n_azimuthal // 2
    if n_azimuthal % 2:
        for a in range(n_azimuthal):
            for r in range(n):
                for k in range(4):
                    folded[k, a, column + r] = rooted[r, a]
        return
    for a in range(half // 2 + 1):
        alone = a == 0 or 2 * a == half
        for r in range(n):
            j = column + r
            first, second = rooted[r, a], rooted[r, a + half]
            third = np.float32(0) if alone else rooted[r, half - a]
            fourth = np.float32(0) if alone else rooted[r, n_azimuthal - a]
            even, odd = first + second, first - second
            mirrored_even, mirrored_odd = third + fourth, third - fourth
            folded[0, a, j], folded[1, a, j] = even + mirrored_even, even - mirrored_even
            folded[2, a, j], folded[3, a, j] = odd - mirrored_odd, odd + mirrored_odd


@numba.njit(cache=True, nogil=True, error_model="numpy")
def transform(start, stop, descriptors, n_azimuthal, weights, waves, spectra):
    """Fill in Fourier coefficients of descriptors along azimuth.

    `weights` (n_radial, n_azimuthal) are roots of the bins' area; `waves` (4, n_harmonics / 2,
    n_folded) cosines and negative sines of even harmonics, and of odd ones, where `_fold` has them.
    All axes but those of `waves` are padded with zeros to multiples of 4. `spectra` (n,
    n_harmonics, 2, n_radial): real and imaginary parts.
    """
    n_radial, n_padded = descriptors.shape[1:]
    _, n_half, n_folded = waves.shape
    width = -(-SIDE_BY_SIDE * n_radial // COLUMNS) * COLUMNS
    rooted = np.empty((n_radial, n_padded), np.float32)
    folded = np.zeros((4, n_folded, width), np.float32)
    coefficients = np.empty((4 * n_half, width), np.float32)
    scales = np.empty(SIDE_BY_SIDE, np.float32)
    for first in range(start, stop, SIDE_BY_SIDE):
        n = min(stop - first, SIDE_BY_SIDE)
        for i in range(n):
            power = compress(
                descriptors[first + i].ravel(), weights.ravel(), rooted.size, rooted.ravel()
            )
            scales[i] = 1 / np.sqrt(power) if power > 0 else 1
            _fold(rooted, n_azimuthal, i * n_radial, folded)
        for k in range(4):
            multiply(
                waves.ravel(), k * n_half * n_folded, n_folded, n_half, n_folded,
                folded.ravel(), k * n_folded * width, width,
                -(-n * n_radial // COLUMNS) * COLUMNS,
                coefficients.ravel(), (k // 2 * 2 * n_half + k % 2) * width, 2 * width,
            )  # fmt: skip
        for i in range(n):
            rows = spectra[first + i].reshape(4 * n_half, n_radial)
            for k in range(len(rows)):
                for r in range(n_radial):
                    rows[k, r] = scales[i] * coefficients[k, i * n_radial + r]
