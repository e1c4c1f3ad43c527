"""The compiled search of `refinement`: one polar pattern, its candidates, their best scores.

Owns the score of a tilted list of spots and the two searches over it; the lists are `spot_lists`'.
float32 throughout, loops that fit vector registers. Row i depends on pattern i alone.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.indexing.spot_lists import (
    AMPLITUDE,
    BY_X,
    BY_Y,
    ERROR,
    MAX_SPOTS,
    SHARPNESS,
    list_spots,
    measure_peaks,
    sample,
    take_profiles,
    wrap,
)

_FASTMATH = {"contract", "reassoc", "nsz", "arcp"}
_CUT = np.float32(6)  # rocking curves end at exp(-6)
_LEAST_WEIGHT = np.float32(0.1)  # of the strongest spot's, for a spot to be predicted
N_TILTS = 3  # steps of the coarse search to each side
_N_TURNS = 7  # in-plane angles of the coarse search


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _weigh(spots, n, tilt_x, tilt_y, weights):
    """Fill `weights` for an orientation tilted about x and y, in radians; return their power."""
    error, by_x, by_y = spots[ERROR:], spots[BY_X:], spots[BY_Y:]
    amplitude, sharpness, out = spots[AMPLITUDE:], spots[SHARPNESS:], weights[:n]
    x, y = np.float32(tilt_x), np.float32(tilt_y)
    power = np.float32(0)
    for j in range(n):
        e = error[j] + x * by_x[j] + y * by_y[j]
        u = e * e * sharpness[j]
        # exp(-u) as the eighth power of a series: better than 1e-4 of 1 up to the cut
        v = min(u, _CUT) * np.float32(-1 / 8)
        s = np.float32(1 / 24) + v * np.float32(1 / 120)
        s = np.float32(1 / 2) + v * (np.float32(1 / 6) + v * s)
        s = np.float32(1) + v * (np.float32(1) + v * s)
        s2 = s * s
        s4 = s2 * s2
        weight = amplitude[j] * s4 * s4
        weight = weight if u < _CUT else np.float32(0)
        out[j] = weight
        power += weight * weight
    return power


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _dot(weights, heights, n):
    weights, heights = weights[:n], heights[:n]
    total = np.float32(0)
    for j in range(n):
        total += weights[j] * heights[j]
    return total


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _score(spots, n, tilt_x, tilt_y, weights, heights):
    """Return sum(w p) / sqrt(sum(w^2)) over the spots of a tilted orientation."""
    power = _weigh(spots, n, tilt_x, tilt_y, weights)
    return _dot(weights, heights, n) / np.sqrt(power) if power > 0 else np.float32(0)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _search_coarsely(work, n, n_bins, spacing, per_radian, turn):
    """Search a grid of tilts and turns; return the score of the orientation as it is.

    Fills `turn` with the best angles about x, y, z in radians.
    """
    near, spots, rings, weights, heights, profiles = work
    n_turns = heights.shape[0]
    for m in range(n_turns):
        shift = (m - n_turns // 2) * spacing * per_radian
        sample(profiles, spots, n, n_bins, shift, heights[m])
    turn[:] = 0.0
    best, before = np.float32(-1), np.float32(0)
    for i in range(-N_TILTS, N_TILTS + 1):
        for j in range(-N_TILTS, N_TILTS + 1):
            if i * i + j * j > N_TILTS * N_TILTS + 1:
                continue
            power = _weigh(spots, n, i * spacing, j * spacing, weights)
            if power <= 0:
                continue
            factor = np.float32(1) / np.sqrt(power)
            for m in range(n_turns):
                value = factor * _dot(weights, heights[m], n)
                if i == 0 and j == 0 and m == n_turns // 2:
                    before = value
                if value > best:
                    best = value
                    turn[0], turn[1] = i * spacing, j * spacing
                    turn[2] = (m - n_turns // 2) * spacing
    return before


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _search_finely(work, n, n_bins, first_step, last_step, per_radian, turn):
    """Climb from the listed orientation by tilts and turns of falling size.

    Fills `turn` with the best angles about x, y, z in radians.
    """
    near, spots, rings, weights, heights, profiles = work
    turn[:] = 0.0
    sample(profiles, spots, n, n_bins, 0.0, heights[0])
    angle = first_step
    n_rounds = 0
    while angle >= last_step:
        _climb_tilts(spots, n, angle, weights, heights[0], turn)
        _weigh(spots, n, turn[0], turn[1], weights)
        here = _dot(weights, heights[0], n)
        sample(profiles, spots, n, n_bins, (turn[2] - angle) * per_radian, heights[1])
        left = _dot(weights, heights[1], n)
        sample(profiles, spots, n, n_bins, (turn[2] + angle) * per_radian, heights[2])
        right = _dot(weights, heights[2], n)
        vertex = _vertex(left, here, right)
        turn[2] += angle * vertex
        sample(profiles, spots, n, n_bins, turn[2] * per_radian, heights[0])
        n_rounds += 1
        # tilts and turns hang together: once more at this size if the turn was large
        if abs(vertex) < 0.5 or n_rounds >= 3:
            angle *= 0.5
            n_rounds = 0


@numba.njit(cache=True, error_model="numpy")
def _vertex(left, here, right):
    """Return where the parabola through three points is highest, in -1 to 1."""
    curvature = 2 * here - left - right
    if curvature <= 0:
        return 0.0 if here >= max(left, right) else (-1.0 if left > right else 1.0)
    return min(max(0.5 * (right - left) / curvature, -1.0), 1.0)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _climb_tilts(spots, n, angle, weights, heights, turn):
    """Tilt in steps of `angle`, to the nearest maximum of the score."""
    best = _score(spots, n, turn[0], turn[1], weights, heights)
    for _ in range(8):
        improved = False
        for axis in range(2):
            start = turn[axis]
            for sign in (-1.0, 1.0):
                turn[axis] = start + sign * angle
                value = _score(spots, n, turn[0], turn[1], weights, heights)
                if value > best:
                    best = value
                    improved = True
                    break
                turn[axis] = start
        if not improved:
            return


@numba.njit(cache=True, error_model="numpy")
def _set_unit(q, source):
    """Fill `q` with a quaternion of unit length; return whether there is one: all 0 is none."""
    norm = np.sqrt(source[0] ** 2 + source[1] ** 2 + source[2] ** 2 + source[3] ** 2)
    if norm == 0:
        return False
    for c in range(4):
        q[c] = source[c] / norm
    return True


@numba.njit(cache=True, error_model="numpy")
def _turn_crystal(q, turn):
    """Turn an orientation, in place, so that its spots turn about the laboratory's axes."""
    w, x, y, z = q[0], q[1], q[2], q[3]
    # half angles, negative: v_crystal = q v_lab
    a, b, c = -0.5 * turn[0], -0.5 * turn[1], -0.5 * turn[2]
    q[0] = w - x * a - y * b - z * c
    q[1] = x + w * a + y * c - z * b
    q[2] = y + w * b + z * a - x * c
    q[3] = z + w * c + x * b - y * a
    _set_unit(q, q)


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _broaden(spots, n, broadening):
    """Add to the variance of the listed spots' rocking curves; their height falls with the width.

    The amplitude holds the root of one over the width, up to a factor common to all spots.
    """
    amplitude, sharpness = spots[AMPLITUDE:], spots[SHARPNESS:]
    for j in range(n):
        ratio = np.float32(1) / (np.float32(1) + np.float32(2) * broadening * sharpness[j])
        sharpness[j] *= ratio
        amplitude[j] *= np.sqrt(np.sqrt(ratio))


