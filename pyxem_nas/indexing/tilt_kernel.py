"""The compiled loops of `tilt`: what is seen of each spot, and the tilt that the spots vote for.

Owns the features of the spots near the Ewald sphere and the small network over them. float32
throughout, spots along the last axis, where loops fit vector registers. Row i depends on pattern i
alone, to the last digit: so arithmetic is not relaxed here (`fastmath`), of which the compiler
keeps versions that differ, and chooses by where arrays lie.
"""

from __future__ import annotations

import numba
import numpy as np

from pyxem_nas.indexing.refinement_kernel import _set_unit, _turn_crystal, _weigh
from pyxem_nas.indexing.spot_lists import (
    AMPLITUDE,
    BY_X,
    BY_Y,
    ERROR,
    RING,
    SHARPNESS,
    list_spots,
    measure_peaks,
    sample,
    take_profiles,
    wrap,
)
from pyxem_nas.indexing.spot_lists import MAX_SPOTS as _MOST_LISTED

N_FEATURES = 11  # of a spot
N_SHARED = 8  # of a pattern, the same for all its spots
MAX_SPOTS = 256  # of the shortest that are near the sphere
_LEAST = np.float32(1e-3)
_LOG_VOTE = np.float32(6)  # bound of the logarithm of a vote's weight


@numba.njit(cache=True, forceinline=True, error_model="numpy")
def _see(spots, rings, weights, heights, n, geometry, norm, n_peaks, degrees, features, shared):
    """Fill in the features of n listed spots, (N_FEATURES, n), and those of all, (N_SHARED,)."""
    one, half, nothing = np.float32(1), np.float32(0.5), np.float32(0)
    first, second, fit, power, count = nothing, nothing, nothing, nothing, nothing
    error, amplitude, sharpness = spots[ERROR:], spots[AMPLITUDE:], spots[SHARPNESS:]
    fractions, rings, weights, heights = spots[RING:], rings[:n], weights[:n], heights[:n]
    for j in range(n):
        shown = one if amplitude[j] > 0 else nothing
        first += shown * heights[j]
        second += shown * heights[j] * heights[j]
        fit += weights[j] * heights[j]
        power += weights[j] * weights[j]
        count += shown
    scale = max(fit / max(power, _LEAST), _LEAST)
    per_scale = one / scale
    for j in range(n):
        e, width = error[j], np.sqrt(np.float32(2) * sharpness[j])
        relative = half * min(heights[j] * per_scale, np.float32(4))
        features[0, j] = np.float32(50) * e
        features[1, j] = e * width
        features[2, j] = np.float32(50) * abs(e)
        features[3, j] = weights[j] / max(amplitude[j], np.float32(1e-9))
        features[4, j] = np.float32(0.25) * heights[j]
        features[5, j] = relative
        features[6, j] = relative - weights[j]
        features[7, j] = amplitude[j]
        features[8, j] = (np.float32(rings[j]) + fractions[j] + half) / geometry[2] + geometry[1]
        features[9, j] = np.float32(0.014) * width
        features[10, j] = weights[j]
    shared[0] = half * np.log(one + count) - one
    shared[1] = degrees
    shared[2] = half * first / max(count, one)
    shared[3] = half * np.log(one + scale)
    shared[4] = np.log(max(power, _LEAST)) / np.float32(3)
    shared[5] = half * np.log(second / max(first, np.float32(1e-6)) + _LEAST)
    shared[6] = half * np.log(one + n_peaks) - one
    shared[7] = np.sqrt(second) / norm


@numba.njit(cache=True, forceinline=True, error_model="numpy")
def _add_layer(inputs, n_inputs, weights, out, n):
    """Add the products of weights (n_inputs, n_out) and inputs (n_inputs, n) to `out`."""
    for o in range(weights.shape[1]):
        row = out[o, :n]
        for i in range(n_inputs):
            weight, values = weights[i, o], inputs[i, :n]
            for j in range(n):
                row[j] += weight * values[j]


@numba.njit(cache=True, forceinline=True, error_model="numpy")
def _start_layer(bias, constants, weights, first, out, n):
    """Set `out` to the bias and what inputs bring that all spots have in common.

    `weights` from row `first` on are those of these inputs.
    """
    for o in range(out.shape[0]):
        value = bias[o]
        for i in range(constants.size):
            value += weights[first + i, o] * constants[i]
        for j in range(n):
            out[o, j] = value


@numba.njit(cache=True, forceinline=True, error_model="numpy")
def _cut_off(values, n):
    """Set what is negative to 0."""
    for o in range(values.shape[0]):
        row = values[o, :n]
        for j in range(n):
            row[j] = max(row[j], np.float32(0))


