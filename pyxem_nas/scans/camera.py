"""Images of simulated patterns, as a camera gives them.

Owns the detector and noise model. Which specimens and cameras there are belongs to `randomization`,
what spots to `diffraction`, the descriptor of an image to `patterns`: simulated and measured
descriptors come from the same kernel, because simulated ones pass through an image.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.compiled_loops import run_rows
from pyxem_nas.diffraction import (
    DynamicalDraw,
    Reflections,
    excitation_error,
    quaternions_to_matrices,
    rocking_factor,
)
from pyxem_nas.patterns import FASTMATH, DescriptorSpec, PatternSpec, blur_pattern, describe_pattern

_MAX_SPOTS = 1024
_N_LEVELS, _N_QUANTILES = 512, 512  # Poisson tables: means 2**-11 to 2**5, 32 an octave
_LOWEST_MEAN = 2.0**-11


def simulate_descriptors(
    reflections: Reflections,
    phase_id: np.ndarray,
    quaternions: np.ndarray,
    parameters: np.ndarray,
    spec: DescriptorSpec | PatternSpec,
    rng: np.random.Generator,
    *,
    wavelength: float,
    dynamical: DynamicalDraw | None = None,
    pattern_size: int = 112,
    return_patterns: bool = False,
) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
    """Simulate descriptors through camera images, each with its own specimen and camera.

    Parameters
    ----------
    reflections
        From `get_reflections`.
    phase_id
        Phase of each pattern, and of the crystal that overlaps it, shape (n, 2); -1 is no crystal.
    quaternions
        Orientations of both crystals, shape (n, 2, 4), lab2crystal, scalar first.
    parameters
        From `Randomization.draw`, shape (n,).
    spec
        The descriptor, or the Cartesian pattern.
    rng
        Source of the noise; the same state gives the same bytes on any number of threads.
    wavelength
        Electron wavelength in angstrom.
    dynamical
        Spots that take the place of kinematical ones, from `dynamical.SpotLibrary.draw`.
    pattern_size
        Width of the square image in pixels.
    return_patterns
        Return the images as well.

    Returns
    -------
    descriptors
        Array of shape (n, n_radial, n_azimuthal), float32.
    patterns
        Array of shape (n, pattern_size, pattern_size), float32, on request.
    """
    n = len(parameters)
    # columns to the right, rows down
    grid = (spec.positions * np.array([1, -1])[:, None, None]).astype(np.float32)
    patterns = np.empty((n if return_patterns else 0, pattern_size, pattern_size), np.float32)
    dynamical = DynamicalDraw.nothing(n) if dynamical is None else dynamical
    descriptors = np.zeros((n, *spec.shape), np.float32)
    run_rows(
        _simulate,
        n,
        reflections.vectors,
        reflections.intensities,
        reflections.extinction,
        np.asarray(reflections.bounds),
        np.asarray(phase_id, np.int64),
        quaternions_to_matrices(quaternions),
        parameters,
        rng.integers(1, 2**63, n, dtype=np.uint64),
        1 / wavelength,
        grid,
        spec.subtracts_background,
        spec.blur,
        pattern_size,
        *_noise_tables(),
        patterns,
        dynamical.positions,
        dynamical.intensities,
        dynamical.rows,
        dynamical.turns,
        descriptors,
    )
    return (descriptors, patterns) if return_patterns else descriptors


_TABLES: list[np.ndarray] = []


def _noise_tables() -> list[np.ndarray]:
    """Return quantiles of Poisson distributions (levels, quantiles) and of the normal one."""
    if not _TABLES:
        from scipy.stats import norm, poisson

        probability = (np.arange(_N_QUANTILES) + 0.5) / _N_QUANTILES
        means = (
            _LOWEST_MEAN
            * (1 + np.arange(_N_LEVELS) % 32 / 32)
            * 2.0 ** (np.arange(_N_LEVELS) // 32)
        )
        counts = poisson.ppf(probability[None], means[:, None]).astype(np.float32)
        # the rarest counts lie between the quantiles: restore the mean in the last one
        counts[:, -1] += (means - counts.mean(axis=1)) * _N_QUANTILES
        _TABLES.extend([counts, norm.ppf(probability).astype(np.float32)])
    return _TABLES


@numba.njit(cache=True, inline="always")
def _next(state):
    """Advance a splitmix64 state; return (state, 64 random bits)."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    z = state
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state, z ^ (z >> np.uint64(31))