@numba.njit(cache=True, fastmath=_FASTMATH, forceinline=True, error_model="numpy")
def _describe(weights, heights, n):
    """Return the number of predicted spots, of equal ones, and the power of the pattern there."""
    weights, heights = weights[:n], heights[:n]
    strongest = np.float32(0)
    for j in range(n):
        strongest = max(strongest, weights[j])
    least = _LEAST_WEIGHT * strongest
    second, fourth, power = np.float32(0), np.float32(0), np.float32(0)
    for j in range(n):
        square = weights[j] * weights[j]
        second += square
        fourth += square * square
        power += heights[j] * heights[j] if weights[j] > least else np.float32(0)
    return second * second / max(fourth, np.float32(1e-30)), power


@numba.njit(cache=True, error_model="numpy")
def _rate(pattern, q, table, reach, geometry, work, broadening):
    """Return the score of an orientation as it is and with broadened rocking curves.

    And of the latter the number of spots and the power of the pattern at them.
    """
    near, spots, rings, weights, heights, profiles = work
    n = list_spots(pattern, q, table, reach, geometry, work)
    take_profiles(pattern, spots, rings, n, 3, profiles)
    sample(profiles, spots, n, 3, 0.0, heights[0])
    narrow = _score(spots, n, 0.0, 0.0, weights, heights[0])
    _broaden(spots, n, broadening)
    tolerant = _score(spots, n, 0.0, 0.0, weights, heights[0])
    n_spots, power = _describe(weights, heights[0], n)
    return narrow, tolerant, n_spots, power