@numba.njit(cache=True, forceinline=True, error_model="numpy")
def _vote(spots, features, shared, n, layers, hidden, votes, turn):
    """Fill the first two of `turn` with the tilt about x and y that n spots vote for, radians."""
    w0, b0, w1, b1, w2, b2, w3, b3, log_prior = layers
    width = b0.size
    a, b, pooled, none = hidden[0], hidden[1], hidden[2, :, 0], shared[:0]
    amplitude = spots[AMPLITUDE:]
    _start_layer(b0, shared, w0, N_FEATURES, a, n)
    _add_layer(features, N_FEATURES, w0, a, n)
    _cut_off(a, n)
    _start_layer(b1, none, w1, 0, b, n)
    _add_layer(a, width, w1, b, n)
    _cut_off(b, n)
    count = np.float32(1e-9)
    for j in range(n):
        count += np.float32(1) if amplitude[j] > 0 else np.float32(0)
    for o in range(width):
        total = np.float32(0)
        for j in range(n):
            total += b[o, j] if amplitude[j] > 0 else np.float32(0)
        pooled[o] = total / count
    _start_layer(b2, pooled, w2, width, a, n)
    _add_layer(b, width, w2, a, n)
    _cut_off(a, n)
    _start_layer(b3, shared, w3, width + N_FEATURES, votes, n)
    _add_layer(a, width, w3, votes, n)
    _add_layer(features, N_FEATURES, w3[width:], votes, n)
    xx = np.exp(log_prior[0])
    yy, xy, x, y = xx, np.float32(0), np.float32(0), np.float32(0)
    by_x, by_y = spots[BY_X:], spots[BY_Y:]
    for j in range(n):
        weight = np.exp(min(max(votes[1, j], -_LOG_VOTE), _LOG_VOTE))
        weight = weight if amplitude[j] > 0 else np.float32(0)
        xx += weight * by_x[j] * by_x[j]
        yy += weight * by_y[j] * by_y[j]
        xy += weight * by_x[j] * by_y[j]
        x += weight * votes[0, j] * by_x[j]
        y += weight * votes[0, j] * by_y[j]
    factor = np.float32(0.01) / (xx * yy - xy * xy)
    turn[0] = factor * (yy * x - xy * y)
    turn[1] = factor * (xx * y - xy * x)


@numba.njit(cache=True, error_model="numpy")
def _note(spots, features, shared, n, seen, changes):
    """Put down what is seen of n spots, and how their excitation errors change by tilts."""
    for j in range(n):
        if spots[AMPLITUDE + j] > 0:
            for f in range(N_FEATURES):
                seen[f, j] = features[f, j]
            for f in range(N_SHARED):
                seen[N_FEATURES + f, j] = shared[f]
            changes[0, j], changes[1, j] = spots[BY_X + j], spots[BY_Y + j]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def tilt(
    begin, end, polar, rows, quaternions, table, reach, geometry, per_saturation, degrees, layers,
    most, corrected, seen, changes,
):  # fmt: skip
    """Fill in tilted orientations (n, k, 4); of `refinement_kernel.refine`'s table and geometry.

    `rows` (n,) says which of the polar patterns each is of; `degrees` is the precession angle,
    `most` the largest tilt in radians. Where `seen` has rows, shape (n, N_FEATURES + N_SHARED,
    MAX_SPOTS), what the network looks at in the first orientation of each is put there, and how
    each spot's excitation error changes by tilts about x and y, 0 where there is no spot, into
    `changes`, (n, 2, MAX_SPOTS).
    """
    margin, n_bins = 1, 3
    wrapped = np.empty((polar.shape[1], polar.shape[2] + 2 * margin + 2), np.float32)
    work = (
        np.empty(_MOST_LISTED, np.int32), np.zeros(7 * _MOST_LISTED, np.float32),
        np.zeros(_MOST_LISTED, np.int32), np.empty(_MOST_LISTED, np.float32),
        np.empty((1, _MOST_LISTED), np.float32), np.empty((n_bins, _MOST_LISTED), np.float32),
    )  # fmt: skip
    spots, rings, weights, heights, profiles = work[1], work[2], work[3], work[4], work[5]
    features = np.zeros((N_FEATURES, MAX_SPOTS), np.float32)
    shared = np.zeros(N_SHARED, np.float32)
    hidden = np.zeros((3, layers[1].size, MAX_SPOTS), np.float32)
    votes = np.zeros((2, MAX_SPOTS), np.float32)
    turn = np.zeros(3)
    q = np.empty(4)
    for i in range(begin, end):
        pattern = wrapped, margin, wrap(polar[rows[i]], per_saturation, margin, wrapped)
        norm, n_peaks = measure_peaks(wrapped, margin)
        if norm <= 0:
            continue
        for m in range(quaternions.shape[1]):
            if not _set_unit(q, quaternions[i, m]):
                continue
            n = min(list_spots(pattern, q, table, reach, geometry, work), MAX_SPOTS)
            if n == 0:
                continue
            take_profiles(pattern, spots, rings, n, n_bins, profiles)
            sample(profiles, spots, n, n_bins, 0.0, heights[0])
            _weigh(spots, n, 0.0, 0.0, weights)
            _see(
                spots, rings, weights, heights[0], n, geometry, norm, n_peaks, degrees, features,
                shared,
            )  # fmt: skip
            if seen.shape[0]:
                _note(spots, features, shared, n, seen[i], changes[i])
                break
            _vote(spots, features, shared, n, layers, hidden, votes, turn)
            angle = np.sqrt(turn[0] * turn[0] + turn[1] * turn[1])
            if angle > most:
                turn[0] *= most / angle
                turn[1] *= most / angle
            _turn_crystal(q, turn)
            for c in range(4):
                corrected[i, m, c] = q[c]