@numba.njit(cache=True, inline="always")
def _uniform(bits):
    return (bits >> np.uint64(11)) * (1.0 / 9007199254740992.0)


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _collect_spots(
    vectors, intensities, extinction, start, stop, matrix, p, weight, wavenumber, normal, state,
    spots, n_spots,
):  # fmt: skip
    """Append one crystal's spots (x, y, intensity) to `spots`; return (their number, state)."""
    precession = np.deg2rad(p.precession_angle)
    curve = 2 if p.two_beam > 0 else (0 if p.azimuth < np.pi else 1)
    reach = max(4 * p.rocking_width, 0.01)
    first = n_spots
    strongest = 0.0
    for j in range(start, stop):
        gx, gy, gz = vectors[j, 0], vectors[j, 1], vectors[j, 2]
        z = gx * matrix[0, 2] + gy * matrix[1, 2] + gz * matrix[2, 2]
        length2 = gx * gx + gy * gy + gz * gz
        # the sphere is nearly z = g^2 / 2k: most reflections are far from it
        if abs(length2 / (2 * wavenumber) - z) > reach + 0.002 + 2.0 * precession:
            continue
        x = gx * matrix[0, 0] + gy * matrix[1, 0] + gz * matrix[2, 0]
        y = gx * matrix[0, 1] + gy * matrix[1, 1] + gz * matrix[2, 1]
        radius = np.sqrt(x * x + y * y)
        error = excitation_error(x, y, z, wavenumber)
        if abs(error) > reach + radius * precession:
            continue
        factor = rocking_factor(
            error, radius, precession, p.rocking_width, curve, extinction[j], p.thickness
        )
        value = factor * intensities[j] * np.exp(-0.5 * p.debye_waller * length2)
        if value > 0 and n_spots < _MAX_SPOTS:
            spots[n_spots, 0], spots[n_spots, 1], spots[n_spots, 2] = x, y, value
            n_spots += 1
            strongest = max(strongest, value)
    state = _scramble(
        spots, first, n_spots, strongest, p.intensity_exponent, p.intensity_jitter, p.spot_loss,
        normal, state,
    )  # fmt: skip
    return _limit_spots(spots, first, n_spots, p.weak_cutoff, p.max_spots, weight), state


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _take_spots(positions, intensities, row, turn, p, weight, normal, state, spots, n_spots):
    """Append dynamical spots, turned by an angle; return (their number, state)."""
    c, s = np.cos(turn), np.sin(turn)
    first = n_spots
    strongest = 0.0
    for j in range(row[0], row[1]):
        value = np.float64(intensities[j, row[2]])
        if value > 0 and n_spots < _MAX_SPOTS:
            x, y = positions[j, 0], positions[j, 1]
            spots[n_spots, 0], spots[n_spots, 1] = c * x - s * y, s * x + c * y
            spots[n_spots, 2] = value
            n_spots += 1
            strongest = max(strongest, value)
    # what theory left out (bending, absorption, detector) is small beside what it holds
    state = _scramble(
        spots, first, n_spots, strongest, 1.0, 0.3 * p.intensity_jitter, 0.2 * p.spot_loss, normal,
        state,
    )  # fmt: skip
    return _limit_spots(spots, first, n_spots, 0.1 * p.weak_cutoff, 512.0, weight), state


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _scramble(spots, first, last, strongest, exponent, jitter, loss, normal, state):
    """Change the intensities of spots at random and lose some; return the random state."""
    for j in range(first, last):
        state, bits = _next(state)
        value = (spots[j, 2] / strongest) ** exponent
        value *= np.exp(jitter * normal[bits >> np.uint64(55)])
        spots[j, 2] = 0.0 if _uniform(bits << np.uint64(9)) < loss else value
    return state