@numba.njit(cache=True, nogil=True, error_model="numpy")
def refine(
    begin, end, polar, quaternions, table, reaches, geometry, first_step, last_step, broadening,
    per_saturation, refined, scores, tolerant, spots, explained, peaks,
):  # fmt: skip
    """Fill in refined candidates (n, k, 4) and five scores (n, k); see `refine_candidates`.

    `table` and `reaches` tell of the reflections, `geometry` is wavenumber, inner radius, radial
    bins per 1/angstrom and azimuthal bins per radian; steps in radians, first_step 0 only scores.
    A height h counts as ``h / (1 + h * per_saturation)``.
    The second score is with the variance of all rocking curves raised by `broadening`.
    """
    per_radian = geometry[3]
    # three coarse steps to each side, and no fine search goes further
    margin = int(_N_TURNS // 2 * first_step * per_radian) + 1
    n_bins = 2 * margin + 2
    wrapped = np.empty((polar.shape[1], polar.shape[2] + n_bins), np.float32)
    work = (
        np.empty(MAX_SPOTS, np.int32), np.zeros(7 * MAX_SPOTS, np.float32),
        np.zeros(MAX_SPOTS, np.int32), np.empty(MAX_SPOTS, np.float32),
        np.empty((_N_TURNS, MAX_SPOTS), np.float32), np.empty((n_bins, MAX_SPOTS), np.float32),
    )  # fmt: skip
    turn = np.zeros(3)
    q = np.empty(4)
    for i in range(begin, end):
        pattern = wrapped, margin, wrap(polar[i], per_saturation, margin, wrapped)
        last = pattern, q, table, reaches[2], geometry, work, broadening
        norm, n_peaks = measure_peaks(wrapped, margin)
        if norm <= 0:
            continue
        peaks[i] = n_peaks
        for j in range(quaternions.shape[1]):
            if not _set_unit(q, quaternions[i, j]):
                continue
            if first_step <= 0:
                value, broad, n_spots, power = _rate(*last)
            else:
                n = list_spots(pattern, q, table, reaches[0], geometry, work)
                take_profiles(pattern, work[1], work[2], n, n_bins, work[5])
                before = _search_coarsely(work, n, n_bins, first_step, per_radian, turn)
                _turn_crystal(q, turn)
                n = list_spots(pattern, q, table, reaches[1], geometry, work)
                take_profiles(pattern, work[1], work[2], n, n_bins, work[5])
                _search_finely(work, n, n_bins, 0.5 * first_step, last_step, per_radian, turn)
                _turn_crystal(q, turn)
                value, broad, n_spots, power = _rate(*last)
                if value > before:
                    for c in range(4):
                        refined[i, j, c] = q[c]
                else:
                    value = before
                    _set_unit(q, quaternions[i, j])
                    _, broad, n_spots, power = _rate(*last)
            scores[i, j] = min(max(value / norm, 0.0), 1.0)
            tolerant[i, j] = min(max(broad / norm, 0.0), 1.0)
            spots[i, j] = n_spots
            explained[i, j] = min(np.sqrt(power) / norm, 1.0)