@numba.njit(cache=True)
def _limit_spots(spots, first, last, cutoff, max_spots, weight):
    """Keep the strongest spots of a crystal and scale their sum to `weight`."""
    if last == first:
        return first
    ordered = np.sort(spots[first:last, 2])
    threshold = cutoff * ordered[-1]
    if last - first > max_spots:
        threshold = max(threshold, ordered[last - first - int(max_spots)])
    kept = first
    total = 0.0
    for j in range(first, last):
        if spots[j, 2] >= threshold and spots[j, 2] > 0:
            spots[kept] = spots[j]
            total += spots[kept, 2]
            kept += 1
    for j in range(first, kept):
        spots[j, 2] *= weight / total
    return kept


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _draw_background(image, center_x, center_y, p, scale):
    """Fill the image with inelastic and amorphous background and the direct beam's tail."""
    n = image.shape[0]
    n_table = int(1.5 * n) + 2
    table = np.empty(n_table, np.float32)
    halo_radius = 0.2 + 0.05 * np.cos(p.azimuth) + 0.25 * p.halo_share
    total = 0.0
    for k in range(n_table):
        r = k * scale
        halo = np.exp(-0.5 * ((r - halo_radius) / 0.07) ** 2)
        smooth = np.exp(-r / p.background_decay)
        table[k] = (1 - p.halo_share) * smooth + p.halo_share * halo
        if k < n // 2:
            total += 2 * np.pi * (k + 0.1) * table[k]
    level = p.background * p.dose / total
    core = 1.5 * p.spot_width / scale
    tail = 0.02 * p.direct_beam * p.dose / (2 * np.pi * core * core)
    for k in range(n_table):
        table[k] = level * table[k] + tail * (1 + (k / core) ** 2) ** -2
    for y in range(n):
        for x in range(n):
            r = np.sqrt(np.float32((x - center_x) ** 2 + (y - center_y) ** 2))
            k = np.uint32(r)
            image[y, x] = table[k] + (r - np.float32(k)) * (table[k + np.uint32(1)] - table[k])


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _draw_spot(image, x, y, sigma, electrons):
    """Add a Gaussian spot of `electrons` at column x, row y."""
    n = image.shape[0]
    reach = 3.5 * sigma + 1
    x0, x1 = max(int(x - reach), 0), min(int(x + reach) + 2, n)
    y0, y1 = max(int(y - reach), 0), min(int(y + reach) + 2, n)
    if x1 <= x0 or y1 <= y0:
        return
    profile = np.empty(x1 - x0, np.float32)
    for column in range(x0, x1):
        profile[column - x0] = np.exp(-0.5 * ((column - x) / sigma) ** 2)
    peak = electrons / (2 * np.pi * sigma * sigma)
    for row in range(y0, y1):
        height = np.float32(peak * np.exp(-0.5 * ((row - y) / sigma) ** 2))
        line = image[row, x0:x1]
        for k in range(profile.size):
            line[k] += height * profile[k]


@numba.njit(cache=True, fastmath=FASTMATH, forceinline=True, error_model="numpy")
def _expose(image, full_scale, gamma, poisson, normal, state):
    """Turn expected electrons into the camera's counts, 0 to 255, in place."""
    flat = image.ravel()
    bits_of = flat.view(np.int32)
    lowest = np.int32(116 << 23)  # the bits of 2**-11
    gain = np.float32(255.0 / full_scale)
    response = np.empty(255 * 16 + 1, np.float32)
    for k in range(response.size):
        response[k] = np.floor(255 * (k / (16 * 255)) ** gamma + 0.5)
    for i in range(flat.size):
        mean = flat[i]
        state, bits = _next(state)
        # adding random low bits before cutting them off picks the level by its distance
        level = (
            bits_of[i] + np.int32(bits & np.uint64(0x3FFFF)) - np.int32(0x20000) - lowest
        ) >> 18
        quantile = bits >> np.uint64(55)
        if level < 0:
            count = np.float32(1 if (bits >> np.uint64(20)) * 2.0**-44 < mean else 0)
        elif level < _N_LEVELS:
            count = poisson[level, quantile]
        else:
            count = max(mean + np.sqrt(mean) * normal[quantile], np.float32(0))
        flat[i] = response[min(int(np.float32(16) * gain * count), response.size - 1)]
    return state


@numba.njit(cache=True, error_model="numpy")
def _draw_pattern(image, spots, n_spots, p, full_scale, tables, state):
    """Draw and expose one pattern; return (the centre its owner believes in, state)."""
    n = image.shape[0]
    half = 0.5 * (n - 1)
    state, bits = _next(state)
    jitter_x, jitter_y = _uniform(bits) - 0.5, _uniform(bits << np.uint64(20)) - 0.5
    believed_x, believed_y = half + 4 * jitter_x, half + 4 * jitter_y
    center_x = believed_x + p.center_error * np.cos(5 * p.azimuth)
    center_y = believed_y + p.center_error * np.sin(5 * p.azimuth)
    scale = p.scale * (1 + p.scale_error)
    _draw_background(image, center_x, center_y, p, scale)
    sigma = p.spot_width / scale
    _draw_spot(image, center_x, center_y, sigma, p.direct_beam * p.dose)
    # ellipticity: stretch by 1 + e along `azimuth`, shrink across it
    c, s = np.cos(p.azimuth), np.sin(p.azimuth)
    e = 0.5 * p.ellipticity
    strongest = 0.0
    for k in range(n_spots):
        along, across = c * spots[k, 0] + s * spots[k, 1], c * spots[k, 1] - s * spots[k, 0]
        along, across = along * (1 + e), across * (1 - e)
        x, y = c * along - s * across, s * along + c * across
        electrons = spots[k, 2] * p.dose
        _draw_spot(image, center_x + x / scale, center_y - y / scale, sigma, electrons)
        strongest = max(strongest, electrons)
    peak = strongest / (2 * np.pi * sigma * sigma)
    if p.beam_stop > 0:
        width = 0.12 / scale
        for y in range(n):
            for x in range(n):
                dx, dy = x - center_x, y - center_y
                if abs(c * dy - s * dx) < 0.5 * width and c * dx + s * dy > -width:
                    image[y, x] = 0
    full_scale = max(p.saturation * peak, 1.0 if full_scale <= 0 else full_scale)
    state = _expose(image, full_scale, p.gamma, tables[0], tables[1], state)
    return believed_x, believed_y, state


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _simulate(
    start, stop, vectors, intensities, extinction, bounds, phase_id, matrices, parameters, seeds,
    wavenumber, grid, subtract, blur, pattern_size, poisson, normal, patterns, dynamical_positions,
    dynamical_intensities, dynamical_rows, dynamical_turns, descriptors,
):  # fmt: skip
    ones = np.ones((pattern_size, pattern_size), np.float32)
    for i in range(start, stop):
        p = parameters[i]
        state = seeds[i]
        spots = np.empty((_MAX_SPOTS, 3), np.float64)
        n_spots = 0
        for crystal in range(2):
            weight = 1.0 if crystal == 0 else p.overlap_weight
            k = phase_id[i, crystal]
            if k < 0 or weight <= 0:
                continue
            row = dynamical_rows[i, crystal]
            if row[0] >= 0:
                n_spots, state = _take_spots(
                    dynamical_positions, dynamical_intensities, row, dynamical_turns[i, crystal],
                    p, weight, normal, state, spots, n_spots,
                )  # fmt: skip
                continue
            n_spots, state = _collect_spots(
                vectors, intensities, extinction, bounds[k], bounds[k + 1], matrices[i, crystal],
                p, weight, wavenumber, normal, state, spots, n_spots,
            )  # fmt: skip
        image = np.empty((pattern_size, pattern_size), np.float32)
        x, y, state = _draw_pattern(image, spots, n_spots, p, 0.0, (poisson, normal), state)
        if len(patterns) > 0:
            patterns[i] = image
        sigma = blur / p.scale
        kernel = np.empty(2 * int(np.ceil(2 * sigma)) + 1, np.float32)
        for t in range(kernel.size):
            kernel[t] = np.exp(-0.5 * ((t - kernel.size // 2) / sigma) ** 2)
        kernel /= kernel.sum()
        buffer = np.empty_like(image)
        blurred = np.empty_like(image)
        blur_pattern(image, ones, ones, kernel, kernel, buffer, blurred)
        offsets = grid * np.float32(1 / p.scale)
        describe_pattern(blurred, np.float32(x), np.float32(y), offsets, subtract, descriptors[i])
